"""Bootstrap: 95 % intervals of ratios of sums over blocks of time, and of the difference of two such ratios.

Neighbouring parents share a market, so single ones are not independent; stretches of time nearly are.
Whole blocks are drawn with replacement, for both sides of a difference the same ones (paired).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray, IntArray

DRAWS = 4000
LEVELS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; NaN where there is nothing to go by (an interval needs two blocks)."""

    value: float
    low: float
    high: float


def block_sums(values: FloatArray, blocks: IntArray, count: int) -> FloatArray:
    """Sum of values, float64 (n,), in each of `count` blocks; blocks int64 (n,) in 0 .. count - 1."""
    return np.bincount(blocks, weights=values, minlength=count).astype(np.float64)


def drawn_blocks(count: int, seed: int) -> IntArray:
    """Which blocks each draw takes, int64 (DRAWS, count)."""
    return np.random.default_rng(seed).integers(0, max(count, 1), size=(DRAWS, count))


def ratio(part: FloatArray, whole: FloatArray, drawn: IntArray) -> Estimate:
    """Sum of part over sum of whole. part, whole: block sums, float64 (blocks,); drawn from `drawn_blocks`."""
    return _estimate(_ratio(part.sum(), whole.sum()), _ratios(part, whole, drawn), len(part))


def difference(
    part: FloatArray, whole: FloatArray, other_part: FloatArray, other_whole: FloatArray, drawn: IntArray
) -> Estimate:
    """The first ratio less the second, over the same blocks."""
    value = _ratio(part.sum(), whole.sum()) - _ratio(other_part.sum(), other_whole.sum())
    return _estimate(value, _ratios(part, whole, drawn) - _ratios(other_part, other_whole, drawn), len(part))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0.0 else float("nan")


def _ratios(part: FloatArray, whole: FloatArray, drawn: IntArray) -> FloatArray:
    wholes = whole[drawn].sum(axis=1)
    ratios: FloatArray = np.divide(part[drawn].sum(axis=1), wholes, out=np.full(len(drawn), np.nan), where=wholes > 0.0)
    return ratios


def _estimate(value: float, draws: FloatArray, blocks: int) -> Estimate:
    known = draws[~np.isnan(draws)]
    if blocks < 2 or len(known) < DRAWS // 2:
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(known, LEVELS)
    return Estimate(value, float(low), float(high))
