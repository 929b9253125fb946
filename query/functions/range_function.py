"""Functions of range vectors as nodes: a kernel over windows, scalars beside it, and what becomes of the name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from metrics.frame import FloatArray
from query.context import Context
from query.labels import Last, Table, dropping
from query.nodes import Node, RangeNode, ScalarNode, VectorNode
from query.values import BoolArray, Vector, empty, packed
from query.windows import Windows

Kernel: TypeAlias = Callable[..., FloatArray]


class RangeFunction(VectorNode):
    """kernel(window, *scalars) on every block of a range vector.

    least: samples a window needs for a result. keeps_name: last_over_time and first_over_time act
    like an offset and keep the metric's name.
    """

    def __init__(
        self,
        kernel: Kernel,
        inner: RangeNode,
        scalars: tuple[ScalarNode, ...] = (),
        *,
        least: int,
        keeps_name: bool,
        quantile: bool = False,
    ) -> None:
        self.kernel = kernel
        self.inner = inner
        self.scalars = scalars
        self.least = least
        self.keeps_name = keeps_name
        self.quantile = quantile
        self._dropped: Last[Table] = Last()

    def children(self) -> Iterator[Node]:
        yield self.inner
        yield from self.scalars

    def evaluate(self, context: Context) -> Vector:
        windows = self.inner.windows(context)
        if not windows.blocks:
            return empty(context.steps)
        scalars = [scalar.evaluate(context) for scalar in self.scalars]
        if self.quantile and not ((scalars[0] >= 0) & (scalars[0] <= 1)).all():
            context.budget.warn("PromQL warning: quantile value should be between 0 and 1")
        if context.single:
            return self._once(context, windows, scalars)
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


def _mask(masks: list[BoolArray], windows: Windows) -> BoolArray | None:
    if all(mask.all() for mask in masks):
        return None
    rows = [len(window.v) for window in windows.blocks]
    return packed(np.repeat(np.stack(masks), rows, axis=0))
