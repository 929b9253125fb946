"""AlertService: the alerts room as others use it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alerts.channels.build import build_channels
from alerts.channels.channel import Channel
from alerts.detectors.record import Predictions, Record
from alerts.errors import AlreadyAcknowledgedError, NotFiringError, UnknownAlertError
from alerts.evaluate import Change, RuleRun, Tracked, occurrences
from alerts.ledger import Ledger
from alerts.options import DEFAULT_RULES, AlertOptions
from alerts.outbox import ChannelStats, Outbox, Waiting
from alerts.prometheus import alert_json, groups_json
from alerts.rules import Group, Rule, load_rules
from alerts.slo import objectives, slo_groups
from alerts.source import AlertStore, Querier
from alerts.state import NOTIFIED, AlertState, Instant, acknowledge
from alerts.views import AlertEvent, AlertView, NotificationView, rfc3339
from alerts.watch import Watch
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from metrics.frame import Frame
from storage import audit

LOG = logging.getLogger(__name__)
ALIVE_SERIES = "deskvigil_alerts_evaluations_total"
UNWRITTEN_KEPT = 1000
REWRITE_AFTER_MS = 1000
VIEWS_EVERY_MS = 1000
MAX_COMMENT = 2000
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServiceStats:
    """Counters since the start, and what is so now."""

    rules: int
    rules_failing: int
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
    ) -> None:
        self._store = store
        self._options = options
        self._clock = clock
        self._groups = _load(options)
        runs = _runs(self._groups, options)
        self._watch = Watch(runs, store.live, query, options)
        built = build_channels(options, clock) if channels is None else list(channels)
        self._ledger = Ledger(store, [channel.recipient for channel in built], options)
        self._outbox = Outbox(store, built, options.outbox, clock, on_attempt=self._attempted)
        self._turn = threading.Lock()  # one evaluates and records, or acknowledges, at a time
        self._lock = threading.Lock()  # alerts in memory; never held during I/O
        self._frames: dict[str, Frame] = {}
        self._frames_lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._unwritten: deque[Change] = deque()
        self._stuck = False  # writing them has failed, and was said
        self._views: tuple[AlertView, ...] = ()
        self._views_at_ms = 0
        self._callbacks: tuple[Callable[[], None], ...] = ()
        self._missed = self._changes = self._lost = 0
        self._next_write_ms = 0
        self._waiting = Waiting(0, 0.0)
        self._waiting_stale = threading.Event()
        self._waiting_stale.set()
        self._grace_until_ms = 0

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what was alive at the last stop, and begin. Does nothing where it runs already."""
        if self._thread is not None or not self._options.enabled:
            return
        self._stopping.clear()
        now = self._now()
        self._grace_until_ms = now.mono_ms + round(self._options.restore_grace_s * 1000)
        self._restore(now)
        self._outbox.start()
        self._unsubscribe = self._store.live.subscribe(self._arrived)
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop evaluating, then delivering; bounded in time, may be called twice."""
        self._unsubscribe()
        self._unsubscribe = lambda: None
        self._stopping.set()
        self._wake.set()
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

    def rules(self) -> list[dict[str, Any]]:
        """The `groups` array of Prometheus's /api/v1/rules."""
        with self._lock:
            return groups_json(self._groups, self._watch.rules, self._views, self._options)

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
        return ServiceStats(
            rules=len(self._watch.rules),
            rules_failing=sum(1 for watched in self._watch.rules if watched.error),
            evaluations=self._watch.evaluations(),
            failures=counters.failures,
            missed=self._missed,
            passes=counters.passes,
            busy_s=counters.busy_ns / 1e9,
            changes=self._changes,
            unwritten=len(self._unwritten),
            lost=self._lost,
            channels=self._outbox.stats(),
            waiting=self._how_much_waits(),
        )

    # --- what people do -----------------------------------------------------------------------

    def acknowledge(self, alert_id: str, who: str, comment: str = "") -> AlertView:
        """Note that somebody is on it: repeats stop until it escalates; audited.

        UnknownAlertError, NotFiringError or AlreadyAcknowledgedError where there is nothing to
        acknowledge; StorageUnavailable where it cannot be recorded (nothing has changed then).
        """
        who, comment = who.strip(), comment.strip()[:MAX_COMMENT]
        if not who:
            raise ValueError("an acknowledgement needs a name")
        with self._turn:
            self._write_waiting()
            with self._lock:
                run, tracked = self._find(alert_id)
                now = self._now()
                after = acknowledge(tracked.live, who, comment, now)
                if after.live is None or after.reason is None:
                    raise AssertionError("an acknowledgement leaves the alert alive")
                change = run.change(tracked, after.live, after.reason, now, who, comment)
            with self._store.write() as connection:
                if not self._ledger.acknowledge(connection, change):
                    raise AlreadyAcknowledgedError(f"alert {alert_id} was acknowledged by somebody else just now")
                detail = {"alert": tracked.labels.get("alertname", ""), "rule": run.rule.key, "comment": comment}
                audit.record(
                    connection, t_ms=now.wall_ms, who=who, action="alert.acknowledge", object_=alert_id, detail=detail
                )
            with self._lock:
                tracked.live = after.live
                view = run.view(tracked)
                self._publish(now)
            self._changes += 1
        self._announce()
        return view

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
            self._wake.wait(min(rewrite_s, self._options.slow_tick_s))
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
            if changes or (self._unwritten and now.mono_ms >= self._next_write_ms):
                self._record(changes, now)  # before it is shown: what is on a page is on record, if it can be
            alive = sum(len(watched.run.alerts) for watched in self._watch.rules)
            moved = bool(changes) or alive != len(self._views)  # a pending alert is shown before it is recorded
            if moved or (alive and now.mono_ms - self._views_at_ms >= VIEWS_EVERY_MS):
                with self._lock:
                    self._publish(now)
        if moved:
            self._announce()

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
        if told:
            self._waiting_stale.set()
            self._outbox.wake()

    def _publish(self, now: Instant) -> None:
        """Make the present alerts visible; called with the lock held."""
        views = [watched.run.view(one) for watched in self._watch.rules for one in watched.run.alerts.values()]
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
            restored = self._ledger.restore(now, tolerance_ms, self._last_alive_ms(now, tolerance_ms))
        except DeskvigilError as error:
            LOG.error("alerts of before cannot be read: %s", error)
            return
        gone = []
        with self._lock:
            for one in restored:
                run = self._owner(one.tracked)
                if run is None:
                    gone.append(one.gone(now))
                else:
                    run.alerts[one.tracked.fingerprint] = one.tracked
            self._publish(now)
        if gone:
            self._record(gone, now)

    def _owner(self, tracked: Tracked) -> RuleRun | None:
        return next((watched.run for watched in self._watch.rules if watched.run.owns(tracked)), None)

    def _last_alive_ms(self, now: Instant, tolerance_ms: int) -> int | None:
        """When this room last published its figures before the stop, as far back as matters."""
        found = self._store.reader.select(
            [("__name__", "=", ALIVE_SERIES)], now.wall_ms - tolerance_ms - 1000, now.wall_ms
        )
        return max((int(data.t_ms[-1]) for data in found if len(data.t_ms)), default=None)

    def _find(self, alert_id: str) -> tuple[RuleRun, Tracked]:
        for watched in self._watch.rules:
            for tracked in watched.run.alerts.values():
                if tracked.alert_id == alert_id:
                    if tracked.live.state is not AlertState.FIRING:
                        raise NotFiringError(f"alert {alert_id} is not firing")
                    if tracked.live.acked_by is not None:
                        at = rfc3339(tracked.live.acked_at_ms or 0)
                        raise AlreadyAcknowledgedError(f"already acknowledged by {tracked.live.acked_by} at {at}")
                    return watched.run, tracked
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


def _load(options: AlertOptions) -> tuple[Group, ...]:
    files = tuple(group for path in options.rules or (DEFAULT_RULES,) for group in load_rules(path))
    return (*files, *slo_groups(objectives(options)))


def _runs(groups: Sequence[Group], options: AlertOptions) -> list[RuleRun]:
    pairs = [(group, rule) for group in groups for rule in group.rules]
    ordinals = occurrences(rule for _, rule in pairs)
    return [RuleRun(rule, n, group.limit, options) for (group, rule), n in zip(pairs, ordinals, strict=True)]
