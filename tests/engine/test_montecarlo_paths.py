"""Path-dependent options, held to a slow reference on the same normals and to closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.montecarlo.closedform import black_scholes, down_and_out_call, geometric_asian
from engine.montecarlo.normals import scenario_normals
from engine.montecarlo.paths import PathOption, PathSimulation
from metrics.errors import DeskvigilError


def path_option(assets: int = 1, **terms) -> PathOption:
    ones = np.ones(assets)
    defaults = {
        "spot": 100.0 * ones, "volatility": np.linspace(0.2, 0.35, assets), "dividend_yield": 0.01 * ones, "weight": ones / assets,
        "correlation": 0.4 + 0.6 * np.eye(assets), "rate": 0.03, "years": 1.0, "steps": 52, "asian_strike": 100.0,
        "vanilla_strike": 100.0, "barrier": 85.0,
    }  # fmt: skip
    return PathOption(**(defaults | terms))


def reference_payoffs(option: PathOption, normals: np.ndarray) -> np.ndarray:
    """Discounted payoffs (3, samples) along normals (samples, steps, assets), path by path and step by step."""
    step = option.years / option.steps
    factor = np.linalg.cholesky(option.correlation)
    drift = (option.rate - option.dividend_yield - 0.5 * option.volatility**2) * step
    share = option.weight * option.spot / (option.weight @ option.spot)
    side = 1.0 if option.barrier_side == "down" else -1.0
    rows = []
    for z in normals:
        log, alive, total, mean = np.log(option.spot), 1.0, 0.0, 0.0
        distance = max(side * (log[0] - math.log(option.barrier)), 0.0)
        for noise in z:
            log = log + drift + option.volatility * math.sqrt(step) * (factor @ noise)
            before, distance = distance, max(side * (log[0] - math.log(option.barrier)), 0.0)
            alive *= 1.0 - math.exp(-2.0 * before * distance / (option.volatility[0] ** 2 * step))
            total += option.weight @ np.exp(log)
            mean += share @ (log - np.log(option.spot))
        geometric = (option.weight @ option.spot) * math.exp(mean / option.steps)
        rows.append(
            (
                max(option.asian_sign * (total / option.steps - option.asian_strike), 0.0),
                max(option.asian_sign * (geometric - option.asian_strike), 0.0),
                alive * max(option.vanilla_sign * (option.weight @ np.exp(log) - option.vanilla_strike), 0.0),
            )
        )
    return math.exp(-option.rate * option.years) * np.array(rows).T


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 11), st.integers(2, 140), st.booleans(), st.sampled_from([1, -1]), st.sampled_from([1, -1]),
    st.sampled_from([("down", 95.0), ("down", 60.0), ("up", 104.0), ("up", 99.0)]),
)  # fmt: skip
def test_every_payoff_equals_the_reference_to_ten_digits(
    assets, steps, samples, antithetic, asian_sign, vanilla_sign, barrier
) -> None:
    option = path_option(
        assets,
        steps=steps,
        asian_sign=asian_sign,
        vanilla_sign=vanilla_sign,
        barrier_side=barrier[0],
        barrier=barrier[1],
    )
    paths = 2 * samples if antithetic else samples
    simulation = PathSimulation(option, paths=paths, seed=9, antithetic=antithetic)
    simulation.run(stream=2, first_path=1_000)
    normals = scenario_normals(9, 2, np.arange(1_000, 1_000 + samples), steps * assets).reshape(samples, steps, assets)
    expected = reference_payoffs(option, normals)
    if antithetic:
        expected = 0.5 * (expected + reference_payoffs(option, -normals))
    np.testing.assert_allclose(simulation.payoffs, expected, rtol=1e-10, atol=1e-9)
    given_normals = normals.reshape(samples, -1).T
    PathSimulation.run(simulation, normals=given_normals)
    np.testing.assert_allclose(simulation.payoffs, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("assets", [1, 3])
@pytest.mark.parametrize("antithetic", [False, True])
def test_single_precision_and_threads_agree_with_double(assets: int, antithetic: bool) -> None:
    option = path_option(assets, steps=252)
    double = PathSimulation(option, paths=4_000, antithetic=antithetic)
    single = PathSimulation(option, paths=4_000, antithetic=antithetic, precision="single")
    threads = PathSimulation(option, paths=4_000, antithetic=antithetic, threads=2)
    right = double.run(3)
    close = single.run(3)
    assert threads.run(3) == right
    assert threads.payoffs.tobytes() == double.payoffs.tobytes()
    assert close.asian == pytest.approx(right.asian, rel=1e-5)
    assert close.barrier == pytest.approx(right.barrier, rel=1e-4)


def test_paths_in_several_calls_are_the_paths_of_one() -> None:
    whole = PathSimulation(path_option(), paths=1_000)
    whole.run(1)
    part = PathSimulation(path_option(), paths=300)
    part.run(1, first_path=700)
    assert part.payoffs.tobytes() == np.ascontiguousarray(whole.payoffs[:, 700:]).tobytes()


def prices_of(option: PathOption, paths: int, **options) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors (3,) over many paths, in calls of 2**17."""
    size = 1 << 17
    simulation = PathSimulation(option, paths=size, seed=2, **options)
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    for call in range(-(-paths // size)):
        simulation.run(0, first_path=call * size)
        values = simulation.payoffs.astype(np.float64)
        count, total, squares = (
            count + values.shape[1],
            total + values.sum(axis=1),
            squares + np.square(values).sum(axis=1),
        )
    mean = total / count
    return mean, np.sqrt((squares / count - mean**2) / count)


def check_closed_forms(paths: int, steps: int) -> None:
    option = path_option(steps=steps)
    mean, error = prices_of(option, paths)
    geometric = geometric_asian(1.0, 100.0, 100.0, 1.0, 0.2, 0.03, 0.01, steps)
    assert option.geometric_price() == pytest.approx(geometric, rel=1e-12)
    assert abs(mean[1] - geometric) < 3 * error[1]
    assert abs(mean[2] - down_and_out_call(100.0, 100.0, 85.0, 1.0, 0.2, 0.03, 0.01)) < 3 * error[2]
    far = path_option(steps=steps, barrier=1e-3, asian_sign=-1, asian_strike=105.0)
    mean, error = prices_of(far, paths)
    assert abs(mean[2] - float(black_scholes(1.0, 100.0, 100.0, 1.0, 0.2, 0.03, 0.01))) < 3 * error[2]
    assert abs(mean[1] - geometric_asian(-1.0, 100.0, 105.0, 1.0, 0.2, 0.03, 0.01, steps)) < 3 * error[1]


def test_simulated_prices_meet_the_closed_forms_of_black_scholes_asian_and_barrier() -> None:
    check_closed_forms(300_000, 12)


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_ten_million_paths_meet_the_closed_forms_within_three_standard_errors() -> None:
    check_closed_forms(10_000_000, 52)


def test_the_geometric_price_of_a_basket_is_that_of_its_paths() -> None:
    option = path_option(
        4, spot=np.array([80.0, 120.0, 60.0, 100.0]), weight=np.array([0.5, 0.1, 0.3, 0.2]), asian_strike=95.0
    )
    mean, error = prices_of(option, 300_000)
    assert abs(mean[1] - option.geometric_price()) < 3 * error[1]


def test_antithetic_paths_and_the_control_variate_bring_the_error_down_without_bias() -> None:
    option = path_option(steps=252)
    found = {}
    for name, terms in {"plain": {}, "antithetic": {"antithetic": True}, "control": {"control": True}}.items():
        simulation = PathSimulation(option, paths=1_000, **terms)
        runs = [simulation.run(stream) for stream in range(120)]
        prices = np.array([run.asian for run in runs])
        found[name] = prices.mean(), prices.std()
        assert np.mean([run.asian_standard_error for run in runs]) == pytest.approx(prices.std(), rel=0.3)
    assert found["antithetic"][1] < 0.9 * found["plain"][1]
    assert found["control"][1] < found["plain"][1] / 20
    for name in ("plain", "antithetic"):
        assert abs(found[name][0] - found["control"][0]) < 4 * found[name][1] / math.sqrt(120)


def test_sobol_normals_through_given_make_the_asian_far_more_accurate() -> None:
    from engine.montecarlo.sobol import sobol_normals

    option = path_option(steps=12)
    plain = [PathSimulation(option, paths=1_024).run(stream).asian for stream in range(60)]
    simulation = PathSimulation(option, paths=1_024)
    even = [simulation.run(normals=sobol_normals(1_024, 12, 1, stream)).asian for stream in range(60)]
    assert np.std(even) < np.std(plain) / 5
    assert abs(np.mean(even) - np.mean(plain)) < 4 * np.std(plain) / math.sqrt(60)


def test_without_volatility_the_paths_are_their_forwards() -> None:
    option = path_option(volatility=np.zeros(1), asian_strike=90.0, vanilla_strike=90.0)
    prices = PathSimulation(option, paths=10, control=True).run()
    times = np.arange(1, 53) / 52
    assert prices.asian == pytest.approx(math.exp(-0.03) * (np.mean(100 * np.exp(0.02 * times)) - 90))
    assert prices.barrier == pytest.approx(math.exp(-0.03) * (100 * math.exp(0.02) - 90))
    assert prices.asian_standard_error == pytest.approx(0.0, abs=1e-9)


def test_a_barrier_already_crossed_is_worth_nothing() -> None:
    assert PathSimulation(path_option(barrier=100.0), paths=100).run().barrier == 0.0
    assert PathSimulation(path_option(barrier=90.0, barrier_side="up"), paths=100).run().barrier == 0.0
    assert down_and_out_call(80.0, 100.0, 85.0, 1.0, 0.2, 0.0, 0.0) == 0.0


def test_assets_that_move_as_one_are_priced() -> None:
    option = path_option(2, correlation=np.ones((2, 2)), volatility=np.full(2, 0.2))
    alone = path_option(1)
    assert PathSimulation(option, paths=20_000).run().asian == pytest.approx(
        PathSimulation(alone, paths=20_000).run().asian, rel=0.1
    )


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"spot": np.array([math.nan])}, "spot"), ({"spot": np.array([-1.0])}, "spot"), ({"volatility": np.array([-0.1])}, "volatility"),
        ({"rate": math.inf}, "rate"), ({"years": 0.0}, "years"), ({"barrier": 0.0}, "barrier"), ({"steps": 0}, "steps"),
        ({"weight": np.zeros(1)}, "weight"), ({"dividend_yield": np.zeros(2)}, "dividend_yield"), ({"spot": np.ones(5)}, "assets"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_priced_are_refused_by_name(terms: dict, message: str) -> None:
    with pytest.raises(DeskvigilError, match=message):
        path_option(**terms)


@pytest.mark.parametrize(
    "correlation",
    [
        np.array([[1.0, 1.5], [1.5, 1.0]]),
        np.array([[1.0, 0.2], [0.3, 1.0]]),
        np.array([[1.0, math.nan], [math.nan, 1.0]]),
    ],
)
def test_what_is_no_correlation_matrix_is_refused(correlation: np.ndarray) -> None:
    with pytest.raises(DeskvigilError, match="correlation"):
        PathSimulation(path_option(2, correlation=correlation), paths=100)


@pytest.mark.parametrize("terms", [{"paths": 1}, {"paths": 101, "antithetic": True}, {"threads": 0}])
def test_simulations_that_make_no_sense_are_refused(terms: dict) -> None:
    with pytest.raises(DeskvigilError, match=r"paths|threads"):
        PathSimulation(path_option(), **terms)
    with pytest.raises(DeskvigilError, match="normals"):
        PathSimulation(path_option(), paths=10).run(normals=np.zeros((3, 3)))


def test_the_barrier_closed_form_is_for_barriers_below_the_strike() -> None:
    with pytest.raises(DeskvigilError, match="barrier"):
        down_and_out_call(100.0, 90.0, 95.0, 1.0, 0.2, 0.0, 0.0)
