"""Minutes instead of samples: when a query is answered from 1-minute rollups, and how.

Two reasons: the samples are gone (older than storage keeps them), or the query is so coarse and so
long that samples would cost much and tell nothing more. docs/PROMQL.md says what that means for an
answer; every such answer carries an info annotation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Labels, Series
from query.context import Context
from query.labels import EMPTY, Table, joined, table_of
from query.values import BoolArray, Vector, packed
from query.windows import Window, Windows, locate, reduce

MINUTE_MS = 60_000
TOLD = "samples are gone or many, so 1-minute rollups answered (part of) this query; query.rollups: never forbids it"
# From these on one minute is a small part of what is asked for.
COARSE_STEP_MS = 5 * MINUTE_MS
COARSE_RANGE_MS = 10 * MINUTE_MS
MIN, MAX, SUM, COUNT, LAST = range(5)


class MinuteBlock(Protocol):
    """Series by minutes. t_ms: int64 [n], ascending starts; columns: float64 [5, series, n]: min, max, sum, count, last.

    A minute covers its start up to, not including, the next minute's; count 0 where a series has no sample in it.
    Rows that were not asked for hold anything.
    """

    @property
    def series(self) -> tuple[Series, ...]: ...

    @property
    def t_ms(self) -> IntArray: ...

    @property
    def columns(self) -> FloatArray: ...


@runtime_checkable
class MinuteCursor(Protocol):
    """A cursor that also has minutes."""

    def minutes(self, t0_ms: int, t1_ms: int, wanted: Sequence[int]) -> Sequence[MinuteBlock]:
        """The minutes that start in t0 <= t <= t1; wanted: the rows needed besides COUNT."""
        ...

    def series(self) -> Sequence[Series]: ...


class Minutes:
    """What a selector knows about minutes: its cursor, if that has any, and since when there are samples."""

    __slots__ = ("_cursor", "_raw_since_ms")

    def __init__(self, cursor: object, raw_since_ms: Callable[[], int | None]) -> None:
        self._cursor = cursor if isinstance(cursor, MinuteCursor) else None
        self._raw_since_ms = raw_since_ms

    def steps(self, context: Context, ends: IntArray, reach_ms: int, *, coarse: bool) -> int:
        """How many of the steps, from the first on, minutes answer.

        reach_ms: how far back from its end each step looks. coarse: whether the selector may do with
        minutes for their cost alone.
        """
        if self._cursor is None:
            return 0
        since = self._raw_since_ms()
        if (since is None and not coarse) or context.options.rollups == "never":
            return 0
        gone = 0 if since is None else int(np.searchsorted(ends - reach_ms + 1, since, side="left"))
        if gone == len(ends) or not coarse or context.single:
            return gone
        span_s = (int(ends[-1]) - int(ends[0]) + reach_ms) // 1000
        most = context.options.rollup_samples
        if span_s * context.options.max_series <= most:
            return gone
        return len(ends) if span_s * len(self._cursor.series()) > most else gone

    def blocks(self, context: Context, ends: IntArray, reach_ms: int, wanted: Sequence[int]) -> Sequence[MinuteBlock]:
        """The minutes that the steps see, with one more on each side; wanted: the rows needed besides COUNT."""
        assert self._cursor is not None  # noqa: S101 - steps() has looked
        context.budget.annotations.info(TOLD)
        found = [
            block
            for block in self._cursor.minutes(int(ends[0]) - reach_ms - MINUTE_MS, int(ends[-1]), wanted)
            if len(block.t_ms) and len(block.series)
        ]
        context.budget.check_series(sum(len(block.series) for block in found))
        context.budget.check_time()
        context.budget.spend(sum(block.columns[COUNT].size for block in found))
        return found


def table_of_minutes(blocks: Sequence[MinuteBlock]) -> Table:
    return joined(*(table_of(block.series) for block in blocks)) if blocks else EMPTY


Reduction = Callable[[FloatArray, IntArray, IntArray, FloatArray], FloatArray]


def _total(columns: FloatArray, lo: IntArray, hi: IntArray, count: FloatArray) -> FloatArray:
    total: FloatArray = reduce(np.add, _zeroed(columns, SUM), lo, hi)
    return total


def _zeroed(columns: FloatArray, which: int) -> FloatArray:
    empty = columns[COUNT] == 0
    zeroed: FloatArray = np.where(empty, 0.0, columns[which]) if empty.any() else columns[which]
    return zeroed


READ: dict[str, Sequence[int]] = {
    "min": (MIN,),
    "max": (MAX,),
    "sum": (SUM,),
    "avg": (SUM,),
    "count": (),
    "present": (),
}
"""Which rows a reduction reads besides COUNT."""
COUNTED = (LAST, MIN, MAX)
REDUCTIONS: dict[str, Reduction] = {
    "min": lambda columns, lo, hi, _: reduce(np.fmin, columns[MIN], lo, hi),
    "max": lambda columns, lo, hi, _: reduce(np.fmax, columns[MAX], lo, hi),
    "sum": _total,
    "count": lambda columns, lo, hi, count: count,
    "avg": lambda columns, lo, hi, count: _total(columns, lo, hi, count) / np.maximum(count, 1),
    "present": lambda columns, lo, hi, count: np.ones_like(count),
}


def reduced(kind: str, blocks: Sequence[MinuteBlock], ends: IntArray, range_ms: int, context: Context) -> Vector:
    """A window's minutes are those whose middle lies in it; exact where windows begin and end with minutes."""
    values, masks = [], []
    for block in blocks:
        context.budget.check_time()
        lo, hi = locate(block.t_ms + MINUTE_MS // 2, ends, range_ms)
        some = hi > lo
        count = np.where(some, reduce(np.add, block.columns[COUNT], lo, hi), 0.0)
        values.append(REDUCTIONS[kind](block.columns, lo, hi, count))
        masks.append(count > 0)
    return Vector(table_of_minutes(blocks), np.concatenate(values), packed(np.concatenate(masks)))


def windows_of_lasts(
    blocks: Sequence[MinuteBlock], ends: IntArray, context: Context, range_ms: int, *, counter: bool = False
) -> Windows:
    """Windows in which each minute's last sample stands for it, at the minute's end.

    counter: with what a counter lost at resets inside minutes, as far as minutes tell: one reset a minute is
    counted right if the counter stood higher before it than at the minute's end.
    """
    windows, tables = [], []
    for block in blocks:
        there = block.columns[COUNT] > 0
        if there.all():  # nothing to pick, nothing to copy
            parts = [(block.series, block.t_ms, block.columns)]
        else:
            parts = [
                (
                    tuple(block.series[row] for row in rows.tolist()),
                    block.t_ms[kept],
                    block.columns[:, rows][:, :, kept],
                )
                for rows, kept in _patterns(there)
            ]
        for series, starts, columns in parts:
            context.budget.check_time()
            t = starts + (MINUTE_MS - 1)
            lo, hi = locate(t, ends, range_ms)
            lost = _lost(columns) if counter else None
            check = context.budget.check_time
            windows.append(Window(t, columns[LAST], lo, hi, ends, context.t_ms, range_ms, lost, check))
            tables.append(table_of(series))
    return Windows(joined(*tables) if tables else EMPTY, windows)


def _patterns(present: BoolArray) -> Iterator[tuple[IntArray, BoolArray]]:
    """Rows that have the same minutes, and which these are."""
    groups: dict[bytes, list[int]] = {}
    for row in range(len(present)):
        groups.setdefault(np.packbits(present[row]).tobytes(), []).append(row)
    for rows in groups.values():
        if present[rows[0]].any():
            yield np.array(rows), present[rows[0]]


def _lost(columns: FloatArray) -> FloatArray:
    """What was counted up to a reset since the sample before, for each minute; empty where no counter fell."""
    last, low, high = columns[LAST], columns[MIN], columns[MAX]
    before = last[:, :-1]
    fell = low[:, 1:] < before
    if not fell.any():
        return np.empty((0, 0))
    lost: FloatArray = np.zeros_like(last)
    top = np.where(high[:, 1:] > last[:, 1:], np.maximum(high[:, 1:], before), before)
    lost[:, 1:] = np.where(fell, top, 0.0)
    return lost


def newest(
    blocks: Sequence[MinuteBlock], ends: IntArray, lookback_ms: int, context: Context, *, want_time: bool
) -> Vector:
    """Each series' last sample of the newest whole minute within the lookback."""
    found = windows_of_lasts(blocks, ends, context, lookback_ms)
    values, masks = [np.empty((0, len(ends)))], [np.empty((0, len(ends)), dtype=np.bool_)]
    for window in found.blocks:
        last = window.last()
        picked = window.v[:, last]
        values.append(np.broadcast_to(window.t[last] / 1000.0, picked.shape) if want_time else picked)
        masks.append(np.broadcast_to(window.hi > window.lo, picked.shape))
    return Vector(found.table, np.concatenate(values), packed(np.concatenate(masks)))


def beside(early: Vector, late: Vector) -> Vector:
    """Two answers for consecutive steps as one: rows with the same labels meet."""
    rows: dict[tuple[Labels, bool], int] = {}
    places = []
    for part in (early, late):
        keys = zip(part.table.rows, part.table.drop, strict=True)
        places.append(np.array([rows.setdefault(key, len(rows)) for key in keys], dtype=np.int64))
    border = early.values.shape[1]
    shape = (len(rows), border + late.values.shape[1])
    values, present = np.full(shape, np.nan), np.zeros(shape, dtype=np.bool_)
    for part, place, columns in ((early, places[0], slice(0, border)), (late, places[1], slice(border, None))):
        values[place, columns] = part.values
        present[place, columns] = part.mask()
    return Vector(Table(tuple(key[0] for key in rows), tuple(key[1] for key in rows)), values, packed(present))
