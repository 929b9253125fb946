"""Store: the storage room as one part: opened, started, stopped and closed together."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from metrics.clock import Clock
from metrics.frame import FloatArray, IntArray
from metrics.paths import RuntimePaths
from metrics.series import Series
from storage.annotations import Annotations
from storage.archive import Archive
from storage.audit import Audit
from storage.blocks import Blocks
from storage.breaks import Breaks
from storage.bulk import Bulk
from storage.chunks import ChunkReader
from storage.compaction import Compaction, Rewritten
from storage.database import Database
from storage.deferred import Deferred
from storage.deletion import Deletion
from storage.groups import Groups
from storage.health import StorageUnavailable, StoreHealth
from storage.ingest import Ingest, IngestResult
from storage.jobruns import JobRuns
from storage.keys import SeriesKey
from storage.layouts import Layouts
from storage.live import LiveRing
from storage.matching import MatcherLike, SeriesIndex
from storage.migrations import migrate
from storage.options import DatabaseOptions, StorageOptions
from storage.profiles import Profiles
from storage.reader import Reader
from storage.retention import Retention
from storage.ring import NEVER_MS
from storage.rollups import RollupReader, RollupWriter
from storage.saved_views import SavedViews
from storage.settlements import Settlements
from storage.tables import block as block_table
from storage.tables import rollup_block as rollup_block_table
from storage.witness import CommitWitness

if TYPE_CHECKING:
    from storage.remote.writer import RemoteWriter

log = logging.getLogger(__name__)

_AFTER_SECOND_S = 0.03
_CHECKPOINT_EVERY = 8  # seconds
_RETRY_S = 10.0
_STOP_S = 15.0


class Store:
    """Numbers and records of one Deskvigil.

    live takes frames, archive makes them durable, reader answers; write() and read() are for the
    relational tables. Open with `Store.open`; `start` begins to write, `close` ends everything.
    """

    def __init__(
        self,
        options: StorageOptions,
        database: Database,
        series_database: Database,
        clock: Clock,
        helpers: int | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self.database = database
        self.series_database = series_database
        self.index = SeriesIndex(options.max_series)
        self._layouts = Layouts(self.index)
        self._blocks, self._rollup_blocks = Blocks(), Blocks()
        self.live = LiveRing(self.index, self._layouts, options, self._archived_until_ms)
        self.archive = Archive(series_database, self.live, self._layouts, self._blocks, options, clock)
        self._ingest = Ingest(
            series_database,
            self.index,
            self._layouts,
            self._blocks,
            self.archive.new_block_id,
            self.archive.due,
            options,
            clock,
        )
        self._chunks = chunks = ChunkReader(
            series_database,
            self._layouts,
            options.cache_bytes,
            options.column_cache_bytes,
            options.select_max_samples,
            helpers,
        )
        self.bulk = Bulk(series_database, self.index, self._layouts, self._blocks, self.archive.new_block_id, clock)
        groups = Groups(self.index, self.live, self._layouts, self._ingest)
        rollups = RollupReader(series_database, self._rollup_blocks, chunks)
        self.reader = Reader(
            self.index,
            self._layouts,
            groups,
            self.archive,
            self._ingest,
            self._blocks,
            chunks,
            rollups,
            lambda: self.retention.raw_since_ms,
        )
        self.rollup_writer = RollupWriter(series_database, self._layouts, self._blocks, self._rollup_blocks, chunks)
        self.compaction = Compaction(
            series_database,
            self._layouts,
            self.archive,
            self._ingest,
            self._blocks,
            self._rollup_blocks,
            chunks,
            rollups,
            self.rollup_writer,
            clock,
        )
        self.compaction.on_rewritten = lambda old, new: self.on_rewritten(old, new)
        self.on_rewritten: Rewritten = lambda old, new: None
        """Called after blocks were joined: the ids that are gone, and those that hold their samples now."""
        self.retention = Retention(
            database,
            series_database,
            self.live,
            self._layouts,
            self.archive,
            self._ingest,
            self._blocks,
            self._rollup_blocks,
            options,
            clock,
        )
        self.remote = self._forwarding(chunks) if options.url else None
        self.deferred = Deferred(database, clock)
        self.annotations = Annotations(database, clock, self.deferred)
        self.audit = Audit(database, clock)
        self._deletion = Deletion(
            series_database,
            self.index,
            self.live,
            self._layouts,
            self.archive,
            self._blocks,
            self._rollup_blocks,
            chunks,
            self.audit,
            lambda: self.seal(everything=True),
            self.retention.drop_unused,
            self.rollup_writer.rolling,
            clock,
        )
        self.saved_views = SavedViews(database, clock)
        self.profiles = Profiles(database, clock)
        self.breaks = Breaks(database, clock)
        self.settlements = Settlements(database)
        self.job_runs = JobRuns(database, clock, self.deferred)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._witness = CommitWitness(options.commit_socket) if options.commit_socket else None
        self._closed = False

    @classmethod
    def open(
        cls,
        options: StorageOptions,
        paths: RuntimePaths,
        clock: Clock,
        *,
        database: DatabaseOptions | None = None,
        helpers: int | None = None,
    ) -> Store:
        """Open or make the databases, bring their tables up to date, and read back what was not sealed.

        Raises DeskvigilError with a message for a person: folder read-only, disk full, file damaged,
        in use by another process, or written by a newer version. helpers: how many threads may help to decode.
        """
        where = database or DatabaseOptions()
        series_database = Database.sqlite(paths.database, where, clock)
        relational = series_database
        try:
            if where.url:
                relational = Database(where.url, where, clock)
            for one in {id(d): d for d in (series_database, relational)}.values():
                migrate(one)
            store = cls(options, relational, series_database, clock, helpers)
            store._load()
        except BaseException:
            relational.close()
            series_database.close()
            raise
        return store

    @property
    def options(self) -> StorageOptions:
        return self._options

    def start(self) -> None:
        """Begin to write once a second, and to seal; does nothing where it has begun."""
        if self._threads:
            return
        self._stopping.clear()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._write_each_second, "storage-writer"), (self._seal_when_due, "storage-sealer"))
        ]
        for thread in self._threads:
            thread.start()
        self.deferred.start()
        if self.remote is not None:
            self.remote.start()

    def stop(self) -> None:
        """End the threads and write what waits; does nothing where they have ended. Takes 15 s at most."""
        self._stopping.set()
        self.archive.due.set()
        for thread in self._threads:
            thread.join(_STOP_S / 2)
            if thread.is_alive():
                log.warning("thread %s did not end in time", thread.name)
        self._threads = []
        self.archive.flush()
        self.deferred.stop()
        if self.remote is not None:
            self.remote.stop()

    def close(self) -> None:
        """Stop, and let go of the databases."""
        if self._closed:
            return
        self.stop()
        self._closed = True
        self._chunks.close()
        if self._witness is not None:
            self._witness.close()
        if self.remote is not None:
            self.remote.close()
        if self.database is not self.series_database:
            self.database.close()
        self.series_database.close()

    def write(self) -> AbstractContextManager[Connection]:
        """The one write transaction of the relational tables; see Database.write."""
        return self.database.write()

    def read(self) -> AbstractContextManager[Connection]:
        """A snapshot of the relational tables; see Database.read."""
        return self.database.read()

    def committed(self, token: str) -> bool:
        """What became of a transaction whose answer was lost; see Database.committed."""
        return self.database.committed(token)

    def ingest(self, series: Sequence[Series], t_ms: Sequence[IntArray], values: Sequence[FloatArray]) -> IngestResult:
        """Store samples from outside: for each series times int64 [n], any order, and values float64 [n].

        Durable and readable when it returns. Raises StorageUnavailable, having stored nothing.
        """
        return self._ingest.store(series, t_ms, values)

    def ingest_columns(
        self, keys: Sequence[SeriesKey], counts: IntArray, t_ms: IntArray, values: FloatArray
    ) -> IngestResult:
        """Store samples from outside in runs by series: counts[i] of them are keys[i]'s; see Ingest.store_columns.

        Durable and readable when it returns. Raises StorageUnavailable, having stored nothing.
        """
        return self._ingest.store_columns(keys, counts, t_ms, values)

    def delete_series(self, matchers: Sequence[MatcherLike], t0_ms: int, t1_ms: int, who: str) -> int:
        """Delete the samples of matching series with t0 <= t <= t1, for good; see Deletion.delete."""
        return self._deletion.delete(matchers, t0_ms, t1_ms, who)

    def seal(self, everything: bool = False) -> int:
        """Seal complete blocks, or all frames and ingested samples; returns how many. Raises StorageUnavailable."""
        sealed = self.archive.seal_closed(everything)
        return sealed + (self._ingest.seal() if self._ingest.check_due(everything) else 0)

    def forget_decoded(self) -> None:
        """Drop what is kept decoded: memory is wanted, or a measurement should begin without it."""
        self._chunks.forget()

    def health(self) -> StoreHealth:
        """Whether everything is stored that should be; else why not, and since when."""
        numbers = self.numbers_health()
        return self.database.health if numbers.ok else numbers

    def numbers_health(self) -> StoreHealth:
        """The same of the numbers only, which lie in the SQLite file also where the rest is elsewhere."""
        archive = self.archive.health
        return self.series_database.health if archive.ok else archive

    def stats(self) -> dict[Series, float]:
        """Return the figures of metrics/catalogue/storage.py."""
        counts = self.archive.counts
        figures = {
            "degraded": float(not self.health().ok),
            "frames_total": counts.frames,
            "commits_total": counts.commits,
            "commit_seconds_total": counts.commit_seconds,
            "last_commit_seconds": counts.last_commit_seconds,
            "failed_commits_total": counts.failed_commits,
            "backlog_frames": self.archive.backlog_frames,
            "dropped_frames_total": counts.dropped_frames,
            "refused_frames_total": self.live.refused_frames,
            "unsealed_frames": self.archive.unsealed_frames,
            "sealed_blocks_total": counts.sealed_blocks,
            "seal_seconds_total": counts.seal_seconds,
            "blocks": len(self._blocks),
            "series": len(self.index),
            "ring_bytes": self.live.bytes,
            "database_bytes": _size(self.series_database.path),
            "wal_bytes": _size(self.series_database.path.with_name(self.series_database.path.name + "-wal")),
            "ingested_samples_total": self._ingest.accepted,
            "rejected_samples_total": self._ingest.rejected,
            "unsealed_samples": self._ingest.unsealed_samples,
            "callback_errors_total": self.live.callback_errors,
            "capped_blocks_total": self.retention.capped_blocks,
            "decoded_bytes": self._chunks.bytes,
            "relational_degraded": float(not self.database.health.ok),
            "deferred_writes": self.deferred.pending,
            "dropped_writes_total": self.deferred.dropped,
        }
        return {Series(f"deskvigil_storage_{name}"): float(value) for name, value in figures.items()}

    def _load(self) -> None:
        with self.series_database.read() as connection:
            self._layouts.load(connection)
            self._blocks.load(connection, block_table)
            self._rollup_blocks.load(connection, rollup_block_table)
        self.retention.load()
        frames = self.archive.recover()
        self._ingest.load()
        self.live.subscribe(self.archive.take)
        if self._witness is not None:
            self.archive.on_commit(self._witness)
        if self.remote is not None:
            self.remote.load()
            self.archive.on_commit(self.remote.wake)
            self.on_rewritten = self.remote.unsent.rewritten
        interrupted = self.job_runs.recover()
        log.info("%d series, %d unsealed frames read back, %d jobs interrupted", len(self.index), frames, interrupted)

    def _forwarding(self, chunks: ChunkReader) -> RemoteWriter:
        options = self._options
        # Only where it is set: an HTTP client costs a tenth of a second of everybody's start.
        from storage.remote.client import RemoteClient
        from storage.remote.options import endpoint
        from storage.remote.unsent import Unsent
        from storage.remote.writer import RemoteWriter

        to = endpoint(options.url, options.write_url, options.password, options.bearer_token, options.headers)
        unsent = Unsent(
            self.series_database,
            self.index,
            self._layouts,
            self.archive,
            self._blocks,
            self._ingest,
            chunks,
            options.external_labels,
            self._clock,
        )
        client = RemoteClient(to, options.remote_timeout_s, options.ca_file, connections=1)
        return RemoteWriter(unsent, client, self.series_database, options, self._clock)

    def _archived_until_ms(self, collector: str) -> int:
        """The latest instant that is stored of a collector."""
        newest = NEVER_MS
        for layout in self._layouts.of_collector(collector):
            for found in (self._blocks.newest_ms(layout.id), self.archive.newest_ms(layout.id)):
                newest = max(newest, NEVER_MS if found is None else found)
        return newest

    def _write_each_second(self) -> None:
        """Just after each second of the wall clock: then the frames of the second before are complete.

        Every few seconds the log is written back too: between two commits, and a little at a time, so that no
        commit has to do it (20 to 50 ms for a minute's log).
        """
        for second in itertools.count(1):
            past_second_s = self._clock.now_ns() % 1_000_000_000 / 1e9
            if self._clock.wait(self._stopping, 1.0 - past_second_s + _AFTER_SECOND_S):
                return
            try:
                self.archive.tick(self._clock.now_ns())
                if second % _CHECKPOINT_EVERY == 0 and self.archive.health.ok:
                    self.series_database.checkpoint()
            except Exception:
                log.exception("a tick of the archive failed; the next one tries again")

    def _seal_when_due(self) -> None:
        while not self._stopping.is_set():
            self.archive.due.wait(_RETRY_S)
            self.archive.due.clear()
            if self._stopping.is_set():
                return
            try:
                self.seal()
            except StorageUnavailable as error:
                log.warning("blocks stay unsealed for now: %s", error)
            except Exception:
                log.exception("sealing failed")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
