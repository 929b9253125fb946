"""Which waiting messages of a channel may go now, in which order, and which of them as one: a pure function.

- What waits for one group and target goes as one message, once its first has waited long enough and the
  group's interval since its last message is over.
- What has been sent once, and failed, goes out again as it was: a batch never changes.
- Messages about one alert, and those of one group, keep their order.
- A tier that rises waits for nobody: its group goes at once and before all others. It overtakes what waits
  for another attempt in its group, but never an older message about its own alert: that one hurries too.
  Once it has been tried it waits for the next attempt of anything.
- Digest rows gather until the oldest of them has waited for the digest's interval; what else is told of
  their alerts takes them along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from alerts.policy.decision import Priority

Queue = tuple[str, str]  # group key and target


class Row(NamedTuple):
    """A waiting row of the outbox, without its payload. target is its JSON text, "" for the channel's own.

    held: it was tried, or had to wait because the channel was down.
    """

    id: int
    event_id: str
    alert_id: str
    reason: str
    group_key: str
    target: str
    priority: int
    severity: str
    interval_ms: int
    batch_id: str | None
    attempts: int
    created_ms: int
    next_ms: int
    held: bool
    leased_until_ms: int

    @property
    def queue(self) -> Queue:
        return self.group_key, self.target


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that go as one message, in the order in which they are told. batch_id None: not fixed yet."""

    rows: tuple[Row, ...]
    batch_id: str | None = None
    first: bool = False

    @property
    def alerts(self) -> set[Queue]:
        """Whose order it is bound to: each alert at its target."""
        return {(row.alert_id, row.target) for row in self.rows}

    @property
    def queue(self) -> Queue | None:
        """The group whose order it is bound to; None where it is of none, or of several."""
        found = {row.queue for row in self.rows}
        return next(iter(found)) if len(found) == 1 and self.rows[0].group_key else None

    @property
    def rises(self) -> bool:
        return any(row.priority >= Priority.RISEN for row in self.rows)

    @property
    def urgent(self) -> bool:
        """Never held by a rate limit."""
        return self.rises or any(row.severity == "emergency" for row in self.rows)

    @property
    def oldest_id(self) -> int:
        return min(row.id for row in self.rows)


class Order(NamedTuple):
    """Units that may go now, in their order, and when the next one may (None: none waits)."""

    units: list[Unit]
    next_ms: int | None


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds: how long digest rows gather, the longest wait between two attempts, and the longest lease."""

    digest_ms: int
    retry_max_ms: int
    lease_ms: int


def sequence(rows: Sequence[Row], last_sent: Mapping[Queue, int], timing: Timing, now_ms: int) -> Order:
    """What may go at `now_ms`. rows: all that wait; last_sent: when a group's last message went, ms."""
    units, digests = _units(rows)
    ready, later = _ready(units, _hurried(units, probing=False), last_sent, timing, now_ms)
    if ready:
        ready, later = _ready(units, _hurried(units, probing=True), last_sent, timing, now_ms)
    ready = [_with_digests(unit, digests) for unit in _rises_first(ready)]
    for gathered in digests.values():
        if not gathered:
            continue
        due_ms = min(_digest_ms(row, timing, now_ms) for row in gathered)
        if due_ms <= now_ms:
            ready.append(Unit(tuple(gathered)))
        else:
            later.append(due_ms)
    return Order(ready, min(later, default=None))


def merged(units: Sequence[Unit]) -> list[Unit]:
    """The same rows as digests: one for each target, whatever their groups; what is fixed stays as it is."""
    loose: dict[str, list[Row]] = {}
    for unit in units:
        if unit.batch_id is None:
            loose.setdefault(unit.rows[0].target, []).extend(unit.rows)
    fixed = [unit for unit in units if unit.batch_id is not None]
    return fixed + [Unit(tuple(sorted(rows, key=lambda row: row.id))) for rows in loose.values()]


def _units(rows: Iterable[Row]) -> tuple[list[Unit], dict[str, list[Row]]]:
    """Rows put together as they may go, oldest first; and by target those that wait for a digest."""
    parts: list[tuple[list[Row], str | None]] = []
    fixed: dict[str, list[Row]] = {}
    groups: dict[Queue, list[Row]] = {}
    digests: dict[str, list[Row]] = {}
    last: dict[Queue, list[Row]] = {}  # where each alert's newest row so far went
    for row in rows:
        if row.batch_id is None and row.priority <= Priority.DIGEST:
            digests.setdefault(row.target, []).append(row)
            continue
        alert = (row.alert_id, row.target)
        found = fixed.get(row.batch_id) if row.batch_id is not None else groups.get(row.queue)
        # What its alert is told by another way in between must stay in between: then the group begins anew.
        if found is None or (row.batch_id is None and last.get(alert, found) is not found):
            parts.append((found := [], row.batch_id))
            if row.batch_id is not None:
                fixed[row.batch_id] = found
            elif row.group_key:
                groups[row.queue] = found
        found.append(row)
        last[alert] = found
    units = [Unit(tuple(together if fix else _risen_first(together)), fix) for together, fix in parts]
    return units, digests


