"""Quantiles of every stage's latency over the last minute, from the engine's cumulative histograms."""

from __future__ import annotations

import numpy as np

from collectors.kpi import MINUTE_S, QUANTILES, Window
from engine.histogram import BUCKETS, quantiles_ns
from engine.telemetry import BlockSpec, Snapshot
from metrics import catalogue
from metrics.frame import FloatArray, IntArray
from metrics.series import Series

EVERY_NS = 1_000_000_000  # a reading each second is enough for a window of a minute
_PREFIX, _SUFFIX = "deskvigil_engine_", "_seconds"


class LatencyBoard:
    """Turns snapshots of a block with histograms into quantiles; NaN where nothing was recorded in the window."""

    def __init__(self, interval_s: float) -> None:
        self._quantiles = np.array(QUANTILES)
        self._every_ns = max(EVERY_NS - round(interval_s * 0.5e9), 0)  # ticks come a little early or late
        self.series: tuple[Series, ...] = ()
        self._window = Window(0, np.int64, MINUTE_S, 1.0)
        self._last: IntArray = np.zeros(0, dtype=np.int64)
        self._before: IntArray = np.zeros(0, dtype=np.int64)
        self._run = (0, 0)  # pid and start of the engine that the last reading came from
        self._taken_ns: int | None = None
        self._values: FloatArray = np.zeros(0)

    def plan(self, spec: BlockSpec) -> None:
        """Lay out the series for the histograms of this spec; what was seen so far is forgotten where they are others."""
        stages = [row.name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for row in spec.histograms]
        planned = tuple(
            catalogue.series("deskvigil_kpi_latency_seconds", stage=stage, quantile=f"{q:g}")
            for stage in stages
            for q in QUANTILES
        )
        if planned != self.series:
            self.series = planned
            self._window = Window(len(stages) * BUCKETS, np.int64, MINUTE_S, 1.0)
            self._last = np.zeros(len(stages) * BUCKETS, dtype=np.int64)
            self._before = np.zeros_like(self._last)
            self._values = np.full(len(planned), np.nan)
            self._taken_ns = None

    def update(self, now_ns: int, snapshot: Snapshot) -> FloatArray:
        """Take in a snapshot read at `now_ns` (monotonic) if a second has gone by; returns the values of `series`."""
        if self._taken_ns is not None and now_ns - self._taken_ns < self._every_ns:
            return self._values
        run = (snapshot.pid, snapshot.start_ns)
        if run != self._run:  # a new engine counts from 0: what the one before had counted is added from now on
            self._run = run
            self._before = self._before + self._last
        self._last = snapshot.counts.reshape(-1).copy()
        self._window.push(now_ns, self._last + self._before)
        self._taken_ns = now_ns
        grown = self._window.growth().reshape(-1, BUCKETS)
        self._values = np.concatenate([quantiles_ns(row, self._quantiles) for row in grown]) / 1e9
        return self._values
