"""RiskBlock: what the risk process publishes, and where in its telemetry block it lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.buckets import bucket_of
from engine.montecarlo.book import Book
from engine.montecarlo.covariance import Covariance
from engine.montecarlo.distribution import BINS, STEPS
from engine.montecarlo.gpu.accelerator import GpuFigures, GpuState
from engine.montecarlo.heldoptions import MOST_OPTIONS
from engine.montecarlo.options import RiskOptions
from engine.montecarlo.simulation import BookRisk
from engine.telemetry import BlockSpec, BlockWriter, TableSpec
from metrics.catalogue import series
from metrics.frame import FloatArray
from metrics.series import Series

POSITIONS: Final = np.dtype(
    [("symbol", "S24"), ("name", "S48"), ("quantity", "<f8"), ("value_usd", "<f8"), ("var_usd", "<f8"), ("shortfall_usd", "<f8")]
)  # fmt: skip
HISTOGRAM: Final = np.dtype([("low_usd", "<f8"), ("high_usd", "<f8"), ("share", "<f8")])
CONVERGENCE: Final = np.dtype([("scenarios", "<f8"), ("var_usd", "<f8"), ("error_usd", "<f8")])
STRESS: Final = np.dtype([("volatility", "<f8"), ("spot", "<f8"), ("gain_usd", "<f8")])
WORDS: Final = np.dtype([("words", "S240")])


class RiskState(Enum):
    """Whether there are figures, and if not, why; the value is the label of deskvigil_risk_state."""

    OK = "ok"
    NO_ENGINE = "no_engine"
    STALE = "stale"
    NO_MARKS = "no_marks"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one run came to; figures and their book only where the state is OK. words: why it is not.

    symbols of the book's first positions are the engine's instruments; options follow. expired: how many were left out.
    """

    state: RiskState
    age_s: float
    words: str = ""
    figures: BookRisk | None = None
    book: Book | None = None
    expired: int = 0


@dataclass(eq=False)
class Pictures:
    """What is looked at by people, once a second: tables as float64 (rows, 3)."""

    histogram: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    convergence: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    stress: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))


