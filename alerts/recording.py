"""Recording rules: expressions whose results are kept as series of their own.

A group is evaluated when a frame arrives whose series it reads, no more often than its interval, and
by the clock where no frame comes. Its rules are evaluated in order; each result goes into the live ring
as a frame, like a collector's, so that it is stored, streamed and read by alerts at once. One thread of
its own: an expensive recording rule never holds up an alert.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from alerts.options import AlertOptions
from alerts.rules import Group, RecordingRule
from alerts.source import LiveFrames, Prepared, Querier, Samples
from alerts.state import Instant
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from metrics.frame import Frame
from metrics.series import Schema, Series, make_labels
from storage.stale import NORMAL_BITS, STALE_NAN

LOG = logging.getLogger(__name__)
SERIES_KEPT = 4096
STOP_TIMEOUT_S = 5.0
_NORMAL_NAN = float(np.array([NORMAL_BITS], np.uint64).view(np.float64)[0])
_SPARE = 64  # absent series that a schema may carry before it is made anew without them


class RecordingError(DeskvigilError):
    """A recording rule could not be evaluated; the message says why."""


@dataclass(slots=True, eq=False)
class Recording:
    """One recording rule, its plan (None where it has none), and how its last evaluation went."""

    rule: RecordingRule
    plan: Prepared | None = None
    error: str = ""
    took_s: float = 0.0
    evaluated: Instant | None = None
    series: int = 0
    _known: dict[int, tuple[dict[str, str], Series]] = field(default_factory=dict)

    def ask(self, t_ms: int, limit: int) -> list[tuple[Series, float]]:
        """The samples of one instant under the rule's name and labels; RecordingError, QueryError."""
        if self.plan is None:
            raise RecordingError(self.error)
        found = [(self._series(labels), value) for labels, value in self._samples(self.plan, t_ms)]
        if limit and len(found) > limit:
            raise RecordingError(f"{len(found)} series are more than the limit of {limit}")
        if len({series for series, _ in found}) != len(found):
            raise RecordingError("two series have the same labels, the rule's applied")
        return found

    def _samples(self, plan: Prepared, t_ms: int) -> Samples:
        return plan.instant(t_ms).samples()

    def _series(self, labels: dict[str, str]) -> Series:
        # Whoever hands samples hands the same label objects each time, and does not change them.
        known = self._known.get(id(labels))
        if known is not None:
            return known[1]
        if len(self._known) >= SERIES_KEPT:
            self._known.clear()
        kept = {name: text for name, text in labels.items() if name != "__name__" and name not in self.rule.dropped}
        series = Series(self.rule.name, make_labels({**kept, **dict(self.rule.labels)}))
        self._known[id(labels)] = (labels, series)
        return series


class Stage:
    """Rules of a group whose results go out as one frame: none of them reads what another records."""

    def __init__(self, collector: str, recordings: Sequence[Recording], limit: int) -> None:
        self.collector = collector
        self.recordings = tuple(recordings)
        self._limit = limit
        self._schema: Schema | None = None

    def frame(self, t_ms: int, now: Instant) -> Frame | None:
        """Evaluate every rule; a series without a sample now gets the stale marker. None: there was never one."""
        found: dict[Series, float] = {}
        for recording in self.recordings:
            self._take(recording, t_ms, now, found)
        if not found and self._schema is None:
            return None
        schema = self._schema = self._described(found)
        values = np.full(len(schema), STALE_NAN)
        for series, value in found.items():
            values[schema.index[series]] = value if value == value else _NORMAL_NAN
        return Frame(schema, t_ms * 1_000_000, values)

    def farewell(self, t_ms: int) -> Frame | None:
        """The frame after which none of its series has a value."""
        if self._schema is None:
            return None
        return Frame(self._schema, t_ms * 1_000_000, np.full(len(self._schema), STALE_NAN))

    def _take(self, recording: Recording, t_ms: int, now: Instant, found: dict[Series, float]) -> None:
        began_ns = time.perf_counter_ns()
        recording.evaluated, recording.series = now, 0
        try:
            samples = recording.ask(t_ms, self._limit)
            if any(series in found for series, _ in samples):
                raise RecordingError("another rule of the group records the same series")
            recording.error = ""
        except DeskvigilError as error:
            recording.error = str(error)
            return
        except Exception as error:  # one faulty rule never stops the others; it shows as a failing rule
            LOG.exception("recording rule %s", recording.rule.key)
            recording.error = repr(error)
            return
        recording.took_s = (time.perf_counter_ns() - began_ns) / 1e9
        recording.series = len(samples)
        found.update(samples)

    def _described(self, found: dict[Series, float]) -> Schema:
        """The present schema while it has all series: a new one costs storage a layout."""
        if self._schema is not None and all(series in self._schema.index for series in found):
            return self._schema
        before = () if self._schema is None else self._schema.series
        both = tuple(dict.fromkeys((*before, *found)))
        return Schema(self.collector, both if len(both) <= 2 * len(found) + _SPARE else tuple(found))


