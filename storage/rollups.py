"""Rollups: minutes instead of samples, for years."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, update

from metrics.frame import FloatArray, IntArray
from metrics.series import Series
from storage.blocks import ID_BITS, Block, Blocks, in_time
from storage.chunks import ChunkReader, Wanted
from storage.columns import decode_times, encode_times, pack, unpack_into
from storage.database import Database
from storage.decoding import Task
from storage.layouts import Layout, Layouts
from storage.merge import merge
from storage.minutes import COUNT, EVERY, Part, minutes
from storage.tables import ROLLUP_COLUMNS
from storage.tables import block as block_table
from storage.tables import rollup_block as rollup_block_table
from storage.tables import rollup_chunk as rollup_chunk_table

DAY_MS = 86_400_000
QUARTER_MS = DAY_MS // 4
_SAMPLES_AT_ONCE = 8_000_000
_OF_IDS = "WHERE id IN (SELECT value FROM json_each(?))"


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


class RollupReader:
    """Reads what was rolled up. Thread-safe."""

    def __init__(self, database: Database, rollup_blocks: Blocks, chunks: ChunkReader) -> None:
        self._database = database
        self._blocks = rollup_blocks
        self._chunks = chunks

    @property
    def version(self) -> int:
        """Changes whenever rollups are added, joined or deleted."""
        with self._blocks.publication:
            return self._blocks.version

    def parts(
        self, layout_id: int, series_ids: IntArray, t0_ms: int, t1_ms: int, wanted: Sequence[int] = EVERY
    ) -> list[Part]:
        """Return the minutes of series of one layout that start in t0..t1, in the order of writing.

        wanted: which columns, COUNT among them; the others hold anything.
        """
        blocks = in_time(self._blocks.overlapping(layout_id, t0_ms, t1_ms))
        if not blocks:
            return []
        self._chunks.check_size(len(wanted) * len(series_ids) * sum(block.n for block in blocks))
        key = (self._chunks.version, tuple(wanted), series_ids.tobytes(), *(block.id for block in blocks))
        found = self._chunks.minutes.get(key)
        if found is None:
            found = self.load(blocks, series_ids, wanted)
            share = len(wanted) / len(EVERY)  # memory that nobody wrote to is none
            size = sum(part.columns.nbytes * share + part.t_ms.nbytes for part in found)
            self._chunks.minutes.put(key, found, round(size))
        return [cut for part in found if len((cut := _cut(part, t0_ms, t1_ms)).t_ms)]

    def load(self, blocks: Sequence[Block], series_ids: IntArray, wanted: Sequence[int] = EVERY) -> list[Part]:
        """Decode blocks of one layout anew; without those deleted meanwhile. wanted: see `parts`."""
        samples = sum(block.n for block in blocks)
        out = np.empty((len(ROLLUP_COLUMNS), len(series_ids), samples))
        places: dict[int, tuple[int, int, int]] = {}
        offset = 0
        for block in blocks:
            for row, series_id in enumerate(series_ids.tolist()):
                places[block.id << ID_BITS | series_id] = (row, offset, offset + block.n)
            offset += block.n
        with (
            self._database.read() as connection,
            connection.begin(),  # one snapshot for both statements
            self._chunks.decoders.begin() as work,
        ):
            cursor: Any = connection.connection.cursor()
            axes = {
                block_id: decode_times(data)
                for block_id, data in cursor.execute(
                    f"SELECT id, times FROM rollup_block {_OF_IDS}",  # noqa: S608
                    (json.dumps([block.id for block in blocks]),),
                )
            }
            for key, data in cursor.execute(
                f"SELECT id, data FROM rollup_chunk {_OF_IDS}",  # noqa: S608
                (json.dumps(sorted(places)),),
            ):
                row, low, high = places.pop(key)
                views = [out[column, row, low:high] if column in wanted else None for column in EVERY]
                work.add(Task(partial(unpack_into, data, views), len(wanted) * (high - low)))
            cursor.close()
        for row, low, high in places.values():
            out[:, row, low:high] = np.nan
            out[COUNT, row, low:high] = 0
        out.setflags(write=False)
        return list(_split(blocks, axes, out))


def _split(blocks: Sequence[Block], axes: dict[int, IntArray], columns: FloatArray) -> Iterator[Part]:
    """One part where the blocks follow each other, else one per block; without those deleted meanwhile."""
    rows = np.arange(columns.shape[1])
    in_order = all(before.t1_ms < after.t0_ms for before, after in pairwise(blocks))
    if in_order and all(block.id in axes for block in blocks):
        yield Part(rows, np.concatenate([axes[block.id] for block in blocks]), columns)
        return
    offset = 0
    for block in blocks:
        if block.id in axes:
            yield Part(rows, axes[block.id], columns[:, :, offset : offset + block.n])
        offset += block.n


def _cut(part: Part, t0_ms: int, t1_ms: int) -> Part:
    low, high = np.searchsorted(part.t_ms, [t0_ms, t1_ms + 1]).tolist()
    return Part(part.rows, part.t_ms[low:high], part.columns[:, :, low:high])


@dataclass(frozen=True, eq=False, slots=True)
class Rolled:
    """A block of minutes with its rows, ready to be inserted."""

    header: Block
    times: bytes
    chunks: list[dict[str, object]]


class RollupWriter:
    """Rolls sealed blocks up: those of whole days by the day, later ones by the quarter of a day."""

    def __init__(
        self, database: Database, layouts: Layouts, blocks: Blocks, rollup_blocks: Blocks, chunks: ChunkReader
    ) -> None:
        self._database = database
        self._layouts = layouts
        self._blocks = blocks
        self._rollup_blocks = rollup_blocks
        self._chunks = chunks
        self.rolling = threading.Lock()
        """Held while blocks are rolled up; who holds it keeps them from being rolled up."""

    def run(self, before_ms: int, now_ms: int) -> int:
        """Roll up every block that ends before `before_ms` and is in no rollup yet; returns how many.

        Minutes are sums of what is in the blocks of one run, so blocks that come later (old samples
        ingested) only add minutes of their own.
        """
        today_ms = before_ms // DAY_MS * DAY_MS
        with self.rolling:
            spans: dict[tuple[int, int, int], list[Block]] = {}
            for block in self._blocks.all():
                if not block.rolled and block.t1_ms < before_ms:
                    span_ms = DAY_MS if block.t1_ms < today_ms else QUARTER_MS
                    spans.setdefault((block.layout_id, span_ms, block.t0_ms // span_ms), []).append(block)
            for (layout_id, _, _), blocks in spans.items():
                rolled = self._roll(self._layouts.get(layout_id), blocks)
                if rolled is None:
                    continue
                sources = [block.id for block in blocks]
                with self._database.write() as connection:
                    insert_rollup(connection, rolled, now_ms)
                    for start in range(0, len(sources), 5_000):
                        of_some = block_table.c.id.in_(sources[start : start + 5_000])
                        connection.execute(update(block_table).where(of_some).values(rollup_id=rolled.header.id))
                with self._rollup_blocks.publication:
                    self._rollup_blocks.add([rolled.header])
                    self._blocks.mark_rolled(sources)
        return sum(len(blocks) for blocks in spans.values())

    def _roll(self, layout: Layout, blocks: list[Block]) -> Rolled | None:
        t0_ms, t1_ms = min(b.t0_ms for b in blocks), max(b.t1_ms for b in blocks)
        at_once = max(_SAMPLES_AT_ONCE // sum(block.n for block in blocks), 1)
        rollup_id = next_rollup_id(self._rollup_blocks)
        rolled: Rolled | None = None
        for start in range(0, len(layout.series_ids), at_once):
            ids = layout.series_ids[start : start + at_once]
            found = self._chunks.read([Wanted(ids, blocks, t0_ms, t1_ms)], keep=False)[0]
            t_ms, values = merge([piece for _, piece in sorted(found, key=lambda one: one[0])], len(ids))
            if len(t_ms) == 0:
                return None  # retention was faster
            rolled = encode_rollup(rollup_id, layout.id, ids, *minutes(t_ms, values), rolled)
        return rolled


def next_rollup_id(rollup_blocks: Blocks) -> int:
    """An id that follows all others."""
    return max((block.id for block in rollup_blocks.all()), default=0) + 1


def encode_rollup(
    rollup_id: int, layout_id: int, ids: IntArray, t_ms: IntArray, columns: FloatArray, before: Rolled | None = None
) -> Rolled:
    """Encode minutes of some series, float64 [5, series, n]; `before` holds others of the same block already."""
    chunks: list[dict[str, object]] = []
    for series_id, rows in zip(ids.tolist(), columns.transpose(1, 0, 2), strict=True):
        if rows[COUNT].any():
            chunks.append({"id": rollup_id << ID_BITS | series_id, "data": pack(list(rows))})
    if before is not None:
        return Rolled(before.header, before.times, before.chunks + chunks)
    header = Block(rollup_id, layout_id, int(t_ms[0]), int(t_ms[-1]), len(t_ms))
    return Rolled(header, encode_times(t_ms), chunks)


def insert_rollup(connection: Connection, rolled: Rolled, now_ms: int) -> None:
    """Write a block of minutes inside the caller's transaction."""
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
