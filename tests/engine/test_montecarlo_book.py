"""A mixed book's VaR, held to a slow NumPy reference in float64 on the same normals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.montecarlo.book import Book, Position
from engine.montecarlo.closedform import black_scholes, black_scholes_greeks
from engine.montecarlo.deltagamma import DeltaGamma
from engine.montecarlo.normals import scenario_normals
from engine.montecarlo.simulation import DRAWS, TRADING_DAY, BookSimulation
from metrics.errors import DeskvigilError

LOSSES_OF_99 = 2.3263478740408408
SHORTFALL_OF_975 = 2.3378027922014  # normal density at its 0.975 quantile, over 0.025


def reference_gains(book: Book, loading: np.ndarray, normals: np.ndarray, horizon: float) -> np.ndarray:
    """Profit of each position, (scenarios, p), one scenario after the other in closed form with libm's erfc."""
    return np.array([book.values(horizon, np.exp(loading @ z)) - book.values() for z in normals])


def mixed_book(assets: int = 6, positions: int = 20, seed: int = 1) -> tuple[Book, np.ndarray]:
    rng = np.random.default_rng(seed)
    symbols = [f"S{i}" for i in range(assets)]
    spot = rng.uniform(10, 500, assets)
    lines = []
    for k in range(positions):
        asset, kind = int(rng.integers(assets)), ("stock", "call", "put")[k % 3]
        lines.append(
            Position(
                symbol=symbols[asset], kind=kind, quantity=rng.normal() * 1000, strike=spot[asset] * rng.uniform(0.7, 1.3),
                years=rng.uniform(0.01, 3), volatility=rng.uniform(0.05, 0.8), rate=rng.uniform(-0.01, 0.06),
                dividend_yield=rng.uniform(0, 0.04),
            )
        )  # fmt: skip
    factor = rng.normal(size=(assets, assets)) * 0.01
    return Book.of(lines, symbols, spot), np.linalg.cholesky(factor @ factor.T + 1e-4 * np.eye(assets))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(0, 12),
    st.integers(2, 150),
    st.integers(0, 2**31),
    st.sampled_from([0.0, TRADING_DAY, 0.05]),
)
def test_every_profit_equals_the_reference_to_ten_digits(
    assets: int, positions: int, scenarios: int, seed: int, horizon: float
) -> None:
    book, loading = mixed_book(assets, positions, seed)
    simulation = BookSimulation(book, loading, scenarios=scenarios, seed=seed, horizon_years=horizon)
    risk = simulation.run(stream=3)
    normals = scenario_normals(seed, 3, np.arange(scenarios), assets)
    reference = reference_gains(book, loading, normals, horizon)
    scale = np.abs(book.values()).sum()
    np.testing.assert_allclose(risk.gains, reference.sum(axis=1), rtol=1e-10, atol=1e-12 * scale)
    losses = -reference.sum(axis=1)
    assert risk.var == pytest.approx(np.quantile(losses, 0.99), rel=1e-10, abs=1e-12 * scale)
    order = np.argsort(-losses)
    held = np.clip(0.025 * scenarios - np.arange(scenarios), 0, 1)
    shares = -(held @ reference[order]) / held.sum()
    np.testing.assert_allclose(risk.shortfall_contributions, shares, rtol=1e-8, atol=1e-10 * scale)
    assert risk.expected_shortfall == pytest.approx(shares.sum(), rel=1e-9, abs=1e-11 * scale)
    assert risk.shortfall_contributions.sum() == pytest.approx(risk.expected_shortfall, rel=1e-12, abs=1e-12 * scale)
    assert risk.var_contributions.sum() == pytest.approx(risk.var, rel=1e-9, abs=1e-9 * scale)


@pytest.mark.parametrize("precision", ["double", "single"])
def test_threads_change_no_bit(precision) -> None:
    book, loading = mixed_book()
    alone = BookSimulation(book, loading, scenarios=1_000, precision=precision).run(5)
    for threads in (2, 3):
        together = BookSimulation(book, loading, scenarios=1_000, precision=precision, threads=threads).run(5)
        assert together.gains.tobytes() == alone.gains.tobytes()
        assert (together.var, together.expected_shortfall) == (alone.var, alone.expected_shortfall)


