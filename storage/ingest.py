"""Ingest: samples from outside, at any time and in any order, durable when the call returns."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import delete, insert, select

from metrics.clock import Clock
from metrics.frame import FloatArray, IntArray
from metrics.series import Series
from storage.blocks import Blocks
from storage.database import Database
from storage.health import StorageUnavailable
from storage.layouts import INGESTED, Layout, Layouts
from storage.matching import SeriesIndex, SeriesLimitError
from storage.merge import Piece, sorted_unique
from storage.options import StorageOptions
from storage.sealing import SealedBlock, insert_sealed, seal
from storage.tables import ingest as ingest_table

MAX_T_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_CHUNK_SAMPLES = 7_200


@dataclass(frozen=True, slots=True)
class IngestResult:
    """How many samples were stored and how many were not; reason: why not, "" where all were."""

    accepted: int
    rejected: int
    reason: str


@dataclass(frozen=True, eq=False, slots=True)
class _Batch:
    """Samples sorted by series: ids, t_ms int64 [n], values float64 [n]; later-written ones behind earlier ones."""

    ids: IntArray
    t_ms: IntArray
    values: FloatArray


class Ingest:
    """Unsealed ingested samples, in the database and in memory, and their sealing. Thread-safe.

    Samples lie in sorted batches that are merged as they grow, so that few batches have to be
    searched. A sample that comes again replaces the earlier one. `due` is set when there is enough to seal.
    """

    def __init__(
        self,
        database: Database,
        index: SeriesIndex,
        layouts: Layouts,
        blocks: Blocks,
        new_block_id: Callable[[], int],
        due: threading.Event,
        options: StorageOptions,
        clock: Clock,
    ) -> None:
        self._database = database
        self._index = index
        self._layouts = layouts
        self._blocks = blocks
        self._new_block_id = new_block_id
        self._options = options
        self._clock = clock
        self._lock = threading.Lock()
        self._seal_lock = threading.Lock()
        # (being sealed, arriving): one attribute, so that a reader never misses what moves from right to left.
        self._samples: tuple[tuple[_Batch, ...], tuple[_Batch, ...]] = ((), ())
        self._row_ids = itertools.count(1)
        self._last_row = 0
        self._sealing_row = 0
        self._since_ns: int | None = None
        self._series: set[int] = set()
        self._due = due
        self.accepted = 0
        self.rejected = 0

    @property
    def unsealed_samples(self) -> int:
        return sum(len(batch.ids) for batches in self._samples for batch in batches)

    def has(self, series_id: int) -> bool:
        """Whether a series ever came in by ingest."""
        return series_id in self._series

    def load(self) -> None:
        """Read back what was not sealed when the program ended, and which series were ingested before."""
        with self._database.read() as connection:
            rows = connection.execute(select(ingest_table).order_by(ingest_table.c.id)).all()
        for row in rows:
            self._last_row = row.id
            self._add(_decode(row.n, row.data))
        self._row_ids = itertools.count(self._last_row + 1)
        for layout_id in self._blocks.layouts():
            layout = self._layouts.get(layout_id)
            if layout.collector == INGESTED:
                self._series.update(layout.series_ids.tolist())

    def store(self, series: Sequence[Series], t_ms: Sequence[IntArray], values: Sequence[FloatArray]) -> IngestResult:
        """Store samples of some series: for each, times int64 [n] in any order and values float64 [n].

        Durable and readable when it returns. Samples before 1970 or after 9999 and series beyond
        the limit are left out and counted. Raises StorageUnavailable where the database cannot
        be written, or while sealing is far behind.
        """
        with self._layouts.existence, self._lock:
            batch, rejected, reason = self._accept(series, t_ms, values)
            if len(batch.ids):
                if self.unsealed_samples + len(batch.ids) > self._options.ingest_max_samples:
                    self._due.set()
                    raise StorageUnavailable("ingested samples come faster than they are sealed: try again later")
                self._write(batch)
                self._add(batch)
            self.accepted += len(batch.ids)
            self.rejected += rejected
        return IngestResult(len(batch.ids), rejected, reason)

    def windows(self, series_ids: IntArray, t0_ms: int, t1_ms: int) -> dict[int, list[Piece]]:
        """Return the unsealed samples of some series, by position in series_ids, in the order of writing."""
        found: dict[int, list[Piece]] = {}
        for batch in itertools.chain(*self._samples):
            low = batch.ids.searchsorted(series_ids)
            high = batch.ids.searchsorted(series_ids, "right")
            for position in np.flatnonzero(high > low).tolist():
                start, stop = int(low[position]), int(high[position])
                times, values = sorted_unique(batch.t_ms[start:stop], batch.values[None, start:stop])
                first, last = np.searchsorted(times, [t0_ms, t1_ms + 1]).tolist()
                if last > first:
                    found.setdefault(position, []).append((times[first:last], values[:, first:last]))
        return found

    def check_due(self, everything: bool = False) -> bool:
        """Whether there is something to seal: enough samples, or some that have waited long enough."""
        if self._samples[0]:
            return True  # an attempt to seal them has failed
        if self._since_ns is None:
            return False
        waited_ms = (self._clock.monotonic_ns() - self._since_ns) // 1_000_000
        enough = self.unsealed_samples >= self._options.ingest_seal_samples
        return everything or enough or waited_ms >= self._options.seal_minutes * 60_000

    def seal(self) -> int:
        """Seal all samples that are in; returns how many blocks. Raises StorageUnavailable, losing nothing."""
        with self._seal_lock:
            with self._lock:
                if not self._samples[0]:  # else the last attempt failed: finish that one first
                    self._samples = (self._samples[1], ())
                    self._sealing_row = self._last_row
                    self._since_ns = None
            if not self._samples[0]:
                return 0
            encoded = list(self._encode(self._samples[0]))
            with self._layouts.existence:
                self._store_sealed([_with_layout(block, self._layouts.intern(INGESTED, ids)) for ids, block in encoded])
            return len(encoded)

    def unsealed_series(self) -> set[int]:
        """Series that have samples here, and perhaps nowhere else."""
        return {series_id for batch in itertools.chain(*self._samples) for series_id in np.unique(batch.ids).tolist()}

    def forget(self, series_ids: Collection[int]) -> None:
        """Take note that these series do not exist any more."""
        self._series.difference_update(series_ids)

    def _store_sealed(self, sealed: Sequence[SealedBlock]) -> None:
        with self._database.write() as connection:
            written = self._layouts.persist(connection)
            for block in sealed:
                insert_sealed(connection, block, self._clock.now_ns() // 1_000_000)
            connection.execute(delete(ingest_table).where(ingest_table.c.id <= self._sealing_row))
        self._layouts.persisted(written)
        # First into the blocks, then out of memory: a reader, who looks the other way round, never misses it.
        self._blocks.add([block.header for block in sealed])
        self._index.generation.bump()
        with self._lock:
            self._samples = ((), self._samples[1])

    def _accept(
        self, series: Sequence[Series], t_ms: Sequence[IntArray], values: Sequence[FloatArray]
    ) -> tuple[_Batch, int, str]:
        ids, times, columns, rejected, reason = [], [], [], 0, ""
        for one, t, v in zip(series, t_ms, values, strict=True):
            if len(t) != len(v):
                raise ValueError(f"{len(t)} times but {len(v)} values for {one}")
            try:
                series_id = self._index.intern(one)
            except SeriesLimitError as error:
                rejected, reason = rejected + len(t), str(error)
                continue
            t = np.asarray(t, np.int64)
            v = np.asarray(v, np.float64)
            good = (t >= 0) & (t <= MAX_T_MS)
            if not good.all():
                rejected, reason = rejected + int((~good).sum()), "timestamps before 1970 or after 9999"
                t, v = t[good], v[good]
            ids.append(np.full(len(t), series_id, np.int64))
            times.append(t)
            columns.append(v)
        if not ids:
            return _Batch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)), rejected, reason
        return _sorted(_Batch(np.concatenate(ids), np.concatenate(times), np.concatenate(columns))), rejected, reason

    def _write(self, batch: _Batch) -> None:
        row_id = next(self._row_ids)
        data = batch.ids.tobytes() + batch.t_ms.tobytes() + batch.values.tobytes()
        with self._database.write() as connection:
            written = self._layouts.persist(connection)
            connection.execute(insert(ingest_table), {"id": row_id, "n": len(batch.ids), "data": data})
        self._layouts.persisted(written)
        self._last_row = row_id

    def _add(self, batch: _Batch) -> None:
        new = set(batch.ids.tolist()) - self._series
        if new:
            self._series |= new
            self._index.generation.bump()
        batches = [*self._samples[1], batch]
        while len(batches) > 1 and len(batches[-2].ids) < 2 * len(batches[-1].ids):
            later, earlier = batches.pop(), batches.pop()
            batches.append(_join((earlier, later)))
        self._samples = (self._samples[0], tuple(batches))
        if self._since_ns is None:
            self._since_ns = self._clock.monotonic_ns()
        if self.check_due():
            self._due.set()

    def _encode(self, batches: Sequence[_Batch]) -> Iterator[tuple[IntArray, SealedBlock]]:
        """Series with the same times share a block; long ones are cut, so that a short read decodes little."""
        whole = _join(batches)
        groups: dict[bytes, tuple[IntArray, list[tuple[int, FloatArray]]]] = {}
        ids, starts = np.unique(whole.ids, return_index=True)
        for series_id, start, stop in zip(ids.tolist(), starts, [*starts[1:], len(whole.ids)], strict=True):
            times, values = sorted_unique(whole.t_ms[start:stop], whole.values[None, start:stop])
            for first in range(0, len(times), _CHUNK_SAMPLES):
                part = times[first : first + _CHUNK_SAMPLES]
                column = values[0, first : first + _CHUNK_SAMPLES]
                groups.setdefault(part.tobytes(), (part, []))[1].append((series_id, column))
        for times, members in groups.values():
            ids = np.array([series_id for series_id, _ in members], np.int64)
            rows = np.stack([column for _, column in members])
            yield ids, seal(self._new_block_id(), 0, ids.tolist(), times, rows)


def _with_layout(block: SealedBlock, layout: Layout) -> SealedBlock:
    return replace(block, header=replace(block.header, layout_id=layout.id))


def _sorted(batch: _Batch) -> _Batch:
    order = np.argsort(batch.ids, kind="stable")
    return _Batch(batch.ids[order], batch.t_ms[order], batch.values[order])


def _join(batches: Sequence[_Batch]) -> _Batch:
    ids = np.concatenate([batch.ids for batch in batches])
    t_ms = np.concatenate([batch.t_ms for batch in batches])
    values = np.concatenate([batch.values for batch in batches])
    return _sorted(_Batch(ids, t_ms, values))


def _decode(n: int, data: bytes) -> _Batch:
    integers = np.frombuffer(data, np.dtype("<i8"), 2 * n)
    return _Batch(integers[:n], integers[n:], np.frombuffer(data, np.dtype("<f8"), n, offset=16 * n))
