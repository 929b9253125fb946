"""Quantiles and fractions of classic histograms: `le` buckets interpolated linearly.

Formulas: promql/quantile.go of Prometheus 3, BucketQuantile and BucketFraction.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Labels
from query.annotations import BAD_BUCKET, NOT_A_QUANTILE, NOT_MONOTONE, for_metric, go_g
from query.context import Context
from query.format import rfc3339
from query.labels import NAME, Last, Table, get, joined, with_label, without
from query.merging import Merging
from query.nodes import Node, ScalarNode, VectorNode
from query.values import BoolArray, Vector, empty, packed

SMALL_DELTA = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Histograms with the same bounds.

    bounds: float64 [buckets], ascending; rows: int64 [histograms, buckets] into the vector;
    targets: int64 [histograms], rows of the result.
    """

    bounds: FloatArray
    rows: IntArray
    targets: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Histograms:
    """The histograms among a table's rows, their labels without `le`, and what to say of rows that are no buckets."""

    table: Table
    batches: tuple[Batch, ...]
    strangers: tuple[tuple[str, int], ...]


def find(table: Table) -> Histograms:
    """Group bucket rows into histograms."""
    members: dict[Labels, list[tuple[float, int]]] = defaultdict(list)
    strangers: list[tuple[str, int]] = []
    for row, labels in enumerate(table.rows):
        bound = _bound(get(labels, "le"))
        if bound is None:
            message = f'{BAD_BUCKET} of "{get(labels, "le")}"'
            strangers.append((for_metric(message, get(labels, NAME)), row))
        else:
            members[without(labels, ("le",))].append((bound, row))
    alike: dict[tuple[float, ...], list[tuple[int, list[int]]]] = defaultdict(list)
    for target, buckets in enumerate(members.values()):
        buckets.sort()
        alike[tuple(bound for bound, _ in buckets)].append((target, [row for _, row in buckets]))
    batches = tuple(
        Batch(np.array(bounds), np.array([rows for _, rows in group]), np.array([target for target, _ in group]))
        for bounds, group in alike.items()
    )
    return Histograms(Table(tuple(members), (True,) * len(members)), batches, tuple(strangers))


def _bound(text: str) -> float | None:
    try:
        return float(text.replace("_", "x"))
    except ValueError:
        return None


class HistogramFunction(VectorNode):
    """Finds the histograms in a vector of buckets and hands their counts to `_values`."""

    def __init__(
        self, scalars: tuple[ScalarNode, ...], inner: VectorNode, scalars_at: tuple[str, ...], inner_at: str
    ) -> None:
        self.scalars = scalars
        self.inner = inner
        self.scalars_at = scalars_at
        self.inner_at = inner_at
        self._found: Last[Histograms] = Last()

    def children(self) -> Iterator[Node]:
        yield from self.scalars
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        scalars = [scalar.evaluate(context) for scalar in self.scalars]
        vector = self.inner.evaluate(context)
        found = self._found.of(find, vector.table)
        for message, row in found.strangers:
            if vector.present is None or vector.present[row].any():
                context.budget.annotations.warn(message, self.inner_at)
        self._warn(scalars, context)
        if not len(found.table):
            return empty(context.steps)
        return self._of(found, vector, scalars, context)

    def _of(self, found: Histograms, vector: Vector, scalars: list[FloatArray], context: Context) -> Vector:
        values = np.empty((len(found.table), context.steps))
        mask = None if vector.present is None else np.zeros(values.shape, dtype=np.bool_)
        for batch in found.batches:
            context.budget.check_time()
            counts = vector.values[batch.rows]
            self._inspect(batch, found.table, counts, vector, context)
            if vector.present is None:
                values[batch.targets] = self._values(batch.bounds, counts, scalars)
                continue
            there = vector.present[batch.rows]
            assert mask is not None  # noqa: S101 - made together with `there`
            mask[batch.targets] = there.any(axis=1)
            values[batch.targets] = self._values_with_gaps(batch.bounds, counts, there, scalars)
        return Vector(found.table, values, mask)

    def _inspect(self, batch: Batch, table: Table, counts: FloatArray, vector: Vector, context: Context) -> None:
        """Tell about counts that make no sense."""

    def _values_with_gaps(
        self, bounds: FloatArray, counts: FloatArray, there: BoolArray, scalars: list[FloatArray]
    ) -> FloatArray:
        """Buckets may be missing at some steps: each pattern of presence is evaluated with its own bounds."""
        if there.all():
            return self._values(bounds, counts, scalars)
        histograms, buckets, steps = counts.shape
        flat = there.transpose(0, 2, 1).reshape(-1, buckets)
        patterns, inverse = np.unique(flat, axis=0, return_inverse=True)
        result = np.full(histograms * steps, np.nan)
        columns = counts.transpose(0, 2, 1).reshape(-1, buckets)
        for number, pattern in enumerate(patterns):
            if pattern.any():
                cells = np.flatnonzero(inverse.reshape(-1) == number)
                own = [scalar[cells % steps] for scalar in scalars]
                result[cells] = self._values(bounds[pattern], columns[cells][:, pattern].T[None], own)[0]
        return result.reshape(histograms, steps)

    def _warn(self, scalars: list[FloatArray], context: Context) -> None:
        """Tell about scalars that make no sense."""

    @abstractmethod
    def _values(self, bounds: FloatArray, counts: FloatArray, scalars: list[FloatArray]) -> FloatArray:
        """float64 [histograms, steps] from counts float64 [histograms, buckets, steps]."""


