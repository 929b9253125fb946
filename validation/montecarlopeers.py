"""The same Monte-Carlo work as others would write it: NumPy in array expressions, idiomatic scalar Numba, QuantLib."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.jit import kernel
from engine.montecarlo.book import Book
from engine.montecarlo.paths import PathOption
from metrics.frame import FloatArray, IntArray

VAR, SHORTFALL = 0.99, 0.975
P_HART = (
    3.52624965998911e-02,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
Q_HART = (8.83883476483184e-02, 1.75566716318264, 16.064177579207, 86.7807322029461, 296.564248779674, 637.333633378831, 793.826512519948,
          440.413735824752)  # fmt: skip


def hart_cdf(x: FloatArray) -> FloatArray:
    """Normal distribution function by Hart's approximation 5666, in place: what NumPy can do without SciPy."""
    size = np.minimum(np.abs(x), 37.0)
    above, below = np.full_like(size, P_HART[0]), np.full_like(size, Q_HART[0])
    for result, terms in ((above, P_HART), (below, Q_HART)):
        for term in terms[1:]:
            result *= size
            result += term
    size *= size
    size *= -0.5
    above *= np.exp(size, out=size)
    above /= below
    return np.asarray(np.where(x < 0.0, above, 1.0 - above), dtype=np.float64)


def normal_cdf() -> tuple[str, Callable[[FloatArray], FloatArray]]:
    """The faster of what there is, with its name: SciPy's ndtr where SciPy is installed."""
    try:
        return "NumPy with SciPy's ndtr", importlib.import_module("scipy.special").ndtr
    except ImportError:
        return "NumPy without SciPy", hart_cdf


class NumpyBook:
    """Full revaluation in array expressions: all scenarios of all options at once, float64."""

    def __init__(self, book: Book, loading: FloatArray, horizon_years: float) -> None:
        self._book, self._loading, self._horizon = book, loading, horizon_years
        self._now = book.values()
        option = book.sign != 0.0
        self._option, self._stock = np.flatnonzero(option), np.flatnonzero(~option)
        left = book.years[option] - horizon_years
        self._carry, self._cash = (
            np.exp(-book.dividend_yield[option] * left),
            book.strike[option] * np.exp(-book.rate[option] * left),
        )
        self._deviation = book.volatility[option] * np.sqrt(left)
        self._generator = np.random.default_rng(1)
        self.name, self._cdf = normal_cdf()

    def gains(self, normals: FloatArray) -> FloatArray:
        """Profit (scenarios,) on given normals (scenarios, n). For options that live beyond the horizon."""
        book, option, stock = self._book, self._option, self._stock
        spots = book.spot * np.exp(normals @ self._loading.T)
        forward = spots[:, book.asset[option]] * self._carry
        d1 = np.log(forward / self._cash) / self._deviation + 0.5 * self._deviation
        sign = book.sign[option]
        value = sign * (forward * self._cdf(sign * d1) - self._cash * self._cdf(sign * (d1 - self._deviation)))
        gain: FloatArray = (value - self._now[option] / book.quantity[option]) @ book.quantity[option]
        gain += spots[:, book.asset[stock]] @ book.quantity[stock] - self._now[stock].sum()
        return gain

    def run(self, scenarios: int, _stream: int) -> tuple[float, float]:
        """VaR and ES of freshly drawn scenarios."""
        losses = -self.gains(self._generator.standard_normal((scenarios, len(self._loading))))
        return float(np.quantile(losses, VAR)), float(losses[losses >= np.quantile(losses, SHORTFALL)].mean())


@kernel
def _scalar_book(
    loading: FloatArray, spot: FloatArray, asset: IntArray, sign: FloatArray, quantity: FloatArray, strike: FloatArray,
    left: FloatArray, volatility: FloatArray, rate: FloatArray, dividend_yield: FloatArray, now: float, losses: FloatArray,
) -> float:  # fmt: skip
    n = len(spot)
    z, moved = np.empty(n), np.empty(n)
    for s in range(len(losses)):
        for i in range(n):
            z[i] = np.random.standard_normal()
        for i in range(n):
            move = 0.0
            for j in range(i + 1):
                move += loading[i, j] * z[j]
            moved[i] = spot[i] * math.exp(move)
        value = 0.0
        for p in range(len(asset)):
            price = moved[asset[p]]
            if sign[p] == 0.0:
                value += quantity[p] * price
                continue
            deviation = volatility[p] * math.sqrt(left[p])
            d1 = (math.log(price / strike[p]) + (rate[p] - dividend_yield[p]) * left[p]) / deviation + 0.5 * deviation
            first = 0.5 * math.erfc(-sign[p] * d1 / math.sqrt(2.0))
            second = 0.5 * math.erfc(-sign[p] * (d1 - deviation) / math.sqrt(2.0))
            forward = price * math.exp(-dividend_yield[p] * left[p])
            value += quantity[p] * sign[p] * (forward * first - strike[p] * math.exp(-rate[p] * left[p]) * second)
        losses[s] = now - value
    losses.sort()
    return float(losses[int(VAR * len(losses))])


