"""Bottlenecks: once a second, why it is slow, as series, as a mark on the charts, and as a sentence for the pages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from console.readings import Readings
from metrics.catalogue import series
from metrics.frame import FloatArray, Frame
from metrics.series import Schema
from resources.bottleneck import (
    BASELINE_S,
    GAP_S,
    LEAST_S,
    RECENT_S,
    Baseline,
    Cause,
    Column,
    Finding,
    baseline_of,
    find,
)
from resources.sampler import Sampler

KEPT_S: Final = BASELINE_S + GAP_S + RECENT_S
FIRST_S: Final = LEAST_S + GAP_S + RECENT_S  # before anything is said
BASELINE_EVERY_S: Final = 30  # quantiles of an hour cost four milliseconds
FIRM_S: Final = 3  # seconds in a row that find the same, before it is said
_P: Final = "deskvigil_profiler_"
PROCESSES: Final = ("engine", "risk", "feed", "console", "supervisor")


@dataclass(frozen=True, slots=True)
class Said:
    """What is said now: finding.sentence "" while it is calm; since_ms: since when it holds; waits_s: until there is a baseline."""

    finding: Finding
    since_ms: int
    waits_s: int


class BottleneckCollector:
    """A collector: one row of readings and one look each tick.

    note: called with the sentence and its instant (ms) when a bottleneck is named. `said` may be read
    from any thread.
    """

    name = "profiler"
    interval_s = 1.0

    def __init__(self, readings: Readings, sampler: Sampler, note: Callable[[str, int], None]) -> None:
        self._readings = readings
        self._sampler = sampler
        self._note = note
        self._rows = np.full((KEPT_S, len(Column)), math.nan)
        self._calm = np.ones(KEPT_S, dtype=np.bool_)
        self._count = 0
        self._baseline: Baseline | None = None
        self._streak: tuple[Cause | None, int] = (None, 0)
        self._cpu_s = 0.0
        self._costs: list[tuple[float, float]] = []  # monotonic and CPU seconds, of the last minute
        self._before_ns = 0
        self._ticks = 0
        self.said = Said(Finding(), 0, FIRST_S)
        own = ("overhead_ratio", "samples_total", "lateness_seconds", "thread_cpu_ratio")
        self._schema = Schema(
            self.name,
            (
                *(series("deskvigil_bottleneck", cause=cause.value) for cause in Cause),
                *(
                    series("deskvigil_bottleneck_score", cause=cause.value)
                    for cause in Cause
                    if cause is not Cause.UNKNOWN
                ),
                *(series(_P + what) for what in own),
                *(series(_P + "main_thread_cpu_seconds_total", process=name) for name in PROCESSES),
                *(series(_P + "run_delay_seconds_total", process=name) for name in PROCESSES),
            ),
        )

    def describe(self) -> Schema:
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Read, look, and say it once it has held for FIRM_S."""
        began_s = time.thread_time()
        elapsed_s = (now_ns - self._before_ns) / 1e9 if self._before_ns else math.nan
        self._before_ns = now_ns
        row = self._readings.row(now_ns // 1_000_000, elapsed_s)
        self.take(row, now_ns // 1_000_000)
        self._cpu_s += time.thread_time() - began_s
        return Frame(self._schema, now_ns, np.array(self._values(row)))

    def close(self) -> None:
        """Let go of the kernel's files."""
        self._readings.close()

    def take(self, row: FloatArray, now_ms: int) -> None:
        """Add one second (float64 (len(Column),)) and look; separate from reading, so that recorded rows can be judged."""
        self._rows[:-1], self._calm[:-1] = self._rows[1:], self._calm[1:]
        self._rows[-1], self._calm[-1] = row, True
        self._count = min(self._count + 1, KEPT_S)
        if self._ticks % BASELINE_EVERY_S == 0 or self._baseline is None:
            found = baseline_of(self._rows[KEPT_S - self._count :], self._calm[KEPT_S - self._count :])
            # After more than an hour of trouble there is no newer calm time: the last one stays what is usual.
            self._baseline = found or self._baseline
        self._ticks += 1
        if self._baseline is None:
            self.said = Said(Finding(), 0, max(0, FIRST_S - self._count))
            return
        finding = find(self._rows[-RECENT_S:], self._baseline, self._readings.thread)
        self._calm[-1] = finding.symptom is None
        cause, held = self._streak
        self._streak = (finding.cause, held + 1 if finding.cause is cause else 1)
        before = self.said.finding.cause
        if self._streak[1] < FIRM_S and finding.cause is not before:
            return
        since_ms = self.said.since_ms if finding.cause is before else now_ms
        self.said = Said(finding, since_ms, 0)
        if finding.cause is not None and finding.cause is not before:
            # What led to it is no baseline either.
            self._calm[-RECENT_S - FIRM_S :] = False
            self._note(finding.sentence, now_ms)

    def _values(self, row: FloatArray) -> list[float]:
        said, threads = self.said.finding, self._readings.main_threads
        known = self._baseline is not None
        nothing = (math.nan, math.nan)
        return [
            *(float(said.cause is cause) if known else math.nan for cause in Cause),
            *(said.scores.get(cause, math.nan) for cause in Cause if cause is not Cause.UNKNOWN),
            self._overhead(),
            float(self._sampler.looks),
            float(row[Column.CONSOLE_LATE_S]),
            float(row[Column.THREAD_CPU]),
            *(threads.get(name, nothing)[0] for name in PROCESSES),
            *(threads.get(name, nothing)[1] for name in PROCESSES),
        ]

    def _overhead(self) -> float:
        """CPU of sampling and of this, of one core, over the last minute."""
        self._costs.append((time.monotonic(), self._cpu_s + self._sampler.cost_s))
        del self._costs[:-61]
        (began, cpu), (now, spent) = self._costs[0], self._costs[-1]
        return (spent - cpu) / (now - began) if now > began else math.nan
