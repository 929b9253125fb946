"""Unsent: what the archive holds and the remote store has not got yet, in the order in which it came."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select

from metrics.clock import Clock
from metrics.frame import FloatArray, IntArray
from storage.archive import Archive
from storage.blocks import Block, Blocks
from storage.chunks import ChunkReader, Wanted
from storage.database import Database
from storage.ingest import Ingest, decode_row
from storage.layouts import INGESTED, Layout, Layouts
from storage.matching import SeriesIndex
from storage.remote.encode import Part, Ragged, encode_labels
from storage.remote.progress import Progress
from storage.stale import is_stale
from storage.tables import ingest as ingest_table
from storage.tail import Tail

_LABELS_KEPT = 400_000
_FAREWELL_MS = 5_000
"""How long stale markers at the end of a block wait for the block after it, which may take some of them back."""


@dataclass(eq=False, slots=True)
class Batch:
    """Samples of one request, and what is done when it is taken: (block id, samples per series), an ingest row."""

    parts: list[Part | Ragged] = field(default_factory=list)
    marks: list[tuple[int, int]] = field(default_factory=list)
    ingest_row: int | None = None
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Queue:
    """How much waits: samples, and how long the oldest of them has waited, in seconds. lost: deleted before it was sent."""

    samples: int
    age_s: float
    lost: int


@dataclass(frozen=True, eq=False, slots=True)
class _Open:
    """A block that is not sent whole: from `tail` while its frames are unsealed, else sealed."""

    id: int
    layout: Layout
    n: int
    tail: Tail | None
    sealed: Block | None

    @property
    def t0_ms(self) -> int:
        if self.tail is not None:
            return self.tail.t0_ms
        if self.sealed is None:
            raise AssertionError("a block is either unsealed or sealed")
        return self.sealed.t0_ms


@dataclass(eq=False, slots=True)
class _Row:
    """An ingest row that is being sent in pieces: samples sorted by series and time, `at` the first unsent one."""

    id: int
    ids: IntArray
    t_ms: IntArray
    values: FloatArray
    at: int = 0


class Unsent:
    """A cursor into the archive. The archive is the queue: nothing is copied, and nothing but progress is stored.

    Blocks of one collector go in the order in which they were begun. A missing reading is stored as a
    stale marker in each frame; of a run of them in a block only the first is sent. Thread-safe.
    """

    def __init__(
        self,
        database: Database,
        index: SeriesIndex,
        layouts: Layouts,
        archive: Archive,
        blocks: Blocks,
        ingest: Ingest,
        chunks: ChunkReader,
        external_labels: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._database = database
        self._index = index
        self._layouts = layouts
        self._archive = archive
        self._blocks = blocks
        self._ingest = ingest
        self._chunks = chunks
        self._external = dict(external_labels)
        self._clock = clock
        self._lock = threading.RLock()
        self._progress = Progress()
        self._sealed: dict[int, Block] = {}
        self._sealed_key: tuple[int, ...] = ()
        self._changes = 0
        self._known: dict[int, int] = {}
        self._loaded: tuple[int, IntArray, FloatArray] | None = None
        self._row: _Row | None = None
        self._row_end = 0
        self._labels: dict[int, bytes] = {}
        self._turn = 0
        self._lost = 0
        self._ingest_since_ns: int | None = None

    # --- where to begin -----------------------------------------------------------------------

    def begin(self, progress: Progress | None, *, backfill: bool) -> None:
        """Take up stored progress; without any begin with what comes from now on, or with everything."""
        with self._lock, self._database.read() as connection:
            newest_row = int(connection.execute(select(func.max(ingest_table.c.id))).scalar() or 0)
            tails = self._tails()
            known = {block.id for block in self._blocks.all()} | set(tails)
            below = self._archive.new_block_id()
            found = progress or Progress()
            if progress is None and not backfill:
                found.finish_all_but(set(tails), below)
                for tail in tails.values():
                    found.advance(tail.block_id, tail.n)
                found.ingest_row = newest_row
            else:
                found.finish_all_but({block_id for block_id in known if not found.is_done(block_id)}, below)
                if found.ingest_row > newest_row:  # rows are numbered anew once the table is empty
                    found.ingest_row, found.ingest_at = newest_row, 0
            self._progress = found
        self._ingest.on_sealed = self.ingest_sealed

    def progress(self) -> str:
        """The progress as text to be stored."""
        with self._lock:
            return str(self._progress)

    # --- what comes next ----------------------------------------------------------------------

    def next(self, most: int) -> Batch | None:
        """Return about `most` samples, None where nothing waits; the same again until they are `done`."""
        with self._lock:
            batch = Batch()
            turn = self._first_of_each_collector()
            self._turn += 1
            start = self._turn % len(turn) if turn else 0
            for one in (*turn[start:], *turn[:start]):
                if batch.samples >= most:
                    break
                self._take(one, batch, most)
            if batch.samples < most:
                self._take_row(batch, most)
            return batch if batch.marks or batch.ingest_row is not None or batch.parts else None

    def done(self, batch: Batch) -> None:
        """The batch was taken, or refused for good."""
        with self._lock:
            for block_id, sent in batch.marks:
                if not self._progress.is_done(block_id):
                    self._progress.advance(block_id, sent)
            if self._row is not None and batch.ingest_row == self._row.id:
                self._progress.ingest_row, self._progress.ingest_at = self._row.id, 0
                self._row = None
            elif self._row is not None:
                self._row.at = self._progress.ingest_at = self._row_end
            self._refresh()

    def queue(self) -> Queue:
        """How much waits now."""
        with self._lock:
            now_ms = self._clock.now_ns() // 1_000_000
            samples, oldest_ms = 0, now_ms
            for one in self._refresh().values():
                sent = self._progress.sent(one.id)
                if sent < one.n:
                    samples += (one.n - sent) * len(one.layout.series_ids)
                    if one.layout.collector != INGESTED:
                        oldest_ms = min(oldest_ms, self._time_of(one, sent))
            age_s = (now_ms - oldest_ms) / 1000
            rows = self._ingest.last_row > self._progress.ingest_row
            if rows:
                samples += self._ingest.unsealed_samples  # an upper bound: some of them may be sent
                now_ns = self._clock.monotonic_ns()
                self._ingest_since_ns = now_ns if self._ingest_since_ns is None else self._ingest_since_ns
                age_s = max(age_s, (now_ns - self._ingest_since_ns) / 1e9)
            else:
                self._ingest_since_ns = None
            return Queue(samples, age_s, self._lost)

    # --- what others do to blocks -------------------------------------------------------------

    def ingest_sealed(self, block_ids: Sequence[int], last_row: int) -> None:
        """Ingest rows up to one became blocks: sent as rows they are done, otherwise the blocks are sent."""
        with self._lock:
            if self._progress.ingest_row >= last_row:
                for block_id in block_ids:
                    self._progress.finish(block_id)
            if last_row > self._progress.ingest_row:
                self._progress.ingest_row, self._progress.ingest_at = last_row, 0
            self._ingest_since_ns = None
            if self._row is not None and self._row.id <= last_row:
                self._row = None
            self._changes += 1

    def rewritten(self, old_ids: Sequence[int], new_ids: Sequence[int]) -> None:
        """Blocks are replaced by others with the same samples: those need sending only where the old ones did.

        To be called when that is durable and before the index of blocks changes.
        """
        with self._lock:
            self._refresh()
            if all(self._progress.is_done(block_id) for block_id in old_ids):
                for block_id in new_ids:
                    self._progress.finish(block_id)
            for block_id in old_ids:
                self._known.pop(block_id, None)
                self._progress.finish(block_id)
            self._changes += 1

    # --- blocks -------------------------------------------------------------------------------

    def _tails(self) -> dict[int, Tail]:
        return {tail.block_id: tail for layout in self._archive.layout_ids() for tail in self._archive.tails(layout)}

    def _refresh(self) -> dict[int, _Open]:
        """Find what is not sent whole. Tails first, then blocks: samples move that way, so none is missed."""
        tails = self._tails()
        key = (len(self._blocks), self._archive.counts.sealed_blocks, self._changes)
        if key != self._sealed_key:
            self._sealed = {block.id: block for block in self._blocks.all() if not self._progress.is_done(block.id)}
            self._sealed_key = key
        for block in [one for one in self._sealed.values() if self._progress.sent(one.id) >= one.n]:
            self._progress.finish(block.id)
            del self._sealed[block.id]
        found = {b.id: _Open(b.id, self._layouts.get(b.layout_id), b.n, None, b) for b in self._sealed.values()}
        for tail in tails.values():
            if tail.block_id not in found and not self._progress.is_done(tail.block_id):
                found[tail.block_id] = _Open(tail.block_id, tail.layout, tail.n, tail, None)
        for block_id in self._known.keys() - found.keys():
            if not self._progress.is_done(block_id):
                self._lost += self._known[block_id]
                self._progress.finish(block_id)
        self._known = {
            one.id: (one.n - self._progress.sent(one.id)) * len(one.layout.series_ids) for one in found.values()
        }
        return found

    def _first_of_each_collector(self) -> list[_Open]:
        first: dict[str | int, _Open] = {}
        for one in sorted(self._refresh().values(), key=lambda one: one.id):
            collector = one.layout.collector
            before = first.get(collector)
            if collector == INGESTED:
                first[one.id] = one
            elif before is None or self._progress.sent(before.id) >= before.n:
                first[collector] = one
        return [one for one in first.values() if self._progress.sent(one.id) < one.n]

    def _take(self, one: _Open, batch: Batch, most: int) -> None:
        start = self._progress.sent(one.id)
        rows = max(1, len(one.layout.series_ids))
        stop = min(one.n, start + max(1, (most - batch.samples) // rows))
        columns = self._columns(one)
        if columns is None:  # deleted a moment ago; the next look counts it as lost
            self._changes += 1
            return
        t_ms, values = columns
        present = None
        if one.layout.collector != INGESTED:
            if stop == one.n and is_stale(values[:, stop - 1]).all():
                successor = self._successor(one)
                if successor is None and 0 <= self._clock.now_ns() // 1_000_000 - t_ms[stop - 1] < _FAREWELL_MS:
                    stop -= 1
                    if stop == start:
                        return
                elif successor is not None:
                    present = _without_repeats(values, start, stop)
                    _withdraw(one, successor, int(t_ms[stop - 1]), present)
            if present is None:
                present = _without_repeats(values, start, stop)
        part = Part(self._names(one.layout.series_ids), t_ms[start:stop], values[:, start:stop], present)
        batch.parts.append(part)
        batch.marks.append((one.id, stop))
        batch.samples += part.samples

    def _successor(self, one: _Open) -> _Open | None:
        """The next block of the same collector. None is finished before this one, so it is among the open ones."""
        later = [o for o in self._refresh().values() if o.id > one.id and o.layout.collector == one.layout.collector]
        return min(later, key=lambda other: other.id, default=None)

    def _columns(self, one: _Open) -> tuple[IntArray, FloatArray] | None:
        """All samples of a block; those of the sealed block that was read last are kept."""
        if one.tail is not None:
            return one.tail.columns()
        if self._loaded is not None and self._loaded[0] == one.id:
            return self._loaded[1], self._loaded[2]
        if one.sealed is None:
            return None
        wanted = Wanted(one.layout.series_ids, [one.sealed], one.sealed.t0_ms, one.sealed.t1_ms)
        (pieces,) = self._chunks.read([wanted])
        if not pieces:
            return None
        (_, (t_ms, values)) = pieces[0]
        self._loaded = (one.id, t_ms, values)
        return t_ms, values

    def _time_of(self, one: _Open, sample: int) -> int:
        """When a sample was taken; of a sealed block that is not at hand, about when."""
        if one.tail is not None:
            return int(one.tail.columns()[0][sample])
        if self._loaded is not None and self._loaded[0] == one.id:
            return int(self._loaded[1][sample])
        if one.sealed is None:
            return one.t0_ms
        return one.sealed.t0_ms + (one.sealed.t1_ms - one.sealed.t0_ms) * sample // max(one.n, 1)

    # --- ingested rows ------------------------------------------------------------------------

    def _take_row(self, batch: Batch, most: int) -> None:
        """Add samples of the oldest unsent ingest row; one that is larger than a request goes in pieces."""
        row = self._row or self._read_row()
        self._row = row
        if row is None:
            return
        end = min(len(row.ids), row.at + most - batch.samples)
        self._row_end = end
        chosen = slice(row.at, end)
        ids = row.ids[chosen]
        starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.empty(0, np.int64)
        if len(ids):
            part = Ragged(self._names(ids[starts]), np.r_[starts, len(ids)], row.t_ms[chosen], row.values[chosen])
            batch.parts.append(part)
            batch.samples += len(ids)
        if end == len(row.ids):
            batch.ingest_row = row.id

    def _read_row(self) -> _Row | None:
        if self._ingest.last_row <= self._progress.ingest_row:
            return None
        query = select(ingest_table).where(ingest_table.c.id > self._progress.ingest_row).order_by(ingest_table.c.id)
        with self._database.read() as connection:
            found = connection.execute(query.limit(1)).first()
        if found is None:
            return None
        ids, t_ms, values = decode_row(found.n, found.data)
        order = np.lexsort((t_ms, ids))  # stable: of samples that came twice the later one is behind, and counts
        ids, t_ms, values = ids[order], t_ms[order], values[order]
        last = np.r_[(ids[1:] != ids[:-1]) | (t_ms[1:] != t_ms[:-1]), True][: len(ids)]
        return _Row(found.id, ids[last], t_ms[last], values[last], self._progress.ingest_at)

    def _names(self, series_ids: IntArray) -> list[bytes]:
        """The encoded labels of some series; those of one that is gone are empty, and it is left out."""
        ids = series_ids.tolist()
        missing = [series_id for series_id in ids if series_id not in self._labels]
        if missing:
            if len(self._labels) > _LABELS_KEPT:
                self._labels.clear()
                missing = ids
            for series_id, series in self._index.series(missing).items():
                self._labels[series_id] = encode_labels(series, self._external)
        return [self._labels.get(series_id, b"") for series_id in ids]


def _withdraw(one: _Open, successor: _Open, t_ms: int, present: npt.NDArray[np.bool_] | None) -> None:
    """Take back the farewell of series that go on: where a collector's schema changed, the old one ends with stale
    markers at the first instant of the new one, and a series must not have two values at one instant."""
    if present is not None and successor.t0_ms == t_ms:
        present[np.isin(one.layout.series_ids, successor.layout.series_ids), -1] = False


def _without_repeats(values: FloatArray, start: int, stop: int) -> npt.NDArray[np.bool_] | None:
    """Which of values[:, start:stop] are sent: all but stale markers that follow one; None: all."""
    before = max(start - 1, 0)
    stale = is_stale(values[:, before:stop])
    if not stale.any():
        return None
    present: npt.NDArray[np.bool_] = np.ones(stale.shape, np.bool_)
    present[:, 1:] = ~(stale[:, 1:] & stale[:, :-1])
    return present[:, start - before :]


def halves(parts: Sequence[Part | Ragged]) -> Iterator[list[Part | Ragged]]:
    """Split what one request held: by time while it holds more than one, then by series. A single sample gives nothing."""
    if any(part.instants > 1 for part in parts):
        split = [part.split_time() for part in parts]
    elif len(parts) > 1:
        middle = len(parts) // 2
        yield list(parts[:middle])
        yield list(parts[middle:])
        return
    elif parts and len(parts[0].labels) > 1:
        split = [parts[0].split_series()]
    else:
        return
    yield [first for first, _ in split if first.samples]
    yield [second for _, second in split if second.samples]
