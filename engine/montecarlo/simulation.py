"""Simulation of a mixed book: correlated scenarios, every position revalued, and what the losses say.

A scenario is one draw of correlated Gaussian log returns r = L z over the horizon; spots become
S exp(r), options lose the horizon from their lives, and are valued by Black and Scholes anew.

How the scenarios are drawn is a choice, with the effect on the same number of them:

- "plain": independent.
- "antithetic": the second half are the first half's mirror images. Helps means, not quantiles.
- "sobol": points of a scrambled Sobol sequence instead of random ones, the first coordinate along the book's delta.
- "control": independent, and VaR and ES are corrected by what delta-gamma's are known to be, where that takes error away.
- "importance": drawn from the tail by delta-gamma's exponential twist, and weighted back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from engine.montecarlo.book import Book
from engine.montecarlo.deltagamma import DeltaGamma
from engine.montecarlo.gpu.accelerator import Accelerator
from engine.montecarlo.gpu.plan import Work, book_work
from engine.montecarlo.normals import scenario_normals
from engine.montecarlo.revaluation import (
    BLOCK,
    Sampling,
    Tail,
    gains_on_threads,
    line_gains,
    lines_of,
    sampling_of,
    simulate_book,
    workspaces,
)
from engine.montecarlo.sobol import sobol_normals
from engine.montecarlo.tail import shortfall_error, shortfall_weights, tail_size, var_of_tail
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray

TRADING_DAY: Final = 1.0 / 252.0
MOST_SCENARIOS: Final = 1 << 24

Precision = Literal["double", "single"]
Draw = Literal["plain", "antithetic", "sobol", "control", "importance"]
DTYPES: Final[dict[str, type]] = {"double": np.float64, "single": np.float32}
BY_COUNTER: Final = ("plain", "control", "importance")  # draws whose normals are a function of the scenario's number
DRAWS: Final = ("plain", "antithetic", "sobol", "control", "importance")


@dataclass(frozen=True, eq=False)
class BookRisk:
    """All in USD. gains (scenarios,) is the book's profit in each scenario, in the precision simulated.

    Contributions float64 (positions,) add up to var and to expected_shortfall: each position's mean loss in the tail
    of the shortfall, and in the scenarios within one standard error of VaR (one scenario alone would be noise), scaled
    to the sum where a control variate or rounding has moved it. weights (scenarios,): likelihood ratios of
    importance sampling, else 1 each (None).
    """

    gains: FloatArray
    var: float
    var_standard_error: float
    var_contributions: FloatArray
    expected_shortfall: float
    shortfall_standard_error: float
    shortfall_contributions: FloatArray
    weights: FloatArray | None = None


class BookSimulation:
    """Simulates one book again and again, reusing its memory. Not safe for two threads at once.

    loading float64 (n, n): a factor of the covariance of the n symbols' log returns over the horizon.
    The figures depend on (seed, stream, scenarios, loading, book, precision, draw) alone, not on `threads` nor on the
    accelerator, which computes the same bits. It draws by counter alone: antithetic and Sobol scenarios stay here.
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
        draw: Draw = "plain",
        precision: Precision = "double",
        threads: int = 1,
        accelerator: Accelerator | None = None,
    ) -> None:
        n = len(book.symbols)
        _check(loading, n, scenarios, horizon_years, (var_confidence, shortfall_confidence), threads)
        if draw not in DRAWS or precision not in DTYPES or (draw == "antithetic" and scenarios % 2):
            raise DeskvigilError(
                f"cannot draw {scenarios} {precision} scenarios {draw}: draws are {', '.join(DRAWS)}; antithetic ones even"
            )
        self._loading: FloatArray = np.array(loading, dtype=np.float64)
        self._scenarios, self._seed, self._horizon_years = scenarios, seed, horizon_years
        self._var_confidence, self._shortfall_confidence = var_confidence, shortfall_confidence
        self._draw, self._dtype, self._threads = draw, DTYPES[precision], threads
        self._weights = shortfall_weights(scenarios, shortfall_confidence)
        self._kept = tail_size(scenarios, var_confidence, shortfall_confidence)
        spread = math.sqrt(scenarios * var_confidence * (1.0 - var_confidence))
        rank = (1.0 - var_confidence) * (scenarios - 1)
        self._near_var = (np.abs(np.arange(self._kept) - rank) <= max(spread, 1.0)).astype(np.float64)
        # Profits, and below them their quadratics where the draw needs them.
        self._results: FloatArray = np.zeros((1 + (draw in ("control", "importance")), scenarios), self._dtype)
        self._gains = self._results[0]
        self._near: FloatArray = self._results[1] if len(self._results) > 1 else np.zeros(0, self._dtype)
        self._accelerator = accelerator if draw in BY_COUNTER else None
        self._elsewhere: Work | None = None  # the same for the accelerator
        self._work = workspaces(threads, n, self._dtype)
        self.take(book)

    def take(self, book: Book) -> None:
        """Simulate another book on the same symbols from now on: other quantities, spots, positions."""
        if len(book.symbols) != len(self._loading):
            raise DeskvigilError(f"the book has {len(book.symbols)} symbols, the covariance {len(self._loading)}")
        self._lines, self._order = lines_of(book, self._horizon_years, self._dtype)
        lines, kept = len(self._order), self._kept
        self._tail = Tail(
            np.zeros(kept),
            np.zeros(kept, np.int64),
            np.zeros((lines, BLOCK), self._dtype),
            np.zeros((lines, kept), self._dtype),
        )
        loading, shift, first, second = self._loading, np.zeros(len(self._loading)), np.zeros(0), np.zeros(0)
        if self._draw == "sobol":
            loading = DeltaGamma.of(book, loading, self._horizon_years).delta_first(loading)
        if self._draw in ("control", "importance"):
            self._quadratic = DeltaGamma.of(book, loading, self._horizon_years)
            first, second = self._quadratic.first, self._quadratic.second
            self._known_var = self._quadratic.value_at_risk(self._var_confidence)
            self._known_shortfall = self._quadratic.expected_shortfall(self._shortfall_confidence)
        if self._draw == "importance":
            self._theta = self._quadratic.twist(self._known_var)
            shift, loading, self._psi = self._quadratic.twisted(self._theta, loading)
        self._sampling = sampling_of(loading, shift, first, second, self._dtype)
        if self._accelerator is not None:
            try:
                self._elsewhere = book_work(self._sampling, self._lines, self._scenarios, len(self._near) > 0)
            except DeskvigilError as error:
                self._accelerator.leave(str(error))

    def run(self, stream: int = 0, normals: FloatArray | None = None) -> BookRisk:
        """Draw the scenarios of a stream, or take given normals (n, scenarios). The gains returned are a copy."""
        sampling = self._sampled(stream, normals)
        tail, seed, number = self._tail, np.uint64(self._seed), np.uint64(stream)
        drawn = normals is None and self._accelerated(stream)
        if not drawn and self._threads > 1:
            gains_on_threads(seed, number, sampling, self._lines, self._work, self._gains, self._near)
        ready = drawn or self._threads > 1
        total = simulate_book(seed, number, sampling, self._lines, self._work, self._gains, self._near, tail, ready)
        if not math.isfinite(total):
            raise DeskvigilError(
                "a scenario's profit is not finite: volatilities or quantities are beyond the range of numbers"
            )
        if self._accelerator is not None:
            self._accelerator.settle()
        if self._draw == "importance":
            return self._weighted(number, sampling)
        var, var_error = var_of_tail(tail.loss, self._scenarios, self._var_confidence)
        shortfall = float(self._weights @ tail.loss[: len(self._weights)])
        shortfall_se = shortfall_error(tail.loss, self._weights, self._scenarios, self._shortfall_confidence)
        if self._draw == "control":
            var, var_error, shortfall, shortfall_se = self._corrected(var, var_error, shortfall, shortfall_se)
        return BookRisk(
            gains=self._gains.copy(), var=var, var_standard_error=var_error,
            var_contributions=self._shares(tail.gains @ self._near_var, var),
            expected_shortfall=shortfall, shortfall_standard_error=shortfall_se,
            shortfall_contributions=self._shares(tail.gains[:, : len(self._weights)] @ self._weights, shortfall),
        )  # fmt: skip

    def _accelerated(self, stream: int) -> bool:
        """Whether the accelerator has computed the results."""
        if self._accelerator is None or self._elsewhere is None:
            return False
        return self._accelerator.run(self._elsewhere, self._seed, stream, self._results)

    def _sampled(self, stream: int, normals: FloatArray | None) -> Sampling:
        n, half = len(self._loading), self._scenarios // 2
        if normals is not None:
            if normals.shape != (n, self._scenarios) or not np.isfinite(normals).all():
                raise DeskvigilError(
                    f"the normals must be finite and of shape {(n, self._scenarios)}, not {normals.shape}"
                )
        elif self._draw == "sobol":
            normals = sobol_normals(self._scenarios, n, self._seed, stream)
        elif self._draw == "antithetic":
            first = scenario_normals(self._seed, stream, np.arange(half), n).T
            normals = np.concatenate([first, -first], axis=1)
        else:
            return self._sampling
        return self._sampling._replace(given=np.ascontiguousarray(normals, self._dtype))

    def _shares(self, gains: FloatArray, total: float) -> FloatArray:
        """Profits of the lines as the positions' shares of a total loss."""
        shares = np.zeros(len(self._order))
        shares[self._order] = -gains
        scale = shares.sum()
        return shares * (total / scale) if scale != 0.0 else shares

    def _corrected(
        self, var: float, var_error: float, shortfall: float, shortfall_se: float
    ) -> tuple[float, float, float, float]:
        """VaR and ES moved by what the quadratic's miss in the same scenarios, with the standard errors that are left.

        Each only where that takes error away: beside an option about to expire at the money the quadratic is no likeness.
        """
        loss, near = -self._gains.astype(np.float64), self._quadratic.constant - self._near.astype(np.float64)
        n = self._scenarios
        worst = np.sort(np.partition(near, n - self._kept)[n - self._kept :])[::-1]
        near_var, near_error = var_of_tail(worst, n, self._var_confidence)
        # The quantiles' errors are as correlated as the events of being beyond them.
        rare = 1.0 - self._var_confidence
        both = np.count_nonzero((loss > var) & (near > near_var)) / n
        together = (both - rare**2) / (rare * (1.0 - rare))
        off = var_error - near_error
        left = math.sqrt(max(off * off + 2.0 * (1.0 - together) * var_error * near_error, 0.0))
        near_shortfall = float(self._weights @ worst[: len(self._weights)])
        share = self._shortfall_confidence
        last = len(self._weights) - 1  # the mildest loss in the shortfall's tail
        beyond = np.maximum(loss - self._tail.loss[last], 0.0) - np.maximum(near - worst[last], 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            shortfall_left = float(beyond.std()) / ((1.0 - share) * math.sqrt(n))
        if left < var_error:
            var, var_error = var + self._known_var - near_var, left
        if shortfall_left < shortfall_se:
            shortfall, shortfall_se = shortfall + self._known_shortfall - near_shortfall, shortfall_left
        return var, var_error, shortfall, shortfall_se

    def _weighted(self, stream: np.uint64, sampling: Sampling) -> BookRisk:
        """Figures of scenarios from the tail: the losses' order with likelihood ratios as weights."""
        loss, n = -self._gains.astype(np.float64), self._scenarios
        ratio = np.exp(self._psi + self._theta * self._near.astype(np.float64))
        order = np.argsort(-loss)
        beyond = np.cumsum(ratio[order]) / n  # probability of a loss at least as large

        def quantile(confidence: float) -> float:
            return float(np.interp(1.0 - confidence, beyond, loss[order]))

        var, edge = quantile(self._var_confidence), quantile(self._shortfall_confidence)
        hit = ratio * (loss > var)
        # Density at the quantile from its neighbourhood: two binomial-like standard errors of probability wide.
        off = max(float(hit.std()) / math.sqrt(n), 1e-12)
        var_error = 0.5 * (quantile(self._var_confidence + off) - quantile(self._var_confidence - off))
        excess = ratio * np.maximum(loss - edge, 0.0)
        share = 1.0 - self._shortfall_confidence
        shortfall = edge + float(excess.mean()) / share
        tail = order[: int(np.searchsorted(beyond, max(share, 1.0 - self._var_confidence + off))) + 1].astype(np.int64)
        lines: FloatArray = np.zeros((len(self._order), len(tail)), self._dtype)
        line_gains(np.uint64(self._seed), stream, sampling, self._lines, self._work, tail, self._tail.gain, lines)
        near_var = ratio[tail] * (np.abs(beyond[: len(tail)] - (1.0 - self._var_confidence)) <= off)
        return BookRisk(
            gains=self._gains.copy(), var=var, var_standard_error=var_error,
            var_contributions=self._shares(lines @ near_var, var), expected_shortfall=shortfall,
            shortfall_standard_error=float(excess.std()) / (share * math.sqrt(n)),
            shortfall_contributions=self._shares(lines @ (ratio[tail] * (loss[tail] > edge)), shortfall), weights=ratio,
        )  # fmt: skip


def _check(
    loading: FloatArray, n: int, scenarios: int, horizon_years: float, confidences: tuple[float, ...], threads: int
) -> None:
    if loading.shape != (n, n):
        raise DeskvigilError(
            f"the book has {n} symbols, so the covariance's factor must be ({n}, {n}), it is {loading.shape}"
        )
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
