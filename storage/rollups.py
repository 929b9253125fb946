"""Rollups: minutes instead of samples, for years."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sqlalchemy import Connection, insert, update

from metrics.frame import FloatArray, IntArray
from metrics.series import Series
from storage.blocks import ID_BITS, Block, Blocks
from storage.chunks import ChunkReader, Wanted
from storage.columns import decode_times, encode_times, pack, unpack
from storage.database import Database
from storage.layouts import Layout, Layouts
from storage.matching import SeriesIndex
from storage.merge import merge
from storage.tables import ROLLUP_COLUMNS
from storage.tables import block as block_table
from storage.tables import rollup_block as rollup_block_table
from storage.tables import rollup_chunk as rollup_chunk_table

MINUTE_MS = 60_000
DAY_MS = 86_400_000
_SAMPLES_AT_ONCE = 8_000_000
_ATTEMPTS = 5

Minutes = tuple[IntArray, FloatArray]
"""Starts of minutes int64 [n] ascending, and min, max, sum, count, last: float64 [5, n] or [series, 5, n]."""


@dataclass(frozen=True, eq=False, slots=True)
class RollupData:
    """One series by minutes: t_ms int64 [n], the starts of minutes; the others float64 [n].

    `last` is the last sample of the minute: what counters need. A minute without samples is missing.
    """

    series: Series
    t_ms: IntArray
    min: FloatArray
    max: FloatArray
    sum: FloatArray
    count: FloatArray
    last: FloatArray


class SampleBlock(Protocol):
    """Series that share their times, as the reader hands them out."""

    @property
    def series(self) -> tuple[Series, ...]: ...
    @property
    def t_ms(self) -> IntArray: ...
    @property
    def values(self) -> FloatArray: ...


def minutes(t_ms: IntArray, values: FloatArray) -> Minutes:
    """Roll samples up: times int64 [n >= 1] ascending, values float64 [series, n] -> float64 [series, 5, minutes].

    NaN (missing) is left out; a minute without any sample of a series has count 0 and NaN.
    """
    minute = t_ms // MINUTE_MS
    starts = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    present = ~np.isnan(values)
    positions = np.where(present, np.arange(len(t_ms)), -1)
    newest = np.maximum.reduceat(positions, starts, axis=1)
    count = np.add.reduceat(present, starts, axis=1, dtype=np.int64)
    columns = (
        # Not fmin: the stale marker is a signalling NaN, for which C leaves open what fmin returns.
        np.where(count > 0, np.minimum.reduceat(np.where(present, values, np.inf), starts, axis=1), np.nan),
        np.where(count > 0, np.maximum.reduceat(np.where(present, values, -np.inf), starts, axis=1), np.nan),
        np.where(count > 0, np.add.reduceat(np.where(present, values, 0.0), starts, axis=1), np.nan),
        count.astype(np.float64),
        np.where(count > 0, np.take_along_axis(values, np.maximum(newest, 0), axis=1), np.nan),
    )
    return minute[starts] * MINUTE_MS, np.stack(columns, axis=1)


def combine(pieces: Sequence[Minutes]) -> Minutes:
    """Join minutes of one series, float64 [5, n] each; a minute in several pieces becomes one, later pieces last."""
    t_ms = np.concatenate([t for t, _ in pieces])
    columns = np.concatenate([values for _, values in pieces], axis=1)
    keep = columns[3] > 0
    order = np.argsort(t_ms[keep], kind="stable")
    t_ms, columns = t_ms[keep][order], columns[:, keep][:, order]
    if len(t_ms) == 0:
        return t_ms, columns
    starts = np.flatnonzero(np.diff(t_ms, prepend=t_ms[0] - 1))
    ends = np.append(starts[1:], len(t_ms)) - 1
    return t_ms[starts], np.stack(
        (
            np.minimum.reduceat(columns[0], starts),
            np.maximum.reduceat(columns[1], starts),
            np.add.reduceat(columns[2], starts),
            np.add.reduceat(columns[3], starts),
            columns[4][ends],
        )
    )


class RollupReader:
    """Reads minutes: what was rolled up, and what was not from samples. Thread-safe."""

    def __init__(self, database: Database, index: SeriesIndex, layouts: Layouts, rollup_blocks: Blocks) -> None:
        self._database = database
        self._index = index
        self._layouts = layouts
        self._blocks = rollup_blocks

    def read(
        self,
        series_ids: Sequence[int],
        t0_ms: int,
        t1_ms: int,
        unrolled: Callable[[Sequence[int], int, int], Iterable[SampleBlock]],
    ) -> list[RollupData]:
        """Return the series that have minutes which start in t0..t1; `unrolled` reads samples no rollup holds."""
        for _ in range(_ATTEMPTS):
            known = len(self._blocks)
            pieces = self._pieces(series_ids, t0_ms, t1_ms, unrolled)
            if len(self._blocks) == known:  # else a rollup was written meanwhile, and samples may be in twice
                break
        return [data for series, some in pieces.items() if (data := _data(series, combine(some), t0_ms, t1_ms))]

    def _pieces(
        self,
        series_ids: Sequence[int],
        t0_ms: int,
        t1_ms: int,
        unrolled: Callable[[Sequence[int], int, int], Iterable[SampleBlock]],
    ) -> dict[Series, list[Minutes]]:
        pieces: dict[Series, list[Minutes]] = {}
        for block in unrolled(series_ids, t0_ms, t1_ms + MINUTE_MS - 1):
            t_ms, columns = minutes(block.t_ms, block.values)
            for series, rows in zip(block.series, columns, strict=True):
                pieces.setdefault(series, []).append((t_ms, rows))
        rolled = self._rolled(series_ids, t0_ms, t1_ms)
        for series, found in rolled.items():
            pieces[series] = found + pieces.get(series, [])
        return pieces

    def _rolled(self, series_ids: Sequence[int], t0_ms: int, t1_ms: int) -> dict[Series, list[Minutes]]:
        keys: dict[int, tuple[Series, Block]] = {}
        for series_id, series in self._index.series(series_ids).items():
            for layout in self._layouts.of_series(series_id):
                for block in self._blocks.overlapping(layout.id, t0_ms, t1_ms):
                    keys[block.id << ID_BITS | series_id] = (series, block)
        found: dict[Series, list[Minutes]] = {}
        if not keys:
            return found
        with self._database.read() as connection:
            cursor: Any = connection.connection.cursor()
            block_ids = json.dumps(sorted({block.id for _, block in keys.values()}))
            of_ids = "WHERE id IN (SELECT value FROM json_each(?))"
            axes = {
                i: decode_times(data)
                for i, data in cursor.execute(f"SELECT id, times FROM rollup_block {of_ids}", (block_ids,))  # noqa: S608
            }
            for key, data in cursor.execute(
                f"SELECT id, data FROM rollup_chunk {of_ids} ORDER BY id",  # noqa: S608
                (json.dumps(sorted(keys)),),
            ):
                series, block = keys[key]
                if block.id in axes:
                    columns = unpack(data, len(ROLLUP_COLUMNS), block.n)
                    found.setdefault(series, []).append((axes[block.id], columns))
            cursor.close()
        return found


@dataclass(frozen=True, eq=False, slots=True)
class _Rolled:
    header: Block
    times: bytes
    chunks: list[dict[str, object]]
    sources: list[int]


class RollupWriter:
    """Rolls sealed blocks of closed days up, one layout and day at a time."""

    def __init__(
        self, database: Database, layouts: Layouts, blocks: Blocks, rollup_blocks: Blocks, chunks: ChunkReader
    ) -> None:
        self._database = database
        self._layouts = layouts
        self._blocks = blocks
        self._rollup_blocks = rollup_blocks
        self._chunks = chunks

    def run(self, before_ms: int, now_ms: int) -> int:
        """Roll up every block that ends before `before_ms` and is in no rollup yet; returns how many.

        Minutes are sums of what is in the blocks of one run, so blocks that come later (old samples
        ingested) only add minutes of their own.
        """
        days: dict[tuple[int, int], list[Block]] = {}
        for block in self._blocks.all():
            if not block.rolled and block.t1_ms < before_ms:
                days.setdefault((block.layout_id, block.t0_ms // DAY_MS), []).append(block)
        for (layout_id, _), blocks in days.items():
            rolled = self._roll(self._layouts.get(layout_id), blocks)
            if rolled is None:
                continue
            with self._database.write() as connection:
                _insert(connection, rolled, now_ms)
            self._blocks.mark_rolled(rolled.sources)
            self._rollup_blocks.add([rolled.header])
        return sum(len(blocks) for blocks in days.values())

    def _roll(self, layout: Layout, blocks: list[Block]) -> _Rolled | None:
        rollup_id = max((block.id for block in self._rollup_blocks.all()), default=0) + 1
        t0_ms, t1_ms = min(b.t0_ms for b in blocks), max(b.t1_ms for b in blocks)
        at_once = max(_SAMPLES_AT_ONCE // sum(block.n for block in blocks), 1)
        chunks: list[dict[str, object]] = []
        times = np.empty(0, np.int64)
        for start in range(0, len(layout.series_ids), at_once):
            ids = layout.series_ids[start : start + at_once]
            found = self._chunks.read([Wanted(ids, blocks, t0_ms, t1_ms)])[0]
            t_ms, values = merge([piece for _, piece in sorted(found, key=lambda one: one[0])], len(ids))
            if len(t_ms) == 0:
                return None  # retention was faster
            times, columns = minutes(t_ms, values)
            for series_id, rows in zip(ids.tolist(), columns, strict=True):
                if rows[3].any():
                    chunks.append({"id": rollup_id << ID_BITS | series_id, "data": pack(rows)})
        header = Block(rollup_id, layout.id, int(times[0]), int(times[-1]), len(times))
        return _Rolled(header, encode_times(times), chunks, [block.id for block in blocks])


def _insert(connection: Connection, rolled: _Rolled, now_ms: int) -> None:
    header = rolled.header
    connection.execute(
        insert(rollup_block_table),
        {
            "id": header.id,
            "layout_id": header.layout_id,
            "t0_ms": header.t0_ms,
            "t1_ms": header.t1_ms,
            "n": header.n,
            "times": rolled.times,
            "sealed_ms": now_ms,
        },
    )
    if rolled.chunks:
        connection.execute(insert(rollup_chunk_table), sorted(rolled.chunks, key=lambda chunk: int(str(chunk["id"]))))
    for start in range(0, len(rolled.sources), 5_000):
        some = rolled.sources[start : start + 5_000]
        connection.execute(update(block_table).where(block_table.c.id.in_(some)).values(rollup_id=header.id))


def _data(series: Series, whole: Minutes, t0_ms: int, t1_ms: int) -> RollupData | None:
    t_ms, columns = whole
    low, high = np.searchsorted(t_ms, [t0_ms, t1_ms + 1]).tolist()
    if low == high:
        return None
    return RollupData(series, t_ms[low:high], *columns[:, low:high])
