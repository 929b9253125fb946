"""Auditor: proves every minute, from the record alone, that what fires is told and escalates.

It has a thread of its own and reads the database, so that it sees what the alert thread forgot. What it
finds is counted, said in the log, put right under the alert service's turn, and alerted on by a shipped rule.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from sqlalchemy import select

from alerts.escalations import EscalationState
from alerts.policy.roster import Roster
from alerts.source import Transactions
from alerts.state import AlertState
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from metrics.severity import Severity
from storage.tables import alert_state, escalation, outbox, suppression

LOG = logging.getLogger(__name__)
INTERVAL_S = 60.0
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Findings:
    """Alert ids by what is wrong with them.

    unstarted: its tier has a policy, and no escalation is on record. unscheduled: one runs by the record, not in
    memory. overdue: a step should have run. contradictory: acknowledged or over, and escalating. untold: it
    fires, and there is neither a message nor a reason for none.
    """

    unstarted: frozenset[str] = frozenset()
    unscheduled: frozenset[str] = frozenset()
    overdue: frozenset[str] = frozenset()
    contradictory: frozenset[str] = frozenset()
    untold: frozenset[str] = frozenset()

    def counts(self) -> dict[str, int]:
        """How many by kind."""
        return {one.name: len(getattr(self, one.name)) for one in fields(self)}

    def __bool__(self) -> bool:
        return any(self.counts().values())


KINDS = tuple(one.name for one in fields(Findings))
Repair = Callable[[Findings], Findings]


@dataclass(slots=True)
class AuditStats:
    """audits: how many were done; found: of all of them, by kind; last: how many the last one found."""

    audits: int = 0
    last: int = 0
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))


class Auditor:
    """Looks every INTERVAL_S and at the start.

    repair puts right what is still wrong by then, adds what it knows from memory, and returns what it was;
    it may block, and raises a DeskvigilError where it cannot. roster: the policies in force.
    """

    def __init__(self, store: Transactions, roster: Callable[[], Roster], repair: Repair, clock: Clock) -> None:
        self._store = store
        self._roster = roster
        self._repair = repair
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._since_ns = clock.monotonic_ns()
        self._known: Roster | None = None
        self.stats = AuditStats()

    def start(self) -> None:
        """Begin with an audit. Does nothing where it runs already."""
        if self._thread is None:
            self._stopping.clear()
            self._since_ns = self._clock.monotonic_ns()
            self._thread = threading.Thread(target=self._run, name="alerts-auditor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Bounded in time, may be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            self._thread = None

    @property
    def age_s(self) -> float:
        """How long ago the last audit that went through was, or the start."""
        return (self._clock.monotonic_ns() - self._since_ns) / 1e9

    def audit(self) -> Findings:
        """Look once and put right what is wrong; DeskvigilError where the record cannot be read or written."""
        roster = self._roster()
        found = self._repair(self._look(roster))
        if roster is not self._known:  # alerts of before a policy was there have missed nothing
            found = Findings(frozenset(), found.unscheduled, found.overdue, found.contradictory, found.untold)
        self._known = roster
        for kind, count in found.counts().items():
            self.stats.found[kind] += count
        self.stats.last = sum(found.counts().values())
        self.stats.audits += 1
        self._since_ns = self._clock.monotonic_ns()
        if found:
            words = ", ".join(f"{count} {kind}" for kind, count in found.counts().items() if count)
            LOG.error("alerts that were not told or escalated as they should, put right now: %s", words)
        return found

    def _look(self, roster: Roster) -> Findings:
        alert, row = alert_state.c, escalation.c
        joined = alert_state.outerjoin(escalation, row.alert_id == alert.id)
        firing = alert.state == AlertState.FIRING.value
        told = select(outbox.c.id).where(outbox.c.alert_id == alert.id).exists()
        excused = select(suppression.c.id).where(suppression.c.alert_id == alert.id).exists()
        with self._store.read() as connection:
            alerts = connection.execute(
                select(alert.id, alert.labels, alert.severity, alert.acked_by, row.state.label("escalates"))
                .select_from(joined)
                .where(firing)
            ).all()
            silent = connection.execute(select(alert.id).where(firing, alert.acked_by.is_(None), ~told, ~excused)).all()
            over = connection.execute(select(row.alert_id).where(row.alert_id.not_in(select(alert.id)))).all()
        unstarted, running, contradictory = set(), set(), {one.alert_id for one in over}
        for one in alerts:
            if one.acked_by is not None:
                if one.escalates == EscalationState.RUNNING:
                    contradictory.add(one.id)
            elif one.escalates == EscalationState.RUNNING:
                running.add(one.id)
            elif one.escalates in (None, EscalationState.ACKNOWLEDGED):
                labels, severity = {**one.labels, "severity": one.severity}, Severity.parse(one.severity)
                if one.escalates is not None or roster.policy_for(labels, severity) is not None:
                    unstarted.add(one.id)
        return Findings(
            unstarted=frozenset(unstarted),
            unscheduled=frozenset(running),  # as far as memory does not know them: `repair` sees that
            contradictory=frozenset(contradictory),
            untold=frozenset(one.id for one in silent),
        )

    def _run(self) -> None:
        stuck = False
        while not self._stopping.is_set():
            try:
                self.audit()
                stuck = False
            except DeskvigilError as error:
                if not stuck:  # once, not every minute; the age of the last audit tells the rest
                    LOG.error("alerts cannot be audited: %s", error)
                stuck = True
            except Exception:  # a fault of ours: loud, and the next audit may go through
                LOG.exception("an audit of the alerts failed")
            self._stopping.wait(INTERVAL_S)