class HistogramQuantile(HistogramFunction):
    """histogram_quantile(q, buckets)."""

    def _warn(self, scalars: list[FloatArray], context: Context) -> None:
        for q, where in zip(scalars, self.scalars_at, strict=True):
            for value in np.unique(q[~((q >= 0) & (q <= 1))]).tolist():
                context.budget.annotations.warn(f"{NOT_A_QUANTILE}, got {go_g(value)}", where)

    def _inspect(self, batch: Batch, table: Table, counts: FloatArray, vector: Vector, context: Context) -> None:
        if vector.present is not None:
            counts = np.where(vector.present[batch.rows], counts, -np.inf)
        rising = np.maximum.accumulate(counts, axis=1)
        fell = (counts < rising) & (counts > -np.inf) & np.isposinf(batch.bounds[-1])
        fell &= ~(np.abs(rising - counts) <= SMALL_DELTA * (np.abs(rising) + np.abs(counts)))
        if not fell.any():
            return
        for i in np.flatnonzero(fell.any(axis=(1, 2))).tolist():
            name = get(table.rows[int(batch.targets[i])], NAME)
            bounds = batch.bounds[fell[i].any(axis=1)]
            at = context.t_ms[fell[i].any(axis=0)]
            most = float((rising[i] - counts[i])[fell[i]].max())
            detail = (
                f", from buckets {go_g(float(bounds[0]))} to {go_g(float(bounds[-1]))}, with a max diff of {most:.2g}, "
                f"over {len(at)} samples from {rfc3339(int(at[0]))} to {rfc3339(int(at[-1]))}"
            )
            context.budget.annotations.info(for_metric(NOT_MONOTONE, name), self.inner_at, detail)

    def _values(self, bounds: FloatArray, counts: FloatArray, scalars: list[FloatArray]) -> FloatArray:
        return bucket_quantile(scalars[0], bounds, counts)


class HistogramQuantiles(HistogramQuantile):
    """histogram_quantiles(buckets, "label", q, ...): each quantile beside the others, told apart by a label."""

    MOST = 10

    def __init__(
        self,
        scalars: tuple[ScalarNode, ...],
        inner: VectorNode,
        scalars_at: tuple[str, ...],
        inner_at: str,
        label: str,
    ) -> None:
        super().__init__(scalars, inner, scalars_at, inner_at)
        self.label = label
        self._merging = Merging()

    def _of(self, found: Histograms, vector: Vector, scalars: list[FloatArray], context: Context) -> Vector:
        parts = []
        for q in scalars:
            one = super()._of(found, vector, [q], context)
            mask = one.mask()
            for value in np.unique(q).tolist():
                rows = tuple(with_label(labels, self.label, _quantile_text(value)) for labels in one.table.rows)
                here = mask & ((q == value) | (np.isnan(q) & np.isnan(value)))
                parts.append(Vector(Table(rows, one.table.drop), one.values, here))
        table = joined(*(part.table for part in parts))
        values, present = (np.concatenate([getattr(p, name) for p in parts]) for name in ("values", "present"))
        return self._merging.merge(Vector(table, values, packed(present)))


def _quantile_text(value: float) -> str:
    """As in OpenMetrics: always with a point or an exponent."""
    text = go_g(value)
    return text if set(text) & set(".eNI") else f"{text}.0"


class HistogramFraction(HistogramFunction):
    """histogram_fraction(lower, upper, buckets)."""

    def _values(self, bounds: FloatArray, counts: FloatArray, scalars: list[FloatArray]) -> FloatArray:
        return bucket_fraction(scalars[0], scalars[1], bounds, counts)