@pytest.mark.parametrize("draw", DRAWS)
def test_single_precision_agrees_to_a_ten_thousandth_of_the_risk(draw) -> None:
    book, loading = mixed_book(8, 60)
    double = BookSimulation(book, loading, scenarios=2_000, draw=draw).run(1)
    single = BookSimulation(book, loading, scenarios=2_000, draw=draw, precision="single").run(1)
    assert np.abs(single.gains - double.gains).max() < 1e-4 * np.abs(double.gains).max()
    assert single.var == pytest.approx(double.var, rel=1e-4)
    assert single.expected_shortfall == pytest.approx(double.expected_shortfall, rel=1e-4)


def test_given_normals_are_used_as_they_are() -> None:
    book, loading = mixed_book()
    normals = np.random.default_rng(4).standard_normal((300, 6))
    risk = BookSimulation(book, loading, scenarios=300).run(normals=normals.T)
    np.testing.assert_allclose(
        risk.gains, reference_gains(book, loading, normals, TRADING_DAY).sum(axis=1), rtol=1e-10, atol=1e-6
    )


def test_a_run_depends_on_seed_and_stream_alone() -> None:
    book, loading = mixed_book()
    one, two = BookSimulation(book, loading, seed=3), BookSimulation(book, loading, seed=3)
    two.run(8)
    first = one.run(2)
    assert two.run(2).gains.tobytes() == first.gains.tobytes()
    assert one.run(3).var != first.var
    assert BookSimulation(book, loading, seed=4).run(2).var != first.var


def stock(quantity: float = 1_000.0, symbol: str = "A") -> Position:
    return Position(symbol=symbol, quantity=quantity)


def option(**terms) -> Position:
    return Position(
        **{"symbol": "A", "kind": "call", "quantity": 10.0, "strike": 100.0, "years": 0.5, "volatility": 0.3} | terms
    )


def one_asset(*positions: Position, spot: float = 100.0) -> Book:
    return Book.of(positions, ["A"], np.array([spot]))


def test_one_stock_has_the_lognormal_quantile() -> None:
    for quantity, loss in (
        (1_000.0, 1 - math.exp(-0.02 * LOSSES_OF_99)),
        (-1_000.0, math.exp(0.02 * LOSSES_OF_99) - 1),
    ):
        risk = BookSimulation(one_asset(stock(quantity)), np.array([[0.02]]), scenarios=200_000).run()
        assert abs(risk.var - 1e5 * loss) < 4 * risk.var_standard_error


def test_an_expired_option_is_worth_what_it_pays() -> None:
    expired = one_asset(
        option(years=-0.1, strike=90.0), option(years=0.0, kind="put", strike=90.0), option(years=TRADING_DAY / 2)
    )
    assert expired.values()[:2].tolist() == [100.0, 0.0]
    normals = scenario_normals(1, 0, np.arange(500), 1)
    risk = BookSimulation(expired, np.array([[0.05]]), scenarios=500).run()
    spot = 100 * np.exp(0.05 * normals[:, 0])
    paid = 10 * (np.maximum(spot - 90, 0) + np.maximum(90 - spot, 0) + np.maximum(spot - 100, 0))
    np.testing.assert_allclose(risk.gains, paid - expired.values().sum(), atol=1e-9)


def test_short_expired_options_lose_what_they_pay() -> None:
    book = one_asset(option(years=0.0, strike=90.0, quantity=-10.0))
    risk = BookSimulation(book, np.array([[0.05]]), scenarios=200).run()
    spot = 100 * np.exp(0.05 * scenario_normals(1, 0, np.arange(200), 1)[:, 0])
    np.testing.assert_allclose(risk.gains, -10 * np.maximum(spot - 90, 0) + 100, atol=1e-9)


def test_no_volatility_and_no_positions_are_no_risk() -> None:
    still = BookSimulation(one_asset(stock(), option(volatility=0.0)), np.zeros((1, 1)), horizon_years=0.0).run()
    assert (still.var, still.expected_shortfall, still.var_standard_error) == (0.0, 0.0, 0.0)
    empty = BookSimulation(one_asset(), np.array([[0.02]])).run()
    assert (empty.var, empty.expected_shortfall, len(empty.var_contributions)) == (0.0, 0.0, 0)


@pytest.mark.parametrize("draw", ["plain", "antithetic", "sobol", "control", "importance"])
def test_a_book_that_cannot_move_has_no_risk_however_drawn(draw) -> None:
    risk = BookSimulation(one_asset(stock(0.0)), np.array([[0.02]]), draw=draw).run()
    assert (risk.var, risk.expected_shortfall) == (0.0, 0.0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("left_s", "volatility"), [(1.0, 0.2), (60.0, 0.2), (3600.0, 0.2), (60.0, 1e-160)])