class RiskBlock:
    """The one writer of the block; other instruments are other series, and `begin` lets a new block take its place."""

    def __init__(self, path: Path, options: RiskOptions) -> None:
        self._path, self._options = path, options
        self.runs, self.late = 0, 0
        self._writer = BlockWriter(path, self._spec((), None))

    def begin(self, symbols: tuple[str, ...], covariance: Covariance) -> None:
        """Publish about these instruments from now on; counters and durations go on."""
        before = self._writer
        self._writer = BlockWriter(self._path, self._spec(symbols, covariance))
        self._writer.counts[:], self._writer.sums_ns[:] = before.counts, before.sums_ns

    def time(self, took_ns: int) -> None:
        """Count one run."""
        self.runs += 1
        self._writer.counts[0, bucket_of(took_ns)] += 1
        self._writer.sums_ns[0] += took_ns

    def publish(self, outcome: Outcome, pictures: Pictures, gpu: GpuFigures, now_ns: int) -> None:
        """Everything as of now; where there are no figures they are NaN and their tables are empty."""
        scalars, written = self._writer.scalars, self._writer.written
        index = self._writer.spec.index
        scalars[:] = np.nan
        figures, book = outcome.figures, outcome.book
        if figures is not None and book is not None:
            values = book.values()
            listed = len(self._symbols)
            scalars[:5] = (
                figures.var, figures.var_standard_error, figures.expected_shortfall, figures.shortfall_standard_error,
                float(np.abs(values).sum()),
            )  # fmt: skip
            scalars[self._shares : self._shares + listed] = np.bincount(
                book.asset, figures.shortfall_contributions, listed
            )
            scalars[self._shares + listed :] = np.bincount(book.asset, figures.var_contributions, listed)
            scalars[index[_OPTIONS]] = len(book.positions) - listed
            scalars[index[_EXPIRED]] = outcome.expired
            self._fill("positions", _positions(book, values, figures))
        else:
            written[:] = 0
        for name, rows in (
            ("histogram", pictures.histogram), ("convergence", pictures.convergence), ("stress", pictures.stress),
        ):  # fmt: skip
            shown = rows if figures is not None else rows[:0]
            self._fill(name, [tuple(row) for row in shown.tolist()])
        self._fill("words", [(outcome.words.encode(errors="replace")[:240],)])
        self._fill("device", [(gpu.words.encode(errors="replace")[:240],)])
        scalars[index[_AGE]], scalars[index[_SCENARIOS]] = outcome.age_s, self._options.scenarios
        scalars[index[_RUNS]], scalars[index[_LATE]] = self.runs, self.late
        for state in RiskState:
            scalars[index[series("deskvigil_risk_state", state=state.value)]] = float(state is outcome.state)
        for one in GpuState:
            scalars[index[series("deskvigil_risk_gpu_state", state=one.value)]] = float(one is gpu.state)
        pool = gpu.pool
        scalars[[index[each] for each in _GPU]] = (
            gpu.devices, gpu.runs, gpu.fallbacks, gpu.trips, pool.hits, pool.misses, pool.trims, pool.used_bytes,
            pool.held_bytes, pool.limit_bytes, pool.fragmentation,
        )  # fmt: skip
        self._writer.publish(now_ns)

    def _fill(self, name: str, rows: list[tuple[Any, ...]]) -> None:
        table = self._writer.tables[name]
        count = min(len(rows), len(table))
        if count:
            table[:count] = np.array(rows[:count], dtype=table.dtype)
        self._writer.written[list(self._writer.spec.tables).index(name)] = count

    def _spec(self, symbols: tuple[str, ...], covariance: Covariance | None) -> BlockSpec:
        options = self._options
        self._symbols = symbols
        scalars: list[Series] = [
            # The value at risk comes first: engine/riskwatch.py and engine/varlimit.py read it there.
            series("deskvigil_risk_var_usd", confidence=f"{options.var_confidence:g}"),
            series("deskvigil_risk_var_standard_error_usd"),
            series("deskvigil_risk_expected_shortfall_usd", confidence=f"{options.shortfall_confidence:g}"),
            series("deskvigil_risk_expected_shortfall_standard_error_usd"),
            series("deskvigil_risk_gross_exposure_usd"),
            _AGE, _SCENARIOS, _RUNS, _LATE, _OPTIONS, _EXPIRED,
            *(series("deskvigil_risk_state", state=state.value) for state in RiskState),
            *(series("deskvigil_risk_gpu_state", state=state.value) for state in GpuState), *_GPU,
        ]  # fmt: skip
        self._shares = len(scalars)
        scalars += [series("deskvigil_risk_contribution_usd", symbol=symbol) for symbol in symbols]
        scalars += [series("deskvigil_risk_var_contribution_usd", symbol=symbol) for symbol in symbols]
        lines = len(symbols) + (MOST_OPTIONS if options.book is not None else 0)
        cells = len(options.stress_spots) * len(options.stress_volatilities)
        tables = {
            "positions": (POSITIONS, max(lines, 1)),
            "histogram": (HISTOGRAM, BINS),
            "convergence": (CONVERGENCE, STEPS),
            "stress": (STRESS, cells),
            "words": (WORDS, 1),
            "device": (WORDS, 1),
        }
        info = {
            "instruments": list(symbols),
            "method": f"{options.scenarios} Gaussian scenarios, full revaluation over {options.horizon_days:g} day(s)",
            "draw": options.draw,
            "scenario_set": options.scenario_set,
            "var_confidence": options.var_confidence,
            "shortfall_confidence": options.shortfall_confidence,
            "horizon_days": options.horizon_days,
            "book": "" if options.book is None else options.book.name,
            "covariance": dict(zip(symbols, covariance.source, strict=True)) if covariance else {},
        }
        specs = {name: TableSpec(dtype.descr, capacity) for name, (dtype, capacity) in tables.items()}
        return BlockSpec("risk", tuple(scalars), (series("deskvigil_risk_run_seconds"),), specs, info)


_AGE, _SCENARIOS, _RUNS, _LATE, _OPTIONS, _EXPIRED = (
    series(f"deskvigil_risk_{what}")
    for what in ("position_age_seconds", "scenarios", "runs_total", "late_runs_total", "options", "expired_options")
)
_GPU = tuple(
    series(f"deskvigil_risk_gpu_{what}")
    for what in (
        "devices", "runs_total", "fallbacks_total", "breaker_trips_total", "pool_hits_total", "pool_misses_total",
        "pool_trims_total", "pool_used_bytes", "pool_held_bytes", "pool_limit_bytes", "pool_fragmentation_ratio",
    )
)  # fmt: skip


def _positions(book: Book, values: FloatArray, figures: BookRisk) -> list[tuple[Any, ...]]:
    """Every line that is held, in the book's order."""
    rows = []
    for k, position in enumerate(book.positions):
        if position.quantity == 0.0:
            continue
        name = position.symbol
        if position.kind != "stock":
            name += f" {position.kind} {position.strike:g}, {position.years * 365.0:.0f} d"
        rows.append(
            (
                position.symbol.encode()[:24], name.encode()[:48], position.quantity, values[k],
                figures.var_contributions[k], figures.shortfall_contributions[k],
            )
        )  # fmt: skip
    return rows
