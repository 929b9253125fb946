"""Windows: the samples that a range selector sees at every step, and reductions over them.

A window is a pair of positions on a shared time axis, found by one binary search for all steps.
Sums, minima and maxima come from `ufunc.reduceat`, for long windows in two levels; nothing loops
over steps in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray, IntArray
from query.labels import Table

# From this mean window length on, whole blocks of BLOCK samples are reduced once and then combined.
LONG_WINDOW = 512
BLOCK = 64
# A sum that is this small beside its largest summand has lost digits and is summed again exactly.
CANCELLED = 1e-5


def _nothing() -> None:
    """For windows that no query waits for."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Windows over series that share a time axis.

    t: int64 [n] ms; v: float64 [series, n], without stale markers, n >= 1.
    lo, hi: int64 [steps]: step s sees the samples lo[s] <= i < hi[s].
    ends, at: int64 [steps] ms: the window's (inclusive) end and the evaluation time. The window is
        open on its left: ends - range_ms < t <= ends.
    lost: float64 [series, n], what a counter had counted before it fell between a sample and the one before; empty where
        none fell, None where the samples themselves tell it.
    check: raises QueryError(timeout) when the query has run too long; kernels that loop call it.
    """

    t: IntArray
    v: FloatArray
    lo: IntArray
    hi: IntArray
    ends: IntArray
    at: IntArray
    range_ms: int
    lost: FloatArray | None = None
    check: Callable[[], None] = _nothing

    @property
    def steps(self) -> int:
        return len(self.lo)

    @property
    def single(self) -> bool:
        return len(self.lo) == 1

    @property
    def count(self) -> IntArray:
        """Samples per window, int64 [steps]."""
        return self.hi - self.lo

    def first(self) -> IntArray:
        """Position of each window's first sample; a valid position also where the window is empty."""
        return np.minimum(self.lo, len(self.t) - 1)

    def last(self) -> IntArray:
        """Position of each window's last sample; a valid position also where the window is empty."""
        return np.maximum(self.hi - 1, 0)

    def slice(self) -> FloatArray:
        """The samples of the only window, [series, count]; for evaluations at one instant."""
        return self.v[:, int(self.lo[0]) : int(self.hi[0])]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """A range vector: rows of `table` are the series of all blocks, one block after the other."""

    table: Table
    blocks: list[Window]


def locate(t: IntArray, ends: IntArray, range_ms: int) -> tuple[IntArray, IntArray]:
    """Positions lo, hi (int64 [steps]) of the samples with ends - range < t <= ends."""
    lo = np.searchsorted(t, ends - range_ms, side="right")
    hi = np.searchsorted(t, ends, side="right")
    return lo, hi


def reduce(ufunc: np.ufunc, v: FloatArray, lo: IntArray, hi: IntArray) -> FloatArray:
    """Reduce each row over each window: float64 [series, steps]; undefined where a window is empty."""
    if len(lo) == 1:
        if hi[0] <= lo[0]:
            return np.full((len(v), 1), np.nan)
        once: FloatArray = ufunc.reduce(v[:, int(lo[0]) : int(hi[0])], axis=1, keepdims=True)
        return once
    if int((hi - lo).sum()) > LONG_WINDOW * len(lo):
        return _reduce_long(ufunc, v, lo, hi)
    return _reduce_short(ufunc, v, lo, hi)


def _reduce_short(ufunc: np.ufunc, v: FloatArray, lo: IntArray, hi: IntArray) -> FloatArray:
    padded = np.concatenate([v, v[:, -1:]], axis=1)  # reduceat wants every position below the length
    bounds = np.empty(2 * len(lo), dtype=np.int64)
    bounds[0::2] = lo
    bounds[1::2] = np.maximum(hi, lo)
    reduced: FloatArray = ufunc.reduceat(padded, bounds, axis=1)[:, 0::2]
    return reduced


def _reduce_long(ufunc: np.ufunc, v: FloatArray, lo: IntArray, hi: IntArray) -> FloatArray:
    """Head and tail of each window sample by sample, the whole blocks between them from their reductions."""
    whole = v.shape[1] // BLOCK * BLOCK
    blocks = ufunc.reduce(v[:, :whole].reshape(len(v), -1, BLOCK), axis=2)
    first, behind = -(-lo // BLOCK), hi // BLOCK
    long = (behind > first) & (blocks.shape[1] > 0)
    result = _reduce_short(ufunc, v, lo, np.where(long, lo, hi))  # windows without a whole block inside
    if not long.any():
        return result
    lo, hi, first, behind = lo[long], hi[long], first[long], behind[long]
    part = _reduce_short(ufunc, blocks, first, behind)
    for low, high in ((lo, first * BLOCK), (behind * BLOCK, hi)):
        some = high > low
        edge = _reduce_short(ufunc, v, np.where(some, low, 0), np.where(some, high, 1))
        part = np.where(some, ufunc(part, edge), part)
    result[:, long] = part
    return result


def sums(v: FloatArray, lo: IntArray, hi: IntArray) -> FloatArray:
    """Sums per window, as exact as compensated summation: cancelled ones are summed again without rounding."""
    total = reduce(np.add, v, lo, hi)
    if not v.size or v.min() >= 0:  # what has one sign cannot cancel
        return total
    largest = np.abs(v).max(axis=1)[:, None]
    doubtful = ~(np.abs(total) >= CANCELLED * largest) & (largest > 0)
    if doubtful.any():
        _sum_exactly(v, lo, hi, total, doubtful)
    return total


def _sum_exactly(v: FloatArray, lo: IntArray, hi: IntArray, total: FloatArray, doubtful: FloatArray) -> None:
    """Replace the doubtful totals whose own window really cancels (rare: integers and one-signed data never do)."""
    rows = np.flatnonzero(doubtful.any(axis=1))
    largest = reduce(np.maximum, np.abs(v[rows]), lo, hi)
    low = ~(np.abs(total[rows]) >= CANCELLED * largest) & (largest > 0) & (hi > lo)
    for i, step in np.argwhere(low):
        row = int(rows[i])
        total[row, step] = exact_sum(v[row, int(lo[step]) : int(hi[step])])


def exact_sum(values: FloatArray) -> float:
    """The sum with one rounding; infinities and NaN as usual."""
    try:
        return math.fsum(values.tolist())
    except (OverflowError, ValueError):
        return float(values.sum())


def expanded(lo: IntArray, hi: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of all samples of all windows after each other, and where each window begins among them.

    int64 [sum of counts] and int64 [steps]. For functions that need every window's own samples.
    """
    counts = np.maximum(hi - lo, 0)
    begins = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)[:-1]])
    positions = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(begins - lo, counts)
    return positions, begins
