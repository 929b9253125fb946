"""Selectors: where series enter a query, at an instant, over a range, or from a subquery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from metrics.frame import IntArray
from metrics.series import Series
from query.context import Context, times
from query.labels import EMPTY, Last, Table, dropping, joined, table_of
from query.matchers import Matcher
from query.nodes import Node, RangeNode, Selecting, VectorNode
from query.rollups import (
    COARSE_RANGE_MS,
    COARSE_STEP_MS,
    COUNTED,
    LAST,
    READ,
    Minutes,
    beside,
    newest,
    reduced,
    windows_of_lasts,
)
from query.source import Block, Columns, Cursor
from query.values import Vector, empty, is_stale, packed
from query.windows import Window, Windows, locate


@dataclass(frozen=True, slots=True)
class Shift:
    """When a selector looks: `offset`, and `@` with a time, the query's start or its end."""

    offset_ms: int = 0
    at: int | Literal["start", "end"] | None = None

    @property
    def pinned(self) -> bool:
        return self.at is not None

    def apply(self, context: Context) -> IntArray:
        """The times to look at, int64 [steps] ms."""
        if self.at is None:
            return context.t_ms - self.offset_ms if self.offset_ms else context.t_ms
        fixed = {"start": context.start_ms, "end": context.end_ms}[self.at] if isinstance(self.at, str) else self.at
        return np.full(context.steps, fixed - self.offset_ms, dtype=np.int64)


class Tables:
    """The tables of a selector's blocks, kept as long as the source hands out the same series tuples."""

    MOST = 64  # schemas and patterns that came and went

    __slots__ = ("_joined", "_kept", "_parts")

    def __init__(self) -> None:
        self._kept: dict[int, tuple[tuple[Series, ...], Table]] = {}
        self._parts: dict[tuple[int, tuple[int, ...]], tuple[tuple[Series, ...], tuple[Series, ...]]] = {}
        self._joined: Last[Table] = Last()

    def of(self, blocks: Sequence[Block]) -> Table:
        if not blocks:
            return EMPTY
        if len(blocks) == 1:
            return self._one(blocks[0].series)
        return self._joined.of(joined, *(self._one(block.series) for block in blocks))

    def _one(self, series: tuple[Series, ...]) -> Table:
        found = self._kept.get(id(series))
        if found is not None and found[0] is series:
            return found[1]
        table = table_of(series)
        if len(self._kept) > self.MOST:
            self._kept = {}
        self._kept[id(series)] = (series, table)
        return table

    def part(self, series: tuple[Series, ...], rows: tuple[int, ...]) -> tuple[Series, ...]:
        """Some of the series, as the same tuple each time."""
        key = (id(series), rows)
        found = self._parts.get(key)
        if found is not None and found[0] is series:
            return found[1]
        own = tuple(series[row] for row in rows)
        if len(self._parts) > self.MOST:
            self._parts = {}
        self._parts[key] = (series, own)
        return own


RawSince: TypeAlias = Callable[[], int | None]


def _always() -> int | None:
    """For sources that keep every sample."""
    return None


