"""Simulation of a mixed book: correlated scenarios, every position revalued, and what the losses say.

A scenario is one draw of correlated Gaussian log returns r = L z over the horizon; spots become
S exp(r), options lose the horizon from their lives, and are valued by Black and Scholes anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from engine.montecarlo.book import Book
from engine.montecarlo.revaluation import BLOCK, Tail, lines_of, simulate_book, simulate_book_on_threads, workspaces
from engine.montecarlo.tail import shortfall_error, shortfall_weights, tail_size, var_of_tail
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray

TRADING_DAY: Final = 1.0 / 252.0
MOST_SCENARIOS: Final = 1 << 24

Precision = Literal["double", "single"]
DTYPES: Final[dict[str, type]] = {"double": np.float64, "single": np.float32}


@dataclass(frozen=True, eq=False)
class BookRisk:
    """All in USD. gains (scenarios,) is the book's profit in each scenario, in the precision simulated.

    Contributions float64 (positions,) add up to var and to expected_shortfall. Those to the shortfall are
    each position's mean loss in the same scenarios; those to VaR its mean loss in the scenarios
    within one standard error of the quantile, scaled to the sum: one scenario alone would be noise.
    """

    gains: FloatArray
    var: float
    var_standard_error: float
    var_contributions: FloatArray
    expected_shortfall: float
    shortfall_standard_error: float
    shortfall_contributions: FloatArray


class BookSimulation:
    """Simulates one book again and again, reusing its memory. Not safe for two threads at once.

    loading float64 (n, n): a factor of the covariance of the n symbols' log returns over the horizon.
    The figures depend on (seed, stream, scenarios, loading, book, precision) alone, not on `threads`.
    DeskvigilError where something does not fit or is not finite.
    """

    def __init__(
        self,
        book: Book,
        loading: FloatArray,
        *,
        scenarios: int = 1_000,
        seed: int = 1,
        horizon_years: float = TRADING_DAY,
        var_confidence: float = 0.99,
        shortfall_confidence: float = 0.975,
        precision: Precision = "double",
        threads: int = 1,
    ) -> None:
        n = len(book.symbols)
        _check(loading, n, scenarios, horizon_years, (var_confidence, shortfall_confidence), threads)
        dtype = DTYPES[precision]
        self._loading = np.ascontiguousarray(loading, dtype=dtype)
        self._filled: IntArray = np.array([np.flatnonzero(row)[-1] + 1 if row.any() else 0 for row in loading], dtype=np.int64)
        self._scenarios, self._seed, self._horizon_years = scenarios, np.uint64(seed), horizon_years
        self._var_confidence, self._shortfall_confidence = var_confidence, shortfall_confidence
        self._weights = shortfall_weights(scenarios, shortfall_confidence)
        kept = tail_size(scenarios, var_confidence, shortfall_confidence)
        spread = math.sqrt(scenarios * var_confidence * (1.0 - var_confidence))
        rank = (1.0 - var_confidence) * (scenarios - 1)
        self._near = (np.abs(np.arange(kept) - rank) <= max(spread, 1.0)).astype(np.float64)
        self._kept = kept
        self._gains: FloatArray = np.zeros(scenarios, dtype=dtype)
        self._work = workspaces(threads, n, dtype)
        self._simulate = simulate_book if threads == 1 else simulate_book_on_threads
        self._dtype = dtype
        self.take(book)

    def take(self, book: Book) -> None:
        """Simulate another book on the same symbols from now on: other quantities, spots, positions."""
        if len(book.symbols) != len(self._loading):
            raise DeskvigilError(f"the book has {len(book.symbols)} symbols, the covariance {len(self._loading)}")
        self._lines, self._order = lines_of(book, self._horizon_years, self._dtype)
        lines, kept = len(self._order), self._kept
        self._tail = Tail(
            np.zeros(kept), np.zeros(kept, dtype=np.int64), np.zeros((lines, BLOCK), self._dtype), np.zeros((lines, kept), self._dtype)
        )

    def run(self, stream: int = 0) -> BookRisk:
        """Draw the scenarios of a stream. The gains returned are a copy."""
        tail = self._tail
        total = self._simulate(
            self._seed, np.uint64(stream), self._loading, self._filled, self._lines, self._work, self._gains, tail
        )
        if not math.isfinite(total):
            raise DeskvigilError("a scenario's profit is not finite: the volatilities or quantities are beyond the range of numbers")
        var, var_error = var_of_tail(tail.loss, self._scenarios, self._var_confidence)
        near = np.zeros(len(self._order))
        shortfall = np.zeros(len(self._order))
        near[self._order] = -(tail.gains @ self._near)
        shortfall[self._order] = -(tail.gains[:, : len(self._weights)] @ self._weights)
        scale = near.sum()
        return BookRisk(
            gains=self._gains.copy(),
            var=var,
            var_standard_error=var_error,
            var_contributions=near * (var / scale) if scale != 0.0 else near,
            expected_shortfall=float(shortfall.sum()),
            shortfall_standard_error=shortfall_error(tail.loss, self._weights, self._scenarios, self._shortfall_confidence),
            shortfall_contributions=shortfall,
        )


def _check(
    loading: FloatArray, n: int, scenarios: int, horizon_years: float, confidences: tuple[float, ...], threads: int
) -> None:
    if loading.shape != (n, n):
        raise DeskvigilError(f"the book has {n} symbols, so the covariance's factor must be ({n}, {n}), it is {loading.shape}")
    if not np.isfinite(loading).all():
        raise DeskvigilError("the covariance's factor has numbers that are not finite")
    if not 1 <= scenarios <= MOST_SCENARIOS:
        raise DeskvigilError(f"scenarios must lie between 1 and {MOST_SCENARIOS}, not {scenarios}")
    if not (math.isfinite(horizon_years) and horizon_years >= 0.0):
        raise DeskvigilError(f"the horizon must be 0 years or more, it is {horizon_years}")
    if not all(0.5 < confidence < 1.0 for confidence in confidences):
        raise DeskvigilError(f"confidences must lie between 0.5 and 1, they are {confidences}")
    if not 1 <= threads <= 64:
        raise DeskvigilError(f"threads must lie between 1 and 64, not {threads}")
