"""Compaction: small or overlapping blocks become larger ones, without any answer changing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection, Table, delete, select, update

from metrics.clock import Clock
from storage.archive import Archive
from storage.blocks import ID_BITS, Block, Blocks
from storage.chunks import ChunkReader, Wanted
from storage.database import Database
from storage.ingest import Ingest
from storage.layouts import Layout, Layouts
from storage.merge import Piece, merge
from storage.minutes import Part, join
from storage.rollups import DAY_MS, Rolled, RollupReader, RollupWriter, encode_rollup, insert_rollup, next_rollup_id
from storage.sealing import SealedBlock, insert_sealed, seal
from storage.tables import block as block_table
from storage.tables import chunk as chunk_table
from storage.tables import rollup_block as rollup_block_table
from storage.tables import rollup_chunk as rollup_chunk_table

_DAY_SAMPLES = 86_400
_LEAST_LARGE = 7_200
_BLOCK_SAMPLES = 11_000_000
"""A joined block holds about so many samples of all series: it is written in one transaction, and others wait for that."""
_SMALL_SHARE = 4
_MOST_SAMPLES = 16_000_000
_WEEK_MS = 8 * DAY_MS

Rewritten = Callable[[Sequence[int], Sequence[int]], None]
"""Told after a commit: the ids of the blocks that are gone, and of those that hold their samples now."""


class _GoneError(Exception):
    """A block was deleted while it was read: retention was faster."""


@dataclass(frozen=True, slots=True)
class Joined:
    """How many blocks became how many."""

    blocks: int = 0
    into: int = 0


class Compaction:
    """Joins neighbouring blocks of one layout and day, and rollups of one day, then of eight days.

    A joined block is written later than its parts were. Where two blocks hold the same instant of a
    series the later one counts, so blocks are left alone where another layout's block, or one that is not
    sealed yet, lies between them in the order of writing and touches their time.
    """

    def __init__(
        self,
        database: Database,
        layouts: Layouts,
        archive: Archive,
        ingest: Ingest,
        blocks: Blocks,
        rollup_blocks: Blocks,
        chunks: ChunkReader,
        rollups: RollupReader,
        rollup_writer: RollupWriter,
        clock: Clock,
    ) -> None:
        self._database = database
        self._layouts = layouts
        self._archive = archive
        self._ingest = ingest
        self._blocks = blocks
        self._rollup_blocks = rollup_blocks
        self._chunks = chunks
        self._rollups = rollups
        self._rolling = rollup_writer.rolling
        self._clock = clock
        self.on_rewritten: Rewritten = lambda old, new: None

    def run(self, before_ms: int) -> Joined:
        """Join what ends before `before_ms`; returns how many sealed blocks. Raises StorageUnavailable."""
        gone = made = 0
        for layout_id in sorted(self._blocks.layouts()):
            large = _large(len(self._layouts.get(layout_id).series_ids))
            for group in _small_groups(self._blocks.of_layout(layout_id), before_ms, large):
                # Nothing may be sealed meanwhile: it would come before the joined block in the order of writing.
                with self._rolling, self._archive.sealing, self._ingest.sealing:
                    if self._may_move(self._layouts.get(layout_id), self._blocks, group) and self._join(group):
                        gone, made = gone + len(group), made + 1
        return Joined(gone, made)

    def run_rollups(self, before_ms: int) -> Joined:
        """Join rollups of days that ended before `before_ms`, and of eight days in a row."""
        gone = made = 0
        for span_ms in (DAY_MS, _WEEK_MS):
            for layout_id in sorted(self._rollup_blocks.layouts()):
                for group in _spans(self._rollup_blocks.of_layout(layout_id), span_ms, before_ms):
                    with self._rolling:
                        may = self._may_move(self._layouts.get(layout_id), self._rollup_blocks, group)
                        if may and self._join_rollups(group):
                            gone, made = gone + len(group), made + 1
        return Joined(gone, made)

    def _may_move(self, layout: Layout, index: Blocks, group: Sequence[Block]) -> bool:
        """Whether the order of writing still tells the same after the group has moved to its end."""
        first = min(block.id for block in group)
        ids = {block.id for block in group}
        t0_ms, t1_ms = min(block.t0_ms for block in group), max(block.t1_ms for block in group)
        related = {other.id for one in layout.series_ids.tolist() for other in self._layouts.of_series(one)}
        for layout_id in related:
            for block in index.overlapping(layout_id, t0_ms, t1_ms):
                if block.id > first and block.id not in ids:
                    return False
            if index is self._blocks and any(
                tail.t0_ms <= t1_ms and tail.t1_ms >= t0_ms for tail in self._archive.tails(layout_id)
            ):
                return False
        return True

    def _join(self, group: Sequence[Block]) -> bool:
        layout = self._layouts.get(group[0].layout_id)
        try:
            sealed = self._encoded(layout, sorted(group, key=lambda block: block.id))
        except _GoneError:
            return False
        sealed = replace(sealed, header=replace(sealed.header, rolled=group[0].rolled))
        old = [block.id for block in group]
        with self._blocks.publication:
            with self._database.write() as connection:
                row = block_table.c.rollup_id
                rollup_id = connection.execute(select(row).where(block_table.c.id == old[0])).scalar()
                if not _all_there(connection, block_table, old):
                    return False  # retention was faster
                insert_sealed(connection, sealed, self._clock.now_ns() // 1_000_000)
                changed = update(block_table).where(block_table.c.id == sealed.header.id)
                connection.execute(changed.values(rollup_id=rollup_id))
                _delete(connection, block_table, chunk_table, old)
            # Before the index changes: whoever follows blocks must not take the old ones for deleted.
            self.on_rewritten(old, [sealed.header.id])
            self._blocks.replace(old, sealed.header)
        return True

    def _encoded(self, layout: Layout, ordered: Sequence[Block]) -> SealedBlock:
        """The samples of some blocks as one, a part of the series at a time: a day of a thousand would be 700 MB."""
        columns = self._columns(layout, ordered)
        t_ms, first = next(columns)
        rows = itertools.chain(first, *(values for _, values in columns))
        return seal(self._archive.new_block_id(), layout.id, t_ms, rows)

    def _columns(self, layout: Layout, ordered: Sequence[Block]) -> Iterator[Piece]:
        t0_ms, t1_ms = min(block.t0_ms for block in ordered), max(block.t1_ms for block in ordered)
        at_once = max(_MOST_SAMPLES // (4 * sum(block.n for block in ordered)), 1)
        for start in range(0, len(layout.series_ids), at_once):
            ids = layout.series_ids[start : start + at_once]
            wanted = Wanted(ids, ordered, t0_ms, t1_ms)
            (found,) = self._chunks.read([wanted], keep=False)
            if not found or wanted.absent:
                raise _GoneError
            yield merge([piece for _, piece in sorted(found, key=lambda one: one[0])], len(ids))

    def _join_rollups(self, group: Sequence[Block]) -> bool:
        layout = self._layouts.get(group[0].layout_id)
        ordered = sorted(group, key=lambda block: block.id)
        at_once = max(_MOST_SAMPLES // (5 * sum(block.n for block in group)), 1)
        rollup_id = next_rollup_id(self._rollup_blocks)
        rolled: Rolled | None = None
        for start in range(0, len(layout.series_ids), at_once):
            ids = layout.series_ids[start : start + at_once]
            parts = self._rollups.load(ordered, ids)
            if sum(len(part.t_ms) for part in parts) != sum(block.n for block in group):
                return False  # retention was faster
            t_ms, columns = join([Part(np.arange(len(ids)), p.t_ms, p.columns) for p in parts], len(ids))
            rolled = encode_rollup(rollup_id, layout.id, ids, t_ms, columns, rolled)
        if rolled is None:
            return False
        old = [block.id for block in group]
        with self._rollup_blocks.publication:
            with self._database.write() as connection:
                if not _all_there(connection, rollup_block_table, old):
                    return False
                insert_rollup(connection, rolled, self._clock.now_ns() // 1_000_000)
                moved = update(block_table).where(block_table.c.rollup_id.in_(old))
                connection.execute(moved.values(rollup_id=rolled.header.id))
                _delete(connection, rollup_block_table, rollup_chunk_table, old)
            self._rollup_blocks.replace(old, rolled.header)
        return True


def _large(series: int) -> int:
    """How many instants a block may have: few large blocks are read fastest, up to a day."""
    return min(max(_BLOCK_SAMPLES // max(series, 1), _LEAST_LARGE), _DAY_SAMPLES)


def _small_groups(blocks: Sequence[Block], before_ms: int, large: int) -> Iterator[list[Block]]:
    """Runs of blocks of one day that are small, or that overlap, as far as they fit into one."""
    group: list[Block] = []
    for block in sorted((b for b in blocks if b.t1_ms < before_ms), key=lambda one: (one.t0_ms, one.id)):
        if group and _fits(group, block, large):
            group.append(block)
            continue
        if len(group) > 1:
            yield group
        group = [block]
    if len(group) > 1:
        yield group


def _fits(group: Sequence[Block], block: Block, large: int) -> bool:
    samples = sum(one.n for one in group) + block.n
    end_ms = max(one.t1_ms for one in group)
    same = group[0].rolled == block.rolled and group[0].t0_ms // DAY_MS == block.t0_ms // DAY_MS
    small = large // _SMALL_SHARE
    joined = block.n < small or all(one.n < small for one in group)
    return same and samples <= large and (joined or block.t0_ms <= end_ms)


def _spans(blocks: Sequence[Block], span_ms: int, before_ms: int) -> Iterator[list[Block]]:
    """Blocks that lie in one span of time that is over, where there are several."""
    spans: dict[int, list[Block]] = {}
    for block in blocks:
        span = block.t0_ms // span_ms
        if (span + 1) * span_ms <= before_ms and block.t1_ms // span_ms == span:
            spans.setdefault(span, []).append(block)
    return (group for group in spans.values() if len(group) > 1)


def _all_there(connection: Connection, table: Table, ids: Sequence[int]) -> bool:
    return len(connection.execute(select(table.c.id).where(table.c.id.in_(ids))).all()) == len(ids)


def _delete(connection: Connection, blocks: Table, chunks: Table, ids: Sequence[int]) -> None:
    for block_id in ids:
        low, high = block_id << ID_BITS, block_id + 1 << ID_BITS
        connection.execute(delete(chunks).where(chunks.c.id >= low, chunks.c.id < high))
    connection.execute(delete(blocks).where(blocks.c.id.in_(ids)))
