"""Bootstrap intervals: they cover what they should on known distributions, and pairing takes away what both sides share."""

from __future__ import annotations

import numpy as np
import pytest

from validation.bootstrap import block_sums, difference, drawn_blocks, ratio

BLOCKS = 40
DRAWN = drawn_blocks(BLOCKS, 1)


def test_blocks_are_summed() -> None:
    np.testing.assert_array_equal(block_sums(np.array([1.0, 2.0, 4.0]), np.array([0, 2, 0]), 4), [5.0, 0.0, 2.0, 0.0])


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says(draw) -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(300):
        whole = rng.integers(5, 15, BLOCKS).astype(float)
        noise = rng.normal(size=BLOCKS) if draw == "normal" else rng.exponential(size=BLOCKS) - 1.0
        found = ratio(2.0 * whole + noise * np.sqrt(whole), whole, DRAWN)
        inside += found.low <= 2.0 <= found.high
    assert 0.90 <= inside / 300 <= 0.985  # a percentile interval of 40 blocks covers a little less than 95 %


def test_the_interval_of_a_difference_covers_it_and_is_narrow_where_both_share_their_luck() -> None:
    rng = np.random.default_rng(4)
    inside, widths, own_widths = 0, [], []
    whole = np.full(BLOCKS, 10.0)
    for _ in range(300):
        luck = rng.normal(size=BLOCKS) * 20.0
        one, other = 5.0 + luck + rng.normal(size=BLOCKS), luck + rng.normal(size=BLOCKS)
        found, own = difference(one, whole, other, whole, DRAWN), ratio(one, whole, DRAWN)
        inside += found.low <= 0.5 <= found.high
        widths.append(found.high - found.low)
        own_widths.append(own.high - own.low)
    assert 0.90 <= inside / 300 <= 0.985
    assert np.mean(widths) < 0.2 * np.mean(own_widths)


def test_correlated_neighbours_need_blocks() -> None:
    """Single values that move together in stretches: blocks of a stretch give the honest, wider interval."""
    rng = np.random.default_rng(5)
    values = np.repeat(rng.normal(size=50), 20)
    ones = np.ones(len(values))
    single = ratio(values, ones, drawn_blocks(len(values), 1))
    place = np.arange(len(values)) // 20
    blocked = ratio(block_sums(values, place, 50), block_sums(ones, place, 50), drawn_blocks(50, 1))
    assert blocked.value == pytest.approx(single.value)
    assert blocked.high - blocked.low > 3.0 * (single.high - single.low)


def test_one_block_has_no_interval_and_nothing_has_no_value() -> None:
    alone = ratio(np.array([4.0]), np.array([2.0]), drawn_blocks(1, 1))
    assert alone.value == 2.0
    assert np.isnan(alone.low)
    assert np.isnan(alone.high)
    nothing = ratio(np.zeros(3), np.zeros(3), drawn_blocks(3, 1))
    assert np.isnan(nothing.value)
    assert np.isnan(nothing.low)
