"""Covariance from daily closes: Ledoit and Wolf's formula, gaps, and what cannot be positive definite."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.montecarlo.covariance import correlation_factor, covariance_for
from engine.montecarlo.shrinkage import daily_covariance
from metrics.errors import DeskvigilError


def closes_of(days: int, assets: int, seed: int = 1, common: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    returns = 0.02 * (
        math.sqrt(common) * rng.normal(size=(days, 1)) + math.sqrt(1 - common) * rng.normal(size=(days, assets))
    )
    return 100 * np.exp(np.cumsum(returns, axis=0))


def names(assets: int) -> list[str]:
    return [f"S{i}" for i in range(assets)]


def ledoit_wolf(standard: np.ndarray, *, of_correlations: bool) -> np.ndarray:
    """The paper's estimator sample by sample, on standardised returns; with a correlation's scatter, or a covariance's."""
    n, p = standard.shape
    sample = standard.T @ standard / n
    d2 = np.square(sample - np.eye(p)).sum()
    b2 = 0.0
    for x in standard:
        mean = 0.5 * (x[:, None] ** 2 + x[None, :] ** 2) if of_correlations else np.ones((p, p))
        b2 += np.square(np.outer(x, x) - sample * mean).sum() / n**2
    share = min(b2 / d2, 1.0)
    return share * np.eye(p) + (1 - share) * sample


@pytest.mark.parametrize(("days", "assets"), [(60, 3), (250, 8), (30, 25)])
def test_without_gaps_it_is_ledoit_and_wolfs_estimator(days: int, assets: int) -> None:
    closes = closes_of(days, assets)
    returns = np.diff(np.log(closes), axis=0)
    standard = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    found = daily_covariance(names(assets), closes, "test")
    np.testing.assert_allclose(found.correlation, ledoit_wolf(standard, of_correlations=True), atol=1e-12)
    np.testing.assert_allclose(found.volatility, returns.std(axis=0), rtol=1e-12)
    assert "shrunk by" in found.source


def test_shrinking_helps_where_days_are_few_and_more_than_the_formula_for_covariances() -> None:
    # Where all move together "uncorrelated" is a poor target, and shrinking may cost a little instead.
    for common, at_most in ((0.1, 0.6), (0.3, 1.0), (0.6, 1.1)):
        truth = common + (1 - common) * np.eye(30)
        raw, ours, theirs = 0.0, 0.0, 0.0
        for seed in range(10):
            closes = closes_of(41, 30, seed, common)
            returns = np.diff(np.log(closes), axis=0)
            standard = (returns - returns.mean(axis=0)) / returns.std(axis=0)
            raw += np.square(np.corrcoef(returns.T) - truth).sum()
            ours += np.square(daily_covariance(names(30), closes, "test").correlation - truth).sum()
            theirs += np.square(ledoit_wolf(standard, of_correlations=False) - truth).sum()
        assert ours < at_most * raw
        assert ours < 1.05 * theirs


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.floats(0, 0.3), st.integers(0, 2**31))
def test_any_gaps_leave_a_matrix_that_can_be_factored(assets: int, gaps: float, seed: int) -> None:
    closes = closes_of(120, assets, seed, common=0.95)
    closes[np.random.default_rng(seed).random(closes.shape) < gaps] = np.nan
    try:
        found = daily_covariance(names(assets), closes, "test")
    except DeskvigilError as error:
        assert "share" in str(error)  # noqa: PT017 - so many gaps that a pair has too few days is an answer, too
        return
    factor = covariance_for(names(assets), [found], default_volatility=0.03).loading
    expected = found.correlation * np.outer(found.volatility, found.volatility)
    np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-11)


def test_a_gap_costs_the_two_returns_at_it_and_biases_nothing() -> None:
    closes = closes_of(2_000, 2, common=0.6)
    holed = closes.copy()
    holed[np.random.default_rng(2).random(holed.shape) < 0.1] = np.nan
    full, gaps = daily_covariance(names(2), closes, ""), daily_covariance(names(2), holed, "")
    assert gaps.volatility == pytest.approx(full.volatility, rel=0.05)
    assert gaps.correlation[0, 1] == pytest.approx(full.correlation[0, 1], abs=0.05)


def test_gaps_that_contradict_each_other_are_repaired_and_said() -> None:
    # Three series whose pairs are seen on different days: a = b, b = c, a = -c.
    rng = np.random.default_rng(3)
    x = [0.02 * rng.normal(size=400) for _ in range(3)]
    returns = np.full((1_202, 3), np.nan)
    for part, (i, j, sign) in enumerate([(0, 1, 1), (1, 2, 1), (0, 2, -1)]):
        rows = slice(401 * part, 401 * part + 400)
        returns[rows, i], returns[rows, j] = x[part], sign * x[part]
    closes = np.full((1_203, 3), np.nan)
    for i in range(3):
        there = np.isfinite(returns[:, i])
        logs = np.nancumsum(returns[:, i])
        closes[1:, i][there] = np.exp(logs[there])
        starts = np.flatnonzero(there & ~np.concatenate([[False], there[:-1]]))
        closes[starts, i] = np.exp(logs[starts] - returns[starts, i])
    found = daily_covariance(names(3), closes, "test")
    assert "lifted" in found.source
    assert np.linalg.eigvalsh(found.correlation)[0] > 0
    assert np.diag(found.correlation).tolist() == [1.0, 1.0, 1.0]


def test_a_price_that_never_moves_has_no_volatility_and_no_correlation() -> None:
    closes = closes_of(100, 3)
    closes[:, 1] = 7.0
    found = daily_covariance(names(3), closes, "test")
    assert found.volatility[1] == 0.0
    assert found.correlation[1].tolist() == [0.0, 1.0, 0.0]
    loading = covariance_for(names(3), [found], default_volatility=0.03).loading
    assert loading[1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("price", [0.0, -3.0, math.inf])
def test_a_price_that_is_none_is_named(price: float) -> None:
    closes = closes_of(50, 2)
    closes[10, 1] = price
    with pytest.raises(DeskvigilError, match="S1"):
        daily_covariance(names(2), closes, "test")


def test_too_few_common_days_name_the_pair() -> None:
    closes = closes_of(60, 3)
    closes[:35, 0] = np.nan
    closes[35:, 2] = np.nan
    with pytest.raises(DeskvigilError, match="S0 and S2 share 0 daily returns"):
        daily_covariance(names(3), closes, "test")
    with pytest.raises(DeskvigilError, match="closes must be"):
        daily_covariance(names(2), closes, "test")


def test_an_edge_case_is_moved_inside_and_an_impossible_matrix_refused() -> None:
    factor = correlation_factor(np.ones((3, 3)), "three")
    np.testing.assert_allclose(factor @ factor.T, np.ones((3, 3)), atol=1e-7)
    impossible = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    with pytest.raises(DeskvigilError, match="three is not positive definite"):
        correlation_factor(impossible, "three")
