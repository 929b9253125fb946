"""Path-dependent options: an arithmetic Asian and a barrier option on one to four spots, priced in one pass.

Both are European in exercise. The Asian pays on the mean of the basket over the steps; the barrier option on
the basket at the end, unless the first asset touches its barrier before, watched all the time. Control
variate of the Asian is the option on the geometric mean, whose price is known (Kemna & Vorst 1990).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from engine.montecarlo.closedform import black_scholes
from engine.montecarlo.covariance import correlation_factor
from engine.montecarlo.gpu.accelerator import Accelerator
from engine.montecarlo.gpu.plan import path_work as elsewhere
from engine.montecarlo.pathkernels import Payoffs, path_work, price_paths, price_paths_on_threads
from engine.montecarlo.simulation import DTYPES, Precision
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray

MOST_ASSETS: Final = 4
MOST_STEPS: Final = 1 << 14
MOST_SAMPLES: Final = 1 << 24


@dataclass(frozen=True, kw_only=True, eq=False)
class PathOption:
    """What is priced. spot, volatility, dividend_yield, weight float64 (a,), a of 1 to 4; correlation float64 (a, a).

    Rates, yields and volatilities per year. asian_sign and vanilla_sign: 1 a call, -1 a put. barrier: level of the
    first asset that ends the barrier option, below ("down") or above ("up") its spot.
    """

    spot: FloatArray
    volatility: FloatArray
    dividend_yield: FloatArray
    weight: FloatArray
    correlation: FloatArray
    rate: float
    years: float
    steps: int
    asian_strike: float
    asian_sign: Literal[1, -1] = 1
    vanilla_strike: float
    vanilla_sign: Literal[1, -1] = 1
    barrier: float
    barrier_side: Literal["down", "up"] = "down"

    def __post_init__(self) -> None:
        assets = len(self.spot)
        if not 1 <= assets <= MOST_ASSETS:
            raise DeskvigilError(f"paths have 1 to {MOST_ASSETS} assets, not {assets}")
        for name in ("spot", "volatility", "dividend_yield", "weight"):
            values = getattr(self, name)
            if values.shape != (assets,) or not np.isfinite(values).all():
                raise DeskvigilError(f"{name} must be {assets} finite number(s), it is {values}")
        for name in ("rate", "years", "asian_strike", "vanilla_strike", "barrier"):
            if not math.isfinite(getattr(self, name)):
                raise DeskvigilError(f"{name} must be a finite number, it is {getattr(self, name)}")
        for name, least in (
            ("spot", self.spot.min()),
            ("weight", self.weight.min()),
            ("years", self.years),
            ("barrier", self.barrier),
        ):
            if least <= 0.0:
                raise DeskvigilError(f"{name} must be above 0, it is {least}")
        if self.volatility.min() < 0.0:
            raise DeskvigilError(f"volatility must not be negative, it is {self.volatility.min()}")
        if not 1 <= self.steps <= MOST_STEPS:
            raise DeskvigilError(f"steps must lie between 1 and {MOST_STEPS}, not {self.steps}")

    def geometric_price(self) -> float:
        """Price of the option on the geometric mean over steps and assets, in the basket's share of each."""
        share, moments = self._share(), self._moments()
        covariance = self.correlation * np.outer(self.volatility, self.volatility)
        # Variance of the mean over steps of w . y: that of one step's noise times the sum of squared numbers of steps left.
        left = np.arange(self.steps, 0, -1) / self.steps
        deviation = math.sqrt(float(share @ covariance @ share) * self.years / self.steps * float(left @ left))
        forward = math.exp(moments + 0.5 * deviation**2)
        value = black_scholes(float(self.asian_sign), forward, self.asian_strike, 1.0, deviation)
        return math.exp(-self.rate * self.years) * float(value)

    def payoffs(self, dtype: type) -> Payoffs:
        """The kernels' tables."""
        step_years = self.years / self.steps
        times = step_years * np.arange(self.steps + 1)
        drift = self.rate - self.dividend_yield - 0.5 * self.volatility**2
        forward = self.weight * self.spot * np.exp(np.outer(times[1:], drift))
        side = 1.0 if self.barrier_side == "down" else -1.0
        variance = self.volatility[0] ** 2 * step_years
        loading = (
            correlation_factor(self.correlation, "the assets of the paths")
            * self.volatility[:, None]
            * math.sqrt(step_years)
        )
        return Payoffs(
            loading=np.ascontiguousarray(loading, dtype), weighted_forward=forward.astype(dtype),
            mean_weight=(self._share() / self.steps).astype(dtype),
            bridge=(side * (math.log(self.spot[0] / self.barrier) + drift[0] * times)).astype(dtype),
            # Without noise a touch is seen at the steps alone: any product of distances above 0 is far.
            side=dtype(side), rate_of_touch=dtype(-min(2.0 / variance, 1e30) if variance > 0.0 else -1e30),
            asian_sign=dtype(self.asian_sign), asian_strike=dtype(self.asian_strike), vanilla_sign=dtype(self.vanilla_sign),
            vanilla_strike=dtype(self.vanilla_strike), mean_forward=dtype(math.exp(self._moments())),
            discount=dtype(math.exp(-self.rate * self.years)),
        )  # fmt: skip

    def _share(self) -> FloatArray:
        value: FloatArray = self.weight * self.spot
        return np.asarray(value / value.sum(), dtype=np.float64)

    def _moments(self) -> float:
        """Expectation of the log of the geometric mean, scaled so that it starts at the basket's value."""
        drift = self.rate - self.dividend_yield - 0.5 * self.volatility**2
        mean_time = self.years * (self.steps + 1) / (2 * self.steps)
        return math.log(float(self.weight @ self.spot)) + mean_time * float(self._share() @ drift)


