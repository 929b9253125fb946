"""Tally: what is kept of a sweep's samples, so that parts can be put together in any order and give the same bits.

A block is summed by one kernel in the order of its samples, with compensation (Neumaier 1974). Blocks are added as
fractions, which is exact, and losses are counted in the buckets of a fixed histogram, which are whole numbers: so neither
the number of workers, nor the order in which they answer, nor a resumption can move a digit.

A bucket is as wide as 2**-10 of its lower edge, so a quantile, and a mean of the losses beyond it, is off by at most
that share of itself (RESOLUTION). Losses smaller than 2**-30 count as 0; of 2**50 or more there are none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np

from engine.jit import inline_kernel, kernel
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray

MANTISSA_BITS: Final = 10
RESOLUTION: Final = 2.0**-MANTISSA_BITS
SMALLEST_EXPONENT: Final = -30
OCTAVES: Final = 80
DROPPED: Final = np.int64(52 - MANTISSA_BITS)
BASE: Final = np.int64((1023 + SMALLEST_EXPONENT) << MANTISSA_BITS)
SIDE: Final = OCTAVES << MANTISSA_BITS  # buckets above 0, and as many below
BUCKETS: Final = 2 * SIDE + 1
SMALLEST: Final = 2.0**SMALLEST_EXPONENT
LARGEST: Final = 2.0 ** (SMALLEST_EXPONENT + OCTAVES)


class BlockTally(NamedTuple):
    """One block: number of samples, sums (c,) and sums of products (c, c) of its c columns, and for each column the
    buckets that hold something, int64 in rising order, with their counts."""

    samples: int
    total: FloatArray
    products: FloatArray
    buckets: tuple[IntArray, ...]
    counts: tuple[IntArray, ...]


@inline_kernel
def _bucket(value: float) -> int:
    size = abs(value)
    if size < SMALLEST:
        return SIDE
    place = int(1 + (np.float64(size).view(np.int64) >> DROPPED) - BASE)
    return SIDE + place if value > 0.0 else SIDE - place


@kernel
def tally(values: FloatArray, counts: IntArray, total: FloatArray, products: FloatArray) -> int:
    """Add up values float64 (c, n): counts (c, BUCKETS), total (c,), products (c, c). Returns how many are out of range."""
    columns, out_of_range = len(values), 0
    for i in range(columns):
        for k in range(values.shape[1]):
            value = values[i, k]
            if not abs(value) < LARGEST:
                out_of_range += 1
            else:
                counts[i, _bucket(value)] += 1
        for j in range(-1, i + 1):  # -1: the values themselves
            total_so_far, lost = 0.0, 0.0
            for k in range(values.shape[1]):
                term = values[i, k] if j < 0 else values[i, k] * values[j, k]
                after = total_so_far + term
                if abs(total_so_far) >= abs(term):
                    lost += (total_so_far - after) + term
                else:
                    lost += (term - after) + total_so_far
                total_so_far = after
            if j < 0:
                total[i] = total_so_far + lost
            else:
                products[i, j] = products[j, i] = total_so_far + lost
    return out_of_range


def tally_of(values: FloatArray) -> BlockTally:
    """The tally of one block's losses, float64 (c, n). DeskvigilError where one is not a number of a sensible size."""
    columns = len(values)
    counts: IntArray = np.zeros((columns, BUCKETS), dtype=np.int64)
    total, products = np.zeros(columns), np.zeros((columns, columns))
    if wrong := tally(np.ascontiguousarray(values, dtype=np.float64), counts, total, products):
        raise DeskvigilError(
            f"{wrong} losses are not finite or beyond {LARGEST:.0e}: volatilities, shocks or quantities are out of range"
        )
    filled = tuple(np.flatnonzero(row) for row in counts)
    return BlockTally(
        values.shape[1], total, products, filled, tuple(row[at] for row, at in zip(counts, filled, strict=True))
    )


