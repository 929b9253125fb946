"""Functions of range vectors as nodes: a kernel over windows, scalars beside it, and what becomes of the name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import numpy as np

from metrics.frame import FloatArray
from query.annotations import COUNTER_SUFFIXES, NO_COUNTER, NOT_A_QUANTILE, go_g
from query.context import Context
from query.labels import NAME, Last, Table, dropping, get
from query.nodes import Node, RangeNode, ScalarNode, VectorNode
from query.rollups import REDUCTIONS, beside
from query.selectors import RangeSelector
from query.values import BoolArray, Vector, empty, packed
from query.windows import Windows

# What the minutes of a series tell exactly about a window of whole minutes.
Rollup = Literal["min", "max", "sum", "count", "avg", "last", "present", "counter", "delta"]
Kernel: TypeAlias = Callable[..., FloatArray]


class RangeFunction(VectorNode):
    """kernel(window, *scalars) on every block of a range vector.

    least: samples a window needs for a result. keeps_name: last_over_time and first_over_time act
    like an offset and keep the metric's name. quantile_at, counter_at: where the argument is written
    that has to be a quantile or a counter, "" where none has to.
    """

    def __init__(
        self,
        kernel: Kernel,
        inner: RangeNode,
        scalars: tuple[ScalarNode, ...] = (),
        *,
        least: int,
        keeps_name: bool,
        quantile_at: str = "",
        counter_at: str = "",
        rollup: Rollup | None = None,
    ) -> None:
        self.kernel = kernel
        self.inner = inner
        self.scalars = scalars
        self.least = least
        self.keeps_name = keeps_name
        self.quantile_at = quantile_at
        self.counter_at = counter_at
        self.rollup = rollup
        self._suspects: Last[tuple[str, ...]] = Last()
        self._dropped: Last[Table] = Last()

    def children(self) -> Iterator[Node]:
        yield self.inner
        yield from self.scalars

    def evaluate(self, context: Context) -> Vector:
        border = 0
        if type(self.inner) is RangeSelector:
            border = self.inner.minute_steps(context, exact=self.rollup is not None)
        if border == context.steps:
            vector = self._from_minutes(context)
        elif border:
            early = self._from_minutes(context.part(0, border))
            vector = beside(early, self._raw(context.part(border, context.steps)))
        else:
            vector = self._raw(context)
        if self.counter_at and len(vector.table):
            self._tell_of_gauges(vector, context)
        return vector

    def _raw(self, context: Context) -> Vector:
        return self._over(self.inner.windows(context), context)

    def _over(self, windows: Windows, context: Context) -> Vector:
        if not windows.blocks:
            return empty(context.steps)
        scalars = [scalar.evaluate(context) for scalar in self.scalars]
        if self.quantile_at:
            _warn_of_each(scalars[0], self.quantile_at, context)
        return self._once(context, windows, scalars) if context.single else self._steps(context, windows, scalars)

    def _from_minutes(self, context: Context) -> Vector:
        assert isinstance(self.inner, RangeSelector)  # noqa: S101 - evaluate() has looked
        if self.rollup in REDUCTIONS:
            vector = self.inner.reduced(context, self.rollup)
            return vector if self.keeps_name else Vector(vector.table.dropping(), vector.values, vector.present)
        return self._over(self.inner.lasts(context, counter=self.rollup == "counter"), context)

    def _tell_of_gauges(self, vector: Vector, context: Context) -> None:
        suspects = self._suspects.of(_not_counters, vector.table)
        if suspects and (vector.present is None or vector.present.any()):
            for name in suspects:
                context.budget.annotations.info(f'{NO_COUNTER} "{name}"', self.counter_at)

    def _steps(self, context: Context, windows: Windows, scalars: list[FloatArray]) -> Vector:
        values, masks = [], []
        for window in windows.blocks:
            context.budget.check_time()
            context.budget.spend(len(window.v) * window.steps)
            enough = window.count >= self.least
            masks.append(enough)
            values.append(self.kernel(window, *scalars) if enough.any() else np.zeros((len(window.v), window.steps)))
        table = windows.table if self.keeps_name else self._dropped.of(dropping, windows.table)
        return Vector(table, values[0] if len(values) == 1 else np.concatenate(values), _mask(masks, windows))

    def _once(self, context: Context, windows: Windows, scalars: list[FloatArray]) -> Vector:
        """The same for one instant, where a window has enough samples or not as a whole."""
        context.budget.spend(len(windows.table))
        enough = [int(window.hi[0]) - int(window.lo[0]) >= self.least for window in windows.blocks]
        values = [
            self.kernel(window, *scalars) if there else np.zeros((len(window.v), 1))
            for window, there in zip(windows.blocks, enough, strict=True)
        ]
        table = windows.table if self.keeps_name else self._dropped.of(dropping, windows.table)
        mask = None
        if not all(enough):
            mask = np.repeat(np.array(enough), [len(window.v) for window in windows.blocks])[:, None]
        return Vector(table, values[0] if len(values) == 1 else np.concatenate(values), mask)


def _not_counters(table: Table) -> tuple[str, ...]:
    names = {get(labels, NAME): None for labels in table.rows}
    return tuple(name for name in names if name and not name.endswith(COUNTER_SUFFIXES))


def _warn_of_each(q: FloatArray, where: str, context: Context) -> None:
    for value in np.unique(q[~((q >= 0) & (q <= 1))]).tolist():
        context.budget.annotations.warn(f"{NOT_A_QUANTILE}, got {go_g(value)}", where)


def _mask(masks: list[BoolArray], windows: Windows) -> BoolArray | None:
    if all(mask.all() for mask in masks):
        return None
    rows = [len(window.v) for window in windows.blocks]
    return packed(np.repeat(np.stack(masks), rows, axis=0))
