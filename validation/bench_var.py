"""How long one Monte-Carlo run of the position's risk takes, beside the same work in plain NumPy on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from engine.montecarlo.options import RiskOptions
from engine.montecarlo.var import VarSimulation
from metrics.frame import FloatArray
from validation.figure import Figure

NAME = "var"
ASSETS = 32
SCENARIOS = 1_000
SECONDS = 3.0
PEERS = "on another machine, 64 positions fully revalued instead of linear: torch 946, JAX 1,695, idiomatic scalar Numba 2,070 us"


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Time the simulation at 1,000 scenarios of 32 assets and at the shipped number of scenarios."""
    say(f"var: about {3 * SECONDS:.0f} s ...")
    loading, exposure = _market()
    small = VarSimulation(loading, scenarios=SCENARIOS, seed=1)
    shipped = RiskOptions()
    large = VarSimulation(loading, scenarios=shipped.scenarios, seed=1)
    ours = _times_us(lambda stream: small.run(exposure, stream))
    theirs = _times_us(_numpy(loading, exposure))
    tenth = _times_us(lambda stream: large.run(exposure, stream))
    work = f"{SCENARIOS:,} scenarios x {ASSETS} assets"
    period_us = shipped.period_s * 1e6
    return [
        Figure(benchmark=NAME, what=f"{work}, p50", value=float(np.median(ours)), unit="us", decimals=0,
               peer=f"NumPy here {np.median(theirs):,.0f}; {PEERS}"),
        Figure(benchmark=NAME, what=f"{work}, p99", value=float(np.percentile(ours, 99)), unit="us", decimals=0,
               peer=f"NumPy here {np.percentile(theirs, 99):,.0f}"),
        Figure(benchmark=NAME, what=f"{shipped.scenarios:,} scenarios (shipped), p99", value=float(np.percentile(tenth, 99)),
               unit="us", decimals=0, limit=period_us),
    ]  # fmt: skip


def _market() -> tuple[FloatArray, FloatArray]:
    """A Cholesky factor of 32 assets, each pair correlated at 0.3, 2 % a day; and positions of both signs."""
    covariance = 0.02**2 * (0.3 + 0.7 * np.eye(ASSETS))
    exposure: FloatArray = np.random.default_rng(1).normal(0.0, 100_000.0, ASSETS)
    return np.ascontiguousarray(np.linalg.cholesky(covariance)), exposure


def _numpy(loading: FloatArray, exposure: FloatArray) -> Callable[[int], object]:
    """The same figures as an analyst would write them."""
    generator = np.random.default_rng(1)

    def run(stream: int) -> object:
        losses = -(generator.standard_normal((SCENARIOS, ASSETS)) @ loading.T) @ exposure
        value_at_risk = np.quantile(losses, 0.99)
        tail = losses >= np.quantile(losses, 0.975)
        return value_at_risk, losses[tail].mean()

    return run


def _times_us(run: Callable[[int], object]) -> FloatArray:
    """Microseconds of each run in SECONDS, after a warm-up."""
    for stream in range(20):
        run(stream)
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        run(len(taken))
        taken.append(time.perf_counter() - began)
    return 1e6 * np.array(taken)
