"""MemoryWatch: what our processes report of their memory, whether one of them leaks, and at which line.

A collector: each tick takes in the reports, each minute judges each process over the last two hours. A
process that comes under suspicion is asked for the lines that grow; the answer is a series and a note in the record.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from metrics.catalogue import series
from metrics.clock import Clock
from metrics.frame import Frame
from metrics.series import Schema, Series
from resources.leaks import UNKNOWN, LeakLimits, LeakReport, LeakVerdict, judge
from resources.memoryoptions import MemoryOptions
from resources.memoryreport import PERIOD_S, MemoryReport, ask_for_sites, read_report

log = logging.getLogger("deskvigil.console")

JUDGE_S = 60.0
ASK_AGAIN_S = 3_600.0
LARGEST_PYTHON_BLOCK = 512  # bytes, of what the interpreter counts as blocks: a leak in them has at least so many
STALE_S = 90.0  # a report older than this, a burst included, is none
MB_MIN = 60e-6  # of bytes a second
HEAP_STATES = ("in_use", "free", "mapped")
LEAK_FIGURES = (
    "verdict", "slope_bytes_per_second", "slope_low_bytes_per_second", "slope_high_bytes_per_second", "confidence_ratio",
)  # fmt: skip


class _Course:
    """What one process has reported since it started, at most the window's worth, and what is thought of it."""

    def __init__(self, pid: int, readings: int) -> None:
        self.pid = pid
        self.report: MemoryReport | None = None
        self.found = LeakReport(LeakVerdict.WARMING_UP, UNKNOWN)
        self.judged_s = self.asked_s = -math.inf
        self.told_s = math.nan
        self._rows: deque[tuple[float, float, float, float]] = deque(maxlen=readings)

    def take(self, report: MemoryReport) -> bool:
        """Take in a report; False where it is known already."""
        if self.report is not None and report.taken_s <= self.report.taken_s:
            return False
        self.report = report
        in_use = report.arena - report.free + report.mapped
        self._rows.append((report.taken_s, report.anonymous, in_use, LARGEST_PYTHON_BLOCK * report.python_blocks))
        return True

    def judge(self, limits: LeakLimits) -> None:
        """Judge the process as of its last report."""
        if self.report is not None:
            t_s, anonymous, *in_use = np.array(self._rows, dtype=np.float64).T
            self.found = judge(t_s, anonymous, in_use, self.report.started_s, limits)
            self.judged_s = self.report.taken_s

    def values(self, now_s: float) -> list[float]:
        """In the order of `_series`; NaN where the process has said nothing lately."""
        report, growth = self.report, self.found.growth
        if report is None or now_s - report.taken_s > STALE_S:
            return [math.nan] * len(_series("", report))
        in_heaps = report.arena - report.free
        return [
            report.anonymous, in_heaps, report.free, report.mapped, report.free / report.arena if report.arena else 0.0,
            report.python_blocks, now_s - report.taken_s,
            float(self.found.verdict), growth.slope, growth.low, growth.high, growth.confidence,
            *(site.bytes_s for site in report.sites),
        ]  # fmt: skip


class MemoryWatch:
    """Reads the reports in `folder` of the processes named; for one collector's thread.

    note: told in words what was found, once for each answer. period_s: between two reports of a process.
    """

    name = "memory"

    def __init__(
        self,
        clock: Clock,
        options: MemoryOptions,
        folder: Path,
        processes: Sequence[str],
        note: Callable[[str], None],
        *,
        limits: LeakLimits | None = None,
        period_s: float = PERIOD_S,
    ) -> None:
        self.interval_s = period_s
        self._clock, self._options, self._folder, self._note = clock, options, folder, note
        self._limits = limits or LeakLimits(
            warm_up_s=options.leak_warm_up_s, threshold=options.leak_mb_per_minute * 1e6 / 60.0
        )
        self._readings = math.ceil(self._limits.window_s / period_s) + 2
        self._courses = {name: _Course(0, self._readings) for name in processes}
        self._schema = Schema(self.name, self._series())

    def describe(self) -> Schema:
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Take in what was reported, and judge what is due."""
        now_s = self._clock.monotonic_ns() / 1e9
        for name in self._courses:
            report = read_report(self._folder, name)
            if report is not None:
                self._take(name, report)
        described = self._series()
        if described != self._schema.series:  # a process has answered, or began anew and has no answer any more
            self._schema = Schema(self.name, described)
        values = [value for course in self._courses.values() for value in course.values(now_s)]
        return Frame(self._schema, now_ns, np.array(values, dtype=np.float64))

    def close(self) -> None:
        """Nothing to let go of."""

    def _take(self, name: str, report: MemoryReport) -> None:
        if report.pid != self._courses[name].pid:
            self._courses[name] = _Course(report.pid, self._readings)
        course = self._courses[name]
        if not course.take(report):
            return
        if not math.isnan(report.sites_s) and report.sites_s != course.told_s:
            course.told_s = report.sites_s
            self._tell(name, report)
        if report.taken_s - course.judged_s < JUDGE_S:
            return
        before = course.found.verdict
        course.judge(self._limits)
        after = course.found.verdict
        if after is not before:
            log.info("memory of %s: %s (%.2f MB/min)", name, after.name.lower(), course.found.growth.slope * MB_MIN)
        due = report.taken_s - course.asked_s > ASK_AGAIN_S
        if after >= LeakVerdict.SUSPECTED and due and self._options.find_sites:
            course.asked_s = report.taken_s
            try:
                ask_for_sites(self._folder, name, self._options.site_burst_s)
            except OSError as error:
                log.warning("%s cannot be asked for the lines that grow: %s", name, error)

    def _tell(self, name: str, report: MemoryReport) -> None:
        lines = ", ".join(f"{site} ({site.bytes_s * MB_MIN:.2f} MB/min)" for site in report.sites)
        words = (
            f"memory of {name} grows at {lines}" if lines else f"memory of {name} grows outside Python's allocations"
        )
        log.warning("%s", words)
        self._note(words)

    def _series(self) -> tuple[Series, ...]:
        return tuple(one for name, course in self._courses.items() for one in _series(name, course.report))


def _series(process: str, report: MemoryReport | None) -> tuple[Series, ...]:
    return (
        series("deskvigil_process_anonymous_memory_bytes", process=process),
        *(series("deskvigil_process_heap_bytes", process=process, state=state) for state in HEAP_STATES),
        series("deskvigil_process_heap_fragmentation_ratio", process=process),
        series("deskvigil_process_python_blocks", process=process),
        series("deskvigil_process_memory_report_age_seconds", process=process),
        *(series(f"deskvigil_resource_leak_{what}", process=process) for what in LEAK_FIGURES),
        *(
            series("deskvigil_resource_leak_site_bytes_per_second", process=process, site=str(site))
            for site in (report.sites if report is not None else ())
        ),
    )
