"""Aggregations: sum, avg, topk and the others, by or without labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Labels
from query.annotations import NOT_A_QUANTILE, NOT_A_RATIO, go_g
from query.context import Context
from query.errors import execution
from query.format import format_value
from query.functions.over_time import quantile_sorted
from query.grouping import Grouping, group_by
from query.labels import NAME, Last, Table, keep, with_label, without
from query.nodes import Node, ScalarNode, VectorNode
from query.values import BoolArray, Vector, empty, packed


@dataclass(frozen=True, slots=True)
class By:
    """`by (labels)`, or `without (labels)`."""

    labels: tuple[str, ...] = ()
    without: bool = False

    def key(self, labels: Labels) -> Labels:
        """What is left of a label set; two rows with the same rest are one group."""
        return without(labels, (*self.labels, NAME)) if self.without else keep(labels, self.labels)


Reduction = Callable[[Vector, Grouping, BoolArray], FloatArray]


def _sum(vector: Vector, grouping: Grouping, _: BoolArray) -> FloatArray:
    return grouping.sum(vector.filled(0.0))


def _count(vector: Vector, grouping: Grouping, _: BoolArray) -> FloatArray:
    return np.asarray(grouping.reduce(np.add, vector.mask().astype(np.float64)), dtype=np.float64)


def _avg(vector: Vector, grouping: Grouping, seen: BoolArray) -> FloatArray:
    count = np.maximum(_count(vector, grouping, seen), 1)
    mean = _sum(vector, grouping, seen) / count
    if np.isinf(mean).any():  # the sum left float64's range, the mean may be inside it
        scaled = Vector(vector.table, vector.values / 2.0**64, vector.present)
        mean = np.where(np.isinf(mean), _sum(scaled, grouping, seen) / count * 2.0**64, mean)
    return mean


def _min(vector: Vector, grouping: Grouping, _: BoolArray) -> FloatArray:
    return np.asarray(grouping.reduce(np.fmin, vector.filled(np.nan)), dtype=np.float64)


def _max(vector: Vector, grouping: Grouping, _: BoolArray) -> FloatArray:
    return np.asarray(grouping.reduce(np.fmax, vector.filled(np.nan)), dtype=np.float64)


def _stdvar(vector: Vector, grouping: Grouping, seen: BoolArray) -> FloatArray:
    # Distances from the smallest value first, so that equal values vary by exactly 0.
    off = Vector(vector.table, vector.values - _min(vector, grouping, seen)[grouping.of], vector.present)
    squares = np.square(off.values - _avg(off, grouping, seen)[grouping.of])
    total = _sum(Vector(vector.table, squares, vector.present), grouping, seen)
    return total / np.maximum(_count(vector, grouping, seen), 1)


def _stddev(vector: Vector, grouping: Grouping, seen: BoolArray) -> FloatArray:
    return np.sqrt(_stdvar(vector, grouping, seen))


def _group(vector: Vector, grouping: Grouping, seen: BoolArray) -> FloatArray:
    return np.ones(seen.shape)


REDUCTIONS: dict[str, Reduction] = {
    "sum": _sum,
    "count": _count,
    "avg": _avg,
    "min": _min,
    "max": _max,
    "stdvar": _stdvar,
    "stddev": _stddev,
    "group": _group,
}


class Grouped:
    """A table's partition, kept while the same table comes in."""

    def __init__(self, by: By) -> None:
        self._by = by
        self._last: Last[tuple[Grouping, Table]] = Last()

    def of(self, table: Table) -> tuple[Grouping, Table]:
        return self._last.of(self._build, table)

    def _build(self, table: Table) -> tuple[Grouping, Table]:
        keys = [self._by.key(labels) for labels in table.rows]
        grouping = group_by(keys)
        first = grouping.order[grouping.starts] if len(keys) else grouping.order
        named = tuple(keys[row] for row in first.tolist())
        drops = np.zeros(grouping.groups, dtype=np.bool_)
        np.logical_or.at(drops, grouping.of, np.array(table.drop, dtype=np.bool_))
        return grouping, Table(named, tuple(drops.tolist()))


