"""Monte-Carlo risk on the processor: a mixed book's VaR and path-dependent options, beside NumPy, scalar Numba and QuantLib.

One core unless a line says otherwise; every peer in the same run. QuantLib is measured where it is installed.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.montecarlo.book import Book, Position
from engine.montecarlo.normals import scenario_normals
from engine.montecarlo.options import RiskOptions
from engine.montecarlo.paths import PathOption, PathSimulation
from engine.montecarlo.simulation import DRAWS, TRADING_DAY, BookSimulation
from metrics.frame import FloatArray
from validation.figure import Figure
from validation.montecarlopeers import NumpyBook, numpy_paths, quantlib_paths, scalar_book

NAME = "montecarlo"
ASSETS = 32
POSITIONS = 64
SCENARIOS = 1_000
SECONDS = 2.0
REPEATS = 300
TRUTH = 2_000_000
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("f64", {}), ("f32", {"precision": "single"}), ("f64, 2 threads", {"threads": 2}),
    ("f32, 2 threads", {"precision": "single", "threads": 2}),
)  # fmt: skip


def mixed_book() -> tuple[Book, FloatArray]:
    """64 positions, a third each of stocks, calls and puts, on 32 assets; and the factor of their daily covariance."""
    rng = np.random.default_rng(1)
    symbols = tuple(f"A{i}" for i in range(ASSETS))
    spot = rng.uniform(20.0, 300.0, ASSETS)
    positions = []
    for k in range(POSITIONS):
        kind, asset = ("stock", "call", "put")[k % 3], k % ASSETS
        terms = {} if kind == "stock" else {
            "strike": spot[asset] * rng.uniform(0.8, 1.2), "years": rng.uniform(0.02, 2.0), "volatility": rng.uniform(0.15, 0.5),
            "rate": 0.03, "dividend_yield": 0.01,
        }  # fmt: skip
        positions.append(
            Position(
                symbol=symbols[asset],
                kind=kind,
                quantity=rng.normal() * (1_000.0 if kind == "stock" else 3_000.0),
                **terms,
            )
        )
    volatility = rng.uniform(0.008, 0.03, ASSETS)
    return Book.of(positions, symbols, spot), np.linalg.cholesky(0.3 + 0.7 * np.eye(ASSETS)) * volatility[:, None]


def path_option() -> PathOption:
    """An at-the-money Asian call and a down-and-out call on one stock, a year of daily steps."""
    one = np.ones(1)
    return PathOption(
        spot=100.0 * one, volatility=0.2 * one, dividend_yield=0.01 * one, weight=one, correlation=np.eye(1), rate=0.03,
        years=1.0, steps=252, asian_strike=100.0, vanilla_strike=100.0, barrier=85.0,
    )  # fmt: skip


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Time both workloads and their peers, and measure what each way of drawing scenarios is worth."""
    return [*_book_figures(say), _shipped_figure(), *_draw_figures(say), *_path_figures(say)]


def _book_figures(say: Callable[[str], None]) -> list[Figure]:
    say(f"montecarlo: a book of {POSITIONS} positions, about {SECONDS * 6:.0f} s ...")
    book, loading = mixed_book()
    plain = BookSimulation(book, loading, scenarios=SCENARIOS)
    reference = NumpyBook(book, loading, TRADING_DAY)
    normals = scenario_normals(1, 0, np.arange(SCENARIOS), ASSETS)
    gains = plain.run(0).gains
    apart = float(np.abs(gains - reference.gains(normals)).max() / np.abs(gains).max())
    theirs = times_us(lambda stream: reference.run(SCENARIOS, stream))
    scalar = times_us(scalar_book(book, loading, TRADING_DAY, SCENARIOS))
    peers = f"{reference.name} here {_spread(theirs)}, scalar Numba here {_spread(scalar)} us"
    figures = []
    for name, options in VARIANTS:
        simulation = BookSimulation(book, loading, scenarios=SCENARIOS, **options)
        ours = times_us(lambda stream, simulation=simulation: simulation.run(stream))  # type: ignore[misc]
        what = f"var-1k {name}"
        limit = 200.0 if name == "f64" else None
        figures += [
            Figure(
                benchmark=NAME, what=f"{what}, p50", value=float(np.median(ours)), unit="us", decimals=0, peer=peers
            ),
            Figure(
                benchmark=NAME,
                what=f"{what}, p99",
                value=float(np.percentile(ours, 99)),
                unit="us",
                decimals=0,
                limit=limit,
            ),
        ]
        if name == "f64":
            ratio = float(np.median(theirs) / np.median(ours))
            figures.append(Figure(benchmark=NAME, what="var-1k f64, times NumPy's speed", value=ratio, unit="x", decimals=1,
                                  limit=5, at_most=False))  # fmt: skip
    figures.append(Figure(benchmark=NAME, what="var-1k f64, largest difference from NumPy", value=1e12 * apart, unit="e-12 of the largest",
                          decimals=3, limit=100))  # fmt: skip
    return figures


