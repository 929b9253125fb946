"""Retention: deletes what is older than the options say, in small transactions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Table, delete, select

from metrics.clock import Clock
from storage.archive import Archive
from storage.blocks import ID_BITS, Block, Blocks
from storage.database import Database
from storage.ingest import Ingest
from storage.layouts import Layouts
from storage.live import LiveRing
from storage.options import StorageOptions
from storage.rollups import DAY_MS
from storage.tables import alert_event, block, chunk, job_run, notification, outbox, rollup_block, rollup_chunk

_BLOCKS_AT_ONCE = 50
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
        self._wall_minus_monotonic_ns = clock.now_ns() - clock.monotonic_ns()

    def run(self, now_ms: int) -> str:
        """Delete everything that is due; returns what was, in words. Raises StorageUnavailable."""
        step_ns = self._clock.now_ns() - self._clock.monotonic_ns() - self._wall_minus_monotonic_ns
        if step_ns > _TRUSTED_STEP_NS:
            return f"nothing deleted: the clock was set forward by {step_ns // 3_600_000_000_000} h since the start"
        raw_ms = now_ms - self._options.raw_days * DAY_MS
        old = [b for b in self._blocks.all() if b.t1_ms < raw_ms and (b.rolled or b.t1_ms < raw_ms - _ROLLUP_GRACE_MS)]
        self._delete_blocks(self._blocks, old, block, chunk)
        rollup_ms = now_ms - self._options.rollup_days * DAY_MS
        old_rollups = [b for b in self._rollup_blocks.all() if b.t1_ms < rollup_ms]
        self._delete_blocks(self._rollup_blocks, old_rollups, rollup_block, rollup_chunk)
        series = self._drop_unused() if old or old_rollups else 0
        rows = self._delete_history(now_ms - self._options.history_days * DAY_MS)
        return f"{len(old)} blocks, {len(old_rollups)} rollups, {series} series and {rows} rows of histories deleted"

    def _delete_blocks(self, index: Blocks, old: Sequence[Block], blocks: Table, chunks: Table) -> None:
        for start in range(0, len(old), _BLOCKS_AT_ONCE):
            some = old[start : start + _BLOCKS_AT_ONCE]
            index.remove([one.id for one in some])
            with self._series_database.write() as connection:
                for one in some:
                    low, high = one.id << ID_BITS, one.id + 1 << ID_BITS
                    connection.execute(delete(chunks).where(chunks.c.id >= low, chunks.c.id < high))
                connection.execute(delete(blocks).where(blocks.c.id.in_([one.id for one in some])))

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
        """Delete old rows of histories; the audit stays, and so does what is still to be sent."""
        conditions: list[tuple[Table, ColumnElement[bool]]] = [
            (alert_event, alert_event.c.t_ms < before_ms),
            (notification, notification.c.t_ms < before_ms),
            (outbox, (outbox.c.created_ms < before_ms) & (outbox.c.status != "pending")),
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