class InstantSelector(VectorNode, Selecting):
    """The newest sample of each series, no older than the lookback; its value, or its time for timestamp()."""

    def __init__(
        self,
        matchers: tuple[Matcher, ...],
        cursor: Cursor,
        shift: Shift,
        raw_since_ms: RawSince = _always,
        *,
        want_time: bool = False,
    ) -> None:
        self.matchers = matchers
        self._cursor = cursor
        self._minutes = Minutes(cursor, raw_since_ms)
        self._shift = shift
        self._want_time = want_time
        self.pinned = shift.pinned
        self._tables = Tables()
        self._dropped: Last[Table] = Last()

    def evaluate(self, context: Context) -> Vector:
        ends = self._shift.apply(context)
        lookback = context.options.lookback_ms
        border = self._minutes.steps(context, ends, lookback, coarse=context.step_ms >= COARSE_STEP_MS)
        if border == len(ends):
            vector = self._from_minutes(context, ends, lookback)
        elif border:
            early = self._from_minutes(context.part(0, border), ends[:border], lookback)
            vector = beside(early, self._raw(context.part(border, len(ends)), ends[border:], lookback))
        else:
            vector = self._raw(context, ends, lookback)
        if not self._want_time:
            return vector
        return Vector(self._dropped.of(dropping, vector.table), vector.values, vector.present)

    def _from_minutes(self, context: Context, ends: IntArray, lookback: int) -> Vector:
        blocks = self._minutes.blocks(context, ends, lookback, (LAST,))
        context.budget.spend(sum(len(block.series) for block in blocks) * context.steps)
        return newest(blocks, ends, lookback, context, want_time=self._want_time)

    def _raw(self, context: Context, ends: IntArray, lookback: int) -> Vector:
        if context.single:
            end = int(ends[0])
            blocks = self._cursor.last(end - lookback + 1, end)
            return self._once(context, blocks)
        every_ms = int(ends[1] - ends[0])  # 0 where `@` pins all steps to one instant
        steps_ms = (int(ends[0]), every_ms) if every_ms > 0 else None
        blocks = self._cursor.blocks(int(ends[0]) - lookback + 1, int(ends[-1]), steps_ms)
        return self._steps(context, blocks, ends, lookback)

    def _once(self, context: Context, blocks: Sequence[Block]) -> Vector:
        if not blocks:
            return empty(1)
        values = blocks[0].values if len(blocks) == 1 else np.concatenate([block.values for block in blocks])
        context.budget.check_series(len(values))
        context.budget.spend(len(values))
        missing = np.isnan(values)
        present = packed(~is_stale(values)) if missing.any() else None
        if self._want_time:
            values = np.concatenate([np.full(block.values.shape, block.t_ms[0] / 1000.0) for block in blocks])
        return Vector(self._tables.of(blocks), values, present)

    def _steps(self, context: Context, blocks: Sequence[Block], ends: IntArray, lookback: int) -> Vector:
        if not blocks:
            return empty(context.steps)
        context.budget.check_series(sum(len(block.series) for block in blocks))
        values, masks = [], []
        for block in blocks:
            context.budget.check_time()
            context.budget.spend(block.values.size + len(block.series) * context.steps)
            index = np.searchsorted(block.t_ms, ends, side="right") - 1
            found = np.maximum(index, 0)
            fresh = (index >= 0) & (block.t_ms[found] > ends - lookback)
            picked = block.values[:, found]
            masks.append(fresh & ~is_stale(picked))
            values.append(np.broadcast_to(block.t_ms[found] / 1000.0, picked.shape) if self._want_time else picked)
        return Vector(self._tables.of(blocks), np.concatenate(values), packed(np.concatenate(masks)))


class RangeSelector(RangeNode, Selecting):
    """v[5m]: the samples of each series in a window that is open on its left."""

    def __init__(
        self,
        matchers: tuple[Matcher, ...],
        cursor: Cursor,
        shift: Shift,
        range_ms: int,
        raw_since_ms: RawSince = _always,
    ) -> None:
        self.matchers = matchers
        self.range_ms = range_ms
        self._cursor = cursor
        self._minutes = Minutes(cursor, raw_since_ms)
        self._shift = shift
        self.pinned = shift.pinned
        self._tables = Tables()

    def minute_steps(self, context: Context, *, exact: bool) -> int:
        """How many of the steps, from the first on, minutes answer; exact: the function has an exact counterpart there."""
        coarse = exact and self.range_ms >= COARSE_RANGE_MS
        return self._minutes.steps(context, self._shift.apply(context), self.range_ms, coarse=coarse)

    def reduced(self, context: Context, kind: str) -> Vector:
        """A reduction of the minutes' columns over each window."""
        ends = self._shift.apply(context)
        blocks = self._minutes.blocks(context, ends, self.range_ms, READ[kind])
        if not blocks:
            return empty(context.steps)
        context.budget.spend(sum(len(block.series) for block in blocks) * context.steps)
        return reduced(kind, blocks, ends, self.range_ms, context)

    def lasts(self, context: Context, *, counter: bool = False) -> Windows:
        """Windows over the minutes' last samples."""
        ends = self._shift.apply(context)
        blocks = self._minutes.blocks(context, ends, self.range_ms, COUNTED if counter else (LAST,))
        return windows_of_lasts(blocks, ends, context, self.range_ms, counter=counter)

    def windows(self, context: Context) -> Windows:
        ends = self._shift.apply(context)
        if self._minutes.steps(context, ends, self.range_ms, coarse=False):
            return self.lasts(context)
        blocks = self._cursor.blocks(int(ends[0]) - self.range_ms + 1, int(ends[-1]))
        context.budget.check_series(sum(len(block.series) for block in blocks))
        context.budget.spend(sum(block.values.size for block in blocks))
        return framed(blocks, self._tables, ends, context, self.range_ms)


