"""Escalations: who is told next while nobody acknowledges.

What runs is in the database: a row for each firing alert whose tier has a policy, with the chain as it was
when it began. The alert thread runs steps as they fall due; a step's messages, its line in the history and
the row's next step are one transaction, and only a row that still stands where it stood is moved on, so that
no step runs twice. Held in memory are the due times alone, on the monotonic clock.

    change of the alert                     its escalation
    first, unacknowledged, ack_lapsed       begins
    escalated (its tier rose)               begins anew, by the new tier's policy
    tier_fell                               goes on, or ends where no policy fits any more
    acknowledged                            stops, and whoever was told by it is told so
    resolved, rule_gone                     ends (the ledger tells whoever was told)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from alerts.evaluate import Change, new_event_id
from alerts.ledger import Ledger, Recipient, outbox_rows
from alerts.oncall import overrides
from alerts.policy.decision import Address, Priority, Target, Why
from alerts.policy.escalation import Chain
from alerts.policy.roster import Roster
from alerts.source import Transactions
from alerts.state import Instant, Reason
from alerts.views import EscalationView
from metrics.errors import DeskvigilError
from metrics.severity import Severity
from storage.tables import alert_state, escalation, outbox

LOG = logging.getLogger(__name__)
STEPS_AT_ONCE = 100
HELD_MS = 10_000
RETRY_MS = 1_000
FAULTY_MS = 60_000
OVERDUE_MS = 60_000
MAX_VIEWS = 1_000
SILENT = frozenset({Why.SILENCED, Why.INHIBITED, Why.MUTED, Why.FLAPPING})
ChangeOf = Callable[[str], Change | None]


class EscalationState(StrEnum):
    """Where an escalation is."""

    RUNNING = "running"
    ACKNOWLEDGED = "acknowledged"
    EXHAUSTED = "exhausted"  # its last step has run


@dataclass(slots=True)
class Timer:
    """A running escalation, as its row says, and when its next step is due on today's clocks."""

    alert_id: str
    chain: Chain
    step: int
    round: int
    due_ms: int
    due: Instant