class Aggregation(VectorNode):
    """sum, count, avg, min, max, stdvar, stddev, group."""

    def __init__(self, reduction: Reduction, inner: VectorNode, by: By) -> None:
        self.reduction = reduction
        self.inner = inner
        self._grouped = Grouped(by)

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        vector = self.inner.evaluate(context)
        if not len(vector.table):
            return empty(context.steps)
        grouping, table = self._grouped.of(vector.table)
        present = None
        if vector.present is not None:
            present = packed(np.asarray(grouping.reduce(np.logical_or, vector.present), dtype=np.bool_))
        seen = present if present is not None else np.broadcast_to(True, (grouping.groups, context.steps))
        return Vector(table, self.reduction(vector, grouping, seen), present)


class Quantile(VectorNode):
    """quantile(q, v)."""

    def __init__(self, q: ScalarNode, inner: VectorNode, by: By, where: str) -> None:
        self.q = q
        self.where = where
        self.inner = inner
        self._grouped = Grouped(by)

    def children(self) -> Iterator[Node]:
        yield self.q
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        q = self.q.evaluate(context)
        vector = self.inner.evaluate(context)
        if not len(vector.table):
            return empty(context.steps)
        warn_of_quantiles(q, self.where, context)
        grouping, table = self._grouped.of(vector.table)
        mask = vector.mask()
        values = np.empty((grouping.groups, context.steps))
        for group in range(grouping.groups):
            context.budget.check_time()
            rows = grouping.rows(group)
            count = mask[rows].sum(axis=0)
            values[group] = quantile_sorted(_sorted_present(vector.values[rows], mask[rows]), count, q)
        return Vector(table, values, packed(np.asarray(grouping.reduce(np.logical_or, mask), dtype=np.bool_)))


def _sorted_present(values: FloatArray, mask: BoolArray) -> FloatArray:
    """[steps, rows]: each step's present values in ascending order, NaN first, absent ones behind."""
    rank = np.where(mask, np.where(np.isnan(values), 0, 1), 2)
    order = np.lexsort((np.where(rank == 1, values, 0.0), rank), axis=0)
    ordered: FloatArray = np.take_along_axis(values, order, axis=0).T
    return ordered


class KOfEachGroup(VectorNode):
    """An aggregation that keeps some elements of each group, with their labels; k: float64 [steps]."""

    def __init__(self, k: ScalarNode, inner: VectorNode, by: By) -> None:
        self.k = k
        self.inner = inner
        self._grouped = Grouped(by)

    def children(self) -> Iterator[Node]:
        yield self.k
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        k = self.k.evaluate(context)
        vector = self.inner.evaluate(context)
        _check_k(k)
        if not len(vector.table) or k.max() < 1:
            return empty(context.steps)
        grouping, _ = self._grouped.of(vector.table)
        return self._chosen(k, vector, grouping, context)

    @abstractmethod
    def _chosen(self, k: FloatArray, vector: Vector, grouping: Grouping, context: Context) -> Vector:
        """What is kept of a vector that is not empty."""


class Extremes(KOfEachGroup):
    """topk and bottomk: the k largest or smallest elements of each group keep their labels."""

    def __init__(self, k: ScalarNode, inner: VectorNode, by: By, *, largest: bool) -> None:
        super().__init__(k, inner, by)
        self.largest = largest

    def _chosen(self, k: FloatArray, vector: Vector, grouping: Grouping, context: Context) -> Vector:
        mask = vector.mask()
        signed = -vector.values if self.largest else vector.values
        kept = np.zeros(mask.shape, dtype=np.bool_)
        order = []
        for group in range(grouping.groups):
            context.budget.check_time()
            rows = grouping.rows(group)
            ranked = _ranked(signed[rows], mask[rows])
            rank = np.empty(ranked.shape, dtype=np.int64)
            np.put_along_axis(rank, ranked, np.arange(len(rows))[:, None], axis=0)
            kept[rows] = (rank < np.floor(k)) & mask[rows]
            order.append(rows[ranked[:, 0]])
        chosen = Vector(vector.table, vector.values, kept)
        if not context.single:
            return chosen
        best = np.concatenate(order)
        return chosen.take(best[kept[best, 0]])


def _ranked(values: FloatArray, mask: BoolArray) -> IntArray:
    """Positions from best (smallest) to worst per step; NaN behind every number, absent behind all."""
    kind = np.where(mask, np.where(np.isnan(values), 1, 0), 2)
    return np.lexsort((np.where(kind == 0, values, 0.0), kind), axis=0)