class ExtendedSelector(RangeSelector):
    """v[5m] anchored or smoothed: with the neighbouring samples outside the range, no further away than the lookback."""

    def __init__(
        self,
        matchers: tuple[Matcher, ...],
        cursor: Cursor,
        shift: Shift,
        range_ms: int,
        mode: Literal["anchored", "smoothed"],
    ) -> None:
        super().__init__(matchers, cursor, shift, range_ms)
        self.mode = mode

    def windows(self, context: Context) -> Windows:
        ends = self._shift.apply(context)
        lookback = context.options.lookback_ms
        ahead = lookback if self.mode == "smoothed" else 0
        wide = self.range_ms + lookback + ahead
        blocks = self._cursor.blocks(int(ends[0]) - self.range_ms - lookback + 1, int(ends[-1]) + ahead)
        context.budget.check_series(sum(len(block.series) for block in blocks))
        context.budget.spend(sum(block.values.size for block in blocks))
        found = framed(blocks, self._tables, ends + ahead, context, wide)
        return Windows(found.table, [self._narrowed(window, ends) for window in found.blocks])

    def _narrowed(self, window: Window, ends: IntArray) -> Window:
        t, begin = window.t, ends - self.range_ms
        newest = np.maximum(window.hi - 1, window.lo)
        first = np.clip(np.searchsorted(t, begin, side="right"), window.lo, newest) - 1
        first = np.maximum(first, window.lo)
        last = newest
        if self.mode == "smoothed":
            last = np.clip(np.searchsorted(t, ends, side="left"), window.lo, newest)
        inner = np.minimum(last, len(t) - 1)
        good = (window.hi > window.lo) & (t[inner] > begin)
        if self.mode == "smoothed":
            good &= t[np.minimum(first, len(t) - 1)] <= ends
        lo = np.where(good, first, 0)
        return Window(t, window.v, lo, np.where(good, last + 1, lo), ends, window.at, self.range_ms, None, window.check)


class SmoothedSelector(VectorNode, Selecting):
    """v smoothed: the value on the straight line between the samples before and behind."""

    def __init__(self, matchers: tuple[Matcher, ...], cursor: Cursor, shift: Shift) -> None:
        self.matchers = matchers
        self._cursor = cursor
        self._shift = shift
        self.pinned = shift.pinned
        self._tables = Tables()

    def evaluate(self, context: Context) -> Vector:
        ends = self._shift.apply(context)
        lookback = context.options.lookback_ms
        blocks = self._cursor.blocks(int(ends[0]) - lookback + 1, int(ends[-1]) + lookback)
        context.budget.check_series(sum(len(block.series) for block in blocks))
        windows = framed(blocks, self._tables, ends + lookback, context, 2 * lookback)
        if not windows.blocks:
            return empty(context.steps)
        values, masks = [], []
        for window in windows.blocks:
            context.budget.spend(window.v.size + len(window.v) * context.steps)
            t, v = window.t, window.v
            after = np.searchsorted(t, ends, side="left")
            before = np.maximum(after - 1, 0)
            behind = np.minimum(after, len(t) - 1)
            exact = (after < window.hi) & (t[behind] == ends)
            both = (after < window.hi) & (after > window.lo)
            share = (ends - t[before]) / np.maximum(t[behind] - t[before], 1)
            line = v[:, before] + (v[:, behind] - v[:, before]) * share
            values.append(np.where(exact, v[:, behind], np.where(both, line, v[:, before])))
            masks.append(np.broadcast_to(exact | (after > window.lo) & (window.hi > window.lo), values[-1].shape))
        return Vector(windows.table, np.concatenate(values), packed(np.concatenate(masks)))