class Escalations:
    """Starts, runs and ends escalations. Not thread-safe: whoever calls holds the alert service's turn."""

    def __init__(self, store: Transactions, ledger: Ledger, recipients: Sequence[Recipient], roster: Roster) -> None:
        self._store = store
        self._ledger = ledger
        self._recipients = {one.name: one for one in recipients}
        self.roster = roster
        self._timers: dict[str, Timer] = {}
        self._known: set[str] = set()
        self._touched: set[str] = set()
        self._next_mono_ms: float = float("inf")
        self._stuck = False
        self.steps = 0

    # --- what changes of alerts mean (inside their transaction) -------------------------------

    def follow(self, connection: Connection, change: Change) -> int:
        """Do what a change of an alert asks for, in its transaction; return how many messages were added."""
        match change.reason:
            case Reason.FIRST | Reason.ESCALATED | Reason.UNACKNOWLEDGED | Reason.ACK_LAPSED:
                return self._begin(connection, change)
            case Reason.SETTLED if change.after is None:
                return self._end(connection, change)
            case Reason.UNTOLD | Reason.SETTLED:
                return 0 if self._knows(change) else self._begin(connection, change)
            case Reason.TIER_FELL:
                return self._reconsider(connection, change)
            case Reason.ACKNOWLEDGED:
                self._stop(connection, change)
                return self._tell_those_told(connection, change) if self._knows(change) else 0
            case Reason.ASSIGNED:
                return self._put(connection, change, self.roster.addresses_of(change.live.assigned_to or ""))
            case Reason.RESOLVED | Reason.RULE_GONE:
                return self._end(connection, change)
        return 0

    def _knows(self, change: Change) -> bool:
        alert_id = change.tracked.alert_id
        return alert_id in self._known or alert_id in self._touched

    def _begin(self, connection: Connection, change: Change) -> int:
        alert_id, live = change.tracked.alert_id, change.live
        labels = {**change.tracked.labels, "severity": live.severity.label}
        policy = self.roster.policy_for(labels, live.severity)
        if policy is None and not self._knows(change):
            return 0
        self._forget(connection, alert_id)
        if policy is None:
            return 0
        wait_ms = policy.chain.wait_ms(0, 0)
        due = Instant(change.at.wall_ms + wait_ms, change.at.mono_ms + wait_ms)
        row = {
            "alert_id": alert_id,
            "policy": policy.name,
            "chain": policy.chain.to_json(),
            "state": EscalationState.RUNNING.value,
            "step": 0,
            "round": 0,
            "due_ms": due.wall_ms,
            "started_ms": change.at.wall_ms,
            "updated_ms": change.at.wall_ms,
        }
        connection.execute(insert(escalation), [row])
        if wait_ms:
            return 0
        return self._step(connection, Timer(alert_id, policy.chain, 0, 0, due.wall_ms, due), change, change.at)

    def _reconsider(self, connection: Connection, change: Change) -> int:
        labels = {**change.tracked.labels, "severity": change.live.severity.label}
        if self._knows(change) and self.roster.policy_for(labels, change.live.severity) is None:
            self._forget(connection, change.tracked.alert_id)
        return 0

    def _stop(self, connection: Connection, change: Change) -> None:
        if self._knows(change):
            self._acknowledged(connection, change.tracked.alert_id, change.at)

    def _end(self, connection: Connection, change: Change) -> int:
        if self._knows(change):  # whoever was told is told of the end by the ledger
            self._forget(connection, change.tracked.alert_id)
        return 0

    def _acknowledged(self, connection: Connection, alert_id: str, at: Instant) -> None:
        self._touched.add(alert_id)
        values = {"state": EscalationState.ACKNOWLEDGED.value, "due_ms": None, "updated_ms": at.wall_ms}
        connection.execute(update(escalation).where(escalation.c.alert_id == alert_id).values(values))

    def _forget(self, connection: Connection, alert_id: str) -> None:
        self._touched.add(alert_id)
        connection.execute(delete(escalation).where(escalation.c.alert_id == alert_id))

    # --- steps --------------------------------------------------------------------------------

    def due(self, now: Instant) -> list[Timer]:
        """What is due, the longest due first, at most STEPS_AT_ONCE; costs nothing while nothing is."""
        if now.mono_ms < self._next_mono_ms:
            return []
        found = [one for one in self._timers.values() if one.due.mono_ms <= now.mono_ms]
        found.sort(key=lambda one: one.due.mono_ms)
        return found[:STEPS_AT_ONCE]

    def next_s(self, now: Instant) -> float:
        """How long nothing will be due, in seconds."""
        return max(0.0, (self._next_mono_ms - now.mono_ms) / 1000)

    def run(self, due: Sequence[Timer], change_of: ChangeOf, now: Instant) -> int:
        """Run what is due; return how many messages that made. Never raises: what cannot be run is tried again.

        change_of: the present alert as a change, None where there is none in memory.
        """
        told = 0
        try:
            with self._store.write() as connection:
                for one in due:
                    told += self._step(connection, one, change_of(one.alert_id), now)
            self._stuck = False
        except DeskvigilError as error:
            if not self._stuck:  # once, not with each attempt
                LOG.error("steps of escalations cannot be stored and wait: %s", error)
            self._stuck = True
            self.hold(due, now, RETRY_MS)
            told = 0
        except Exception:  # a fault of ours: what it hits must not hold up the others
            LOG.exception("steps of escalations failed")
            self.hold(due, now, FAULTY_MS)
            told = sum(self.run([one], change_of, now) for one in due) if len(due) > 1 else 0
        return told

    def hold(self, held: Sequence[Timer], now: Instant, for_ms: int) -> None:
        """Look at these again in a while."""
        for one in held:
            one.due = Instant(one.due.wall_ms, now.mono_ms + for_ms)
        self._schedule()

    def _step(self, connection: Connection, one: Timer, change: Change | None, now: Instant) -> int:
        """Run one step, where the alert and the row still stand as they did."""
        fact = self._fact(connection, one.alert_id)
        self._touched.add(one.alert_id)
        if fact is None:
            self._forget(connection, one.alert_id)
        elif fact.acked_by is not None:
            self._acknowledged(connection, one.alert_id, now)
        elif change is None or _silent(fact.suppressed):
            one.due = Instant(one.due.wall_ms, now.mono_ms + HELD_MS)
        elif self._move_on(connection, one, change):
            return self._tell(connection, one, change)
        return 0

    def _fact(self, connection: Connection, alert_id: str) -> Any:
        """What is on record of an alert that matters here; None where it is over."""
        columns = alert_state.c
        query = select(columns.acked_by, columns.suppressed).where(columns.id == alert_id)
        return connection.execute(query).first()

    def _tell(self, connection: Connection, one: Timer, change: Change) -> int:
        """Write a step's line of the history and its messages."""
        stepped = replace(
            change,
            before=change.live,
            after=change.live,
            reason=Reason.ESCALATION_STEP,
            event_id=new_event_id(),
            who=None,
            comment=_words(one),
        )
        self._ledger.note(connection, stepped)
        step = one.chain.steps[one.step]
        standing_in = overrides(connection, change.at.wall_ms) if step.rotas else ()
        addresses = self.roster.addresses(step, change.at.wall_ms, standing_in, self._recipients)
        change.tracked.told.update(dict.fromkeys((one.key for one in addresses), change.at.mono_ms))
        self.steps += 1
        return self._put(connection, stepped, addresses)

    def _move_on(self, connection: Connection, one: Timer, change: Change) -> bool:
        """Put the row on its next step; False where somebody else has moved it."""
        at = change.at
        following = one.chain.after(one.step, one.round, insists=change.live.severity is Severity.EMERGENCY)
        values: dict[str, Any] = {"updated_ms": at.wall_ms}
        if following is None:
            values |= {"state": EscalationState.EXHAUSTED.value, "due_ms": None}
        else:
            step, round_ = following
            values |= {"step": step, "round": round_, "due_ms": at.wall_ms + one.chain.wait_ms(step, round_)}
        columns = escalation.c
        still = (
            columns.alert_id == one.alert_id,
            columns.state == EscalationState.RUNNING.value,
            columns.step == one.step,
            columns.round == one.round,
        )
        return connection.execute(update(escalation).where(*still).values(values)).rowcount == 1

    # --- messages -----------------------------------------------------------------------------

    def _tell_those_told(self, connection: Connection, change: Change) -> int:
        """Tell whoever was told by name, or by a step."""
        by_us = outbox.c.reason.in_((Reason.ESCALATION_STEP.value, Reason.ASSIGNED.value))
        rows = connection.execute(
            select(outbox.c.channel, outbox.c.target).where(outbox.c.alert_id == change.tracked.alert_id, by_us)
        ).all()
        return self._put(connection, change, tuple(dict.fromkeys(_address(row.channel, row.target) for row in rows)))

    def _put(self, connection: Connection, change: Change, addresses: Sequence[Address]) -> int:
        """Put a change's messages to these addresses into the outbox."""
        known = [one for one in addresses if one.channel in self._recipients]
        rows = outbox_rows(self._ledger.message(change), known)
        self._ledger.enqueue(connection, rows)
        return len(rows)

    # --- audit --------------------------------------------------------------------------------

    def overdue(self, now: Instant) -> frozenset[str]:
        """Running ones whose step should have run OVERDUE_MS ago."""
        limit_ms = now.mono_ms - OVERDUE_MS
        if self._next_mono_ms > limit_ms:
            return frozenset()
        return frozenset(one.alert_id for one in list(self._timers.values()) if one.due.mono_ms <= limit_ms)

    def unscheduled(self, running: Iterable[str]) -> frozenset[str]:
        """Those that run by the record and have no due time here; `refresh` takes them up."""
        found = frozenset(running).difference(self._timers)
        self._touched |= found
        return found

    def repair(
        self, unstarted: Iterable[Change], contradictory: Iterable[str], now: Instant
    ) -> tuple[list[str], list[str]]:
        """Begin and end what the record lacks, where that is still so; return the ids of both.

        unstarted: the alerts as changes. Messages that this makes are in the outbox by then.
        """
        begun, ended = [], []
        with self._store.write() as connection:
            for change in unstarted:
                alert_id = change.tracked.alert_id
                fact = self._fact(connection, alert_id)
                state = connection.execute(select(escalation.c.state).where(escalation.c.alert_id == alert_id)).scalar()
                if fact is not None and fact.acked_by is None and state in (None, EscalationState.ACKNOWLEDGED):
                    self._begin(connection, change)
                    begun.append(alert_id)
            for alert_id in contradictory:
                fact = self._fact(connection, alert_id)
                if fact is None:
                    self._forget(connection, alert_id)
                    ended.append(alert_id)
                elif fact.acked_by is not None:
                    self._acknowledged(connection, alert_id, now)
                    ended.append(alert_id)
        return begun, ended

    # --- timers -------------------------------------------------------------------------------

    def restore(self, now: Instant) -> None:
        """Take up what ran at the last stop: what fell due meanwhile is due now."""
        with self._store.read() as connection:
            rows = connection.execute(select(escalation)).all()
        self._known.clear()
        self._timers.clear()
        for row in rows:
            self._take_up(row, now)
        self._schedule()

    def refresh(self, now: Instant) -> None:
        """Follow the database in what was touched since, whatever became of those transactions."""
        if not self._touched:
            return
        asked = sorted(self._touched)
        found: dict[str, Row[Any]] = {}
        with self._store.read() as connection:
            for first in range(0, len(asked), STEPS_AT_ONCE):
                some = escalation.c.alert_id.in_(asked[first : first + STEPS_AT_ONCE])
                found |= {row.alert_id: row for row in connection.execute(select(escalation).where(some))}
        for alert_id in asked:
            if alert_id in found:
                self._take_up(found[alert_id], now)
            else:
                self._known.discard(alert_id)
                self._timers.pop(alert_id, None)
        self._touched.clear()
        self._schedule()

    def _take_up(self, row: Row[Any], now: Instant) -> None:
        self._known.add(row.alert_id)
        before = self._timers.pop(row.alert_id, None)
        if row.state != EscalationState.RUNNING or row.due_ms is None:
            return
        key = (row.step, row.round, row.due_ms)
        if before is not None and (before.step, before.round, before.due_ms) == key:
            self._timers[row.alert_id] = before  # its age is on the monotonic clock already
            return
        chain = Chain.from_json(row.chain)
        # A wall clock that was set back makes nobody wait longer than the step does by itself.
        left_ms = min(max(0, row.due_ms - now.wall_ms), chain.wait_ms(row.step, row.round))
        due = Instant(row.due_ms, now.mono_ms + left_ms)
        self._timers[row.alert_id] = Timer(row.alert_id, chain, row.step, row.round, row.due_ms, due)

    def _schedule(self) -> None:
        self._next_mono_ms = min((one.due.mono_ms for one in self._timers.values()), default=float("inf"))

    # --- what is ------------------------------------------------------------------------------

    def running(self) -> int:
        """How many run."""
        return len(self._timers)

    def views(self, now: Instant) -> list[EscalationView]:
        """Those of firing alerts, the next to run first, read from the database; may be called from any thread."""
        query = select(escalation).order_by(escalation.c.due_ms.is_(None), escalation.c.due_ms).limit(MAX_VIEWS)
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        return [self._view(row, now) for row in rows]

    def _view(self, row: Row[Any], now: Instant) -> EscalationView:
        chain = Chain.from_json(row.chain)
        timer = self._timers.get(row.alert_id)
        due_ms = row.due_ms
        if timer is not None and timer.due_ms == row.due_ms:
            due_ms = now.wall_ms + timer.due.mono_ms - now.mono_ms
        steps = len(chain.steps)
        words = str(chain.steps[row.step]) if row.step < steps else ""
        return EscalationView(
            row.alert_id, row.policy, row.state, row.step + 1, steps, row.round, words, due_ms, row.started_ms
        )


def _silent(suppressed: Any) -> bool:
    """Whether nobody is to be told now. Kinds that only say who was left out hold no escalation up."""
    return any(one.get("kind") in SILENT for one in suppressed or ())


def _words(one: Timer) -> str:
    again = f", time {one.round + 1}" if one.round else ""
    return f"step {one.step + 1} of {len(one.chain.steps)}{again}: {one.chain.steps[one.step]}"


def _address(channel: str, target: dict[str, Any] | None) -> Address:
    named = None if target is None else Target(target["person"], tuple(target["to"]))
    return Address(channel, priority=Priority.BAD_NEWS, target=named)