def test_a_control_variate_that_is_no_likeness_corrects_nothing(left_s: float, volatility: float) -> None:
    """At the money and about to expire an option's gamma has no bound, and its quadratic says nothing of its loss."""
    years = TRADING_DAY + left_s / (365.0 * 86_400.0)
    book = one_asset(option(quantity=-100.0, strike=100.0, years=years, volatility=volatility))
    loading = np.array([[0.02]])
    plain, control = (BookSimulation(book, loading, scenarios=2_000, draw=draw).run() for draw in ("plain", "control"))
    assert control.var == pytest.approx(plain.var, abs=4.0 * plain.var_standard_error)
    assert control.expected_shortfall == pytest.approx(
        plain.expected_shortfall, abs=4.0 * plain.shortfall_standard_error
    )
    assert control.var_standard_error <= plain.var_standard_error


@pytest.mark.parametrize("position", [stock(0.0), option(quantity=0.0)])
def test_importance_sampling_of_a_book_without_a_tail_is_plain(position: Position) -> None:
    plain, twisted = (
        BookSimulation(one_asset(position), np.array([[0.02]]), draw=draw).run() for draw in ("plain", "importance")
    )
    assert (twisted.var, twisted.expected_shortfall) == (plain.var, plain.expected_shortfall)
    assert np.array_equal(twisted.gains, plain.gains)


@pytest.mark.parametrize(
    ("position", "message"),
    [
        (stock(math.nan), "quantity"), (option(strike=math.nan), "strike"), (option(strike=0.0), "strike"),
        (option(volatility=-0.1), "volatility"), (option(years=math.inf), "years"), (option(rate=math.nan), "rate"),
        (option(kind="swap"), "kind"), (stock(symbol="B"), "B"),
    ],
)  # fmt: skip
def test_a_position_that_cannot_be_priced_is_named(position: Position, message: str) -> None:
    with pytest.raises(DeskvigilError, match=rf"position 1 .*{message}"):
        one_asset(stock(), position)


