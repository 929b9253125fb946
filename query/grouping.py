"""Grouping: rows that belong together, and reductions over each group for all steps at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics.frame import FloatArray, IntArray
from query.windows import CANCELLED, exact_sum


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """A partition of rows.

    order: int64 [rows], rows sorted by group; starts: int64 [groups], where each group begins there.
    of: int64 [rows], each row's group. Groups are numbered by first appearance.
    """

    order: IntArray
    starts: IntArray
    of: IntArray

    @property
    def groups(self) -> int:
        return len(self.starts)

    @property
    def identity(self) -> bool:
        """Whether every row is its own group."""
        return len(self.starts) == len(self.order)

    def rows(self, group: int) -> IntArray:
        """The rows of one group, in their order."""
        end = self.starts[group + 1] if group + 1 < len(self.starts) else len(self.order)
        return self.order[self.starts[group] : end]

    def reduce(self, ufunc: np.ufunc, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Reduce [rows, steps] to [groups, steps]."""
        if self.groups == 1:
            return np.asarray(ufunc.reduce(values, axis=0, keepdims=True))
        if self.identity:
            return values
        return ufunc.reduceat(values[self.order], self.starts, axis=0)

    def sum(self, values: FloatArray) -> FloatArray:
        """Sums as exact as compensated summation: where digits cancelled, once more without rounding."""
        total: FloatArray = np.asarray(self.reduce(np.add, values), dtype=np.float64)
        if self.identity or not values.size or values.min() >= 0:  # what has one sign cannot cancel
            return total
        largest = np.asarray(self.reduce(np.maximum, np.abs(values)), dtype=np.float64)
        doubtful = ~(np.abs(total) >= CANCELLED * largest) & (largest > 0)
        if doubtful.any():
            total = total.copy()
            for group, step in np.argwhere(doubtful):
                total[group, step] = exact_sum(values[self.rows(int(group)), step])
        return total


def group_by(keys: Sequence[Hashable]) -> Grouping:
    """Partition rows by equal keys."""
    numbers: dict[Hashable, int] = {}
    of = np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), dtype=np.int64, count=len(keys))
    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], np.arange(len(numbers)))
    return Grouping(order, starts, of)