def bucket_quantile(q: FloatArray, bounds: FloatArray, counts: FloatArray) -> FloatArray:
    """The q-quantile of cumulative counts.

    q: float64 [steps]; bounds: float64 [buckets] ascending; counts: float64 [histograms, buckets,
    steps]. NaN without +Inf bucket or observations, the highest finite bound where the quantile
    lies above it; below the lowest bound the distribution begins at 0 (if that bound is positive).
    """
    histograms, _, steps = counts.shape
    if not np.isposinf(bounds[-1]):
        return _outside(q, np.full((histograms, steps), np.nan))
    bounds, counts = _coalesced(bounds, counts)
    if len(bounds) < 2:
        return _outside(q, np.full((histograms, steps), np.nan))
    counts = _monotone(counts)
    total = counts[:, -1]
    rank = q * total
    bucket = (counts[:, :-1] < rank[:, None]).sum(axis=1)
    below = np.maximum(bucket - 1, 0)
    start = np.where(bucket > 0, bounds[below], 0.0)
    before = np.where(bucket > 0, np.take_along_axis(counts, below[:, None], axis=1)[:, 0], 0.0)
    inside = np.take_along_axis(counts, bucket[:, None], axis=1)[:, 0] - before
    value = start + (bounds[bucket] - start) * ((rank - before) / inside)
    value = np.where(bucket == len(bounds) - 1, bounds[-2], value)
    if bounds[0] <= 0:
        value = np.where(bucket == 0, bounds[0], value)
    return _outside(q, np.where((total == 0) | np.isnan(total), np.nan, value))


def _outside(q: FloatArray, value: FloatArray) -> FloatArray:
    result: FloatArray = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, np.where(np.isnan(q), np.nan, value)))
    return result


def _coalesced(bounds: FloatArray, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Buckets with the same bound (le="1" and le="1.0") are added up."""
    if (bounds[1:] > bounds[:-1]).all():
        return bounds, counts
    distinct, starts = np.unique(bounds, return_index=True)
    return distinct, np.add.reduceat(counts, starts, axis=1)


def _monotone(counts: FloatArray) -> FloatArray:
    """Cumulative counts that never fall; increases as small as rounding errors are taken for none."""
    rising: FloatArray = np.maximum.accumulate(counts, axis=1)
    step = rising[:, 1:] - rising[:, :-1]
    if not ((step > 0) & (step <= SMALL_DELTA * (np.abs(rising[:, 1:]) + np.abs(rising[:, :-1])))).any():
        return rising
    rising = rising.copy()
    for bucket in range(1, rising.shape[1]):
        before, now = rising[:, bucket - 1], rising[:, bucket]
        small = now - before <= SMALL_DELTA * (np.abs(now) + np.abs(before))
        rising[:, bucket] = np.where(small, before, now)
    return rising


def bucket_fraction(lower: FloatArray, upper: FloatArray, bounds: FloatArray, counts: FloatArray) -> FloatArray:
    """The share of observations between lower and upper (float64 [steps]); shapes as in bucket_quantile."""
    histograms, _, steps = counts.shape
    if not np.isposinf(bounds[-1]):
        return np.full((histograms, steps), np.nan)
    bounds, counts = _coalesced(bounds, counts)
    total = counts[:, -1]
    part = (_rank_at(upper, bounds, counts) - _rank_at(lower, bounds, counts)) / total
    part = np.where(lower >= upper, 0.0, part)
    unknown = np.isnan(lower) | np.isnan(upper) | (total == 0)
    result: FloatArray = np.where(unknown, np.nan, part)
    return result


def _rank_at(value: FloatArray, bounds: FloatArray, counts: FloatArray) -> FloatArray:
    """Observations up to `value`, float64 [histograms, steps]."""
    total = counts[:, -1]
    bucket = np.minimum(np.searchsorted(bounds, value, side="left"), len(bounds) - 1)
    below = np.maximum(bucket - 1, 0)
    start = np.where(bucket > 0, bounds[below], 0.0 if bounds[0] > 0 else -np.inf)
    steps = np.arange(counts.shape[2])
    before = np.where(bucket > 0, counts[:, below, steps], 0.0)
    until = counts[:, bucket, steps]
    linear = before + (until - before) * ((value - start) / (bounds[bucket] - start))
    rank = np.where(np.isneginf(start), until, np.where(np.isposinf(bounds[bucket]), before, linear))
    # A value on a bucket's lower edge, or below every bucket, has only what lies before it.
    rank = np.where(value <= start, before, rank)
    rank = np.where(np.isneginf(value), 0.0, np.where(np.isposinf(value), total, rank))
    result: FloatArray = np.minimum(rank, total)
    return result
