"""The ledger: alerts, their history and the messages they cause, written in one transaction.

A change of state, its line in the history and its outbox rows are committed together, so that
whatever kills the program, an alert that is on record is also told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, insert, or_, select, update

from alerts.evaluate import Change, Posted, Tracked, new_event_id
from alerts.flapping import COUNTED, Verdict
from alerts.message import Message
from alerts.options import AlertOptions, SeverityName
from alerts.policy.decision import Address, Decision, Policy, Priority, Suppression, Target, Why
from alerts.source import Transactions
from alerts.state import NOTIFIED, AlertState, Instant, Live, Reason
from alerts.views import AlertEvent, NotificationView
from metrics.severity import Severity
from storage.health import CommitUnknown
from storage.tables import alert_event, alert_state, notification, outbox, suppression

MAX_PAGE = 10_000
ANYBODY = ""  # among those owed a message: whoever will have it
ALERTS_AT_ONCE = 500
REPEAT_EARLY_MS = 1000
Follower = Callable[[Connection, Change], int]


@dataclass(frozen=True, slots=True)
class Recipient:
    """What must be known of a channel to address it, and how much the channel may be given.

    It is told of bad news from its tier on, of better news where it had the bad. max_per_minute: messages after
    the first `burst`; 0 is no limit.
    """

    name: str
    min_severity: SeverityName = "info"
    send_resolved: bool = True
    max_per_minute: float = 0.0
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Restored:
    """One alert that was alive when the program stopped, as its row says."""

    rule: str
    tracked: Tracked
    annotations: Mapping[str, str]

    def gone(self, now: Instant) -> Change:
        """Its end, because no rule asks for it any more."""
        reason = Reason.RULE_GONE if self.tracked.live.state is AlertState.FIRING else Reason.WITHDRAWN
        before = self.tracked.live
        value, event_id = self.tracked.value, new_event_id()
        return Change(self.rule, self.tracked, before, None, reason, now, value, self.annotations, None, event_id)


class Ledger:
    """Writes and reads the alert tables."""

    def __init__(
        self, store: Transactions, recipients: Sequence[Recipient], options: AlertOptions, policy: Policy
    ) -> None:
        self._store = store
        self._recipients = {one.name: one for one in recipients}
        self.policy = policy
        # Of changes that are not yet on record: decided once, and which of them make good what was not told.
        self._decided: dict[str, Decision] = {}
        self._lifting: set[str] = set()
        self._external_url = options.external_url
        self._max_pending = options.outbox.max_pending
        self._doubtful: tuple[str, set[str]] | None = None
        self._written: set[str] = set()
        self._follow: Follower = lambda _connection, _change: 0

    def followed_by(self, follow: Follower) -> None:
        """Have `follow` called with each change inside its transaction; it returns how many messages it added."""
        self._follow = follow

    def record(self, changes: Sequence[Change]) -> int:
        """Write changes in one durable transaction; return how many messages they put into the outbox.

        StorageUnavailable where the database cannot be written: nothing was then. Its kind
        CommitUnknown leaves that open: what the next call brings again is written only where the first was not.
        """
        self._settle()
        new = [change for change in changes if change.event_id not in self._written]
        try:
            told = self._write(new) if new else 0
        except CommitUnknown as error:
            self._doubtful = (error.token, {change.event_id for change in new})
            raise
        self._written = set()
        self._decided.clear()
        self._lifting.clear()
        return told or len(changes) - len(new)

    def _settle(self) -> None:
        """Find out whether the changes of a commit whose answer was lost are on record."""
        if self._doubtful is not None:
            if self._store.committed(self._doubtful[0]):
                self._written |= self._doubtful[1]
            self._doubtful = None

    def _write(self, changes: Sequence[Change]) -> int:
        decisions = self._decisions(changes)
        with self._store.write() as connection:
            _write_states(connection, changes)
            connection.execute(insert(alert_event), [_event_row(change) for change in changes])
            told = self._promise(connection, decisions)
            return told + sum(self._follow(connection, change) for change in changes)

    def _decisions(self, changes: Sequence[Change]) -> list[tuple[Change, Decision]]:
        """Of what people are told of: where it goes, or why it does not; noted with the alerts."""
        return [(change, self.decide(change)) for change in self._observed(changes) if change.reason in NOTIFIED]

    def _promise(self, connection: Connection, decisions: Sequence[tuple[Change, Decision]]) -> int:
        """Put into the outbox what was decided to be told, and on record what was not; return how many messages."""
        ended = [change for change, decision in decisions if _tells_the_end(change, decision)]
        told = self._told(connection, ended)
        rows: list[dict[str, Any]] = []
        for change, decision in decisions:
            mine = told.setdefault(change.tracked.alert_id, [])
            is_end = _tells_the_end(change, decision)
            addresses = self._heard(change, decision, mine) if is_end else decision.addresses
            mine += (added := outbox_rows(self.message(change), addresses))
            rows += added
        if suppressed := [row for change, decision in decisions for row in _suppression_rows(change, decision)]:
            connection.execute(insert(suppression), suppressed)
        for change, _ in decisions:
            if change.event_id in self._lifting or change.reason is Reason.SETTLED:
                _lift(connection, change)
        self.enqueue(connection, rows)
        return len(rows)

    def _observed(self, changes: Sequence[Change]) -> Sequence[Change]:
        """What fires at the same moment may inhibit: all is known before the first is decided."""
        for change in changes:
            self.policy.observe(change, change.labels)
        return changes

    def decide(self, change: Change) -> Decision:
        """Where a change goes, or why it does not; the same answer until it is on record, and noted with its alert."""
        known = self._decided.get(change.event_id)
        if known is None:
            known = self._decided[change.event_id] = self._decide(change)
            if _note(change, known):
                self._lifting.add(change.event_id)
        return known

    def _decide(self, change: Change) -> Decision:
        tracked = change.tracked
        if change.verdict is Verdict.DAMPED:
            return Decision(suppressions=(Suppression(Why.FLAPPING, change.rule),))
        if change.after is None:  # whatever has been silenced since: who heard the bad news hears this
            wanted = (self._recipients.get(key) for key in tracked.told)
            return Decision(tuple(Address(one.name) for one in wanted if one is not None and one.send_resolved))
        decision = self.policy.decide(change, change.labels, change.at.wall_ms)
        settle(tracked, decision)
        match change.reason:
            case Reason.TIER_FELL:
                return self._fallen(tracked, decision)
            case Reason.UNSUPPRESSED if ANYBODY not in tracked.owed:
                owed = tuple(one for one in decision.addresses if one.key in tracked.owed)
                return Decision(owed, decision.suppressions)
            case Reason.REPEAT:
                latest = change.at.mono_ms + REPEAT_EARLY_MS
                known = tuple(one for one in decision.addresses if one.key not in tracked.owed)
                due = tuple(one for one in known if _due_ms(one, tracked) <= latest)
                return Decision(due or known, decision.suppressions)
        return decision

    def _fallen(self, tracked: Tracked, decision: Decision) -> Decision:
        """Whoever was told of the higher tier, also where the lower one leads elsewhere."""
        told = [one for one in decision.addresses if one.key in tracked.told]
        kept = tuple(one for one in decision.suppressions if any(key in tracked.told for key in one.kept))
        if decision.addresses or all(one.why in (Why.MUTED, Why.UNROUTED) for one in decision.suppressions):
            spoken_for = {key for one in decision.suppressions for key in one.kept} | {one.key for one in told}
            told += [Address(key) for key in tracked.told if key in self._recipients and key not in spoken_for]
        return Decision(tuple(told), kept)

    def _told(self, connection: Connection, ended: Sequence[Change]) -> dict[str, list[dict[str, Any]]]:
        """What was put into the outbox about alerts, by whomever, oldest first."""
        found: dict[str, list[dict[str, Any]]] = {}
        ids = [change.tracked.alert_id for change in ended]
        for start in range(0, len(ids), ALERTS_AT_ONCE):
            some = outbox.c.alert_id.in_(ids[start : start + ALERTS_AT_ONCE])
            query = select(outbox).where(self._any_row(), some).order_by(outbox.c.id)
            for row in connection.execute(query):
                found.setdefault(row.alert_id, []).append(dict(row._mapping))
        return found

    def _any_row(self) -> ColumnElement[bool]:
        """Of every channel and status: said so that the index by these and the alert can be used."""
        return and_(outbox.c.channel.in_(list(self._recipients)), outbox.c.status.in_(["pending", "sent", "dead"]))

    def _heard(self, change: Change, decision: Decision, rows: Iterable[Mapping[str, Any]]) -> Sequence[Address]:
        """Everybody who was told of an alert, each as last told; also where no row could be stored about it."""
        heard = {one.key: one for one in decision.addresses}
        for row in rows:
            recipient = self._recipients.get(row["channel"])
            if recipient is None or not recipient.send_resolved:
                continue
            address = _address(row, change.live.severity)
            heard[address.key] = address
        return list(heard.values())

    def note_posted(self, alerts: Sequence[Tracked]) -> None:
        """Write until when alerts last that were sent to us again."""
        columns: dict[str, Any] = {"posted": bindparam("lasts"), "annotations": bindparam("says")}
        rows = [
            {"alert": one.alert_id, "lasts": _posted(one), "says": one.posted and one.posted.annotations}
            for one in alerts
        ]
        with self._store.write() as connection:
            connection.execute(update(alert_state).where(alert_state.c.id == bindparam("alert")).values(columns), rows)

    def note_suppressed(self, alerts: Sequence[Tracked]) -> None:
        """Write why nobody is told of these alerts now, where nothing else about them has changed."""
        rows = [{"alert": one.alert_id, "why": _suppressed(one)} for one in alerts]
        columns: dict[str, Any] = {"suppressed": bindparam("why")}
        with self._store.write() as connection:
            connection.execute(update(alert_state).where(alert_state.c.id == bindparam("alert")).values(columns), rows)

    def act(self, connection: Connection, change: Change) -> int | None:
        """Write what a person did to an alert where nobody was faster; return how many messages that made.

        None where somebody has acknowledged it, or taken that back, since: nothing was written then.
        """
        after, before = change.live, change.before
        decisions = self._decisions([change])
        won = connection.execute(
            update(alert_state)
            .where(
                alert_state.c.id == change.tracked.alert_id,
                alert_state.c.acked_by.is_not_distinct_from(None if before is None else before.acked_by),
            )
            .values(
                acked_by=after.acked_by,
                acked_at_ms=after.acked_at_ms,
                ack_comment=after.ack_comment,
                ack_until_ms=None if after.ack_until is None else after.ack_until.wall_ms,
                assigned_to=after.assigned_to,
                notified_ms=None if after.notified is None else after.notified.wall_ms,
                updated_ms=change.at.wall_ms,
            )
        )
        if won.rowcount != 1:
            return None
        self.note(connection, change)
        told = self._promise(connection, decisions)
        self._decided.pop(change.event_id, None)
        self._lifting.discard(change.event_id)
        return told + self._follow(connection, change)

    def note(self, connection: Connection, change: Change) -> None:
        """Write a change's line of the history."""
        connection.execute(insert(alert_event), [_event_row(change)])

    def enqueue(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Put rows into the outbox, as many as it may hold."""
        if rows:
            self._bound(connection, rows)
            connection.execute(insert(outbox), rows)

    def address(self, change: Change) -> tuple[Message, list[str]]:
        """What a change says to people, and the names of the channels that it goes to as they are."""
        self.policy.observe(change, change.labels)
        addresses = self.decide(change).addresses
        return self.message(change), [one.channel for one in addresses if one.target is None]

    def message(self, change: Change) -> Message:
        """What a change says to people."""
        live = change.live
        return Message(
            message_id=change.event_id,
            reason=change.reason,
            alert_id=change.tracked.alert_id,
            fingerprint=change.tracked.fingerprint,
            rule=change.rule,
            labels=change.labels,
            annotations=change.annotations,
            severity=live.severity,
            value=change.value,
            comparison="" if change.comparison is None else str(change.comparison),
            active_since_ms=live.since.wall_ms,
            fired_at_ms=(live.fired or live.since).wall_ms,
            resolved_at_ms=change.at.wall_ms if change.after is None else None,
            created_ms=change.at.wall_ms,
            external_url=self._external_url,
            who=change.who or "",
            comment=change.comment or "",
        )

    def restore(self, now: Instant, tolerance_ms: int, last_alive_ms: int | None) -> list[Restored]:
        """Read what was alive at the last stop.

        last_alive_ms: when the program was last seen working. Pending alerts keep the time they had
        already held, the outage not counted; after an outage longer than the tolerance their clocks begin anew.
        """
        with self._store.read() as connection:
            rows = connection.execute(select(alert_state)).all()
            alive = outbox.c.alert_id.in_(select(alert_state.c.id))
            told = connection.execute(
                select(outbox.c.alert_id, outbox.c.channel, outbox.c.target, outbox.c.created_ms)
                .where(self._any_row(), alive)
                .order_by(outbox.c.id)
            ).all()
            owed = connection.execute(
                select(suppression.c.alert_id, suppression.c.kept).where(suppression.c.lifted_ms.is_(None))
            ).all()
        short = last_alive_ms is not None and 0 <= now.wall_ms - last_alive_ms <= tolerance_ms
        restored = {
            row.id: Restored(row.rule, _tracked(row, now, last_alive_ms if short else None), _mapping(row.annotations))
            for row in rows
        }
        for row in told:
            key = Address(row.channel, target=_target(row.target)).key
            restored[row.alert_id].tracked.told[key] = now.mono_ms - max(0, now.wall_ms - row.created_ms)
        for alert_id, kept in owed:
            if alert_id in restored:
                restored[alert_id].tracked.owed.update(kept or [ANYBODY])
        return list(restored.values())

    def since(self, t_ms: int) -> tuple[list[AlertEvent], dict[str, set[str]]]:
        """The events that flapping is made of from an instant on, oldest first, and the channels told of each alert."""
        wanted = [reason.value for reason in (*COUNTED, Reason.ESCALATED, Reason.TIER_FELL)]
        late = alert_event.c.t_ms >= t_ms
        with self._store.read() as connection:
            events = connection.execute(
                select(alert_event).where(late, alert_event.c.reason.in_(wanted)).order_by(alert_event.c.id)
            ).all()
            told = connection.execute(
                select(outbox.c.alert_id, outbox.c.channel)
                .where(outbox.c.alert_id.in_(select(alert_event.c.alert_id).where(late)))
                .distinct()
            ).all()
        channels: dict[str, set[str]] = {}
        for alert_id, channel in told:
            channels.setdefault(alert_id, set()).add(channel)
        return [_event(row) for row in events], channels

    def history(self, limit: int, before_ms: int | None) -> list[AlertEvent]:
        """The newest events first, at most `limit`, all before an instant where one is given."""
        query = select(alert_event).order_by(alert_event.c.t_ms.desc(), alert_event.c.id.desc())
        if before_ms is not None:
            query = query.where(alert_event.c.t_ms < before_ms)
        with self._store.read() as connection:
            rows = connection.execute(query.limit(max(1, min(limit, MAX_PAGE)))).all()
        return [_event(row) for row in rows]

    def notifications(self, limit: int, before_ms: int | None) -> list[NotificationView]:
        """The newest attempts first, at most `limit`, all before an instant where one is given."""
        query = select(notification).order_by(notification.c.t_ms.desc(), notification.c.id.desc())
        if before_ms is not None:
            query = query.where(notification.c.t_ms < before_ms)
        with self._store.read() as connection:
            rows = connection.execute(query.limit(max(1, min(limit, MAX_PAGE)))).all()
        return [_notification(row) for row in rows]

    def _bound(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Too many waiting messages are recorded as dead: visible, and never a full disk."""
        waiting = connection.execute(select(func.count()).select_from(outbox).where(outbox.c.status == "pending"))
        room = max(0, self._max_pending - int(waiting.scalar_one()))
        for row in rows[room:]:
            row["status"] = "dead"
            row["last_error"] = f"the outbox holds {self._max_pending} waiting messages already"


def _tells_the_end(change: Change, decision: Decision) -> bool:
    """Whether a change ends an alert, and nothing keeps that from those who were told of it."""
    return change.after is None and not decision.suppressions


def outbox_rows(message: Message, addresses: Sequence[Address]) -> list[dict[str, Any]]:
    """A message as rows of the outbox, one for each address."""
    payload = message.to_payload()
    return [
        {
            "event_id": message.message_id if one.target is None else f"{message.message_id}.{one.target.person}",
            "alert_id": message.alert_id,
            "channel": one.channel,
            "payload": {
                **payload,
                "group_interval_ms": one.interval_ms,
                "group_labels": dict(one.group_labels),
            },
            "reason": message.reason.value,
            "created_ms": message.created_ms,
            "next_attempt_ms": message.created_ms + one.wait_ms,
            "attempts": 0,
            "status": "pending",
            "last_error": None,
            "group_key": one.group_key,
            "priority": int(one.priority),
            "target": None if one.target is None else {"person": one.target.person, "to": list(one.target.to)},
        }
        for one in addresses
    ]


def _address(row: Mapping[str, Any], severity: Severity) -> Address:
    """Where a row of the outbox went, for the news that it is over."""
    payload = row["payload"]
    return Address(
        channel=row["channel"],
        group_key=row["group_key"],
        interval_ms=int(payload.get("group_interval_ms", 0)),
        priority=Priority.DIGEST if severity is Severity.INFO else Priority.PLAIN,
        target=_target(row["target"]),
        group_labels=tuple(payload.get("group_labels", {}).items()),
    )


def _target(raw: Mapping[str, Any] | None) -> Target | None:
    return None if raw is None else Target(str(raw["person"]), tuple(raw.get("to", ())))


def _due_ms(address: Address, tracked: Tracked) -> float:
    """When an address is to be told again, on the monotonic clock."""
    if address.repeat_ms == 0:
        return math.inf
    return tracked.told.get(address.key, 0) + (address.repeat_ms or 0)


def _note(change: Change, decision: Decision) -> bool:
    """Keep with an alert what was decided of it. True where something that was not told is made good, or over."""
    tracked = change.tracked
    keys = [one.key for one in decision.addresses]
    tracked.told.update(dict.fromkeys(keys, change.at.mono_ms))
    if change.after is None:
        return bool(tracked.owed)
    owed = len(tracked.owed)
    tracked.owed.difference_update(keys, [ANYBODY] if keys else [])
    if change.reason is Reason.UNSUPPRESSED:  # whoever another policy would not tell any more is owed nothing
        tracked.owed.intersection_update(key for one in decision.suppressions for key in one.kept)
    lifts = len(tracked.owed) < owed
    if change.reason not in (Reason.REPEAT, Reason.UNSUPPRESSED):
        for one in decision.suppressions:
            tracked.owed.update(one.kept or [ANYBODY])
    return lifts


def settle(tracked: Tracked, decision: Decision) -> None:
    """Keep why nobody is told of an alert now, and how often it is told again (not while nobody is)."""
    tracked.suppressed = decision.suppressions
    wanted = [one.repeat_ms for one in decision.addresses if one.repeat_ms is not None]
    often = [repeat_ms for repeat_ms in wanted if repeat_ms > 0]
    tracked.repeat_ms = None if decision.addresses and not wanted else min(often, default=0)


def _suppressed(tracked: Tracked) -> list[dict[str, Any]] | None:
    return [{"kind": one.why.value, "by": one.by, "until_ms": one.until_ms} for one in tracked.suppressed] or None


def _posted(tracked: Tracked) -> dict[str, Any] | None:
    one = tracked.posted
    return None if one is None else {"sender": one.sender, "ends_ms": one.ends_ms, "generator_url": one.generator_url}


def _suppression_rows(change: Change, decision: Decision) -> list[dict[str, Any]]:
    if change.reason in (Reason.REPEAT, Reason.UNSUPPRESSED):  # what they would say is not new
        return []
    return [
        {
            "t_ms": change.at.wall_ms,
            "event_id": change.event_id,
            "alert_id": change.tracked.alert_id,
            "fingerprint": change.tracked.fingerprint,
            "kind": one.why.value,
            "by": one.by,
            "until_ms": one.until_ms,
            "kept": list(one.kept),
        }
        for one in decision.suppressions
    ]


def _lift(connection: Connection, change: Change) -> None:
    """Close the records of what was not told, where it has been told now or is over."""
    episode = suppression.c.alert_id == change.tracked.alert_id
    if change.reason is Reason.SETTLED:  # what came and went did so as several alerts
        flapped = and_(
            suppression.c.fingerprint == change.tracked.fingerprint, suppression.c.kind == Why.FLAPPING.value
        )
        episode = or_(episode, flapped)
    mine = and_(episode, suppression.c.lifted_ms.is_(None))
    if change.after is None or not change.tracked.owed:
        connection.execute(update(suppression).where(mine).values(lifted_ms=change.at.wall_ms))
        return
    rows = connection.execute(select(suppression.c.id, suppression.c.kept).where(mine)).all()
    done = [row.id for row in rows if not change.tracked.owed.intersection(row.kept or [ANYBODY])]
    if done:
        connection.execute(update(suppression).where(suppression.c.id.in_(done)).values(lifted_ms=change.at.wall_ms))


def _write_states(connection: Connection, changes: Sequence[Change]) -> None:
    """What is alive after the changes; of one alert the last counts."""
    last = {change.tracked.fingerprint: change for change in changes}
    keys = list(last)
    for start in range(0, len(keys), ALERTS_AT_ONCE):
        some = alert_state.c.fingerprint.in_(keys[start : start + ALERTS_AT_ONCE])
        connection.execute(delete(alert_state).where(some))
    rows = [_state_row(change, change.after) for change in last.values() if change.after is not None]
    if rows:
        connection.execute(insert(alert_state), rows)


def _state_row(change: Change, live: Live) -> dict[str, Any]:
    return {
        "fingerprint": change.tracked.fingerprint,
        "id": change.tracked.alert_id,
        "rule": change.rule,
        "labels": change.tracked.labels,
        "annotations": dict(change.annotations),
        "state": live.state.value,
        "severity": live.severity.label,
        "threshold": _threshold(change),
        "active_since_ms": live.since.wall_ms,
        "fired_at_ms": None if live.fired is None else live.fired.wall_ms,
        "notified_ms": None if live.notified is None else live.notified.wall_ms,
        "last_eval_ms": change.at.wall_ms,
        "value": _finite(change.value),
        "acked_by": live.acked_by,
        "acked_at_ms": live.acked_at_ms,
        "ack_comment": live.ack_comment,
        "ack_until_ms": None if live.ack_until is None else live.ack_until.wall_ms,
        "assigned_to": live.assigned_to,
        "suppressed": _suppressed(change.tracked),
        "posted": _posted(change.tracked),
        "flapping": int(change.tracked.flapping),
        "updated_ms": change.at.wall_ms,
    }


def _event_row(change: Change) -> dict[str, Any]:
    live = change.live
    return {
        "t_ms": change.at.wall_ms,
        "alert_id": change.tracked.alert_id,
        "fingerprint": change.tracked.fingerprint,
        "rule": change.rule,
        "labels": change.labels,
        "annotations": dict(change.annotations),
        "from_state": _state(change.before).value,
        "to_state": _state(change.after).value,
        "reason": change.reason.value,
        "severity": live.severity.label,
        "value": _finite(change.value),
        "threshold": _threshold(change),
        "active_since_ms": live.since.wall_ms,
        "fired_at_ms": None if live.fired is None else live.fired.wall_ms,
        "who": change.who,
        "comment": change.comment,
    }


def _state(live: Live | None) -> AlertState:
    return AlertState.INACTIVE if live is None else live.state


def _threshold(change: Change) -> float | None:
    return None if change.comparison is None else change.comparison.threshold


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(raw: float | None) -> float:
    return math.nan if raw is None else float(raw)


def _tracked(row: Row[Any], now: Instant, last_alive_ms: int | None) -> Tracked:
    """An alert from its row. Ages are put on today's monotonic clock; a pending one's stops during the outage."""

    def instant(wall_ms: int | None, until_ms: int) -> Instant | None:
        return None if wall_ms is None else Instant(wall_ms, now.mono_ms - max(0, until_ms - wall_ms))

    pending = row.state == AlertState.PENDING
    until_ms = now.wall_ms if not pending else row.active_since_ms if last_alive_ms is None else last_alive_ms
    live = Live(
        state=AlertState(row.state),
        severity=Severity.parse(row.severity),
        since=instant(row.active_since_ms, until_ms) or now,
        fired=instant(row.fired_at_ms, now.wall_ms),
        notified=instant(row.notified_ms, now.wall_ms),
        acked_by=row.acked_by,
        acked_at_ms=row.acked_at_ms,
        ack_comment=row.ack_comment,
        ack_until=_lapses(row, now),
        assigned_to=row.assigned_to,
    )
    posted = None
    if row.posted is not None:
        ends_ms = int(row.posted["ends_ms"])
        url, said = str(row.posted["generator_url"]), _mapping(row.annotations)
        posted = Posted(str(row.posted["sender"]), ends_ms, now.mono_ms + ends_ms - now.wall_ms, url, said)
    value = _number(row.value)
    return Tracked(row.id, row.fingerprint, dict(row.labels), live, value, stored=True, restored=True, posted=posted)


def _lapses(row: Row[Any], now: Instant) -> Instant | None:
    """When an acknowledgement is over, on today's clocks: never later than the time it was given for."""
    if row.ack_until_ms is None or row.acked_at_ms is None:
        return None
    left_ms = min(max(0, row.ack_until_ms - now.wall_ms), row.ack_until_ms - row.acked_at_ms)
    return Instant(row.ack_until_ms, now.mono_ms + left_ms)


def _event(row: Row[Any]) -> AlertEvent:
    return AlertEvent(
        event_id=row.id,
        t_ms=row.t_ms,
        alert_id=row.alert_id,
        fingerprint=row.fingerprint,
        rule=row.rule,
        labels=_mapping(row.labels),
        annotations=_mapping(row.annotations),
        from_state=AlertState(row.from_state),
        to_state=AlertState(row.to_state),
        reason=Reason(row.reason),
        severity=Severity.parse(row.severity),
        value=_number(row.value),
        threshold=row.threshold,
        active_since_ms=row.active_since_ms,
        fired_at_ms=row.fired_at_ms,
        who=row.who,
        comment=row.comment,
    )


def _notification(row: Row[Any]) -> NotificationView:
    return NotificationView(
        notification_id=row.id,
        t_ms=row.t_ms,
        alert_id=row.alert_id,
        message_id=row.event_id,
        channel=row.channel,
        reason=Reason(row.reason),
        attempt=row.attempt,
        outcome=row.outcome,
        error=row.error or "",
        took_ms=_number(row.took_ms),
    )


def _mapping(raw: Mapping[str, str] | None) -> dict[str, str]:
    return dict(raw or {})
