"""QuantLib as the judge of prices; skipped where it is not installed (requirements-dev.txt has it)."""

from __future__ import annotations

import numpy as np
import pytest

from engine.montecarlo.closedform import black_scholes, black_scholes_greeks, down_and_out_call, geometric_asian
from engine.montecarlo.paths import PathOption, PathSimulation

ql = pytest.importorskip("QuantLib")

DAYS = 365
TODAY = ql.Date(2, 1, 2026)


@pytest.fixture(scope="module")
def process():
    ql.Settings.instance().evaluationDate = TODAY
    count = ql.Actual365Fixed()
    return ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(100.0)),
        ql.YieldTermStructureHandle(ql.FlatForward(TODAY, 0.01, count)),
        ql.YieldTermStructureHandle(ql.FlatForward(TODAY, 0.03, count)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(TODAY, ql.NullCalendar(), 0.2, count)),
    )


def option(steps: int) -> PathOption:
    one = np.ones(1)
    return PathOption(
        spot=100.0 * one, volatility=0.2 * one, dividend_yield=0.01 * one, weight=one, correlation=np.eye(1), rate=0.03, years=1.0,
        steps=steps, asian_strike=100.0, vanilla_strike=100.0, barrier=85.0,
    )  # fmt: skip


@pytest.mark.parametrize(("sign", "kind"), [(1.0, ql.Option.Call), (-1.0, ql.Option.Put)])
@pytest.mark.parametrize("strike", [60.0, 100.0, 150.0])
@pytest.mark.parametrize("days", [7, 365, 1825])
def test_vanilla_prices_and_greeks_agree(process, sign, kind, strike, days) -> None:
    theirs = ql.VanillaOption(ql.PlainVanillaPayoff(kind, strike), ql.EuropeanExercise(TODAY + days))
    theirs.setPricingEngine(ql.AnalyticEuropeanEngine(process))
    terms = (sign, 100.0, strike, days / 365, 0.2, 0.03, 0.01)
    assert float(black_scholes(*terms)) == pytest.approx(theirs.NPV(), rel=1e-9, abs=1e-10)
    delta, gamma = black_scholes_greeks(*terms)
    assert float(delta) == pytest.approx(theirs.delta(), rel=1e-9, abs=1e-10)
    assert float(gamma) == pytest.approx(theirs.gamma(), rel=1e-9, abs=1e-10)


def test_geometric_asian_prices_agree(process) -> None:
    fixings = [TODAY + 73 * (k + 1) for k in range(5)]
    theirs = ql.DiscreteAveragingAsianOption(
        ql.Average.Geometric,
        1.0,
        0,
        fixings,
        ql.PlainVanillaPayoff(ql.Option.Call, 100.0),
        ql.EuropeanExercise(TODAY + DAYS),
    )
    theirs.setPricingEngine(ql.AnalyticDiscreteGeometricAveragePriceAsianEngine(process))
    assert geometric_asian(1.0, 100.0, 100.0, 1.0, 0.2, 0.03, 0.01, 5) == pytest.approx(theirs.NPV(), rel=1e-9)


def test_arithmetic_asian_prices_agree_within_both_errors(process) -> None:
    fixings = [TODAY + 73 * (k + 1) for k in range(5)]
    theirs = ql.DiscreteAveragingAsianOption(
        ql.Average.Arithmetic,
        0.0,
        0,
        fixings,
        ql.PlainVanillaPayoff(ql.Option.Call, 100.0),
        ql.EuropeanExercise(TODAY + DAYS),
    )
    theirs.setPricingEngine(
        ql.MCDiscreteArithmeticAPEngine(process, "pseudorandom", controlVariate=True, requiredSamples=100_000, seed=7)
    )
    ours = PathSimulation(option(5), paths=400_000, control=True).run()
    price = theirs.NPV()
    assert abs(ours.asian - price) < 4 * (theirs.errorEstimate() + ours.asian_standard_error)


def test_barrier_prices_agree_with_its_closed_form_and_ours(process) -> None:
    theirs = ql.BarrierOption(
        ql.Barrier.DownOut, 85.0, 0.0, ql.PlainVanillaPayoff(ql.Option.Call, 100.0), ql.EuropeanExercise(TODAY + DAYS)
    )
    theirs.setPricingEngine(ql.AnalyticBarrierEngine(process))
    price = theirs.NPV()
    assert down_and_out_call(100.0, 100.0, 85.0, 1.0, 0.2, 0.03, 0.01) == pytest.approx(price, rel=1e-9)
    ours = PathSimulation(option(50), paths=400_000, antithetic=True).run()
    assert abs(ours.barrier - price) < 3 * ours.barrier_standard_error