@pytest.mark.parametrize("spot", [math.nan, 0.0, -1.0, math.inf])
def test_a_spot_that_is_no_price_is_named(spot: float) -> None:
    with pytest.raises(DeskvigilError, match="spot of A"):
        one_asset(stock(), spot=spot)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loading": np.eye(2)}, "1 symbols"), ({"loading": np.array([[math.nan]])}, "finite"), ({"scenarios": 0}, "scenarios"),
        ({"horizon_years": math.nan}, "horizon"), ({"var_confidence": 1.0}, "confidences"), ({"threads": 0}, "threads"),
        ({"draw": "guess"}, "draw"), ({"draw": "antithetic", "scenarios": 101}, "antithetic"), ({"precision": "half"}, "half"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(change: dict, message: str) -> None:
    with pytest.raises(DeskvigilError, match=message):
        BookSimulation(one_asset(stock()), **({"loading": np.array([[0.02]])} | change))


def test_numbers_beyond_floating_point_are_an_error_and_not_a_figure() -> None:
    with pytest.raises(DeskvigilError, match="not finite"):
        BookSimulation(one_asset(stock(1e300)), np.array([[300.0]])).run()


@pytest.fixture(scope="module")
def scatter() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Relative errors of VaR and ES over 200 runs of 1,000 scenarios, by draw; and the mean stated over the true scatter."""
    book, loading = mixed_book(12, 48, seed=5)
    truth = BookSimulation(book, loading, scenarios=1_000_000, seed=77, draw="control").run()
    found = {}
    for draw in DRAWS:
        simulation = BookSimulation(book, loading, draw=draw)
        runs = [simulation.run(stream) for stream in range(200)]
        var, shortfall = np.array([run.var for run in runs]), np.array([run.expected_shortfall for run in runs])
        stated = (
            np.array([run.var_standard_error for run in runs]).mean(),
            np.array([run.shortfall_standard_error for run in runs]).mean(),
        )
        errors = np.array([var / truth.var - 1, shortfall / truth.expected_shortfall - 1])
        found[draw] = errors, np.array([stated[0] / var.std(), stated[1] / shortfall.std()])
    return found


def test_control_variate_and_importance_sampling_bring_the_error_down(scatter) -> None:
    rms = {draw: np.sqrt(np.mean(errors**2, axis=1)) for draw, (errors, _) in scatter.items()}
    assert rms["control"][0] < 0.01, "VaR within 1 % at 1,000 scenarios"
    assert rms["control"][0] < rms["plain"][0] / 4
    assert rms["importance"][0] < rms["plain"][0] / 3
    assert rms["sobol"][1] < rms["plain"][1] / 2
    assert rms["antithetic"][0] > rms["plain"][0] / 2, "mirror images do not help a quantile"


@pytest.mark.parametrize("draw", ["plain", "control", "importance"])
def test_stated_standard_errors_are_the_scatter_between_runs(scatter, draw: str) -> None:
    assert scatter[draw][1] == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("draw", DRAWS)
def test_contributions_add_up_however_the_scenarios_are_drawn(draw) -> None:
    book, loading = mixed_book(7, 30)
    risk = BookSimulation(book, loading, draw=draw).run(4)
    assert risk.var_contributions.sum() == pytest.approx(risk.var)
    assert risk.shortfall_contributions.sum() == pytest.approx(risk.expected_shortfall)
    plain = BookSimulation(book, loading, scenarios=200_000).run(4)
    assert np.abs(risk.shortfall_contributions - plain.shortfall_contributions).max() < 0.35 * plain.expected_shortfall


def test_delta_gamma_of_stocks_alone_is_nearly_gaussian_and_known() -> None:
    book = Book.of([stock(1_000.0), stock(-500.0, "B")], ["A", "B"], np.array([100.0, 50.0]))
    loading = 1e-4 * np.array([[1.0, 0.0], [0.5, 1.0]])
    quadratic = DeltaGamma.of(book, loading, 0.0)
    sigma = float(np.linalg.norm(loading.T @ np.array([1e5, -25e3])))
    assert quadratic.value_at_risk(0.99) == pytest.approx(LOSSES_OF_99 * sigma, rel=1e-3)
    assert quadratic.expected_shortfall(0.975) == pytest.approx(SHORTFALL_OF_975 * sigma, rel=1e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_quadratics_known_tail_is_that_of_its_samples(sign: float) -> None:
    rng = np.random.default_rng(8)
    quadratic = DeltaGamma(
        3.0, np.zeros(4), np.zeros(4), rng.normal(size=4), sign * np.array([0.0, 0.2, 0.5, 1.5]), np.eye(4)
    )
    x = rng.standard_normal((2_000_000, 4))
    loss = quadratic.constant + x @ quadratic.linear + np.square(x) @ quadratic.square
    n = len(loss)
    at = np.quantile(loss, [0.1, 0.5, 0.9, 0.99])
    known = quadratic.tail_probability(at)
    assert np.abs(known - [0.9, 0.5, 0.1, 0.01]) == pytest.approx(0.0, abs=4 * 0.5 / math.sqrt(n))
    ordered = np.sort(loss)
    assert ordered[int(0.9893 * n)] < quadratic.value_at_risk(0.99) < ordered[int(0.9907 * n)]
    assert quadratic.expected_shortfall(0.975) == pytest.approx(ordered[int(0.975 * n) :].mean(), rel=0.01)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([1.0, -1.0]), st.floats(1, 1000), st.floats(0.5, 2.0), st.floats(0.01, 5), st.floats(0.05, 1.0),
    st.floats(-0.02, 0.1), st.floats(0, 0.08),
)  # fmt: skip
def test_black_scholes_keeps_parity_and_its_greeks_are_its_slopes(
    sign, spot, moneyness, years, volatility, rate, dividend
) -> None:
    strike = spot * moneyness
    terms = (strike, years, volatility, rate, dividend)
    call, put = black_scholes(1.0, spot, *terms), black_scholes(-1.0, spot, *terms)
    assert call - put == pytest.approx(
        spot * math.exp(-dividend * years) - strike * math.exp(-rate * years), abs=1e-10 * spot
    )
    delta, gamma = black_scholes_greeks(sign, spot, *terms)
    h = 1e-3 * spot * volatility * math.sqrt(years)
    below, at, above = (float(black_scholes(sign, spot + step, *terms)) for step in (-h, 0.0, h))
    assert (above - below) / (2 * h) == pytest.approx(float(delta), abs=1e-5)
    assert (above - 2 * at + below) / h**2 * spot == pytest.approx(float(gamma) * spot, rel=1e-3, abs=1e-3)