def warn_of_quantiles(q: FloatArray, where: str, context: Context) -> None:
    """Warn of NaN, the largest above 1 and the smallest below 0."""
    if ((q >= 0) & (q <= 1)).all():
        return
    told = [value for value in (np.nanmax(q), np.nanmin(q)) if value > 1 or value < 0] if not np.isnan(q).all() else []
    for value in ([np.nan] if np.isnan(q).any() else []) + told:
        context.budget.annotations.warn(f"{NOT_A_QUANTILE}, got {go_g(float(value))}", where)


class LimitK(KOfEachGroup):
    """limitk(k, v): k elements of each group, the same ones at every step as far as they are there."""

    def _chosen(self, k: FloatArray, vector: Vector, grouping: Grouping, context: Context) -> Vector:
        mask = vector.mask()
        ordered = mask[grouping.order]
        counted = np.cumsum(ordered, axis=0)
        before = np.where(grouping.starts[:, None] > 0, counted[np.maximum(grouping.starts - 1, 0)], 0)
        rank: IntArray = counted - before[grouping.of[grouping.order]]
        kept = np.empty(mask.shape, dtype=np.bool_)
        kept[grouping.order] = ordered & (rank <= np.floor(k))
        return Vector(vector.table, vector.values, packed(kept))


class LimitRatio(VectorNode):
    """limit_ratio(r, v): about the share r of all elements, chosen by a hash of their labels; -r the others."""

    def __init__(self, ratio: ScalarNode, inner: VectorNode, by: By, where: str) -> None:
        self.ratio = ratio
        self.inner = inner
        self.where = where
        self._offsets: Last[FloatArray] = Last()

    def children(self) -> Iterator[Node]:
        yield self.ratio
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        ratio = self.ratio.evaluate(context)
        vector = self.inner.evaluate(context)
        if not ratio.any():
            return empty(context.steps)
        if np.isnan(ratio).any():
            raise execution("Ratio value is NaN")
        for value, cap in ((float(ratio.max()), 1), (float(ratio.min()), -1)):
            if abs(value) > 1 and value * cap > 0:
                message = f"{NOT_A_RATIO}, got {go_g(value)}, capping to {cap}"
                context.budget.annotations.warn(message, self.where)
        if not len(vector.table):
            return empty(context.steps)
        offsets = self._offsets.of(_offsets, vector.table)
        limit = np.clip(ratio, -1.0, 1.0)
        kept = np.where(limit >= 0, offsets < limit, offsets >= 1.0 + limit) & vector.mask()
        return Vector(vector.table, vector.values, packed(kept))


def _offsets(table: Table) -> FloatArray:
    """float64 [rows, 1] in 0..1, the same for the same labels on every machine."""
    digests = [blake2b(repr(labels).encode(), digest_size=6).digest() for labels in table.rows]
    return np.array([int.from_bytes(digest, "big") / 2**48 for digest in digests])[:, None]


def _check_k(k: FloatArray) -> None:
    if np.isnan(k).any() and not (k < 1).all():
        raise execution("Parameter value is NaN")
    for value in (float(k.min()), float(k.max())):
        if value >= 2.0**63:
            raise execution(f"Scalar value {format_value(value)} overflows int64")
        if value <= -(2.0**63):
            raise execution(f"Scalar value {format_value(value)} underflows int64")


class CountValues(VectorNode):
    """count_values("label", v): how many elements have each value."""

    LIMIT = 10_000

    def __init__(self, label: str, inner: VectorNode, by: By) -> None:
        self.label = label
        self.inner = inner
        self.by = by if by.without else By((*by.labels, label))

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        vector = self.inner.evaluate(context)
        mask = vector.mask()
        counts: dict[Labels, FloatArray] = {}
        for row, labels in enumerate(vector.table.rows):
            context.budget.check_time()
            values, inverse = np.unique(vector.values[row], return_inverse=True)
            for number, value in enumerate(values.tolist()):
                hits = (inverse == number) & mask[row]
                if hits.any():
                    key = self.by.key(with_label(labels, self.label, format_value(value)))
                    counts[key] = counts.get(key, 0.0) + hits
            if len(counts) > self.LIMIT:
                raise execution(f"count_values finds more than {self.LIMIT} values")
        if not counts:
            return empty(context.steps)
        values = np.stack(list(counts.values()))
        return Vector(Table(tuple(counts)), values, packed(values > 0))
