"""The watch: which rules a frame concerns, and looking at them.

Most rules compare a plain series with a number. Those are read off the arriving frame: one array
comparison over all of them finds the few that need a closer look. The others are prepared queries,
asked when a frame of a collector arrives whose series they read. Nothing is asked more often than its
group's interval, and everything is looked at on the slow tick, so that silence is noticed too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alerts.evaluate import Change, RuleRun, Tracked
from alerts.expression import Comparison
from alerts.extension import NoData
from alerts.options import AlertOptions
from alerts.source import LiveFrames, Prepared, Querier, Samples
from alerts.state import Instant
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, Frame
from metrics.series import Schema

LOG = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Watched:
    """One rule under watch: its run, its plan (None where it has none), and how its last evaluation went.

    due_ms: monotonic instant before which it is not evaluated again, a quarter of its group's interval
    early because frames jitter. screen: the one that reads the rule off frames, where one does.
    """

    run: RuleRun
    interval_ms: int
    plan: Prepared | None = None
    screen: Screen | None = None
    error: str = ""
    due_ms: int = 0
    took_s: float = 0.0
    _evaluated: Instant | None = None

    @property
    def evaluated(self) -> Instant | None:
        """When it was last evaluated, be it only by its screen."""
        passed = None if self.screen is None or self.error else self.screen.passed
        if passed is None or (self._evaluated is not None and self._evaluated.mono_ms > passed.mono_ms):
            return self._evaluated
        return passed

    def done(self, now: Instant, error: str = "") -> None:
        """Note an evaluation."""
        self._evaluated = now
        self.error = error
        self.due_ms = now.mono_ms + 3 * self.interval_ms // 4


@dataclass(slots=True)
class Counters:
    """What the watch did since the start; busy_ns is CPU time."""

    evaluations: int = 0
    failures: int = 0
    passes: int = 0
    busy_ns: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """A plain rule on one schema: where its series lie in a frame, and their labels."""

    watched: Watched
    positions: list[int]
    labels: list[dict[str, str]]

    def samples(self, values: FloatArray) -> Samples:
        """The series that have a reading."""
        found = values[self.positions].tolist()
        return [(labels, value) for labels, value in zip(self.labels, found, strict=True) if value == value]


class Screen:
    """All that the rules want of one schema. passed: when a frame was last found quiet, passes: how often."""

    def __init__(self, schema: Schema, readings: Sequence[Reading], queries: Sequence[Watched]) -> None:
        self.schema = schema
        self.readings = tuple(readings)
        self.queries = tuple(queries)
        self.passed: Instant | None = None
        self.passes = 0
        bounds = [_bounds(reading.watched.run.rule.expression.comparison) for reading in readings]
        counts = [len(reading.positions) for reading in readings]
        self._positions = np.array([at for reading in readings for at in reading.positions], dtype=np.int64)
        self._owner = np.repeat(np.arange(len(readings)), counts)
        self._low = np.repeat(np.array([low for low, _ in bounds]), counts)
        self._high = np.repeat(np.array([high for _, high in bounds]), counts)
        self._runs = tuple(reading.watched.run for reading in readings)
        self._always = {
            index for index, run in enumerate(self._runs) if run.rule.extension.no_data is NoData.ALERT
        }  # for them a frame without readings says something too

    def quiet(self, frame: Frame, now: Instant) -> bool:
        """Whether the frame changes nothing: no threshold met, no alert alive, no query due.

        For the collector's thread, where the frame is fresh: most frames end here, and cost the alert
        thread nothing.
        """
        for watched in self.queries:
            if now.mono_ms >= watched.due_ms:
                return False
        if self.readings:
            if self._always or any(run.alerts for run in self._runs):
                return False
            if self._hits(frame.values).any():
                return False
        self.passed = now
        self.passes += 1
        return True

    def suspects(self, values: FloatArray) -> set[int]:
        """Indices of readings that may exceed or are alive; the others cannot change anything."""
        hits = self._owner[self._hits(values)].tolist()
        alive = [index for index, run in enumerate(self._runs) if run.alerts]
        return {*hits, *alive, *self._always}

    def _hits(self, values: FloatArray) -> npt.NDArray[np.bool_]:
        read = values[self._positions]
        hits: npt.NDArray[np.bool_] = (read >= self._low) & (read <= self._high)
        return hits


def _bounds(comparison: Comparison | None) -> tuple[float, float]:
    """The closed interval of the values for which the comparison holds (all of them for !=)."""
    if comparison is None:
        return -np.inf, np.inf
    threshold = comparison.threshold
    match comparison.op:
        case ">":
            return float(np.nextafter(threshold, np.inf)), np.inf
        case ">=":
            return threshold, np.inf
        case "<":
            return -np.inf, float(np.nextafter(threshold, -np.inf))
        case "<=":
            return -np.inf, threshold
        case "==":
            return threshold, threshold
    return -np.inf, np.inf


class Watch:
    """Frames in, changes out. Not thread-safe: the alert thread owns it."""

    def __init__(
        self,
        runs: Iterable[RuleRun],
        live: LiveFrames,
        query: Querier,
        options: AlertOptions,
        before: Watch | None = None,
    ) -> None:
        """before: the watch that this one takes over from: its counters go on."""
        self._live = live
        self._slow_tick_ms = round(options.slow_tick_s * 1000)
        self.rules = tuple(Watched(run, round(1000 * (run.rule.interval_s or options.interval_s))) for run in runs)
        self._by_key: dict[str, list[Watched]] = {}
        for watched in self.rules:
            self._prepare(watched, query)
            self._by_key.setdefault(watched.run.rule.key, []).append(watched)
        self._screens: dict[str, Screen] = {}
        self._screened_before = 0
        self._began: Instant | None = None
        self.counters: Counters = Counters() if before is None else before.counters
        if before is not None:
            self._screened_before = before.evaluations() - before.counters.evaluations

    def quiet(self, frame: Frame, now: Instant) -> bool:
        """Whether a frame needs no look at all (see Screen.quiet); may be called from collectors' threads."""
        screen = self._screens.get(frame.schema.collector)
        return screen is not None and screen.schema is frame.schema and screen.quiet(frame, now)

    def owner(self, tracked: Tracked, key: str) -> RuleRun | None:
        """The rule under `key` (group/rule) that an alert is of, None where there is none any more."""
        return next((one.run for one in self._by_key.get(key, ()) if one.run.owns(tracked)), None)

    def evaluations(self) -> int:
        """How many evaluations of rules there were, those by screens included."""
        screened = sum(screen.passes * len(screen.readings) for screen in list(self._screens.values()))
        return self.counters.evaluations + self._screened_before + screened

    def look(self, frames: Iterable[Frame], now: Instant, *, grace: bool) -> list[Change]:
        """Evaluate what the frames concern, and what the slow tick finds overdue; return what changed."""
        began_ns = time.thread_time_ns()
        changes: list[Change] = []
        for frame in frames:
            changes += self._look_at(frame, now, grace)
        changes += self._overdue(now, grace)
        self.counters.passes += 1
        self.counters.busy_ns += time.thread_time_ns() - began_ns
        return changes

    def _overdue(self, now: Instant, grace: bool) -> list[Change]:
        """Ask the rules that no frame led to for a whole slow tick (none in the first: data have yet to come)."""
        self._began = self._began or now
        changes: list[Change] = []
        for watched in self.rules:
            last = watched.evaluated or self._began
            if now.mono_ms - last.mono_ms >= self._slow_tick_ms:
                changes += self._ask(watched, now, grace)
        return changes

    def _look_at(self, frame: Frame, now: Instant, grace: bool) -> list[Change]:
        screen = self._screens.get(frame.schema.collector)
        if screen is None or screen.schema is not frame.schema:
            screen = self._resolve(frame.schema)
        changes: list[Change] = []
        if screen.readings:
            suspects = screen.suspects(frame.values)
            for index, reading in enumerate(screen.readings):
                if now.mono_ms < reading.watched.due_ms:
                    continue
                if index in suspects:
                    changes += self._evaluate(reading.watched, reading.samples(frame.values), now, grace)
                else:
                    self._passed(reading.watched, now)
        for watched in screen.queries:
            if now.mono_ms >= watched.due_ms:
                changes += self._ask(watched, now, grace)
        return changes

    def _passed(self, watched: Watched, now: Instant) -> None:
        watched.done(now)
        self.counters.evaluations += 1

    def _ask(self, watched: Watched, now: Instant, grace: bool) -> list[Change]:
        if watched.plan is None:
            watched.done(now, watched.error)
            return []
        began_ns = time.perf_counter_ns()
        try:
            samples = watched.plan.instant(now.wall_ms - round(1000 * watched.run.rule.offset_s)).samples()
        except DeskvigilError as error:
            return self._failed(watched, now, str(error))
        except Exception as error:  # one faulty rule never stops the others; it shows as a failing rule
            LOG.exception("rule %s", watched.run.rule.key)
            return self._failed(watched, now, repr(error))
        changes = self._evaluate(watched, samples, now, grace)
        watched.took_s = (time.perf_counter_ns() - began_ns) / 1e9
        return changes

    def _evaluate(self, watched: Watched, samples: Samples, now: Instant, grace: bool) -> list[Change]:
        try:
            changes = watched.run.evaluate(samples, now, grace=grace)
        except DeskvigilError as error:
            return self._failed(watched, now, str(error))
        self._passed(watched, now)
        return changes

    def _failed(self, watched: Watched, now: Instant, error: str) -> list[Change]:
        watched.done(now, error)
        self.counters.evaluations += 1
        self.counters.failures += 1
        return []

    def _prepare(self, watched: Watched, query: Querier) -> None:
        try:
            watched.plan = query.prepare(watched.run.rule.expression.value_text)
        except DeskvigilError as error:
            watched.error = str(error)
            LOG.error("rule %s cannot be evaluated: %s", watched.run.rule.key, error)

    def _resolve(self, schema: Schema) -> Screen:
        """Find out which rules read a schema; done once for each new schema."""
        names: dict[str, list[int]] = {}
        for position, series in enumerate(schema.series):
            names.setdefault(series.name, []).append(position)
        readings, queries = [], []
        for watched in self.rules:
            positions = _positions(watched, schema, names)
            if not positions:
                continue
            rule = watched.run.rule
            if rule.expression.plain and not rule.offset_s and self._alone(watched, schema):
                labels = [dict(schema.series[position].labels) for position in positions]
                readings.append(Reading(watched, positions, labels))
            else:
                queries.append(watched)
        screen = Screen(schema, readings, queries)
        self._install(screen)
        self._reconsider(schema, readings)
        return screen

    def _install(self, screen: Screen) -> None:
        collector = screen.schema.collector
        before = self._screens.get(collector)
        if before is not None:
            self._screened_before += before.passes * len(before.readings)
        for reading in screen.readings:
            reading.watched.screen = screen
        for watched in screen.queries:
            watched.screen = None
        self._screens[collector] = screen

    def _alone(self, watched: Watched, schema: Schema) -> bool:
        """Whether no other collector has series that the rule reads: only then a frame says it all."""
        return not any(
            _positions(watched, other, None)
            for collector, other in self._live.schemas.items()
            if collector != schema.collector
        )

    def _reconsider(self, schema: Schema, readings: Sequence[Reading]) -> None:
        """Other schemas' plain rules that this one now has series for too must be asked as queries."""
        mine = {id(reading.watched) for reading in readings}
        for collector, screen in list(self._screens.items()):
            if collector == schema.collector:
                continue
            shared = [
                reading.watched
                for reading in screen.readings
                if id(reading.watched) not in mine and _positions(reading.watched, schema, None)
            ]
            if shared:
                kept = [reading for reading in screen.readings if reading.watched not in shared]
                self._install(Screen(screen.schema, kept, (*screen.queries, *shared)))


def _positions(watched: Watched, schema: Schema, names: dict[str, list[int]] | None) -> list[int]:
    """Where the series that a rule reads lie in a schema."""
    plan = watched.plan
    if plan is None:
        return []
    wanted = plan.metric_names()
    if names is not None and wanted:
        candidates = sorted(position for name in wanted for position in names.get(name, ()))
    else:
        candidates = [at for at, series in enumerate(schema.series) if not wanted or series.name in wanted]
    return [position for position in candidates if plan.matches(schema.series[position])]
