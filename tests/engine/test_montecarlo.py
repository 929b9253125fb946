from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.figures import load_covariances
from engine.jit import kernel
from engine.montecarlo.covariance import covariance_for
from engine.montecarlo.normals import cos_sin_turn, log_positive, normal_pair
from engine.montecarlo.philox import philox_blocks
from engine.montecarlo.tail import offer, shortfall_weights, sort_heap, tail_size, var_of_tail

Z99 = 2.3263478740408408  # normal quantile at 0.99

# kat_vectors of Random123 1.14 for philox4x32 with 10 rounds: counter, key, words.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], dtype=np.uint64)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_words(counter: str, key: str, expected: str) -> None:
    out = np.zeros((1, 4), dtype=np.uint64)
    philox_blocks(words(counter)[None, :], words(key), out)
    assert out[0].tolist() == words(expected).tolist()


@kernel
def fill_normals(seed, stream, first_block, out):
    for b in range(len(out) // 2):
        out[2 * b], out[2 * b + 1] = normal_pair(first_block + np.uint64(b), stream, seed)


def normals(seed: int, stream: int, start: int, count: int) -> np.ndarray:
    """Normals number `start` to `start + count` of a stream."""
    first_block, last_block = start // 2, -(-(start + count) // 2)
    out = np.empty(2 * (last_block - first_block))
    fill_normals(np.uint64(seed), np.uint64(stream), np.uint64(first_block), out)
    return out[start - 2 * first_block :][:count]


@kernel
def worst_losses(losses, heap, where):
    size = 0
    for s in range(len(losses)):
        size = offer(heap, where, size, losses[s], s)
    sort_heap(heap, where, size)


@kernel
def apply_own_functions(u, logarithm, cosine, sine):
    for k in range(len(u)):
        logarithm[k] = log_positive(u[k])
        cosine[k], sine[k] = cos_sin_turn(u[k])


def test_own_logarithm_and_circle_agree_with_the_library_to_the_last_digits() -> None:
    u = np.concatenate(
        [np.random.default_rng(1).random(100_000), 2.0 ** -np.arange(1, 54), [0.125, 0.25, 0.5, 0.75, 0.875]]
    )
    logarithm, cosine, sine = np.empty_like(u), np.empty_like(u), np.empty_like(u)
    apply_own_functions(u, logarithm, cosine, sine)
    np.testing.assert_allclose(logarithm, np.log(u), rtol=4e-16, atol=0)
    np.testing.assert_allclose(cosine, np.cos(2 * np.pi * u), rtol=0, atol=1e-15)
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * u), rtol=0, atol=1e-15)


def test_normals_have_the_moments_of_a_standard_normal() -> None:
    n = 1_000_000
    z = normals(1, 0, 0, n)
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert abs((z[:-1] * z[1:]).mean()) < 4 / math.sqrt(n)
    assert abs((z > Z99).mean() - 0.01) < 4 * math.sqrt(0.0099 / n)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(0, 200))
def test_a_normal_depends_on_seed_stream_and_index_alone(seed: int, stream: int, start: int, count: int) -> None:
    whole = normals(seed, stream, 0, start + count)
    assert normals(seed, stream, start, count).tobytes() == whole[start:].tobytes()


def test_streams_and_seeds_are_unrelated() -> None:
    a, b, c = normals(1, 0, 0, 100_000), normals(1, 1, 0, 100_000), normals(2, 0, 0, 100_000)
    assert np.abs(np.corrcoef([a, b, c]) - np.eye(3)).max() < 0.015


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.data())
def test_the_tail_holds_the_largest_losses_and_where_they_were(losses: list[float], data: st.DataObject) -> None:
    values = np.array(losses)
    kept = data.draw(st.integers(1, len(values)))
    tail, where = np.zeros(kept), np.zeros(kept, dtype=np.int64)
    worst_losses(values, tail, where)
    assert tail.tolist() == np.sort(values)[::-1][:kept].tolist()
    assert values[where].tolist() == tail.tolist()
    assert len(set(where.tolist())) == kept


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=400), st.floats(0.8, 0.999))
def test_value_at_risk_and_shortfall_equal_numpys_quantile_and_tail_mean(
    losses: list[float], confidence: float
) -> None:
    values, n = np.array(losses), len(losses)
    kept = tail_size(n, confidence, confidence)
    tail, where = np.zeros(kept), np.zeros(kept, dtype=np.int64)
    worst_losses(values, tail, where)
    var, error = var_of_tail(tail, n, confidence)
    assert var == pytest.approx(np.quantile(values, confidence), rel=1e-9, abs=1e-6)
    assert error >= 0
    weights = shortfall_weights(n, confidence)
    assert weights.sum() == pytest.approx(1.0)
    # The integral of the empirical quantile function over the tail, which is what shortfall is.
    share = n * (1 - confidence)
    ordered = np.sort(values)[::-1]
    held = np.clip(share - np.arange(n), 0.0, 1.0)
    assert float(weights @ tail[: len(weights)]) == pytest.approx(float(ordered @ held) / share, rel=1e-7, abs=1e-6)


def test_covariance_knows_the_default_market_the_recorded_stocks_and_says_what_it_does_not_know() -> None:
    known = load_covariances()
    covariance = covariance_for(["AMZN", "BTCUSDT", "UNHEARD", "AAPL"], known, default_volatility=0.03)
    assert 0.2 < covariance.correlation[0, 3] < 0.8
    assert covariance.correlation[0, 1:3].tolist() == [0.0, 0.0]
    assert covariance.volatility[2] == 0.03
    assert "default volatility" in covariance.source[2]
    assert "daily closes" in covariance.source[0]
    assert "recorded" in covariance.source[1]
    expected = covariance.correlation * np.outer(covariance.volatility, covariance.volatility)
    np.testing.assert_allclose(covariance.loading @ covariance.loading.T, expected, atol=1e-15)
    ten_days = covariance_for(["AMZN"], known, default_volatility=0.03, horizon_days=10.0)
    assert ten_days.volatility[0] == pytest.approx(covariance.volatility[0] * math.sqrt(10))
    with pytest.raises(ValueError, match="differ"):
        covariance_for(["AMZN", "AMZN"], known, default_volatility=0.03)