@dataclass(frozen=True)
class PathPrices:
    """Prices with their standard errors, and how many samples (antithetic pairs count once) they rest on."""

    asian: float
    asian_standard_error: float
    barrier: float
    barrier_standard_error: float
    samples: int


class PathSimulation:
    """Prices one option pair again and again, reusing its memory. Not safe for two threads at once.

    paths: of which antithetic ones are half. The prices depend on (seed, stream, first path, paths, option, precision,
    antithetic, control) alone, not on `threads` nor on the accelerator, which computes the same bits. DeskvigilError
    where something does not fit.
    """

    def __init__(
        self,
        option: PathOption,
        *,
        paths: int = 1_000,
        seed: int = 1,
        antithetic: bool = False,
        control: bool = False,
        precision: Precision = "double",
        threads: int = 1,
        accelerator: Accelerator | None = None,
    ) -> None:
        samples = paths // 2 if antithetic else paths
        if not 2 <= samples <= MOST_SAMPLES or (antithetic and paths % 2):
            raise DeskvigilError(f"paths must be 2 to {MOST_SAMPLES} samples, whole pairs if antithetic, not {paths}")
        if not 1 <= threads <= 64:
            raise DeskvigilError(f"threads must lie between 1 and 64, not {threads}")
        dtype = DTYPES[precision]
        self._shape = (option.steps * len(option.spot), samples)
        self._seed, self._antithetic, self._threads = np.uint64(seed), antithetic, threads
        self._geometric = option.geometric_price() if control else None
        self._payoffs = option.payoffs(dtype)
        self._accelerator = accelerator
        self._elsewhere = elsewhere(self._payoffs, samples, antithetic, totals=False) if accelerator else None
        self._work = path_work(threads, len(option.spot), dtype)
        self._out: FloatArray = np.zeros((3, samples), dtype)
        self._none: FloatArray = np.zeros((0, 0), dtype)

    @property
    def payoffs(self) -> FloatArray:
        """Discounted payoffs of the last run's samples, (3, samples): arithmetic, geometric, barrier."""
        return self._out

    def run(self, stream: int = 0, first_path: int = 0, normals: FloatArray | None = None) -> PathPrices:
        """Price along the paths of a stream from first_path on, or along given normals (steps * assets, samples)."""
        given = self._none
        if normals is not None:
            if normals.shape != self._shape or not np.isfinite(normals).all():
                raise DeskvigilError(f"the normals must be finite and of shape {self._shape}, not {normals.shape}")
            given = np.ascontiguousarray(normals, self._out.dtype)
        if normals is not None or not self._accelerated(stream, first_path):
            self._run_here(stream, first_path, given)
        asian, geometric, barrier = self._out
        price, error = _mean(asian) if self._geometric is None else controlled_mean(asian, geometric, self._geometric)
        if not math.isfinite(price):
            raise DeskvigilError("the price is not finite: the volatilities are beyond the range of numbers")
        if self._accelerator is not None:
            self._accelerator.settle()
        return PathPrices(price, error, *_mean(barrier), self._shape[1])

    def _accelerated(self, stream: int, first_path: int) -> bool:
        """Whether the accelerator has computed the payoffs."""
        if self._accelerator is None or self._elsewhere is None:
            return False
        return self._accelerator.run(self._elsewhere, int(self._seed), stream, self._out, first_path)

    def _run_here(self, stream: int, first_path: int, given: FloatArray) -> None:
        common = (given, self._payoffs, self._work)
        if self._threads == 1:
            price_paths(
                self._seed, np.uint64(stream), first_path, 0, self._shape[1], self._antithetic, *common, 0, self._out
            )
        else:
            price_paths_on_threads(self._seed, np.uint64(stream), first_path, self._antithetic, *common, self._out)


def _mean(samples: FloatArray) -> tuple[float, float]:
    return float(samples.mean(dtype=np.float64)), float(samples.std(dtype=np.float64)) / math.sqrt(len(samples) - 1)


def controlled_mean(samples: FloatArray, control: FloatArray, expected: float) -> tuple[float, float]:
    """Mean of samples (n,) and its standard error, by their regression on a control (n,) whose expectation is known."""
    values, known = samples.astype(np.float64), control.astype(np.float64)
    centred = known - known.mean()
    scatter = float(centred @ centred)
    slope = float(centred @ values) / scatter if scatter > 0.0 else 0.0
    return _mean(values - slope * (known - expected))
