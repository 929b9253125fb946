"""Result: what a query answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.frame import FloatArray, IntArray
from query.values import BoolArray

Kind = Literal["vector", "scalar", "matrix", "string"]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Series over steps.

    kind: vector (one step), scalar (one step or, of a range query, a matrix with one series
        without labels), matrix, or string (then `text` is the answer).
    labels: one dict per series, with `__name__` where the expression kept it; shared, not to be changed.
    t_ms: int64 [steps]. values: float64 [series, steps]. present: bool [series, steps]; only where
        it is True is there a value (which may be NaN).
    """

    kind: Kind
    labels: tuple[dict[str, str], ...]
    t_ms: IntArray
    values: FloatArray
    present: BoolArray
    warnings: tuple[str, ...] = ()
    text: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def samples(self) -> list[tuple[dict[str, str], float]]:
        """Labels and value of every element of an instant vector."""
        return list(zip(self.labels, self.values[:, 0].tolist(), strict=True))

    def series(self) -> list[tuple[dict[str, str], IntArray, FloatArray]]:
        """Labels, times and values of every series, without what is absent."""
        return [
            (labels, self.t_ms[self.present[row]], self.values[row][self.present[row]])
            for row, labels in enumerate(self.labels)
        ]


def nothing(kind: Kind, t_ms: IntArray) -> Result:
    """A result without series."""
    return Result(kind, (), t_ms, np.empty((0, len(t_ms))), np.empty((0, len(t_ms)), dtype=np.bool_))
