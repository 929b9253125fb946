"""Telemetry blocks as frames: what the engine and the risk process publish, ten times a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from collectors.kpi import KpiBoard
from collectors.latency import LatencyBoard
from engine.histogram import EDGES_NS
from engine.telemetry import BlockReader, BlockSpec, Snapshot
from metrics.clock import Clock, SystemClock
from metrics.errors import TransientError
from metrics.frame import FloatArray, Frame
from metrics.series import Schema, Series, make_labels

FRESH_NS = 1_000_000_000
WORST_ORDERS = 20
# Upper bounds of the published buckets: fine edges, so that the counts are exact. Powers of two up
# to a millisecond, of four up to the last ones: 256 ns to 8.6 s.
_EXPONENTS = (*range(8, 21), 22, 24, 26, 28, 30, 32, 33)
LE_NS = tuple(1 << exponent for exponent in _EXPONENTS)
_LE_INDEX = np.searchsorted(EDGES_NS, LE_NS) - 1
_PER_HISTOGRAM = len(LE_NS) + 3  # buckets, +Inf, sum, count


def histogram_series(histogram: Series) -> list[Series]:
    """The classic parts of a histogram: a bucket for each bound and +Inf, then sum and count."""
    labels = dict(histogram.labels)
    bounds = [*(repr(bound / 1e9) for bound in LE_NS), "+Inf"]
    return [
        *(Series(f"{histogram.name}_bucket", make_labels(labels | {"le": bound})) for bound in bounds),
        Series(f"{histogram.name}_sum", histogram.labels),
        Series(f"{histogram.name}_count", histogram.labels),
    ]


class EngineCollector:
    """Reads one telemetry block: its scalars as they are, its histograms as classic buckets in seconds.

    Adds `deskvigil_<name>_up`, `_heartbeat_age_seconds` and `_start_time_seconds`, and the key
    figures where the block is the engine's. While the block is missing, cannot be read, or its
    heartbeat has not moved for a second (by the monotonic clock), up is 0 and the rest is NaN; the
    series stay those of the last block. `absence` says in words why.
    """

    def __init__(self, path: Path, name: str, clock: Clock | None = None, interval_s: float = 0.1) -> None:
        self.name = name
        self.interval_s = interval_s
        self.absence = "not read yet"
        self._reader = BlockReader(path)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._kpis = KpiBoard(interval_s) if name == "engine" else None
        self._latency = LatencyBoard(interval_s) if name == "engine" else None
        self._snapshot: Snapshot | None = None
        self._heartbeat_ns = 0
        self._moved_ns: int | None = None  # monotonic; None until the heartbeat was seen alive
        self._own = tuple(
            Series(f"deskvigil_{name}_{what}") for what in ("up", "heartbeat_age_seconds", "start_time_seconds")
        )
        self._spec: BlockSpec | None = None
        self._schema = self._plan(None)

    def describe(self) -> Schema:
        """The series of the block last seen; before the first one only the collector's own."""
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Read the block and return its frame; never raises where the process is merely gone."""
        snapshot = self._read(now_ns)
        if snapshot is not None and snapshot.spec is not self._spec:
            self._schema = self._plan(snapshot.spec)
        values = np.full(len(self._schema), np.nan)
        alive = snapshot is not None and self._is_alive()
        values[0] = float(alive)
        if self._moved_ns is not None:
            values[1] = (self._clock.monotonic_ns() - self._moved_ns) / 1e9
        if alive and snapshot is not None:
            self.absence = ""
            self._fill(values, snapshot)
        return Frame(self._schema, now_ns, values)

    def close(self) -> None:
        """Let go of the block."""
        self._snapshot = None

    def info(self) -> dict[str, Any]:
        """The constants that the last block told about itself; empty before the first one."""
        return {} if self._spec is None else dict(self._spec.info)

    def last_fills(self) -> npt.NDArray[Any]:
        """The last fills, oldest first, as records (see `engine.publisher.FILLS`); empty where there are none.

        May be called from any thread: it reads the snapshot that `collect` took last.
        """
        snapshot = self._snapshot
        if snapshot is None or "fills" not in snapshot.tables:
            return np.zeros(0)
        return snapshot.tables["fills"]

    def table(self, name: str) -> npt.NDArray[Any]:
        """The records of one of the block's tables, oldest first; empty where there is none (yet).

        May be called from any thread, as `last_fills`.
        """
        snapshot = self._snapshot
        return np.zeros(0) if snapshot is None else snapshot.tables.get(name, np.zeros(0))

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest reading, for who needs several parts of one; may be read from any thread, as `last_fills`."""
        return self._snapshot

    def slowest_orders(self) -> npt.NDArray[Any]:
        """The slowest orders of this minute and the one before, the slowest first (see `engine.recorder.SLOWEST`)."""
        snapshot = self._snapshot
        if snapshot is None or "slowest" not in snapshot.tables:
            return np.zeros(0)
        rows = snapshot.tables["slowest"]
        rows = rows[rows["total_ns"] > 0]
        return rows[np.argsort(-rows["total_ns"], kind="stable")][:WORST_ORDERS]

    def _plan(self, spec: BlockSpec | None) -> Schema:
        """Lay out the values for blocks of this spec: own, scalars, histograms, key figures."""
        self._spec = spec
        scalars = () if spec is None else spec.scalars
        histograms = () if spec is None else spec.histograms
        first = len(self._own)
        self._scalars = slice(first, first + len(scalars))
        self._histograms = slice(self._scalars.stop, self._scalars.stop + _PER_HISTOGRAM * len(histograms))
        series = [*self._own, *scalars, *(part for histogram in histograms for part in histogram_series(histogram))]
        if self._kpis is not None:
            series.extend(self._kpis.series)
            if spec is not None:
                self._kpis.plan(spec)
        if self._latency is not None and spec is not None:
            self._latency.plan(spec)
            series.extend(self._latency.series)
        return Schema(self.name, tuple(series))

    def _read(self, now_ns: int) -> Snapshot | None:
        try:
            snapshot = self._reader.read()
        except TransientError as error:
            self.absence = str(error)
            return None
        if snapshot.heartbeat_ns != self._heartbeat_ns:
            # The first sight of a block may be of one that a dead process left behind: then its
            # heartbeat is old, and only seeing it move makes it alive.
            if self._heartbeat_ns != 0 or abs(now_ns - snapshot.heartbeat_ns) < FRESH_NS:
                self._moved_ns = self._clock.monotonic_ns()
            self._heartbeat_ns = snapshot.heartbeat_ns
        self._snapshot = snapshot
        return snapshot

    def _is_alive(self) -> bool:
        if self._moved_ns is None:
            self.absence = f"the {self.name} process left a block behind and is gone"
            return False
        if self._clock.monotonic_ns() - self._moved_ns > FRESH_NS:
            self.absence = f"the {self.name} process has not published for more than a second"
            return False
        return True

    def _fill(self, values: FloatArray, snapshot: Snapshot) -> None:
        values[2] = snapshot.start_ns / 1e9
        values[self._scalars] = snapshot.scalars
        if len(snapshot.spec.histograms):
            parts = values[self._histograms].reshape(-1, _PER_HISTOGRAM)
            cumulative = snapshot.counts.cumsum(axis=1)
            bounds = len(LE_NS)
            parts[:, :bounds] = cumulative[:, _LE_INDEX]
            parts[:, bounds] = parts[:, bounds + 2] = cumulative[:, -1]
            parts[:, bounds + 1] = snapshot.sums_ns / 1e9
        if self._kpis is not None:
            first = self._histograms.stop
            stop = first + len(self._kpis.series)
            values[first:stop] = self._kpis.update(self._clock.monotonic_ns(), snapshot)
            if self._latency is not None:
                values[stop:] = self._latency.update(self._clock.monotonic_ns(), snapshot)
