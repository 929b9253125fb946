"""The desk's key figures from the engine's counters, over their windows (definitions: metrics/kpi.py).

The engine only counts; a figure "of the last five minutes" is the difference of two readings. What
was counted before the engine was restarted stays in: the readings of each run are added up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.histogram import BUCKETS, quantiles_ns
from engine.telemetry import BlockSpec, Snapshot
from metrics import catalogue
from metrics.frame import FloatArray
from metrics.series import Series

LONG_S, MINUTE_S, SHORT_S = 300.0, 60.0, 10.0
QUANTILES = (0.5, 0.95, 0.99, 0.999)
_MIN_RATE_S = 0.5  # a rate over less than this says more about the clock than about the engine
_E = "deskvigil_engine_"
_SUMS: tuple[tuple[str, ...], ...] = (
    (_E + "parent_ordered_value_usd_total",),
    (_E + "parent_filled_value_usd_total",),
    (_E + "slippage_cost_usd",),
    (_E + "slippage_value_usd_total",),
    (_E + "impact_weighted_bps",),
    (_E + "impact_parents_total",),
    (_E + "market_orders_total", _E + "orders_submitted_total"),
    (_E + "orders_submitted_total",),
    (_E + "orders_rejected_total",),
)
_ORDERED, _FILLED, _COST, _VALUE, _IMPACT, _PARENTS, _HANDLED, _SUBMITTED, _REJECTED = range(len(_SUMS))


class Window:
    """Cumulative readings of the last `span_s`, as a ring; tells how much they grew over it."""

    def __init__(self, columns: int, dtype: npt.DTypeLike, span_s: float, interval_s: float) -> None:
        self._span_ns = round(span_s * 1e9)
        capacity = int(span_s / interval_s * 1.25) + 16  # a ring too small for late ticks would shorten the window
        self._rows = np.zeros((capacity, columns), dtype=dtype)
        self._times: list[int] = [0] * capacity
        self._count = 0
        self._tail = 0

    def push(self, now_ns: int, row: npt.NDArray[Any]) -> None:
        """Add the readings of now (monotonic ns)."""
        capacity = len(self._times)
        self._rows[self._count % capacity] = row
        self._times[self._count % capacity] = now_ns
        self._count += 1
        self._tail = max(self._tail, self._count - capacity)
        # The base is the youngest reading that is at least the whole span old.
        while self._tail + 1 < self._count and self._times[(self._tail + 1) % capacity] <= now_ns - self._span_ns:
            self._tail += 1

    def growth(self) -> npt.NDArray[Any]:
        """How much each column grew over the window (over less, as long as there is less)."""
        capacity = len(self._times)
        grown: npt.NDArray[Any] = self._rows[(self._count - 1) % capacity] - self._rows[self._tail % capacity]
        return grown

    def seconds(self) -> float:
        """Time between the two readings that `growth` compares."""
        capacity = len(self._times)
        return (self._times[(self._count - 1) % capacity] - self._times[self._tail % capacity]) / 1e9


class _Places:
    """Where the figures' ingredients lie in blocks of one spec."""

    def __init__(self, spec: BlockSpec) -> None:
        columns = [
            [position for position, series in enumerate(spec.scalars) if series.name in names] for names in _SUMS
        ]
        missing = [names[0] for names, found in zip(_SUMS, columns, strict=True) if not found]
        if missing:
            raise ValueError(f"an engine block without {', '.join(missing)}")
        self._order = np.array([position for found in columns for position in found], dtype=np.intp)
        self._starts = np.cumsum([0, *(len(found) for found in columns[:-1])])
        self.pnl = spec.index[Series(_E + "pnl_usd")]
        self.drawdown = spec.index[Series(_E + "drawdown_usd")]
        self.latency = spec.histograms.index(Series(_E + "order_to_fill_seconds"))

    def sums(self, scalars: FloatArray) -> FloatArray:
        """The columns of _SUMS, float64."""
        summed: FloatArray = np.add.reduceat(scalars[self._order], self._starts)
        return summed


class KpiBoard:
    """Turns snapshots of the engine's block into the values of `series`; NaN where nothing happened."""

    def __init__(self, interval_s: float) -> None:
        self.series: tuple[Series, ...] = (
            catalogue.series("deskvigil_kpi_fill_ratio"),
            catalogue.series("deskvigil_kpi_slippage_bps"),
            catalogue.series("deskvigil_kpi_impact_bps"),
            catalogue.series("deskvigil_kpi_reject_ratio"),
            catalogue.series("deskvigil_kpi_throughput_orders_per_second"),
            catalogue.series("deskvigil_kpi_pnl_usd"),
            catalogue.series("deskvigil_kpi_drawdown_usd"),
            *(catalogue.series("deskvigil_kpi_order_to_fill_seconds", quantile=f"{q:g}") for q in QUANTILES),
        )
        self._long = Window(len(_SUMS), np.float64, LONG_S, interval_s)
        self._short = Window(len(_SUMS), np.float64, SHORT_S, interval_s)
        self._latency = Window(BUCKETS, np.int64, MINUTE_S, interval_s)
        self._quantiles = np.array(QUANTILES)
        self._places: _Places | None = None
        self._run = (0, 0)  # pid and start of the engine that the last reading came from
        self._last_sums, self._sums_before = np.zeros(len(_SUMS)), np.zeros(len(_SUMS))
        self._last_counts = np.zeros(BUCKETS, dtype=np.int64)
        self._counts_before = np.zeros(BUCKETS, dtype=np.int64)

    def plan(self, spec: BlockSpec) -> None:
        """Find the ingredients in blocks of this spec; ValueError where one is missing."""
        self._places = _Places(spec)

    def update(self, now_ns: int, snapshot: Snapshot) -> FloatArray:
        """Take in a snapshot read at `now_ns` (monotonic) and return the values of `series`."""
        places = self._places
        if places is None:
            return np.full(len(self.series), np.nan)
        sums, counts = places.sums(snapshot.scalars), snapshot.counts[places.latency]
        self._carry_over(snapshot)
        self._last_sums, self._last_counts = sums, counts
        total = sums + self._sums_before
        self._long.push(now_ns, total)
        self._short.push(now_ns, total)
        self._latency.push(now_ns, counts + self._counts_before)
        return self._figures(float(snapshot.scalars[places.pnl]), float(snapshot.scalars[places.drawdown]))

    def _carry_over(self, snapshot: Snapshot) -> None:
        """A new engine counts from 0: what the one before had counted is added from now on."""
        run = (snapshot.pid, snapshot.start_ns)
        if run != self._run:
            self._run = run
            self._sums_before = self._sums_before + self._last_sums
            self._counts_before = self._counts_before + self._last_counts

    def _figures(self, pnl_usd: float, drawdown_usd: float) -> FloatArray:
        grown = self._long.growth().tolist()
        seconds = self._short.seconds()
        handled = float(self._short.growth()[_HANDLED])
        return np.array(
            [
                _ratio(grown[_FILLED], grown[_ORDERED]),
                _ratio(grown[_COST], grown[_VALUE]) * 1e4,
                _ratio(grown[_IMPACT], grown[_PARENTS]),
                _ratio(grown[_REJECTED], grown[_SUBMITTED]),
                handled / seconds if seconds >= _MIN_RATE_S else np.nan,
                pnl_usd,
                drawdown_usd,
                *(quantiles_ns(self._latency.growth(), self._quantiles) / 1e9),
            ]
        )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else float("nan")
