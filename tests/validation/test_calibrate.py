from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.figures import load_market
from engine.hawkes import next_arrival
from engine.jit import kernel
from validation.calibrate import MARKET_FILE, main, measure, rounded
from validation.calibration import recordings as rec
from validation.calibration.comparison import compare, correlation_of, synthetic_events
from validation.calibration.correlation import nearest_correlation, pairwise_correlation, shrink
from validation.calibration.hawkes import Arrivals, fit_at
from validation.calibration.orderflow import dispersion, weighted_quantiles


def numbers(value: Any, name: str = "") -> dict[str, Any]:
    """A nested structure as one flat name -> leaf mapping."""
    if isinstance(value, dict):
        return {key: leaf for part, inner in value.items() for key, leaf in numbers(inner, f"{name}.{part}").items()}
    if isinstance(value, list):
        return {key: leaf for k, inner in enumerate(value) for key, leaf in numbers(inner, f"{name}[{k}]").items()}
    return {name: value}


@pytest.mark.prove
def test_measuring_the_recorded_days_again_gives_the_shipped_figures(marketdata: Path) -> None:
    shipped, again = numbers(orjson.loads(MARKET_FILE.read_bytes())), numbers(measure(marketdata))
    assert again.keys() == shipped.keys()
    for name, value in shipped.items():
        expected = pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
        assert again[name] == expected, name


def test_the_shipped_file_holds_figures_with_provenance_and_no_recorded_rows() -> None:
    figures = orjson.loads(MARKET_FILE.read_bytes())
    assert len(MARKET_FILE.read_bytes()) < 100_000
    assert {key: source["file"] for key, source in figures["sources"].items()} == rec.FILES
    assert all(len(source["sha256"]) == 64 for source in figures["sources"].values())
    assert figures["units"]
    assert figures["formulas"]
    longest = max(int(name.rsplit("[", 1)[1].rstrip("]")) for name in numbers(figures) if name.endswith("]"))
    assert longest < 60


def test_the_fitted_clustering_explains_arrivals_far_better_than_a_poisson_process_does() -> None:
    hawkes = orjson.loads(MARKET_FILE.read_bytes())["flow"]["hawkes"]
    assert 0.5 < hawkes["branching_ratio"] < 0.95
    assert max(hawkes["goodness"]["residual_ks_distance"]) < 0.06
    assert min(hawkes["goodness"]["poisson_ks_distance"]) > 0.3


def test_the_synthetic_market_resembles_the_recorded_day(marketdata: Path) -> None:
    lines = {line.name: line.ratio for line in compare(rec.read_order_day(marketdata / rec.AMZN_5))}
    close = ("events per minute", "limit share of events", "withdraw share of events", "spread mean, ticks", "spread 50%, ticks",
             "depth at touch, shares", "limit order size mean, shares", "withdrawals at the touch", "mid volatility on a 60s grid")  # fmt: skip
    for name in close:
        assert 0.8 < lines[name] < 1.25, f"{name}: {lines[name]:.2f} of the recorded value"
    for name, ratio in lines.items():
        assert 0.35 < ratio < 3.0, f"{name}: {ratio:.2f} of the recorded value"


def test_mids_of_the_synthetic_market_move_together_as_the_shipped_correlation_says() -> None:
    figures = load_market()
    events = synthetic_events(figures, seed=1, seconds=2_400)
    found = correlation_of(events, figures, seconds=2_400, every_s=30.0)
    away = ~np.eye(len(found), dtype=bool)
    assert np.corrcoef(found[away], figures.correlation[away])[0, 1] > 0.5
    assert found[away].mean() > 0.5 * figures.correlation[away].mean()


@kernel
def simulate_arrivals(streams, arrivals, time_s, kind):
    for k in range(len(time_s)):
        at_ns, kind[k] = next_arrival(0, streams, arrivals)
        time_s[k] = at_ns / 1e9
        for p in range(streams[2].shape[2]):
            streams[2][0, kind[k], p] += 1.0


def test_a_fit_finds_the_parameters_of_the_process_that_the_generator_simulates() -> None:
    baseline, decay = np.array([[0.5, 0.2]]), np.array([1.0, 50.0])
    branching = np.array([[[0.3, 0.2], [0.1, 0.0]], [[0.0, 0.1], [0.2, 0.3]]])
    curve = np.array([1.5, 0.5, 1.0])
    n, session_ns = 60_000, 600_000_000_000
    streams = (np.array([7], dtype=np.uint64), np.zeros(1, dtype=np.int64), np.zeros((1, 2, 2)))
    pull = np.ascontiguousarray((branching * decay).sum(axis=0))
    time_s, kind = np.zeros(n), np.zeros(n, dtype=np.int64)
    simulate_arrivals(streams, (baseline, decay, branching, pull, curve, 1.5, session_ns), time_s, kind)
    periods = int(time_s[-1] // 600.0)
    inside = time_s < periods * 600.0
    found = fit_at(Arrivals(time_s[inside], kind[inside], 2, np.tile(curve, periods), periods * 600.0), decay, 150)
    np.testing.assert_allclose(found.baseline, baseline[0], rtol=0.1)
    np.testing.assert_allclose(found.branching, branching, atol=0.04)
    assert found.residual_ks.max() < 0.01
    assert found.log_likelihood > found.poisson_log_likelihood


def test_poisson_counts_have_a_dispersion_of_one() -> None:
    times = np.sort(np.random.default_rng(1).uniform(0, 10_000, 50_000))
    assert dispersion(times, 10_000.0, 1.0) == pytest.approx(1.0, abs=0.05)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(10, 60), st.integers(0, 2**32 - 1))
def test_a_shrunk_correlation_is_positive_definite_whatever_the_gaps(stocks: int, days: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    returns = generator.standard_normal((days, stocks)) + generator.standard_normal((days, 1))
    returns[generator.random((days, stocks)) < 0.15] = np.nan
    returns[:3] = generator.standard_normal((3, stocks))
    shrunk, intensity = shrink(*pairwise_correlation(returns))
    assert 0.0 <= intensity <= 1.0
    np.testing.assert_allclose(np.diag(shrunk), 1.0)
    np.linalg.cholesky(shrunk)


def test_complete_returns_give_the_ordinary_correlation() -> None:
    returns = np.random.default_rng(2).standard_normal((300, 4))
    np.testing.assert_allclose(pairwise_correlation(returns)[0], np.corrcoef(returns.T), atol=1e-12)


def test_an_impossible_correlation_is_lifted_to_a_possible_one() -> None:
    impossible = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    np.linalg.cholesky(nearest_correlation(impossible))


def test_time_weighted_quantiles_weigh_by_how_long_a_value_held() -> None:
    table = weighted_quantiles(np.array([10.0, 1.0, 5.0]), np.array([1.0, 8.0, 1.0]), (0.1, 0.5, 0.85, 0.95))
    assert table["values"] == [1.0, 1.0, 5.0, 10.0]


def test_a_missing_recording_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "market.json"
    assert main([str(tmp_path), "--out", str(out)]) == 1
    assert "LOBSTER_SampleFile_AMZN" in capsys.readouterr().err
    assert not out.exists()


def test_figures_are_rounded_to_what_another_machine_reproduces() -> None:
    assert rounded({"a": [0.1234567891234, 3, "x"]}) == {"a": [0.123456789, 3, "x"]}
