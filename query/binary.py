"""Binary operators: arithmetic, comparison and set operators between scalars and vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from metrics.frame import FloatArray
from query.context import Context
from query.grouping import Grouping, group_by
from query.labels import Last, Table, dropping, joined
from query.matching import Matching, Pairs, check_many_side, check_one_side, pairs
from query.merging import Merging
from query.nodes import Node, ScalarNode, VectorNode
from query.values import BoolArray, Vector, empty, packed

ARITHMETIC: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "atan2": np.arctan2,
}
COMPARISONS: dict[str, Callable[[FloatArray, FloatArray], BoolArray]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
SET_OPERATORS = ("and", "or", "unless")


class ScalarBinary(ScalarNode):
    """scalar op scalar; comparisons give 0 or 1."""

    def __init__(self, operator: str, left: ScalarNode, right: ScalarNode) -> None:
        self.left, self.right = left, right
        self._function = ARITHMETIC.get(operator) or COMPARISONS[operator]

    def children(self) -> Iterator[Node]:
        yield self.left
        yield self.right

    def evaluate(self, context: Context) -> FloatArray:
        result = self._function(self.left.evaluate(context), self.right.evaluate(context))
        return result.astype(np.float64, copy=False)


class VectorScalar(VectorNode):
    """vector op scalar, or scalar op vector (`swapped`)."""

    def __init__(
        self, operator: str, vector: VectorNode, scalar: ScalarNode, *, swapped: bool, return_bool: bool
    ) -> None:
        self.vector, self.scalar = vector, scalar
        self._arithmetic = ARITHMETIC.get(operator)
        self._comparison = COMPARISONS.get(operator)
        self._swapped = swapped
        self._return_bool = return_bool
        self._dropped: Last[Table] = Last()

    def children(self) -> Iterator[Node]:
        yield self.vector
        yield self.scalar

    def evaluate(self, context: Context) -> Vector:
        vector = self.vector.evaluate(context)
        scalar = self.scalar.evaluate(context)
        left, right = (scalar, vector.values) if self._swapped else (vector.values, scalar)
        if self._arithmetic is not None:
            values = self._arithmetic(left, right)
            return Vector(self._dropped.of(dropping, vector.table), values, vector.present)
        assert self._comparison is not None  # noqa: S101 - the planner knows no third kind
        holds = self._comparison(left, right)
        if self._return_bool:
            return Vector(self._dropped.of(dropping, vector.table), holds.astype(np.float64), vector.present)
        return Vector(vector.table, vector.values, holds if vector.present is None else holds & vector.present)


class VectorBinary(VectorNode):
    """vector op vector, arithmetic or comparison."""

    def __init__(
        self, operator: str, left: VectorNode, right: VectorNode, matching: Matching, *, return_bool: bool
    ) -> None:
        self.left, self.right = left, right
        self._arithmetic = ARITHMETIC.get(operator)
        self._comparison = COMPARISONS.get(operator)
        self._matching = matching
        self._return_bool = return_bool
        self._pairs: Last[Pairs] = Last()
        self._dropped: Last[Table] = Last()
        self._merging = Merging()

    def children(self) -> Iterator[Node]:
        yield self.left
        yield self.right

    def evaluate(self, context: Context) -> Vector:
        left, right = self.left.evaluate(context), self.right.evaluate(context)
        if self._matching.fills:
            left, right = self._filled(left, right, context)
        if not len(left.table) or not len(right.table):
            return empty(context.steps)
        swapped = self._matching.cardinality == "one-to-many"
        many, one = (right, left) if swapped else (left, right)
        found = self._pairs.of(self._pair, many.table, one.table)
        if found.one_groups is not None:
            both = np.logical_and(many.mask().any(axis=0), one.mask().any(axis=0))
            check_one_side(self._matching, found, one.table, one.mask(), both)
        present = _both_present(many, one, found)
        if found.many_groups is not None or found.result_groups is not None:
            check_many_side(found, np.ones((len(found.table), context.steps), bool) if present is None else present)
        context.budget.spend(len(found.table) * context.steps)
        a, b = many.values[found.many], one.values[found.one]
        return self._merging.merge(self._combine(found, b if swapped else a, a if swapped else b, present))

    def _filled(self, left: Vector, right: Vector, context: Context) -> tuple[Vector, Vector]:
        """Both sides with rows in place of what is missing beside the other; these carry the matching labels only."""
        matching = self._matching
        left_filled, right_filled = left, right
        for_left, for_right = matching.fill_left, matching.fill_right
        if matching.cardinality == "one-to-many":  # as in Prometheus, where the sides have changed places by then
            for_left, for_right = for_right, for_left
        if for_right is not None:
            right_filled = _with_fill(right, left, matching, for_right)
        if for_left is not None:
            left_filled = _with_fill(left, right, matching, for_left)
        context.budget.spend((len(left_filled.table) + len(right_filled.table)) * context.steps)
        return left_filled, right_filled

    def _pair(self, many: Table, one: Table) -> Pairs:
        return pairs(self._matching, many, one, drop_name=self._arithmetic is not None)

    def _combine(self, found: Pairs, left: FloatArray, right: FloatArray, present: BoolArray | None) -> Vector:
        if self._arithmetic is not None:
            return Vector(found.table, self._arithmetic(left, right), present)
        assert self._comparison is not None  # noqa: S101 - the planner knows no third kind
        holds = self._comparison(left, right)
        if self._return_bool:
            return Vector(self._dropped.of(dropping, found.table), holds.astype(np.float64), present)
        return Vector(found.table, left, holds if present is None else holds & present)


def _with_fill(side: Vector, other: Vector, matching: Matching, value: float) -> Vector:
    """`side` plus a row for every signature of the other side, present where `side` has none and the other has one."""
    keys = {matching.signature(labels): None for labels in other.table.rows}
    if not keys:
        return side
    grouping = group_by([*keys, *(matching.signature(labels) for labels in (*side.table.rows, *other.table.rows))])
    own, others = side.mask(), other.mask()
    steps = others.shape[1]
    blank = np.zeros((len(keys), steps), dtype=np.bool_)
    has = np.asarray(
        grouping.reduce(np.logical_or, np.concatenate([blank, own, np.zeros_like(others)])), dtype=np.bool_
    )
    wants = np.asarray(
        grouping.reduce(np.logical_or, np.concatenate([blank, np.zeros_like(own), others])), dtype=np.bool_
    )
    there = (wants & ~has)[grouping.of[: len(keys)]]
    table = Table((*side.table.rows, *keys), (*side.table.drop, *([False] * len(keys))))
    values = np.concatenate([side.values, np.full((len(keys), steps), value)])
    return Vector(table, values, np.concatenate([own, there]))


def _both_present(many: Vector, one: Vector, found: Pairs) -> BoolArray | None:
    if many.present is None and one.present is None:
        return None
    if many.present is None:
        return one.mask()[found.one]
    if one.present is None:
        return many.present[found.many]
    return many.present[found.many] & one.present[found.one]


class SetOperation(VectorNode):
    """and, or, unless: which elements stay depends on the presence of matching ones only."""

    def __init__(self, operator: str, left: VectorNode, right: VectorNode, matching: Matching) -> None:
        self.operator = operator
        self.left, self.right = left, right
        self._matching = matching
        self._signatures: Last[Grouping] = Last()
        self._joined: Last[Table] = Last()
        self._merging = Merging()

    def children(self) -> Iterator[Node]:
        yield self.left
        yield self.right

    def evaluate(self, context: Context) -> Vector:
        left, right = self.left.evaluate(context), self.right.evaluate(context)
        if self.operator == "or":
            return self._either(left, right)
        if not len(left.table) or not len(right.table):
            return empty(context.steps) if self.operator == "and" else left
        met = self._present(left, right, of_left=False)[: len(left.table)]
        kept = met if self.operator == "and" else ~met
        return Vector(left.table, left.values, packed(left.mask() & kept))

    def _either(self, left: Vector, right: Vector) -> Vector:
        if not len(right.table):
            return left
        if not len(left.table):
            return right
        covered = self._present(left, right, of_left=True)[len(left.table) :]
        table = self._joined.of(joined, left.table, right.table)
        present = np.concatenate([left.mask(), right.mask() & ~covered])
        return self._merging.merge(Vector(table, np.concatenate([left.values, right.values]), packed(present)))

    def _present(self, left: Vector, right: Vector, *, of_left: bool) -> BoolArray:
        """For every row of left, then right: whether its signature is present on the one side, [rows, steps]."""
        grouping = self._signatures.of(self._group, left.table, right.table)
        a, b = left.mask(), right.mask()
        marks = np.concatenate([a, np.zeros_like(b)] if of_left else [np.zeros_like(a), b])
        present: BoolArray = np.asarray(grouping.reduce(np.logical_or, marks), dtype=np.bool_)[grouping.of]
        return present

    def _group(self, left: Table, right: Table) -> Grouping:
        return group_by([self._matching.signature(labels) for labels in (*left.rows, *right.rows)])