def scalar_book(book: Book, loading: FloatArray, horizon_years: float, scenarios: int) -> Callable[[int], object]:
    """One loop over everything, with libm's functions."""
    losses, now = np.empty(scenarios), float(book.values().sum())
    left = book.years - horizon_years

    def run(_stream: int) -> object:
        return _scalar_book(
            loading, book.spot, book.asset, book.sign, book.quantity, book.strike, left, book.volatility, book.rate,
            book.dividend_yield, now, losses,
        )  # fmt: skip

    return run


def numpy_paths(option: PathOption, paths: int) -> Callable[[int], object]:
    """Asian and down-and-out call on one asset along plain paths, in array expressions."""
    generator = np.random.default_rng(1)
    step, volatility = option.years / option.steps, float(option.volatility[0])
    drift = (option.rate - float(option.dividend_yield[0]) - 0.5 * volatility**2) * step
    discount = math.exp(-option.rate * option.years)

    def run(_stream: int) -> object:
        moves = drift + volatility * math.sqrt(step) * generator.standard_normal((paths, option.steps))
        logs = np.log(option.spot[0] / option.barrier) + np.concatenate(
            [np.zeros((paths, 1)), np.cumsum(moves, axis=1)], axis=1
        )
        spots = option.barrier * np.exp(logs[:, 1:])
        alive = np.where(logs > 0.0, logs, 0.0)
        survival = np.prod(1.0 - np.exp(-2.0 * alive[:, :-1] * alive[:, 1:] / (volatility**2 * step)), axis=1)
        asian = np.maximum(spots.mean(axis=1) - option.asian_strike, 0.0)
        barrier = survival * np.maximum(spots[:, -1] - option.vanilla_strike, 0.0)
        return discount * asian.mean(), discount * barrier.mean()

    return run


def quantlib_paths(ql: Any, option: PathOption, paths: int) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """QuantLib's own Monte-Carlo engines for both options, each option on its own: the Asian's and the barrier's run."""
    today = ql.Date(2, 1, 2026)
    ql.Settings.instance().evaluationDate = today
    count = ql.Actual365Fixed()
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(float(option.spot[0]))),
        ql.YieldTermStructureHandle(ql.FlatForward(today, float(option.dividend_yield[0]), count)),
        ql.YieldTermStructureHandle(ql.FlatForward(today, option.rate, count)),
        ql.BlackVolTermStructureHandle(
            ql.BlackConstantVol(today, ql.NullCalendar(), float(option.volatility[0]), count)
        ),
    )
    days = round(365 * option.years)
    exercise = ql.EuropeanExercise(today + days)
    # Whole days: the nearest to equal steps.
    fixings = [today + round(days * (k + 1) / option.steps) for k in range(option.steps)]
    asian = ql.DiscreteAveragingAsianOption(
        ql.Average.Arithmetic, 0.0, 0, fixings, ql.PlainVanillaPayoff(ql.Option.Call, option.asian_strike), exercise
    )
    barrier = ql.BarrierOption(
        ql.Barrier.DownOut, option.barrier, 0.0, ql.PlainVanillaPayoff(ql.Option.Call, option.vanilla_strike), exercise
    )

    def price_asian(stream: int) -> float:
        asian.setPricingEngine(ql.MCDiscreteArithmeticAPEngine(
            process, "pseudorandom", brownianBridge=False, antitheticVariate=False, controlVariate=False, requiredSamples=paths,
            seed=stream + 1,
        ))  # fmt: skip
        return float(asian.NPV())

    def price_barrier(stream: int) -> float:
        barrier.setPricingEngine(ql.MCBarrierEngine(
            process, "pseudorandom", timeSteps=option.steps, brownianBridge=False, antitheticVariate=False, requiredSamples=paths,
            isBiased=False, seed=stream + 1,
        ))  # fmt: skip
        return float(barrier.NPV())

    return price_asian, price_barrier
