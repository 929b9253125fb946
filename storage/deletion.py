"""Deletion: samples of some series taken out of everything that holds them, for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from sqlalchemy import delete, insert, select, update

from metrics.clock import Clock
from metrics.frame import FloatArray, IntArray
from storage.archive import Archive
from storage.audit import Audit
from storage.blocks import ID_BITS, Block, Blocks
from storage.chunks import ChunkReader, Wanted
from storage.columns import decode_times, pack, unpack
from storage.database import Database
from storage.health import StorageUnavailable
from storage.layouts import Layout, Layouts
from storage.live import LiveRing
from storage.matching import MatcherLike, SeriesIndex
from storage.merge import merge
from storage.minutes import COUNT, MINUTE_MS, minutes
from storage.sealing import seal
from storage.stale import STALE_BITS, STALE_NAN
from storage.tables import ROLLUP_COLUMNS, block, chunk, rollup_block, rollup_chunk


class Deletion:
    """Deletes samples by series and time.

    First everything that waits is sealed, so that only blocks and rings hold samples of the past. Then each touched
    block is written anew in one transaction, under its own id and with its times: what is deleted becomes the stale
    marker, which readers take for "nothing there", and a block of which nothing is left goes. Minutes inside the range
    go too; of a minute that the range cuts, what is left is counted again, where its samples still exist.
    """

    def __init__(
        self,
        database: Database,
        index: SeriesIndex,
        live: LiveRing,
        layouts: Layouts,
        archive: Archive,
        blocks: Blocks,
        rollup_blocks: Blocks,
        chunks: ChunkReader,
        audit: Audit,
        seal_everything: Callable[[], int],
        drop_unused: Callable[[], int],
        rewriting: AbstractContextManager[object],
        clock: Clock,
    ) -> None:
        self._rewriting = rewriting  # the lock that compaction and rollups hold too: no two rewrite the same block
        self._database = database
        self._index = index
        self._live = live
        self._layouts = layouts
        self._archive = archive
        self._blocks = blocks
        self._rollup_blocks = rollup_blocks
        self._chunks = chunks
        self._audit = audit
        self._seal_everything = seal_everything
        self._drop_unused = drop_unused
        self._clock = clock

    def delete(self, matchers: Sequence[MatcherLike], t0_ms: int, t1_ms: int, who: str) -> int:
        """Delete the samples of the matching series with t0 <= t <= t1, up to now; returns of how many series.

        Raises StorageUnavailable where the disk fails: then some blocks may be done already, and the same call
        does the rest. The audit says who asked, before anything is deleted.
        """
        t1_ms = min(t1_ms, self._clock.now_ns() // 1_000_000)
        ids = np.array(self._index.match(matchers), np.int64)
        if not len(ids) or t1_ms < t0_ms:
            return 0
        said = {"match": ["".join(one) for one in matchers], "start_ms": t0_ms, "end_ms": t1_ms, "series": len(ids)}
        self._audit.append(who, "delete series", "storage", said)
        with self._rewriting:
            self._archive.flush()
            if self._archive.backlog_frames:
                raise StorageUnavailable("frames wait to be written: nothing is deleted while the disk fails")
            self._seal_everything()
            self._live.erase(ids.tolist(), t0_ms, t1_ms)
            try:
                for layout in {one.id: one for i in ids.tolist() for one in self._layouts.of_series(i)}.values():
                    rows = np.flatnonzero(np.isin(layout.series_ids, ids))
                    for one in self._blocks.overlapping(layout.id, t0_ms, t1_ms):
                        self._erase(layout, one, rows, t0_ms, t1_ms)
                    for one in self._rollup_blocks.overlapping(layout.id, t0_ms - MINUTE_MS, t1_ms):
                        self._erase_minutes(one, layout.series_ids[rows], t0_ms, t1_ms)
            finally:
                self._chunks.forget()
                self._index.generation.bump()
            self._drop_unused()
        return len(ids)

    def _erase(self, layout: Layout, header: Block, rows: IntArray, t0_ms: int, t1_ms: int) -> None:
        """Write a block without these samples; rows: positions in its layout."""
        found = self._chunks.read([Wanted(layout.series_ids, [header], header.t0_ms, header.t1_ms)], keep=False)[0]
        if not found:
            return  # retention was faster
        t_ms, values = found[0][1]
        low, high = np.searchsorted(t_ms, [t0_ms, t1_ms + 1]).tolist()
        if (np.ascontiguousarray(values[rows, low:high]).view(np.int64) == STALE_BITS).all():
            return
        values = values.copy()
        values[rows, low:high] = STALE_NAN
        first, end = header.id << ID_BITS, header.id + 1 << ID_BITS
        is_empty = bool((values.view(np.int64) == STALE_BITS).all())
        sealed = seal(header.id, layout.id, t_ms, values)
        with self._blocks.publication:
            with self._database.write() as connection:
                connection.execute(delete(chunk).where(chunk.c.id >= first, chunk.c.id < end))
                if is_empty:
                    connection.execute(delete(block).where(block.c.id == header.id))
                else:
                    connection.execute(update(block).where(block.c.id == header.id).values(times=sealed.times))
                    connection.execute(insert(chunk), sealed.rows)
            if is_empty:
                self._blocks.remove([header.id])

    def _erase_minutes(self, header: Block, series_ids: IntArray, t0_ms: int, t1_ms: int) -> None:
        """Write a rollup without these minutes."""
        changed: dict[int, bytes | None] = {}
        with self._database.read() as connection:
            times = connection.execute(select(rollup_block.c.times).where(rollup_block.c.id == header.id)).scalar()
            if times is None:
                return
            keys = [header.id << ID_BITS | series_id for series_id in series_ids.tolist()]
            rows: dict[int, Any] = {}
            for start in range(0, len(keys), 500):
                some = select(rollup_chunk).where(rollup_chunk.c.id.in_(keys[start : start + 500]))
                rows |= {row.id: row.data for row in connection.execute(some)}
        t_ms = decode_times(times)
        low, high = np.searchsorted(t_ms, [t0_ms - MINUTE_MS + 1, t1_ms + 1]).tolist()
        for key, data in rows.items():
            columns = unpack(data, len(ROLLUP_COLUMNS), header.n)
            if not columns[COUNT, low:high].any():
                continue
            columns[:, low:high] = np.nan
            columns[COUNT, low:high] = 0
            for i in {low, high - 1}:
                if t_ms[i] < t0_ms or t_ms[i] + MINUTE_MS - 1 > t1_ms:
                    self._recount(columns, i, int(t_ms[i]), key & (1 << ID_BITS) - 1)
            changed[key] = pack(list(columns)) if columns[COUNT].any() else None
        if not changed:
            return
        with self._rollup_blocks.publication:
            with self._database.write() as connection:
                for key, packed in changed.items():
                    if packed is None:
                        connection.execute(delete(rollup_chunk).where(rollup_chunk.c.id == key))
                    else:
                        connection.execute(update(rollup_chunk).where(rollup_chunk.c.id == key).values(data=packed))
                first, end = header.id << ID_BITS, header.id + 1 << ID_BITS
                left = connection.execute(
                    select(rollup_chunk.c.id).where(rollup_chunk.c.id >= first, rollup_chunk.c.id < end).limit(1)
                ).first()
                if left is None:
                    connection.execute(update(block).where(block.c.rollup_id == header.id).values(rollup_id=None))
                    connection.execute(delete(rollup_block).where(rollup_block.c.id == header.id))
            if left is None:
                self._rollup_blocks.remove([header.id])

    def _recount(self, columns: FloatArray, i: int, minute_ms: int, series_id: int) -> None:
        """Make one minute of one series anew from its samples, as far as these still exist."""
        until_ms = minute_ms + MINUTE_MS - 1
        ids = np.array([series_id], np.int64)
        pieces = []
        for layout in self._layouts.of_series(series_id):
            rolled = [one for one in self._blocks.overlapping(layout.id, minute_ms, until_ms) if one.rolled]
            if rolled:
                pieces += self._chunks.read([Wanted(ids, rolled, minute_ms, until_ms)], keep=False)[0]
        t_ms, values = merge([piece for _, piece in sorted(pieces, key=lambda one: one[0])], 1)
        if len(t_ms):
            columns[:, i] = minutes(t_ms, values)[1][:, 0, 0]