def _risen_first(rows: list[Row]) -> list[Row]:
    """Alerts whose tier rose before the others, each alert's rows in their order."""
    risen = {row.alert_id for row in rows if row.priority >= Priority.RISEN}
    return sorted(rows, key=lambda row: (row.alert_id not in risen, row.id)) if risen else rows


def _ready(
    units: Sequence[Unit], hurried: set[int], last_sent: Mapping[Queue, int], timing: Timing, now_ms: int
) -> tuple[list[Unit], list[int]]:
    """Units that may go now, oldest first, and when the others may that wait for nothing but their time."""
    ready: list[Unit] = []
    later: list[int] = []
    alerts: set[Queue] = set()  # whose older messages wait
    groups: set[Queue] = set()
    for unit in units:
        hurry = unit.oldest_id in hurried
        due_ms = _leased_ms(unit, timing, now_ms) or (now_ms if hurry else _due_ms(unit, last_sent, timing, now_ms))
        blocked = bool(unit.alerts & alerts) or (unit.queue in groups and not unit.rises)
        if due_ms <= now_ms and not blocked:
            ready.append(unit)
            if unit.batch_id is None and unit.queue is not None:
                groups.add(unit.queue)  # a second one of the group waits for the interval
            continue
        if not blocked:
            later.append(due_ms)
        alerts |= unit.alerts
        if unit.queue is not None:
            groups.add(unit.queue)
    return ready, later


def _hurried(units: Sequence[Unit], *, probing: bool) -> set[int]:
    """The oldest ids of units that wait for nothing: where a tier rose, and what is older of the same alerts.

    probing: something goes now. Where the channel was down that is the first attempt to find it back, and a rise that
    has been tried, or held, before is in it.
    """
    found: set[int] = set()
    alerts: set[Queue] = set()
    for unit in reversed(units):
        rises = any(row.priority >= Priority.RISEN and (probing or not (row.held or row.attempts)) for row in unit.rows)
        if rises or (alerts and unit.alerts & alerts):
            found.add(unit.oldest_id)
            alerts |= unit.alerts
    return found


def _rises_first(units: Sequence[Unit]) -> list[Unit]:
    """Units where a tier rises, and what is older of the same alerts, before the others; else the oldest first."""
    alerts: set[Queue] = set()
    marked = []
    for unit in reversed(units):
        if first := unit.rises or bool(alerts and unit.alerts & alerts):
            alerts |= unit.alerts
        marked.append(replace(unit, first=first))
    marked.reverse()
    return sorted(marked, key=lambda unit: not unit.first)


def _leased_ms(unit: Unit, timing: Timing, now_ms: int) -> int:
    """Until when somebody else has it in flight; 0 where nobody has. A lease that long was made by another clock."""
    until_ms = max(row.leased_until_ms for row in unit.rows)
    return until_ms if now_ms < until_ms <= now_ms + timing.lease_ms else 0


def _due_ms(unit: Unit, last_sent: Mapping[Queue, int], timing: Timing, now_ms: int) -> int:
    due_ms = min(_row_ms(row, timing, now_ms) for row in unit.rows)
    if unit.batch_id is not None or unit.queue is None:
        return due_ms
    sent_ms = last_sent.get(unit.queue, 0)
    if not 0 < sent_ms <= now_ms:  # never, or by a clock that was set back since
        return due_ms
    return max(due_ms, sent_ms + max(row.interval_ms for row in unit.rows))


def _row_ms(row: Row, timing: Timing, now_ms: int) -> int:
    """When a row is due; now, where that is so far ahead that the clock must have been set back."""
    if row.held or row.attempts or not row.group_key:
        return now_ms if row.next_ms > now_ms + timing.retry_max_ms + 1000 else row.next_ms
    return now_ms if row.created_ms > now_ms + 1000 else row.next_ms


def _digest_ms(row: Row, timing: Timing, now_ms: int) -> int:
    if row.held:
        return _row_ms(row, timing, now_ms)
    return now_ms if row.created_ms > now_ms + 1000 else row.created_ms + timing.digest_ms


def _with_digests(unit: Unit, digests: dict[str, list[Row]]) -> Unit:
    """The unit, with what gathers for a digest about the same alerts."""
    gathered = digests.get(unit.rows[0].target)
    if not gathered or unit.batch_id is not None:
        return unit
    alerts = {row.alert_id for row in unit.rows}
    company = [row for row in gathered if row.alert_id in alerts and row.id < max(one.id for one in unit.rows)]
    if not company:
        return unit
    taken = {row.id for row in company}
    digests[unit.rows[0].target] = [row for row in gathered if row.id not in taken]
    return replace(unit, rows=(*company, *unit.rows))
