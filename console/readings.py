"""Readings: one row a second for the search for bottlenecks, from the newest frames and the kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from collectors.engine import LE_NS
from collectors.section import ProcFile
from metrics.frame import FloatArray, Frame
from metrics.series import Schema, Series, make_labels
from resources.bottleneck import RECENT_S, Column
from resources.sampler import Sampler
from storage.live import LiveRing

FRESH_MS: Final = 3_000
STAGES: Final = ("order_to_ack", "client_order_to_ack")
LEAST_ORDERS: Final = 20  # in the window; the p99 of fewer is the longest of a handful
BACK_MS: Final = 30_000  # how far back the journal's oldest waiting record is looked for
_E, _P = "deskvigil_engine_", "deskvigil_process_"
_H: Final = "deskvigil_host_"
_EDGES_S: Final = np.array([0, *LE_NS]) / 1e9


class Newest:
    """The newest frame of one collector; where a name's series lie is looked up once for each schema."""

    def __init__(self, live: LiveRing, collector: str) -> None:
        self._live = live
        self._collector = collector
        self._schema: Schema | None = None
        self._places: dict[tuple[str, tuple[tuple[str, str], ...]], FloatArray | list[int]] = {}
        self._frame: Frame | None = None

    def refresh(self, now_ms: int) -> None:
        """Take the newest frame; one older than FRESH_MS counts as none."""
        frame = self._live.last_frame(self._collector)
        self._frame = frame if frame is not None and now_ms - frame.t_ms <= FRESH_MS else None
        if frame is not None and frame.schema is not self._schema:
            self._schema, self._places = frame.schema, {}

    def sum(self, name: str, **labels: str) -> float:
        """All series of a name with these labels, those without a reading left out; NaN where none has one."""
        values = self.all(name, **labels)
        known = values[np.isfinite(values)]
        return float(known.sum()) if len(known) else math.nan

    def all(self, name: str, **labels: str) -> FloatArray:
        """The same one by one, float64 (k,) in the schema's order."""
        frame = self._frame
        if frame is None:
            return np.zeros(0)
        key = (name, make_labels(labels))
        places = self._places.get(key)
        if places is None:
            wanted = set(key[1])
            places = [i for i, one in enumerate(frame.schema.series) if one.name == name and wanted <= set(one.labels)]
            self._places[key] = places
        found: FloatArray = frame.values[places]
        return found


class Rates:
    """Growth of counters by the second; NaN at the first look, after a gap and where a counter began anew."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self._elapsed_s = math.nan

    def begin(self, elapsed_s: float) -> None:
        """A new second; elapsed_s since the one before."""
        self._elapsed_s = elapsed_s

    def of(self, key: str, total: float) -> float:
        """Growth of one counter since the last look, by the second."""
        before = self._before.get(key, math.nan)
        self._before[key] = total
        grown = total - before
        return grown / self._elapsed_s if grown >= 0.0 and self._elapsed_s > 0.0 else math.nan


class RunDelay:
    """/proc/<pid>/schedstat of a main thread: how long it ran, and how long it could have and did not."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._files: dict[str, tuple[int, ProcFile]] = {}

    def read(self, process: str, pid: int) -> tuple[float, float]:
        """Seconds run and seconds waited for a processor since the process began; NaN where the kernel does not say."""
        known = self._files.get(process)
        if known is not None and known[0] != pid:
            self._files.pop(process)[1].close()
            known = None
        try:
            if known is None:
                known = self._files[process] = (pid, ProcFile(self._proc / str(pid) / "schedstat"))
            ran, waited = known[1].read().split()[:2]
            return int(ran) / 1e9, int(waited) / 1e9
        except (OSError, ValueError):
            if known is not None:
                self._files.pop(process)[1].close()
            return math.nan, math.nan

    def close(self) -> None:
        """Close the kernel's files."""
        for _, file in self._files.values():
            file.close()
        self._files.clear()