def framed(blocks: Sequence[Block], tables: Tables, ends: IntArray, context: Context, range_ms: int) -> Windows:
    """Put windows on blocks; series with stale markers become blocks of their own, without the markers."""
    clean = [part for block in blocks for part in _without_stale(block, tables)]
    windows = []
    for block in clean:
        n = len(block.t_ms)
        if context.single:
            lo, hi = np.zeros(1, dtype=np.int64), np.full(1, n, dtype=np.int64)
            end = int(ends[0])
            if int(block.t_ms[0]) <= end - range_ms or int(block.t_ms[-1]) > end:
                lo, hi = locate(block.t_ms, ends, range_ms)
        else:
            lo, hi = locate(block.t_ms, ends, range_ms)
        windows.append(
            Window(block.t_ms, block.values, lo, hi, ends, context.t_ms, range_ms, None, context.budget.check_time)
        )
    return Windows(tables.of(clean), windows)


def _without_stale(block: Block, tables: Tables) -> list[Block]:
    if not len(block.t_ms) or not np.isnan(block.values).any():
        return [block] if len(block.t_ms) else []
    stale = is_stale(block.values)
    touched = stale.any(axis=1)
    if not touched.any():
        return [block]
    kept = ~stale
    groups: dict[bytes, list[int]] = {}
    for row in range(len(block.series)):  # rows that keep the same samples stay together
        groups.setdefault(kept[row].tobytes(), []).append(row)
    blocks: list[Block] = []
    for rows in groups.values():
        mask = kept[rows[0]]
        if mask.any():
            own = tables.part(block.series, tuple(rows))
            blocks.append(Columns(own, block.t_ms[mask], np.ascontiguousarray(block.values[rows][:, mask])))
    return blocks


class Subquery(RangeNode):
    """expr[1h:1m]: an instant query evaluated on its own, absolutely aligned grid of steps."""

    def __init__(self, inner: VectorNode, shift: Shift, range_ms: int, step_ms: int) -> None:
        self.inner = inner
        self.range_ms = range_ms
        self.step_ms = step_ms
        self._shift = shift
        self.pinned = shift.pinned

    def children(self) -> Iterator[Node]:
        yield self.inner

    def windows(self, context: Context) -> Windows:
        ends = self._shift.apply(context)
        step = self.step_ms
        start = int(ends[0]) - self.range_ms
        first = start // step * step + step  # the first multiple of the step inside the open window
        count = (int(ends[-1]) - first) // step + 1
        if count <= 0:
            return Windows(EMPTY, [])
        context.budget.spend(count)  # before the grid is made: it may be absurdly long
        grid = times(first, int(ends[-1]), step)
        vector = self.inner.evaluate(context.at(grid, step))
        context.budget.check_time()
        context.budget.spend(vector.values.size)
        return _gridded(vector, grid, ends, context, self.range_ms)


def _gridded(vector: Vector, grid: IntArray, ends: IntArray, context: Context, range_ms: int) -> Windows:
    """Windows over an evaluated grid; rows with the same gaps share a block."""
    table = vector.table
    if vector.present is None:
        groups = [(list(range(len(table))), slice(None))] if len(table) else []
    else:
        patterns: dict[bytes, list[int]] = {}
        for row in range(len(table)):
            patterns.setdefault(vector.present[row].tobytes(), []).append(row)
        groups = [(rows, np.flatnonzero(vector.present[rows[0]])) for rows in patterns.values()]  # type: ignore[misc]
    windows, order = [], []
    for rows, kept in groups:
        t = grid[kept]
        if len(t):
            lo, hi = locate(t, ends, range_ms)
            values = vector.values[rows][:, kept]
            windows.append(Window(t, values, lo, hi, ends, context.t_ms, range_ms, None, context.budget.check_time))
            order += rows
    return Windows(table if order == list(range(len(table))) else table.take(order), windows)
