"""What nodes hand to each other: a vector over steps, or a plain array for a scalar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics.frame import FloatArray, IntArray
from query.labels import EMPTY, Table

BoolArray = npt.NDArray[np.bool_]
STALE_BITS = 0x7FF0000000000002
STALE = float(np.array([STALE_BITS], dtype=np.int64).view(np.float64)[0])


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """An instant vector at every step.

    values: float64 [series, steps]; what is absent is undefined there.
    present: bool [series, steps], or None where every value is present. NaN is a value, so absence
        needs its own mask.
    """

    table: Table
    values: FloatArray
    present: BoolArray | None = None

    def mask(self) -> BoolArray:
        """The presence mask, made where it is None."""
        return np.ones(self.values.shape, dtype=np.bool_) if self.present is None else self.present

    def filled(self, filler: float) -> FloatArray:
        """Values with `filler` where absent."""
        return self.values if self.present is None else np.where(self.present, self.values, filler)

    def take(self, rows: IntArray) -> Vector:
        """The rows with these positions, in this order."""
        return Vector(
            self.table.take(rows.tolist()), self.values[rows], None if self.present is None else self.present[rows]
        )


def empty(steps: int) -> Vector:
    """A vector without series."""
    return Vector(EMPTY, np.empty((0, steps)), None)


def is_stale(values: FloatArray) -> BoolArray:
    """Which values are stale markers: one particular NaN, compared by its bits. Any shape."""
    mask: BoolArray = values.view(np.int64) == STALE_BITS
    return mask


def packed(present: BoolArray) -> BoolArray | None:
    """A mask, or None where it is all true, which spares later nodes their masking."""
    return None if present.all() else present