class Tally:
    """The sum of many blocks of c columns."""

    def __init__(self, columns: int) -> None:
        self.samples = 0
        self._total = [Fraction(0)] * columns
        self._products = [[Fraction(0)] * columns for _ in range(columns)]
        self._counts: IntArray = np.zeros((columns, BUCKETS), dtype=np.int64)

    def add(self, block: BlockTally) -> None:
        """Add a block."""
        self.samples += block.samples
        for i, value in enumerate(block.total.tolist()):
            self._total[i] += Fraction(value)
            for j, product in enumerate(block.products[i].tolist()):
                self._products[i][j] += Fraction(product)
            self._counts[i, block.buckets[i]] += block.counts[i]

    def mean(self, column: int) -> float:
        return float(self._total[column] / self.samples)

    def standard_error(self, column: int) -> float:
        """Standard error of the mean."""
        return math.sqrt(self._scatter(column, column) / (self.samples - 1) / self.samples)

    def controlled(self, column: int, control: int, expected: float) -> tuple[float, float]:
        """Mean of a column and its standard error, by its regression on another whose expectation is known."""
        scatter, together = self._scatter(control, control), self._scatter(column, control)
        slope = together / scatter if scatter > 0 else Fraction(0)
        mean = (self._total[column] - slope * self._total[control]) / self.samples + slope * Fraction(expected)
        left = max(self._scatter(column, column) - slope * together, Fraction(0))
        return float(mean), math.sqrt(left / (self.samples - 1) / self.samples)

    def _scatter(self, i: int, j: int) -> Fraction:
        """Sum of products of the deviations from the means; not below 0 where rounding of the squares says so."""
        scatter = self._products[i][j] - self._total[i] * self._total[j] / self.samples
        return max(scatter, Fraction(0)) if i == j else scatter

    def losses(self, column: int) -> Losses:
        """The histogram of a column, from the largest down."""
        filled = np.flatnonzero(self._counts[column])[::-1]
        return Losses.of(filled, self._counts[column, filled])

    def state(self) -> dict[str, Any]:
        """As JSON can hold it, without rounding."""
        filled = [np.flatnonzero(row) for row in self._counts]
        return {
            "samples": self.samples,
            "total": [str(value) for value in self._total],
            "products": [[str(value) for value in row] for row in self._products],
            "buckets": [at.tolist() for at in filled],
            "counts": [row[at].tolist() for row, at in zip(self._counts, filled, strict=True)],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Tally:
        """What `state` gave."""
        tally = cls(len(state["total"]))
        tally.samples = state["samples"]
        tally._total = [Fraction(text) for text in state["total"]]
        tally._products = [[Fraction(text) for text in row] for row in state["products"]]
        for row, at, counts in zip(tally._counts, state["buckets"], state["counts"], strict=True):
            row[at] = counts
        return tally


@dataclass(frozen=True, eq=False)
class Losses:
    """Counts of losses by bucket, from the largest down: edges low and high float64 (b,), count int64 (b,)."""

    low: FloatArray
    high: FloatArray
    count: IntArray

    @classmethod
    def of(cls, bucket: IntArray, count: IntArray) -> Losses:
        """Buckets by number, in falling order."""
        place = bucket - SIDE
        near = _edge(np.abs(place))
        far = _edge(np.abs(place) + 1)
        zero = place == 0
        low = np.where(zero, 0.0, np.where(place > 0, near, -far))
        high = np.where(zero, 0.0, np.where(place > 0, far, -near))
        return cls(low, high, count)

    @property
    def samples(self) -> int:
        return int(self.count.sum())

    def at_rank(self, rank: float) -> float:
        """Loss at a fractional rank, 0 the largest, linear between those of whole ranks."""
        rank = min(max(rank, 0.0), self.samples - 1.0)
        first = int(rank)
        upper, lower = self._of_rank(first), self._of_rank(min(first + 1, self.samples - 1))
        return upper - (rank - first) * (upper - lower)

    def _of_rank(self, rank: int) -> float:
        """A bucket's losses are taken as evenly spread over it."""
        upto = np.cumsum(self.count)
        k = int(np.searchsorted(upto, rank, side="right"))
        inside = (rank - float(upto[k] - self.count[k]) + 0.5) / float(self.count[k])
        return float(self.high[k] - inside * (self.high[k] - self.low[k]))

    def value_at_risk(self, confidence: float) -> tuple[float, float]:
        """The quantile, and its standard error: half the distance of those one binomial deviation on either side."""
        n = self.samples
        rank, spread = (1.0 - confidence) * (n - 1), math.sqrt(n * confidence * (1.0 - confidence))
        return self.at_rank(rank), 0.5 * (self.at_rank(rank - spread) - self.at_rank(rank + spread))

    def expected_shortfall(self, confidence: float) -> tuple[float, float]:
        """Mean of the worst (1 - confidence) of all losses, with its standard error as in `montecarlo.tail`."""
        share = self.samples * (1.0 - confidence)
        taken = np.clip(share - (np.cumsum(self.count) - self.count), 0.0, self.count)
        middle = 0.5 * (self.low + self.high)
        shortfall = float(taken @ middle) / share
        spread = float(taken @ (middle - shortfall) ** 2) / share
        quantile = self.at_rank((1.0 - confidence) * (self.samples - 1))
        return shortfall, math.sqrt((spread + confidence * (shortfall - quantile) ** 2) / share)


def _edge(place: IntArray) -> FloatArray:
    """Lower edge of the buckets that lie `place` steps above 0."""
    return np.asarray(((np.maximum(place, 1) - 1 + BASE) << DROPPED).astype(np.int64).view(np.float64))
