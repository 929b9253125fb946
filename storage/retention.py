"""Retention: deletes what is older than the options say, in small transactions."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select

from metrics.clock import Clock
from storage.archive import Archive
from storage.blocks import ID_BITS, Block, Blocks
from storage.database import Database
from storage.ingest import Ingest
from storage.layouts import Layouts
from storage.live import LiveRing
from storage.options import StorageOptions
from storage.rollups import DAY_MS
from storage.tables import (
    alert_event,
    alert_state,
    block,
    chunk,
    job_run,
    meta,
    notification,
    outbox,
    rollup_block,
    rollup_chunk,
    suppression,
)

_BLOCKS_AT_ONCE = 10
_BLOCKS_AT_ONCE_CAPPED = 10
_PAUSE_S = 0.002
_RAW_SINCE = "raw_since_ms"
_ROWS_AT_ONCE = 5_000
_ROLLUP_GRACE_MS = 2 * DAY_MS
_TRUSTED_STEP_NS = DAY_MS * 1_000_000


class Retention:
    """Deletes samples, rollups and histories that are too old, and series of which nothing is left.

    A wall clock that jumps forward by more than a day while the program runs is not believed:
    nothing is deleted until the next start, because a wrong date would delete everything.
    """

    def __init__(
        self,
        database: Database,
        series_database: Database,
        live: LiveRing,
        layouts: Layouts,
        archive: Archive,
        ingest: Ingest,
        blocks: Blocks,
        rollup_blocks: Blocks,
        options: StorageOptions,
        clock: Clock,
    ) -> None:
        self._database = database
        self._series_database = series_database
        self._live = live
        self._layouts = layouts
        self._archive = archive
        self._ingest = ingest
        self._blocks = blocks
        self._rollup_blocks = rollup_blocks
        self._options = options
        self._clock = clock
        self.raw_since_ms: int | None = None
        """Samples before this instant may be gone; None: nothing was deleted yet."""
        self.capped_blocks = 0
        """Blocks deleted because of storage.max_bytes."""
        self._wall_minus_monotonic_ns = clock.now_ns() - clock.monotonic_ns()

    def run(self, now_ms: int) -> str:
        """Delete everything that is due; returns what was, in words. Raises StorageUnavailable."""
        step_ns = self._clock.now_ns() - self._clock.monotonic_ns() - self._wall_minus_monotonic_ns
        if step_ns > _TRUSTED_STEP_NS:
            return f"nothing deleted: the clock was set forward by {step_ns // 3_600_000_000_000} h since the start"
        raw_ms = now_ms - self._options.raw_days * DAY_MS
        old = [b for b in self._blocks.all() if b.t1_ms < raw_ms and (b.rolled or b.t1_ms < raw_ms - _ROLLUP_GRACE_MS)]
        old.sort(key=lambda one: one.t1_ms)
        self._delete_blocks(self._blocks, old, block, chunk)
        rollup_ms = now_ms - self._options.rollup_days * DAY_MS
        old_rollups = [b for b in self._rollup_blocks.all() if b.t1_ms < rollup_ms]
        self._delete_blocks(self._rollup_blocks, old_rollups, rollup_block, rollup_chunk)
        capped = self._cap()
        series = self._drop_unused() if old or old_rollups or capped else 0
        rows = self._delete_history(now_ms - self._options.history_days * DAY_MS)
        said = f"{len(old)} blocks, {len(old_rollups)} rollups, {series} series and {rows} rows of histories deleted"
        return f"{said}, {len(capped)} blocks for storage.max_bytes" if capped else said

    def load(self) -> None:
        """Read back from when on every sample is there."""
        with self._series_database.read() as connection:
            value = connection.execute(select(meta.c.value).where(meta.c.key == _RAW_SINCE)).scalar()
        self.raw_since_ms = None if value is None else int(value)

    def _cap(self) -> list[Block]:
        """Delete the oldest blocks until what the file holds fits: samples before minutes, rolled-up ones first."""
        gone: list[Block] = []
        while self._options.max_bytes and self.bytes_held() > self._options.max_bytes:
            raw = sorted(self._blocks.all(), key=lambda one: (not one.rolled, one.t1_ms))
            some = raw[:_BLOCKS_AT_ONCE_CAPPED]
            if some:
                self._delete_blocks(self._blocks, some, block, chunk)
            else:
                some = sorted(self._rollup_blocks.all(), key=lambda one: one.t1_ms)[:_BLOCKS_AT_ONCE_CAPPED]
                self._delete_blocks(self._rollup_blocks, some, rollup_block, rollup_chunk)
            if not some:
                break
            gone += some
        self.capped_blocks += len(gone)
        return gone

    def bytes_held(self) -> int:
        """Bytes of the database file that are in use: free pages do not count."""
        with self._series_database.read() as connection:
            size, used, free = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_size", "page_count", "freelist_count")
            )
        return size * (used - free)

    def _remember_raw_since(self, connection: Connection, some: Sequence[Block]) -> int:
        since_ms = max([one.t1_ms + 1 for one in some] + [self.raw_since_ms or 0])
        connection.execute(delete(meta).where(meta.c.key == _RAW_SINCE))
        connection.execute(insert(meta), {"key": _RAW_SINCE, "value": str(since_ms)})
        return since_ms

    def drop_unused(self) -> int:
        """Forget the series of which nothing is left; returns how many."""
        return self._drop_unused()

    def _delete_blocks(self, index: Blocks, old: Sequence[Block], blocks: Table, chunks: Table) -> None:
        for start in range(0, len(old), _BLOCKS_AT_ONCE):
            some = old[start : start + _BLOCKS_AT_ONCE]
            index.remove([one.id for one in some])
            with self._series_database.write() as connection:
                for one in some:
                    low, high = one.id << ID_BITS, one.id + 1 << ID_BITS
                    connection.execute(delete(chunks).where(chunks.c.id >= low, chunks.c.id < high))
                connection.execute(delete(blocks).where(blocks.c.id.in_([one.id for one in some])))
                if index is self._blocks:
                    since_ms = self._remember_raw_since(connection, some)
            if index is self._blocks:
                self.raw_since_ms = since_ms
            time.sleep(_PAUSE_S)  # the lock is not fair: whoever waits for it needs time to wake up

    def _drop_unused(self) -> int:
        """Drop layouts without blocks and series without layouts; nobody may begin to use one meanwhile."""
        with self._layouts.existence:
            in_use = self._blocks.layouts() | self._rollup_blocks.layouts()
            in_use |= self._archive.layout_ids() | self._live.layout_ids()
            gone_layouts = self._layouts.unused(in_use)
            with self._series_database.write() as connection:
                gone_series = self._layouts.drop(connection, gone_layouts, self._ingest.unsealed_series())
            self._layouts.forget(gone_layouts, gone_series)
            self._ingest.forget(gone_series)
        return len(gone_series)

    def _delete_history(self, before_ms: int) -> int:
        """Delete old rows of histories; the audit stays, what is still to be sent, and whom a living alert was told to."""
        alive = select(alert_state.c.id)
        conditions: list[tuple[Table, ColumnElement[bool]]] = [
            (alert_event, alert_event.c.t_ms < before_ms),
            (notification, notification.c.t_ms < before_ms),
            (
                outbox,
                (outbox.c.created_ms < before_ms) & (outbox.c.status != "pending") & outbox.c.alert_id.not_in(alive),
            ),
            (suppression, (suppression.c.t_ms < before_ms) & suppression.c.alert_id.not_in(alive)),
            (job_run, job_run.c.started_ms < before_ms),
        ]
        deleted = 0
        for table, condition in conditions:
            while True:
                oldest = select(table.c.id).where(condition).limit(_ROWS_AT_ONCE)
                with self._database.write() as connection:
                    count = connection.execute(delete(table).where(table.c.id.in_(oldest))).rowcount
                deleted += count
                if count < _ROWS_AT_ONCE:
                    break
        return deleted