def _shipped_figure() -> Figure:
    """The same book as the risk process would price it."""
    book, loading = mixed_book()
    shipped = RiskOptions()
    simulation = BookSimulation(book, loading, scenarios=shipped.scenarios, draw=shipped.draw)
    took = times_us(simulation.run)
    what = f"as shipped, {shipped.scenarios:,} scenarios, {shipped.draw}, p99 (p50 {np.median(took):,.0f})"
    return Figure(
        benchmark=NAME,
        what=what,
        value=float(np.percentile(took, 99)),
        unit="us",
        decimals=0,
        limit=1e6 * shipped.period_s,
    )


def _draw_figures(say: Callable[[str], None]) -> list[Figure]:
    say(f"montecarlo: {len(DRAWS)} ways of drawing scenarios, {REPEATS} runs each ...")
    book, loading = mixed_book()
    truth = BookSimulation(book, loading, scenarios=TRUTH, seed=1_000_003, draw="control").run()
    figures = []
    for draw in DRAWS:
        simulation = BookSimulation(book, loading, scenarios=SCENARIOS, draw=draw)
        runs = [simulation.run(stream) for stream in range(REPEATS)]
        var = np.array([run.var for run in runs]) / truth.var - 1.0
        shortfall = np.array([run.expected_shortfall for run in runs]) / truth.expected_shortfall - 1.0
        took = times_us(lambda stream, simulation=simulation: simulation.run(stream))  # type: ignore[misc]
        best = draw == "control"
        figures += [
            Figure(benchmark=NAME, what=f"VaR 99 {draw}, relative RMSE", value=100 * _rms(var), unit="%", limit=1.0 if best else None,
                   peer=f"ES 97.5 {100 * _rms(shortfall):.2f} %"),
            Figure(benchmark=NAME, what=f"VaR 99 {draw}, p99 (p50 {np.median(took):,.0f})", value=float(np.percentile(took, 99)), unit="us",
                   decimals=0, limit=250.0 if best else None),
        ]  # fmt: skip
    return figures


def _path_figures(say: Callable[[str], None]) -> list[Figure]:
    say("montecarlo: 1,000 paths of 252 steps ...")
    option = path_option()
    peers = [f"NumPy here {_spread(times_us(numpy_paths(option, SCENARIOS)))} us"]
    figures = []
    quantlib = None
    try:
        quantlib = quantlib_paths(importlib.import_module("QuantLib"), option, SCENARIOS)
    except ImportError:
        peers.append("QuantLib is not installed")
    theirs = None if quantlib is None else [times_us(run) for run in quantlib]
    if theirs is not None:
        peers.append(f"QuantLib here, Asian {_spread(theirs[0])} + barrier {_spread(theirs[1])} us")
    for name, options in (("f64 antithetic", {"antithetic": True}), *VARIANTS):
        simulation = PathSimulation(option, paths=SCENARIOS, **options)
        ours = times_us(lambda stream, simulation=simulation: simulation.run(stream))  # type: ignore[misc]
        limit = {"f64 antithetic": 600.0, "f32, 2 threads": 200.0}.get(name)
        figures += [
            Figure(
                benchmark=NAME,
                what=f"path-1k {name}, p50",
                value=float(np.median(ours)),
                unit="us",
                decimals=0,
                peer="; ".join(peers),
            ),
            Figure(
                benchmark=NAME,
                what=f"path-1k {name}, p99",
                value=float(np.percentile(ours, 99)),
                unit="us",
                decimals=0,
                limit=limit,
            ),
        ]
        if theirs is not None and name == "f64 antithetic":
            ratio = float(min(np.median(their) for their in theirs) / (0.5 * np.median(ours)))
            figures.append(Figure(benchmark=NAME, what="path-1k f64 antithetic, times QuantLib's speed per payoff", value=ratio, unit="x",
                                  decimals=0, limit=50, at_most=False))  # fmt: skip
    return figures + [_efficiency(option, what, options) for what, options in (
        ("antithetic", {"antithetic": True}), ("control variate", {"control": True}),
        ("antithetic + control variate", {"antithetic": True, "control": True}),
    )]  # fmt: skip


def _efficiency(option: PathOption, what: str, options: dict[str, Any]) -> Figure:
    """By how much less variance the Asian's price has at the same number of paths; scatter over repeats, not a stated error."""
    plain = np.array([PathSimulation(option, paths=SCENARIOS).run(stream).asian for stream in range(REPEATS)])
    simulation = PathSimulation(option, paths=SCENARIOS, **options)
    reduced = np.array([simulation.run(stream).asian for stream in range(REPEATS)])
    return Figure(benchmark=NAME, what=f"Asian, {what}: variance of plain over its own", value=float(plain.var() / reduced.var()), unit="x",
                  decimals=1)  # fmt: skip


def times_us(run: Callable[[int], object]) -> FloatArray:
    """Microseconds of each run in SECONDS, after a warm-up."""
    for stream in range(5):
        run(stream)
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        run(len(taken))
        taken.append(time.perf_counter() - began)
    return 1e6 * np.array(taken)


def _spread(times: FloatArray) -> str:
    return f"{np.median(times):,.0f} / {np.percentile(times, 99):,.0f}"


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
