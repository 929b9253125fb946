"""Ingest: samples from outside, at any time and in any order, durable when the call returns."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import cramjam
import numpy as np
from sqlalchemy import delete, select

from metrics.clock import Clock
from metrics.frame import FloatArray, IntArray
from metrics.series import Series
from storage.blocks import Blocks
from storage.database import Database
from storage.health import StorageUnavailable
from storage.keys import SeriesKey
from storage.layouts import INGESTED, Layout, Layouts
from storage.matching import SeriesIndex, SeriesLimitError
from storage.merge import Piece, sorted_unique
from storage.options import StorageOptions
from storage.sealing import SealedBlock, insert_sealed, seal
from storage.tables import ingest as ingest_table

MAX_T_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_CHUNK_SAMPLES = 7_200
_TIER = 8
_GROUP_SAMPLES = 200_000
"""About the most samples that share a transaction, so that the first of them does not wait for long."""


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


class _Waiting:
    """Samples that a caller of `store_columns` wants stored, and what became of them."""

    __slots__ = ("counts", "error", "keys", "result", "t_ms", "values")

    def __init__(self, keys: Sequence[SeriesKey], counts: IntArray, t_ms: IntArray, values: FloatArray) -> None:
        self.keys = keys
        self.counts = counts
        self.t_ms = t_ms
        self.values = values
        self.result: IngestResult | None = None
        self.error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None


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
        self.sealing = threading.Lock()
        """Held while samples are sealed; who holds it keeps them from being sealed."""
        self._waiting: deque[_Waiting] = deque()
        # (being sealed, arriving): one attribute, so that a reader never misses what moves from right to left.
        self._samples: tuple[tuple[_Batch, ...], tuple[_Batch, ...]] = ((), ())
        self._row_ids = itertools.count(1)
        self._last_row = 0
        self._sealing_row = 0
        self._since_ns: int | None = None
        self._series: set[int] = set()
        self._due = due
        self.on_sealed: Callable[[Sequence[int], int], None] = lambda block_ids, last_row: None
        """Told of each seal, when it is durable and before its blocks can be read: block ids, the last row they hold."""
        self.accepted = 0
        self.rejected = 0

    @property
    def last_row(self) -> int:
        """The newest row of unsealed samples that was written; 0: none since the table was empty."""
        return self._last_row

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

    def store_columns(
        self, keys: Sequence[SeriesKey], counts: IntArray, t_ms: IntArray, values: FloatArray
    ) -> IngestResult:
        """Store samples that lie in runs: counts[i] of them are keys[i]'s; t_ms int64 [n], values float64 [n], any order.

        Like `store`, for many series at once: a key remembers its id. Calls that meet are written in one
        transaction, by the first of them to get its turn.
        """
        mine = _Waiting(keys, counts, t_ms, values)
        self._waiting.append(mine)
        with self._layouts.existence, self._lock:
            while not mine.is_done:
                self._store_waiting()
        if mine.error is not None:
            raise mine.error
        assert mine.result is not None  # noqa: S101 - is_done says so
        return mine.result

    def _store_waiting(self) -> None:
        """Write what waits as one batch; each waiting call gets its result, or the error that befell all."""
        room = self._options.ingest_max_samples - self.unsealed_samples
        group: list[tuple[_Waiting, _Batch, int, str]] = []
        while self._waiting and (not group or sum(len(batch.ids) for _, batch, _, _ in group) < _GROUP_SAMPLES):
            one = self._waiting.popleft()
            try:
                batch, rejected, reason = self._resolved(one)
            except Exception as error:
                one.error = error
                continue
            if len(batch.ids) > room:
                self._due.set()
                one.error = StorageUnavailable("ingested samples come faster than they are sealed: try again later")
                continue
            room -= len(batch.ids)
            group.append((one, batch, rejected, reason))
        full = [batch for _, batch, _, _ in group if len(batch.ids)]
        try:
            if full:
                batch = _sorted(full[0]) if len(full) == 1 else _join(full)
                self._write(batch)
                self._add(batch)
        except BaseException as error:
            for one, _, _, _ in group:
                one.error = error
            return
        for one, batch, rejected, reason in group:
            self.accepted += len(batch.ids)
            self.rejected += rejected
            one.result = IngestResult(len(batch.ids), rejected, reason)

    def _resolved(self, one: _Waiting) -> tuple[_Batch, int, str]:
        """Ids, times and values of the samples that can be stored; how many cannot, and why."""
        epoch, rejected, reason = self._index.epoch, 0, ""
        for key in one.keys:
            if key.epoch != epoch:
                try:
                    key.id = self._index.intern(key.series)
                except SeriesLimitError as error:
                    key.id, reason = 0, str(error)
                    continue
                key.epoch = epoch
        counts = np.asarray(one.counts, np.int64)
        ids = np.repeat(np.array([key.id for key in one.keys], np.int64), counts)
        t_ms, values = np.asarray(one.t_ms, np.int64), np.asarray(one.values, np.float64)
        if not len(ids) == len(t_ms) == len(values):
            raise ValueError(f"{len(ids)} samples in runs, but {len(t_ms)} times and {len(values)} values")
        good = (t_ms >= 0) & (t_ms <= MAX_T_MS)
        if not good.all():
            reason = reason or "timestamps before 1970 or after 9999"
        if reason:
            good &= ids > 0
            rejected = len(good) - int(good.sum())
            ids, t_ms, values = ids[good], t_ms[good], values[good]
        return _Batch(ids, t_ms, values), rejected, reason

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
        with self.sealing:
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
        self.on_sealed([block.header.id for block in sealed], self._sealing_row)
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
        data = encode_row(batch.ids, batch.t_ms, batch.values)
        with self._database.write() as connection:
            written = self._layouts.persist(connection)
            # By hand: with a hundred rows a second the statement's making costs as much as its execution.
            connection.exec_driver_sql(
                "INSERT INTO ingest (id, n, data) VALUES (?, ?, ?)", (row_id, len(batch.ids), data)
            )
        self._layouts.persisted(written)
        self._last_row = row_id

    def _add(self, batch: _Batch) -> None:
        # Sorted by series, so each one's first place names it: fewer numbers to turn into Python's than samples.
        first = np.flatnonzero(np.diff(batch.ids, prepend=-1))
        new = set(batch.ids[first].tolist()) - self._series
        if new:
            self._series |= new
            self._index.generation.bump()
        batches = [*self._samples[1], batch]
        # Eight of a kind become one: a sample is moved a few times on its way to the seal, and a reader has few to search.
        while len(batches) >= _TIER and len(batches[-_TIER].ids) < _TIER * len(batches[-1].ids):
            batches[-_TIER:] = [_join(batches[-_TIER:])]
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
            yield ids, seal(self._new_block_id(), 0, times, (column for _, column in members))


def _with_layout(block: SealedBlock, layout: Layout) -> SealedBlock:
    return replace(block, header=replace(block.header, layout_id=layout.id))


def _sorted(batch: _Batch) -> _Batch:
    if (batch.ids[1:] >= batch.ids[:-1]).all():
        return batch
    order = np.argsort(batch.ids, kind="stable")
    return _Batch(batch.ids[order], batch.t_ms[order], batch.values[order])


def _join(batches: Sequence[_Batch]) -> _Batch:
    ids = np.concatenate([batch.ids for batch in batches])
    t_ms = np.concatenate([batch.t_ms for batch in batches])
    values = np.concatenate([batch.values for batch in batches])
    return _sorted(_Batch(ids, t_ms, values))


def encode_row(ids: IntArray, t_ms: IntArray, values: FloatArray) -> bytes:
    """The bytes of a row of `ingest`: values as they are, ids and times squeezed, because they repeat and values do not.

    What is written is written three times (log, file, sealed), so a third of the bytes is a third of the time.
    """
    integers, numbers = ids.astype("<i8").tobytes() + t_ms.astype("<i8").tobytes(), values.astype("<f8").tobytes()
    squeezed = bytes(cramjam.snappy.compress_raw(integers))
    # Where nothing is gained the plain form, which is known by its length, must not be met by chance.
    return integers + numbers if len(squeezed) >= len(integers) else numbers + squeezed


def decode_row(n: int, data: bytes) -> tuple[IntArray, IntArray, FloatArray]:
    """Ids, times and values of a row of n samples, in the order in which they are to be read.

    A row of 24 bytes a sample has ids, times and values side by side; so have all of version 0.1.
    """
    if len(data) == 24 * n:
        integers = np.frombuffer(data, np.dtype("<i8"), 2 * n)
        return integers[:n], integers[n:], np.frombuffer(data, np.dtype("<f8"), n, offset=16 * n)
    integers = np.frombuffer(bytes(cramjam.snappy.decompress_raw(data[8 * n :])), np.dtype("<i8"), 2 * n)
    return integers[:n], integers[n:], np.frombuffer(data, np.dtype("<f8"), n)


def _decode(n: int, data: bytes) -> _Batch:
    return _Batch(*decode_row(n, data))