class Readings:
    """Makes a row of `resources.bottleneck.Column` each second. For one thread.

    children: the processes by name and pid.
    """

    def __init__(self, live: LiveRing, sampler: Sampler, children: Callable[[], Sequence[tuple[str, int]]]) -> None:
        self._live = live
        self._sampler = sampler
        self._children = children
        self._of = {name: Newest(live, name) for name in ("engine", "host", "process", "storage")}
        self._rates = Rates()
        self._run_delay = RunDelay()
        self._buckets: list[FloatArray] = []
        self._threads_s: dict[str, float] = {}
        self.main_threads: Mapping[str, tuple[float, float]] = {}
        self.thread = ""
        """The console's busiest thread in this second."""

    def row(self, now_ms: int, elapsed_s: float) -> FloatArray:
        """Read everything: float64 (len(Column),), NaN where a reading is missing."""
        for newest in self._of.values():
            newest.refresh(now_ms)
        self._rates.begin(elapsed_s)
        self.main_threads = {name: self._run_delay.read(name, pid) for name, pid in self._children() if pid > 0}
        row = np.full(len(Column), math.nan)
        self._engine(row, now_ms)
        self._machine(row)
        self._console(row, elapsed_s)
        return row

    def close(self) -> None:
        """Let go of the kernel's files."""
        self._run_delay.close()

    def _engine(self, row: FloatArray, now_ms: int) -> None:
        engine, rate = self._of["engine"], self._rates.of
        row[Column.LATENCY_P99_S] = self._p99_s(engine)
        row[Column.FEED_AGE_S] = engine.sum(_E + "feed_age_seconds")
        row[Column.UNDURABLE_S] = self._undurable_s(engine, now_ms)
        events = rate("events", engine.sum(_E + "events_total"))
        requests = rate("requests", engine.sum(_E + "client_requests_total"))
        row[Column.ARRIVALS] = np.nansum([events, requests]) if math.isfinite(events) else math.nan
        lag_s, waiting = engine.sum(_E + "event_lag_seconds"), engine.sum(_E + "client_requests_waiting")
        row[Column.WAITING] = np.nansum([waiting, max(lag_s, 0.0) * events])
        row[Column.RUN_DELAY] = rate("delay", self.main_threads.get("engine", (math.nan, math.nan))[1])

    def _machine(self, row: FloatArray) -> None:
        host, process, rate = self._of["host"], self._of["process"], self._rates.of
        cores = host.sum(_H + "cpus")
        row[Column.OTHERS_CPU] = max(host.sum(_H + "cpu_busy_ratio") * cores - process.sum(_P + "cpu_ratio"), 0.0)
        row[Column.STEAL_RATIO] = host.sum(_H + "cpu_mode_ratio", mode="steal")
        row[Column.IOWAIT_RATIO] = host.sum(_H + "cpu_mode_ratio", mode="iowait")
        row[Column.RUNNING] = host.sum(_H + "processes_running") / cores
        row[Column.IO_PRESSURE] = host.sum(_H + "pressure_ratio", resource="io", kind="some")
        row[Column.MEMORY_PRESSURE] = host.sum(_H + "pressure_ratio", resource="memory", kind="some")
        row[Column.MAJOR_FAULTS] = rate("major", process.sum(_P + "page_faults_total", kind="major"))
        row[Column.MINOR_FAULTS] = rate("minor", process.sum(_P + "page_faults_total", kind="minor", process="engine"))

    def _console(self, row: FloatArray, elapsed_s: float) -> None:
        process = self._of["process"]
        row[Column.CONSOLE_LATE_S] = self._sampler.take_late_s()
        row[Column.COMMIT_S] = self._of["storage"].sum("deskvigil_storage_last_commit_seconds")
        row[Column.GC_RATIO] = self._rates.of("gc", process.sum(_P + "gc_pause_seconds_total"))
        row[Column.GC_LONGEST_S] = process.sum(_P + "gc_pause_max_seconds")
        before, self._threads_s = self._threads_s, {one.name: one.cpu_s for one in self._sampler.threads()}
        spent_s = {name: cpu_s - before[name] for name, cpu_s in self._threads_s.items() if name in before}
        if spent_s and elapsed_s > 0.0:
            self.thread = max(spent_s, key=lambda name: spent_s[name])
            row[Column.THREAD_CPU] = spent_s[self.thread] / elapsed_s

    def _p99_s(self, engine: Newest) -> float:
        """Order to acknowledgement, own orders and clients', over the last RECENT_S seconds."""
        parts = [engine.all(f"{_E}{stage}_seconds_bucket") for stage in STAGES]
        if not all(len(part) == len(_EDGES_S) for part in parts):
            self._buckets.clear()
            return math.nan
        self._buckets.append(np.sum(np.nan_to_num(parts), axis=0))
        del self._buckets[: -RECENT_S - 1]
        return p99_of(self._buckets[-1] - self._buckets[0])

    def _undurable_s(self, engine: Newest, now_ms: int) -> float:
        """How long the journal's oldest record that is not on the disk has waited."""
        undurable, total = engine.sum(_E + "journal_undurable_records"), engine.sum(_E + "journal_records_total")
        if not undurable > 0.0:
            return undurable  # 0, or not known
        series = Series(_E + "journal_records_total", ())
        times, totals = self._live.window(series, now_ms - BACK_MS, now_ms)
        later = np.flatnonzero(totals > total - undurable)
        return (now_ms - int(times[later[0]])) / 1e3 if len(later) else 0.0


def p99_of(cumulative: FloatArray) -> float:
    """The p99 in seconds of a classic histogram's growth; NaN where it has fewer than LEAST_ORDERS or ran backwards.

    cumulative: float64 (bounds + 1,), the last is +Inf; interpolated inside a bucket.
    """
    total = float(cumulative[-1])
    if total < LEAST_ORDERS or np.any(np.diff(cumulative) < 0.0):
        return math.nan
    rank = 0.99 * total
    bucket = int(np.searchsorted(cumulative, rank, side="left"))
    if bucket >= len(LE_NS):
        return float(_EDGES_S[-1])
    before = float(cumulative[bucket - 1]) if bucket else 0.0
    inside = (rank - before) / (float(cumulative[bucket]) - before)
    return float(_EDGES_S[bucket] + (_EDGES_S[bucket + 1] - _EDGES_S[bucket]) * inside)
