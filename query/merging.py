"""Rows with the same labels: merged where they never meet, refused where they do."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from query.errors import execution
from query.grouping import Grouping, group_by
from query.labels import Last, Table
from query.values import Vector, packed


def _rows(table: Table) -> Sequence[Hashable]:
    """A row that is to lose its name is another than one that keeps it."""
    return list(zip(table.rows, table.drop, strict=True))


class Merging:
    """Merges rows of equal labels into one; keeps the partition while the same table comes in."""

    def __init__(self, labels: Callable[[Table], Sequence[Hashable]] = _rows) -> None:
        self._labels = labels
        self._last: Last[tuple[Grouping, Table] | None] = Last()

    def merge(self, vector: Vector) -> Vector:
        """Return `vector` with one row per label set; QueryError where two are present at the same step."""
        found = self._last.of(self._build, vector.table)
        if found is None:
            return vector
        grouping, table = found
        mask = vector.mask()
        counts = np.asarray(grouping.reduce(np.add, mask.astype(np.int64)))
        if (counts > 1).any():
            raise execution("vector cannot contain metrics with the same labelset")
        # At most one row of a group is present at a step: its value is the sum, except that NaN
        # and infinities need the absent rows to be zeros.
        values = np.asarray(grouping.reduce(np.add, np.where(mask, vector.values, 0.0)), dtype=np.float64)
        return Vector(table, values, packed(counts > 0))

    def _build(self, table: Table) -> tuple[Grouping, Table] | None:
        keys = self._labels(table)
        if len(set(keys)) == len(keys):
            return None
        grouping = group_by(keys)
        return grouping, table.take(grouping.order[grouping.starts].tolist())