@dataclass(slots=True, eq=False)
class RecordingGroup:
    """The recording rules of one group, and when they are due; touched: a frame that they read came lately."""

    name: str
    interval_ms: int
    offset_ms: int
    stages: tuple[Stage, ...]
    last_ms: int | None = None
    touched: bool = False
    waits: bool = False

    @property
    def recordings(self) -> tuple[Recording, ...]:
        return tuple(recording for stage in self.stages for recording in stage.recordings)

    def ripe(self, now_ms: int) -> bool:
        """Whether a frame may lead to an evaluation; a quarter early, because frames jitter."""
        return self.last_ms is None or now_ms - self.last_ms >= 3 * self.interval_ms // 4

    def due_ms(self, now_ms: int) -> int:
        """The monotonic instant at which it is evaluated without a frame."""
        if self.last_ms is None or self.waits:
            return now_ms
        return self.last_ms + (5 * self.interval_ms // 4 if self.touched else self.interval_ms)

    def reads(self, schema: Schema) -> bool:
        """Whether some rule reads a series of a schema that is not its own stage's."""
        return any(
            recording.plan is not None
            and schema.collector != stage.collector
            and any(recording.plan.matches(series) for series in schema.series)
            for stage in self.stages
            for recording in stage.recordings
        )


class Recorder:
    """Evaluates recording groups in a thread of its own. `set` may be called at any time, from any thread."""

    def __init__(self, live: LiveFrames, options: AlertOptions, clock: Clock) -> None:
        self._live = live
        self._clock = clock
        self._options = options
        self._turn = threading.Lock()  # one evaluates, or exchanges the groups, at a time
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._readers: dict[str, tuple[Schema, tuple[RecordingGroup, ...]]] = {}
        self.groups: tuple[RecordingGroup, ...] = ()
        self.evaluations = self.failures = 0

    def start(self) -> None:
        """Begin where there is something to record; `set` does so later."""
        self._stopping.clear()
        self._begin()

    def stop(self) -> None:
        """End; bounded in time, may be called twice."""
        self._unsubscribe()
        self._unsubscribe = lambda: None
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            self._thread = None

    def set(self, groups: Sequence[RecordingGroup], *, running: bool) -> None:
        """Exchange the groups; series that nobody records any more end."""
        with self._turn:
            kept = {stage.collector for group in groups for stage in group.stages}
            now_ms = self._now().wall_ms
            for group in self.groups:
                for stage in group.stages:
                    last = None if stage.collector in kept else stage.farewell(now_ms - group.offset_ms)
                    if last is not None:
                        self._live.append(last)
            self.groups = tuple(groups)
            self._readers = {}
        if running:
            self._begin()
            self._wake.set()

    def evaluate(self, now: Instant) -> None:
        """Evaluate the groups that are due."""
        with self._turn:
            for group in self.groups:
                if now.mono_ms >= group.due_ms(now.mono_ms):
                    self._evaluate(group, now)

    def _evaluate(self, group: RecordingGroup, now: Instant) -> None:
        group.last_ms, group.touched, group.waits = now.mono_ms, group.waits, False
        for stage in group.stages:
            frame = stage.frame(now.wall_ms - group.offset_ms, now)
            self.evaluations += len(stage.recordings)
            if frame is not None:
                self._live.append(frame)
                refused = self._live.refused.get(stage.collector)
                for recording in stage.recordings if refused else ():
                    recording.error = f"its series are refused: {refused}"
            self.failures += sum(1 for recording in stage.recordings if recording.error)

    def _arrived(self, frame: Frame) -> None:
        """Note which groups a frame concerns, in its collector's thread."""
        collector = frame.schema.collector
        known = self._readers.get(collector)
        if known is None or known[0] is not frame.schema:
            known = (frame.schema, tuple(group for group in self.groups if group.reads(frame.schema)))
            self._readers[collector] = known
        now_ms = self._clock.monotonic_ns() // 1_000_000
        for group in known[1]:
            if not group.waits and group.ripe(now_ms):
                group.waits = True
                self._wake.set()

    def _begin(self) -> None:
        if self._thread is not None or not self.groups:
            return
        self._unsubscribe = self._live.subscribe(self._arrived)
        self._thread = threading.Thread(target=self._run, name="recording rules", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            now = self._now()
            try:
                self.evaluate(now)
            except Exception:  # a fault of ours: loud, but recording goes on
                LOG.exception("recording rules failed")
            now_ms = self._now().mono_ms
            next_ms = min((group.due_ms(now_ms) for group in self.groups), default=now_ms + 60_000)
            self._clock.wait(self._wake, max(0.01, (next_ms - now_ms) / 1000))
            self._wake.clear()

    def _now(self) -> Instant:
        return Instant(self._clock.now_ns() // 1_000_000, self._clock.monotonic_ns() // 1_000_000)


def recording_groups(groups: Sequence[Group], query: Querier, options: AlertOptions) -> tuple[RecordingGroup, ...]:
    """The recording rules of rule files, planned; a rule that cannot be planned fails by itself."""
    return tuple(
        RecordingGroup(
            group.name,
            round(1000 * (group.interval_s or options.interval_s)),
            round(1000 * group.offset_s),
            _stages(group, [_planned(rule, query) for rule in group.records]),
        )
        for group in groups
        if group.records
    )


def _planned(rule: RecordingRule, query: Querier) -> Recording:
    try:
        return Recording(rule, query.prepare(rule.text))
    except DeskvigilError as error:
        LOG.error("recording rule %s cannot be evaluated: %s", rule.key, error)
        return Recording(rule, error=str(error))


def _stages(group: Group, recordings: Sequence[Recording]) -> tuple[Stage, ...]:
    """Rules in order; one that may read what the stage before it records begins the next stage."""
    stages: list[list[Recording]] = []
    for recording in recordings:
        recorded = {one.rule.name for one in stages[-1]} if stages else set()
        names = recorded if recording.plan is None else recording.plan.metric_names() or recorded
        if not stages or names & recorded:
            stages.append([])
        stages[-1].append(recording)
    collector = f"rules: {group.file}: {group.name}"
    return tuple(Stage(f"{collector}, {n + 1}", stage, group.limit) for n, stage in enumerate(stages))
