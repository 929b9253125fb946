"""AlertService: the alerts room as others use it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from alerts.acklinks import AckLinks
from alerts.auditor import INTERVAL_S, Auditor, AuditStats, Findings
from alerts.channels.build import build_channels
from alerts.channels.channel import Channel
from alerts.courier import ChannelStats
from alerts.damping import Damper
from alerts.deliveries import deliveries
from alerts.detectors.record import Predictions, Record
from alerts.errors import (
    AlreadyAcknowledgedError,
    AuditError,
    BulkRefusedError,
    NotAcknowledgedError,
    NotFiringError,
    UnknownAlertError,
    UnknownPersonError,
)
from alerts.escalations import Escalations
from alerts.evaluate import Change, RuleRun, Run, Tracked, occurrences
from alerts.external import ExternalRun, Sent
from alerts.heartbeat import Heartbeat, HeartbeatStats
from alerts.ledger import Ledger, Restored
from alerts.oncall import OnCall
from alerts.options import DEFAULT_RULES, AlertOptions
from alerts.outbox import Outbox, Waiting
from alerts.policy.decide import Routing
from alerts.policy.loaded import LoadedPolicy
from alerts.policy.review import Review
from alerts.policy.roster import RosterContacts
from alerts.policy.silences import Silences
from alerts.prometheus import alert_json, groups_json
from alerts.recording import Recorder, recording_groups
from alerts.reload import FileStatus, RuleFiles, Version, version, versions
from alerts.rules import Group, Rule, parse_rules
from alerts.slo import objectives, slo_groups
from alerts.source import AlertStore, Querier
from alerts.state import NOTIFIED, AlertState, Instant, Reason, Step, acknowledge, assign, lapse, unacknowledge
from alerts.views import AlertEvent, AlertView, ChannelView, DeliveryView, EscalationView, NotificationView, rfc3339
from alerts.watch import Watch
from metrics.clock import Clock
from metrics.errors import DeskvigilError, TransientError
from metrics.frame import Frame
from metrics.severity import Severity
from query.engine import QueryEngine
from storage import audit

if TYPE_CHECKING:
    from alerts.backtest import Backtest

LOG = logging.getLogger(__name__)
ALIVE_SERIES = "deskvigil_alerts_evaluations_total"
UNWRITTEN_KEPT = 1000
REWRITE_AFTER_MS = 1000
VIEWS_EVERY_MS = 1000
LAPSES_EVERY_MS = 1000
PASSES_TO_MISS = 3
AUDITS_TO_MISS = 2.5
TURN_TIMEOUT_S = 30.0
MAX_COMMENT = 2000
MAX_BULK = 1000
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServiceStats:
    """Counters since the start, and what is so now."""

    rules: int
    rules_failing: int
    records: int
    records_failing: int
    reloads: int
    reload_failed: bool
    evaluations: int
    failures: int
    missed: int
    passes: int
    busy_s: float
    changes: int
    unwritten: int
    lost: int
    channels: dict[str, ChannelStats]
    waiting: Waiting
    escalating: int
    steps: int
    audit: AuditStats
    audit_age_s: float
    heartbeat: HeartbeatStats


class AlertService:
    """Evaluates rules as frames arrive, keeps alerts, and has them told.

    One thread evaluates and records; each channel has one that delivers. Everything public may be
    called from any thread. ConfigError (RuleError) from the constructor names what is wrong in a rule
    file or a channel's settings.
    """

    def __init__(
        self,
        store: AlertStore,
        query: Querier,
        options: AlertOptions,
        clock: Clock,
        channels: Sequence[Channel] | None = None,
        links: AckLinks | None = None,
    ) -> None:
        self._store = store
        self._options = options
        self._clock = clock
        self._query = query
        self._files = RuleFiles(store, options.rules or (DEFAULT_RULES,), query, clock)
        self._objectives = slo_groups(objectives(options))
        self._groups = (*self._files.groups, *self._objectives)
        self._watch = Watch(_runs(self._groups, options), store.live, query, options)
        self._recorder = Recorder(store.live, options, clock)
        self._recorder.set(recording_groups(self._groups, query, options), running=False)
        self._reloading = threading.Lock()  # one reads rule files at a time; taken before the turn
        self._backtesting = threading.Lock()
        self._follower: threading.Thread | None = None
        built = build_channels(options, clock, links) if channels is None else list(channels)
        recipients = [channel.recipient for channel in built]
        self.silences = Silences(store, clock)
        self.oncall = OnCall(store, clock, lambda: self.routing.file.roster)
        self._policy = LoadedPolicy(
            store,
            options,
            recipients,
            self.silences,
            lambda file: RosterContacts(file.roster, self.oncall.standing_in),
        )
        self._ledger = Ledger(store, recipients, options, self._policy.routing)
        self._review = Review()
        self._escalations = Escalations(store, self._ledger, recipients, self._policy.routing.file.roster)
        self._ledger.followed_by(self._escalations.follow)
        self.auditor = Auditor(store, lambda: self._escalations.roster, self._repair, clock)
        self._heartbeat = Heartbeat(options.heartbeat, clock, self.unproven)
        self._external = ExternalRun(options)
        self._damper = Damper(options)
        self._outbox = Outbox(store, built, options.outbox, clock, self._attempted, options.digest_interval_s)
        self._turn = threading.Lock()  # one evaluates and records, or acknowledges, at a time
        self._lock = threading.Lock()  # alerts in memory; never held during I/O
        self._frames: dict[str, Frame] = {}
        self._frames_lock = threading.Lock()
        self._wake = threading.Event()
        self.silences.changed = self._wake.set
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._unwritten: deque[Change] = deque()
        self._stuck = False  # writing them has failed, and was said
        self._blind = False  # escalations cannot be read, and that was said
        self._views: tuple[AlertView, ...] = ()
        self._views_at_ms = 0
        self._callbacks: tuple[Callable[[], None], ...] = ()
        self._missed = self._changes = self._lost = 0
        self._next_write_ms = 0
        self._waiting = Waiting(0, 0.0)
        self._waiting_stale = threading.Event()
        self._waiting_stale.set()
        self._grace_until_ms = 0
        self._passed_ms = 0
        self._next_lapses_ms = 0

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what was alive at the last stop, and begin. Does nothing where it runs already."""
        if self._thread is not None or not self._options.enabled:
            return
        self._stopping.clear()
        now = self._now()
        self._passed_ms = now.mono_ms
        self._grace_until_ms = now.mono_ms + round(self._options.restore_grace_s * 1000)
        self._restore(now)
        self._outbox.start()
        self._unsubscribe = self._store.live.subscribe(self._arrived)
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._thread.start()
        self._recorder.start()
        self._follower = threading.Thread(target=self._follow_files, name="rule files", daemon=True)
        self._follower.start()
        self.auditor.start()
        self._heartbeat.start()

    def stop(self) -> None:
        """Stop evaluating, then delivering; bounded in time, may be called twice."""
        self._heartbeat.stop()
        self.auditor.stop()
        self._unsubscribe()
        self._unsubscribe = lambda: None
        self._stopping.set()
        self._wake.set()
        self._recorder.stop()
        if self._follower is not None:
            self._follower.join(STOP_TIMEOUT_S)
            self._follower = None
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            if self._thread.is_alive():
                LOG.warning("the alert thread did not end within %g s", STOP_TIMEOUT_S)
            self._thread = None
            with contextlib.suppress(DeskvigilError):
                self._write_waiting()
        self._outbox.stop()

    # --- what is ------------------------------------------------------------------------------

    def active(self) -> tuple[AlertView, ...]:
        """Alerts that are pending or firing, worst and newest first; values are at most a second old."""
        return self._views

    def history(self, limit: int = 200, before_ms: int | None = None) -> list[AlertEvent]:
        """What happened to alerts, newest first; `before_ms` pages back."""
        return self._ledger.history(limit, before_ms)

    def notifications(self, limit: int = 200, before_ms: int | None = None) -> list[NotificationView]:
        """Attempts to tell people, newest first; `before_ms` pages back."""
        return self._ledger.notifications(limit, before_ms)

    def escalations(self) -> list[EscalationView]:
        """What escalates, the next to run first, and what was stopped by an acknowledgement."""
        return self._escalations.views(self._now())

    def channels(self) -> list[ChannelView]:
        """Each channel and how it is now."""
        return self._outbox.channels()

    def deliveries(self, limit: int = 200, status: str = "") -> list[DeliveryView]:
        """Messages to people, newest first; status: only those that are pending, sent or dead."""
        return deliveries(self._store, limit, status)

    def rules(self) -> list[dict[str, Any]]:
        """The `groups` array of Prometheus's /api/v1/rules."""
        with self._lock:
            recordings = [one for group in self._recorder.groups for one in group.recordings]
            return groups_json(self._groups, self._watch.rules, recordings, self._views, self._options)

    def alerts(self) -> list[dict[str, Any]]:
        """The `alerts` array of Prometheus's /api/v1/alerts."""
        return [alert_json(view) for view in self._views]

    def rule_list(self) -> tuple[Rule, ...]:
        """The alerting rules in force."""
        return tuple(watched.run.rule for watched in self._watch.rules)

    def predictions(self) -> list[Record]:
        """How far the predictions of each rule could be trusted so far; StorageUnavailable."""
        return Predictions(self._store).records()

    def stats(self) -> ServiceStats:
        """The room's own figures."""
        counters = self._watch.counters
        recordings = [one for group in self._recorder.groups for one in group.recordings]
        return ServiceStats(
            rules=len(self._watch.rules),
            rules_failing=sum(1 for watched in self._watch.rules if watched.error),
            records=len(recordings),
            records_failing=sum(1 for one in recordings if one.error),
            reloads=self._files.reloads,
            reload_failed=self._files.failed,
            evaluations=self._watch.evaluations() + self._recorder.evaluations,
            failures=counters.failures + self._recorder.failures,
            missed=self._missed,
            passes=counters.passes,
            busy_s=counters.busy_ns / 1e9,
            changes=self._changes,
            unwritten=len(self._unwritten),
            lost=self._lost,
            channels=self._outbox.stats(),
            waiting=self._how_much_waits(),
            escalating=self._escalations.running(),
            steps=self._escalations.steps,
            audit=self.auditor.stats,
            audit_age_s=self.auditor.age_s,
            heartbeat=self._heartbeat.stats,
        )

    @property
    def routing(self) -> Routing:
        """Who is told of what, as it is decided now."""
        return self._policy.routing

    @property
    def policy_problem(self) -> str:
        """What is wrong with the policy file as it is now ("": nothing); the one before goes on then."""
        return self._policy.problem

    def rule_files(self) -> list[FileStatus]:
        """The rule files as they are and as they run; `error` says why a change of one is refused."""
        return self._files.status()

    def rule_versions(self, limit: int = 100) -> list[Version]:
        """Versions of the rule files, newest first, without their text."""
        return versions(self._store, limit)

    def rule_version(self, version_id: int) -> Version:
        """One version with its text; RuleError where there is none."""
        return version(self._store, version_id)

    def rule_text(self, name: str) -> str:
        """What runs of a rule file; RuleError where there is no such file."""
        return self._files.text(name)

    def backtest(self, text: str, start_ms: int, end_ms: int) -> Backtest:
        """Run rules over stored history beside those that run now ("" for just these); one at a time.

        DeskvigilError (RuleError) where the text is wrong, or another backtest is still running.
        """
        from alerts.backtest import backtest

        if not isinstance(self._query, QueryEngine):
            raise DeskvigilError("this console cannot ask for the past")
        if not self._backtesting.acquire(blocking=False):
            raise DeskvigilError("another backtest is still running")
        try:
            present = self._groups
            groups = parse_rules(text, "the rules to try") if text.strip() else present
            against = present if text.strip() else None
            if against is not None:  # only rules of the same name: the others are not in question
                names = {rule.key for group in groups for rule in group.rules}
                against = tuple(
                    replace(group, rules=tuple(rule for rule in group.rules if rule.key in names)) for group in present
                )
            return backtest(groups, self._query, self._options, start_ms, end_ms, against=against)
        finally:
            self._backtesting.release()

    # --- rule files ---------------------------------------------------------------------------

    def reload(self) -> list[FileStatus]:
        """Read the rule files again now; where one is wrong, what it said before goes on."""
        with self._reloading:
            if self._files.poll(force=True):
                self._install()
            self._files.record()
            return self._files.status()

    def roll_back(self, version_id: int, who: str, reason: str = "") -> Version:
        """Have an older version of a rule file run until the file changes; audited. RuleError, StorageUnavailable."""
        with self._reloading:
            self._files.record()
            done = self._files.roll_back(version_id, who, reason)
            if self._files.poll():
                self._install()
            return done

    def _follow_files(self) -> None:
        """Look at the rule files once a slow tick, in a thread of its own: parsing must not hold up an alert."""
        while not self._stopping.is_set():
            try:
                with self._reloading:
                    if self._files.poll():
                        self._install()
                    self._files.record()
            except Exception:  # a fault of ours: loud, but files are looked at again
                LOG.exception("rule files cannot be followed")
            self._stopping.wait(self._options.slow_tick_s)

    def _install(self) -> None:
        """Exchange the rules; alerts whose rule is still there live on, the others end."""
        groups = (*self._files.groups, *self._objectives)
        watch = Watch(_runs(groups, self._options), self._store.live, self._query, self._options, before=self._watch)
        recordings = recording_groups(groups, self._query, self._options)
        with self._turn:
            now = self._now()
            gone: list[Change] = []
            with self._lock:
                for watched in self._watch.rules:
                    for tracked in list(watched.run.alerts.values()):
                        heir = watch.owner(tracked, watched.run.rule.key)
                        if heir is not None:
                            heir.alerts[tracked.fingerprint] = watched.run.alerts.pop(tracked.fingerprint)
                    gone += self._damper.damp(watched.run.end(now))
                self._watch, self._groups = watch, groups
            if gone:
                self._record(gone, now)
            with self._lock:
                self._publish(now)
        self._recorder.set(recordings, running=self._thread is not None)
        self._announce()

    # --- what people do -----------------------------------------------------------------------

    def acknowledge(self, alert_id: str, who: str, comment: str = "") -> AlertView:
        """Note that somebody is on it: repeats and escalation stop until its tier rises or it lapses; audited.

        UnknownAlertError, NotFiringError or AlreadyAcknowledgedError where there is nothing to
        acknowledge; StorageUnavailable where it cannot be recorded (nothing has changed then).
        """

        def step(tracked: Tracked, now: Instant) -> Step:
            _not_acknowledged(tracked)
            lapses_ms = self._options.acknowledge.lapses_ms(tracked.live.severity)
            return acknowledge(tracked.live, who.strip(), comment.strip()[:MAX_COMMENT], now, lapses_ms)

        return self._act([alert_id], step, "acknowledge", who, comment)[0]

    def acknowledge_all(self, alert_ids: Sequence[str], who: str, comment: str = "") -> list[AlertView]:
        """Acknowledge several at once, or none: BulkRefusedError where one of them is critical or an emergency."""
        if len(alert_ids) > MAX_BULK:
            raise BulkRefusedError(f"at most {MAX_BULK} alerts are acknowledged at once")

        def step(tracked: Tracked, now: Instant) -> Step:
            if tracked.live.severity >= Severity.CRITICAL:
                name = tracked.labels.get("alertname", tracked.alert_id)
                raise BulkRefusedError(
                    f"{name} is {tracked.live.severity.label}: such alerts are acknowledged one by one; none was"
                )
            _not_acknowledged(tracked)
            lapses_ms = self._options.acknowledge.lapses_ms(tracked.live.severity)
            return acknowledge(tracked.live, who.strip(), comment.strip()[:MAX_COMMENT], now, lapses_ms)

        return self._act(list(dict.fromkeys(alert_ids)), step, "acknowledge", who, comment)

    def unacknowledge(self, alert_id: str, who: str, comment: str = "") -> AlertView:
        """Take an acknowledgement back: people are told, and it escalates from the beginning; audited.

        UnknownAlertError, NotFiringError or NotAcknowledgedError where there is none.
        """

        def step(tracked: Tracked, now: Instant) -> Step:
            if tracked.live.acked_by is None:
                raise NotAcknowledgedError(f"alert {tracked.alert_id} is not acknowledged")
            return unacknowledge(tracked.live, now)

        return self._act([alert_id], step, "unacknowledge", who, comment)[0]

    def assign(self, alert_id: str, person: str, who: str, comment: str = "") -> AlertView:
        """Note whose an alert is, and tell that person; it goes on escalating until acknowledged; audited.

        UnknownPersonError where the policy file names people and this is none of them.
        """
        person, people = person.strip(), self._escalations.roster.people
        if not person or (people and person not in people):
            raise UnknownPersonError(
                f"there is no person {person!r} (there are: {', '.join(sorted(people)) or 'none'})"
            )
        return self._act([alert_id], lambda tracked, _now: assign(tracked.live, person), "assign", who, comment)[0]

    def _act(
        self, alert_ids: Sequence[str], step: Callable[[Tracked, Instant], Step], verb: str, who: str, comment: str
    ) -> list[AlertView]:
        """Do to all of these alerts what a person asked for, in one transaction with the audit's lines."""
        who, comment = who.strip(), comment.strip()[:MAX_COMMENT]
        if not who:
            raise ValueError(f"to {verb} an alert needs a name")
        with self._turn:
            self._write_waiting()
            now, acts = self._now(), []
            with self._lock:
                for alert_id in alert_ids:
                    run, tracked = self._find(alert_id)
                    after = step(tracked, now)
                    if after.live is None or after.reason is None:
                        raise AssertionError("what a person does leaves an alert alive")
                    acts.append((run, run.change(tracked, after.live, after.reason, now, who, comment)))
            told = 0
            with self._store.write() as connection:
                for run, change in acts:
                    told += self._write_act(connection, run, change, verb)
            with self._lock:
                views = []
                for run, change in acts:
                    change.tracked.live = change.live
                    views.append(run.view(change.tracked))
                self._publish(now)
            self._changes += len(acts)
            self._wake_couriers(told)
        self._wake.set()  # what is due next may have changed
        self._announce()
        return views

    def _write_act(self, connection: Connection, run: Run, change: Change, verb: str) -> int:
        alert_id = change.tracked.alert_id
        told = self._ledger.act(connection, change)
        if told is None:
            raise AlreadyAcknowledgedError(
                f"somebody else has acknowledged alert {alert_id}, or taken that back, just now"
            )
        name = change.tracked.labels.get("alertname", "")
        detail = {"alert": name, "rule": run.key, "comment": change.comment or ""}
        if change.reason is Reason.ASSIGNED:
            detail["person"] = change.live.assigned_to or ""
        audit.record(
            connection,
            t_ms=change.at.wall_ms,
            who=change.who or "",
            action=f"alert.{verb}",
            object_=alert_id,
            detail=detail,
        )
        return told

    def receive(self, alerts: Sequence[Sent], sender: str) -> list[str]:
        """Take alerts that another program sends; what is wrong with those that cannot be taken.

        On record when it returns; a DeskvigilError where they cannot be recorded yet: send them again.
        """
        with self._turn:
            now = self._now()
            with self._lock:
                taken = self._external.take(alerts, sender, self.routing.file.resolve_timeout_ms, now)
                changes = self._damper.damp(taken.changes)
            if changes:
                self._record(changes, now)
            if taken.prolonged:
                self._ledger.note_posted(taken.prolonged)
            with self._lock:
                self._publish(now)
            if self._unwritten:
                raise TransientError("the database cannot be written now; what was sent waits in memory")
        if taken.changes:
            self._announce()
        return taken.problems

    def replay(self, outbox_id: int, who: str) -> str:
        """Send a dead letter again, under its id; audited. UnknownMessageError where there is none."""
        count = self._outbox.replay(outbox_id, who)
        self._waiting_stale.set()
        return "it is sent again" if count == 1 else f"the message with {count} notifications is sent again"

    def try_channel(self, name: str, who: str) -> str:
        """Send a test message by one channel, the way of all others; audited. UnknownMessageError without it."""
        self._outbox.try_channel(name, who, self._options.external_url)
        self._waiting_stale.set()
        return f"a test message is on its way to {name}"

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called after alerts changed, from any thread; returns what ends that."""
        self._callbacks = (*self._callbacks, callback)

        def unsubscribe() -> None:
            self._callbacks = tuple(other for other in self._callbacks if other is not callback)

        return unsubscribe

    # --- the alert thread ---------------------------------------------------------------------

    def _arrived(self, frame: Frame) -> None:
        """Take note of a frame, in its collector's thread; a newer one replaces one not yet looked at."""
        collector = frame.schema.collector
        if collector not in self._frames and self._watch.quiet(frame, self._now()):
            return
        with self._frames_lock:
            self._missed += collector in self._frames
            self._frames[collector] = frame
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            rewrite_s = REWRITE_AFTER_MS / 1000 if self._unwritten else self._options.slow_tick_s
            self._wake.wait(min(rewrite_s, self._options.slow_tick_s, self._escalations.next_s(self._now())))
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                self._pass()
            except Exception:  # a fault of ours: loud, but alerting goes on with the next frame
                LOG.exception("an evaluation pass failed")

    def _pass(self) -> None:
        with self._frames_lock:
            frames = list(self._frames.values())
            self._frames.clear()
        with self._turn:
            now = self._now()
            with self._lock:
                changes = self._watch.look(frames, now, grace=now.mono_ms < self._grace_until_ms)
                changes += self._external.expired(now)
                changes = self._damper.damp(changes)
                changes += self._damper.settled(now, self._alive)
                changes += self._lapsed(now)
            changes += self._reconsidered(now)
            if changes or (self._unwritten and now.mono_ms >= self._next_write_ms):
                self._record(changes, now)  # before it is shown: what is on a page is on record, if it can be
            self._escalate(now)
            alive = sum(len(run.alerts) for run in self._runs())
            moved = bool(changes) or alive != len(self._views)  # a pending alert is shown before it is recorded
            if moved or (alive and now.mono_ms - self._views_at_ms >= VIEWS_EVERY_MS):
                with self._lock:
                    self._publish(now)
            self._passed_ms = now.mono_ms
        if moved:
            self._announce()

    def _reconsidered(self, now: Instant) -> list[Change]:
        """Alerts that are told late, because what kept them from being told has ended."""
        if (routing := self._policy.reloaded(now)) is not None:
            self._follow(routing)
        if not self.silences.loaded:
            with contextlib.suppress(DeskvigilError):
                self.silences.load()
        with self._lock:
            changes, moved = self._review.look(self._policy.routing, self._runs(), now)
        if moved:
            try:
                self._ledger.note_suppressed(moved)
            except DeskvigilError:
                self._review.again()
        return changes

    def _follow(self, routing: Routing) -> None:
        """Decide by another policy from now on; it must know what fires."""
        with self._lock:
            for run in self._runs():
                for tracked in run.alerts.values():
                    if tracked.live.state is AlertState.FIRING:
                        routing.firing(tracked.fingerprint, run.shown_labels(tracked, tracked.live))
        self._ledger.policy = routing
        self._escalations.roster = routing.file.roster
        self._review.again()

    def _runs(self) -> list[Run]:
        """Everything that has alerts."""
        return [*(watched.run for watched in self._watch.rules), self._external]

    def _lapsed(self, now: Instant) -> list[Change]:
        """Acknowledgements whose time is over, looked for once a second; called with the lock held."""
        if now.mono_ms < self._next_lapses_ms:
            return []
        self._next_lapses_ms = now.mono_ms + LAPSES_EVERY_MS
        changes = []
        for run in self._runs():
            for tracked in run.alerts.values():
                after = lapse(tracked.live, now)
                if after.live is not None and after.reason is not None:
                    was = tracked.live.acked_by
                    words = f"{was} acknowledged it at {rfc3339(tracked.live.acked_at_ms or 0)}"
                    changes.append(run.change(tracked, after.live, after.reason, now, None, words))
                    tracked.live = after.live
        return changes

    def _escalate(self, now: Instant) -> None:
        """Run the steps that are due; what cannot be read or written now is tried again."""
        try:
            self._escalations.refresh(now)
        except DeskvigilError as error:
            if not self._blind:  # once, not with each attempt
                LOG.error("escalations cannot be read and wait: %s", error)
            self._blind = True
            self._escalations.hold(self._escalations.due(now), now, REWRITE_AFTER_MS)
            return
        self._blind = False
        due = self._escalations.due(now)
        if not due:
            return
        if self._unwritten:  # the alerts themselves are not on record yet
            self._escalations.hold(due, now, REWRITE_AFTER_MS)
            return
        self._wake_couriers(self._escalations.run(due, self._present(Reason.ESCALATION_STEP, now), now))
        with contextlib.suppress(DeskvigilError):
            self._escalations.refresh(now)

    def _present(self, reason: Reason, now: Instant, comment: str | None = None) -> Callable[[str], Change | None]:
        """Firing alerts by id, each as a change that leaves it as it is."""
        alive = {
            one.alert_id: (run, one)
            for run in self._runs()
            for one in run.alerts.values()
            if one.live.state is AlertState.FIRING
        }

        def change_of(alert_id: str) -> Change | None:
            if alert_id not in alive:
                return None
            run, tracked = alive[alert_id]
            return run.change(tracked, tracked.live, reason, now, None, comment)

        return change_of

    # --- what is proven -----------------------------------------------------------------------

    def unproven(self) -> str:
        """Why it is not proven that alerts are evaluated, told and escalated; "" where it is."""
        now = self._now()
        if (age_s := (now.mono_ms - self._passed_ms) / 1000) > max(PASSES_TO_MISS * self._options.slow_tick_s, 2.0):
            return f"rules were last looked at {age_s:.0f} s ago"
        if self._unwritten and self._stuck:
            return "changes of alerts cannot be stored"
        if (age_s := self.auditor.age_s) > AUDITS_TO_MISS * INTERVAL_S:
            return f"the last audit was {age_s:.0f} s ago"
        if late := self._escalations.overdue(now):
            return f"{len(late)} escalations are overdue"
        try:
            return self._outbox.unproven(self._options.heartbeat.outbox_limit_s)
        except DeskvigilError as error:
            return f"the outbox cannot be read: {error}"

    def _repair(self, found: Findings) -> Findings:
        """Put right what the auditor found and is still so; return what that was."""
        if not self._turn.acquire(timeout=TURN_TIMEOUT_S):
            raise AuditError(f"the alert thread has not come to an end for {TURN_TIMEOUT_S:g} s")
        try:
            now = self._now()
            self._write_waiting()
            self._escalations.refresh(now)
            overdue = self._escalations.overdue(now)
            unscheduled = self._escalations.unscheduled(found.unscheduled)
            begin, late = self._present(Reason.UNTOLD, now), "the auditor found that nobody had been told"
            unstarted = [change for change in map(begin, found.unstarted) if change is not None]
            begun, ended = self._escalations.repair(unstarted, found.contradictory, now)
            untold = [change for change in map(self._present(Reason.UNTOLD, now, late), found.untold) if change]
            if untold:  # each comes to a message, or to a record of why there is none
                self._changes += len(untold)
                self._ledger.record(untold)
            self._wake_couriers(len(begun) + len(untold))
            self._escalate(now)
        finally:
            self._turn.release()
        self._wake.set()
        told = frozenset(change.tracked.alert_id for change in untold)
        return Findings(frozenset(begun), unscheduled, overdue, frozenset(ended), told)

    def _wake_couriers(self, told: int) -> None:
        if told:
            self._waiting_stale.set()
            self._outbox.wake()

    def _record(self, changes: Sequence[Change], now: Instant) -> None:
        """Store changes; where that fails keep them for later, and tell people all the same."""
        for change in changes:
            if len(self._unwritten) >= UNWRITTEN_KEPT:
                self._unwritten.popleft()
                self._lost += 1
            self._unwritten.append(change)
        try:
            self._write_waiting()
        except DeskvigilError as error:
            if not self._stuck:  # once, not with each attempt
                LOG.error("changes of alerts cannot be stored and wait: %s", error)
            self._stuck = True
            self._next_write_ms = now.mono_ms + REWRITE_AFTER_MS
            self._tell_unstored(changes)
        except Exception:  # a fault of ours: these rows would fail again and block all later ones
            LOG.exception("changes of alerts are refused by the database and given up")
            self._lost += len(self._unwritten)
            self._unwritten.clear()
            self._tell_unstored(changes)

    def _tell_unstored(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.reason in NOTIFIED:
                self._outbox.send_unstored(*self._ledger.address(change))

    def _write_waiting(self) -> None:
        if not self._unwritten:
            return
        told = self._ledger.record(list(self._unwritten))
        self._changes += len(self._unwritten)
        self._unwritten.clear()
        if self._stuck:
            LOG.warning("changes of alerts are stored again")
        self._stuck = False
        self._wake_couriers(told)

    def _publish(self, now: Instant) -> None:
        """Make the present alerts visible; called with the lock held."""
        views = [run.view(one) for run in self._runs() for one in run.alerts.values()]
        views.sort(key=lambda view: (view.state is AlertState.PENDING, -view.severity, -view.active_since_ms))
        self._views = tuple(views)
        self._views_at_ms = now.mono_ms

    def _announce(self) -> None:
        for callback in self._callbacks:
            try:
                callback()
            except Exception:  # whoever listens must not be able to stop alerting
                LOG.exception("a listener to alert changes failed")

    # --- helpers ------------------------------------------------------------------------------

    def _restore(self, now: Instant) -> None:
        tolerance_ms = round(self._options.outage_tolerance_s * 1000)
        try:
            self.silences.load()
            self.oncall.load()
            self._policy.note_start(now)
            restored = self._ledger.restore(now, tolerance_ms, self._last_alive_ms(now, tolerance_ms))
            self._escalations.restore(now)
        except DeskvigilError as error:
            LOG.error("alerts of before cannot be read: %s", error)
            return
        self._restore_flapping(now)
        gone = []
        with self._lock:
            for one in restored:
                run = self._owner(one)
                if run is self._external:
                    self._external.take_back(one.tracked, now)
                elif run is None:
                    gone.append(one.gone(now))
                else:
                    one.tracked.flapping = self._damper.is_flapping(one.tracked.fingerprint)
                    run.alerts[one.tracked.fingerprint] = one.tracked
            self._publish(now)
        self._follow(self._policy.routing)
        if gone:
            self._record(gone, now)

    def _owner(self, one: Restored) -> Run | None:
        return self._external if one.tracked.posted is not None else self._watch.owner(one.tracked, one.rule)

    def _restore_flapping(self, now: Instant) -> None:
        try:
            events, told = self._ledger.since(now.wall_ms - round(1000 * self._options.flapping_window_s))
        except DeskvigilError as error:
            LOG.error("which alerts came and went cannot be read: %s", error)
            return
        self._damper.restore(events, lambda alert_id: told.get(alert_id, set()), now)

    def _alive(self, fingerprint: str) -> tuple[Run, Tracked] | None:
        for run in self._runs():
            tracked = run.alerts.get(fingerprint)
            if tracked is not None:
                return run, tracked
        return None

    def _last_alive_ms(self, now: Instant, tolerance_ms: int) -> int | None:
        """When this room last published its figures before the stop, as far back as matters."""
        found = self._store.reader.select(
            [("__name__", "=", ALIVE_SERIES)], now.wall_ms - tolerance_ms - 1000, now.wall_ms
        )
        return max((int(data.t_ms[-1]) for data in found if len(data.t_ms)), default=None)

    def _find(self, alert_id: str) -> tuple[Run, Tracked]:
        for run in self._runs():
            for tracked in run.alerts.values():
                if tracked.alert_id == alert_id:
                    if tracked.live.state is not AlertState.FIRING:
                        raise NotFiringError(f"alert {alert_id} is not firing")
                    return run, tracked
        raise UnknownAlertError(f"there is no alert {alert_id} now")

    def _attempted(self) -> None:
        self._waiting_stale.set()

    def _how_much_waits(self) -> Waiting:
        if self._waiting_stale.is_set() or self._waiting.pending:
            self._waiting_stale.clear()
            try:
                self._waiting = self._outbox.waiting()
            except DeskvigilError:
                self._waiting_stale.set()
        return self._waiting

    def _now(self) -> Instant:
        return Instant(self._clock.now_ns() // 1_000_000, self._clock.monotonic_ns() // 1_000_000)


def _not_acknowledged(tracked: Tracked) -> None:
    if tracked.live.acked_by is not None:
        at = rfc3339(tracked.live.acked_at_ms or 0)
        raise AlreadyAcknowledgedError(f"already acknowledged by {tracked.live.acked_by} at {at}")


def _runs(groups: Sequence[Group], options: AlertOptions) -> list[RuleRun]:
    pairs = [(group, rule) for group in groups for rule in group.rules]
    ordinals = occurrences(rule for _, rule in pairs)
    return [RuleRun(rule, n, group.limit, options) for (group, rule), n in zip(pairs, ordinals, strict=True)]
