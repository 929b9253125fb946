"""Archive: frames of the ring become durable once a second, and sealed blocks when their stretch is over."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import delete, func, insert, select

from metrics.clock import Clock
from metrics.frame import Frame
from storage.blocks import ID_BITS, Blocks
from storage.database import Database
from storage.health import HealthMark, StorageUnavailable, StoreHealth
from storage.layouts import Layout, Layouts
from storage.live import LiveRing
from storage.options import StorageOptions
from storage.placement import Pending, Placed, Placement
from storage.sealing import insert_sealed, seal
from storage.stale import STALE_NAN, mark_missing
from storage.tables import block as block_table
from storage.tables import frame as frame_table
from storage.tail import Tail

log = logging.getLogger(__name__)

Committed = list[tuple[str, int]]
"""(collector, t_ms) of each frame of one transaction."""

_BATCH_FRAMES = 1_000
_BATCH_BYTES = 16 << 20
_IDLE_NS = 10_000_000_000


@dataclass(slots=True)
class ArchiveCounts:
    """What the archive has done since the start; seconds are those of whole transactions.

    Each figure is changed under one lock only, so that none is lost.
    """

    frames: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    last_commit_seconds: float = 0.0
    failed_commits: int = 0
    dropped_frames: int = 0
    sealed_blocks: int = 0
    seal_seconds: float = 0.0


@dataclass(slots=True)
class _Waiting:
    """Frames on their way into the database: the newest of each collector, and those whose second is over."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    newest: dict[str, tuple[int, Layout, Frame]] = field(default_factory=dict)
    last_layout: dict[str, Layout] = field(default_factory=dict)
    backlog: deque[Pending] = field(default_factory=deque)
    bytes: int = 0


class Archive:
    """Keeps each second's last frame of every collector. Thread-safe.

    While the database cannot be written, frames wait in a bounded backlog and every tick tries
    again; the oldest are dropped and counted where it overflows. After a failed transaction its
    block ids are never used again, since nobody knows whether it took place.
    """

    def __init__(
        self,
        database: Database,
        live: LiveRing,
        layouts: Layouts,
        blocks: Blocks,
        options: StorageOptions,
        clock: Clock,
    ) -> None:
        self._database = database
        self._live = live
        self._layouts = layouts
        self._blocks = blocks
        self._options = options
        self._clock = clock
        self._health = HealthMark(clock)
        self._waiting = _Waiting()
        self._write_lock = threading.Lock()
        self.sealing = threading.Lock()
        """Held while blocks are sealed; who holds it keeps them from being sealed."""
        self._tails: dict[int, tuple[Tail, ...]] = {}
        self._open: dict[int, Tail] = {}
        self._block_ids = itertools.count(1)
        self._committed: tuple[Callable[[Committed], None], ...] = ()
        self.due = threading.Event()
        """Set when there is something to seal."""
        self.counts = ArchiveCounts()

    @property
    def health(self) -> StoreHealth:
        return self._health.value

    @property
    def backlog_frames(self) -> int:
        return len(self._waiting.backlog)

    @property
    def unsealed_frames(self) -> int:
        return sum(tail.n for some in list(self._tails.values()) for tail in some)

    @property
    def seal_ms(self) -> int:
        return self._options.seal_minutes * 60_000

    def new_block_id(self) -> int:
        """A block id that was never used."""
        return next(self._block_ids)

    def tails(self, layout_id: int) -> tuple[Tail, ...]:
        """Unsealed frames of a layout, in the order of writing."""
        return self._tails.get(layout_id, ())

    def layout_ids(self) -> set[int]:
        return set(self._tails)

    def newest_ms(self, layout_id: int) -> int | None:
        return max((tail.t1_ms for tail in self.tails(layout_id)), default=None)

    def on_commit(self, callback: Callable[[Committed], None]) -> None:
        """Have `callback` called in the writer's thread after each commit: these frames are durable."""
        self._committed = (*self._committed, callback)

    def recover(self) -> int:
        """Read back the frames that were not sealed when the program ended; returns how many."""
        with self._database.read() as connection:
            newest = connection.execute(select(func.max(block_table.c.id))).scalar() or 0
            rows = connection.execute(select(frame_table).order_by(frame_table.c.id)).all()
        for block in self._blocks.all():
            layout = self._layouts.get(block.layout_id)
            self._waiting.last_layout[layout.collector] = layout
        tails: dict[int, Tail] = {}
        sizes: dict[int, int] = {}
        for row in rows:
            sizes[row.id >> ID_BITS] = sizes.get(row.id >> ID_BITS, 0) + 1
        for row in rows:
            block_id = row.id >> ID_BITS
            layout = self._layouts.get(row.layout_id)
            if block_id not in tails:
                tails[block_id] = Tail(block_id, layout, sizes[block_id] + self.seal_ms // 1000)
            tails[block_id].append(row.t_ms, np.frombuffer(row.data, np.dtype("<f8")))
            tails[block_id].positions = (row.id & (1 << ID_BITS) - 1) + 1
        for tail in tails.values():
            self._publish(tail)
            self._waiting.last_layout[tail.layout.collector] = tail.layout
        self._block_ids = itertools.count(max([newest, *tails]) + 1)
        self.due.set()
        return len(rows)

    def take(self, frame: Frame) -> None:
        """Take a frame from the ring, in the collector's thread: it waits until its second is over."""
        layout = self._live.layout_of(frame.schema)
        collector = frame.schema.collector
        second = frame.t_ns // 1_000_000_000
        waiting = self._waiting
        with waiting.lock:
            before = waiting.newest.get(collector)
            if before is not None and (before[0] != second or before[1] is not layout):
                self._push(before[1], before[2])
            last = waiting.last_layout.get(collector)
            if last is not None and last is not layout:
                farewell = np.full(len(last.series_ids), STALE_NAN)
                self._push_pending(Pending(last, frame.t_ms, farewell, farewell=True))
            waiting.last_layout[collector] = layout
            waiting.newest[collector] = (second, layout, frame)

    def tick(self, now_ns: int) -> int:
        """Write what is due: frames whose second is not the running one. Returns how many were committed."""
        return self._write(now_ns // 1_000_000_000, now_ns // 1_000_000)

    def flush(self) -> int:
        """Write everything that waits, the running second's frames too."""
        return self._write(None, self._clock.now_ns() // 1_000_000)

    def seal_closed(self, everything: bool = False) -> int:
        """Seal the blocks that take no more frames, or all of them; returns how many.

        Raises StorageUnavailable; what was not sealed stays where it is.
        """
        with self.sealing:
            with self._write_lock:
                if everything:
                    self._open.clear()
                open_tails = set(map(id, self._open.values()))
                due = [tail for some in self._tails.values() for tail in some if id(tail) not in open_tails]
            for tail in sorted(due, key=lambda tail: tail.block_id):
                self._seal(tail)
            return len(due)

    def _write(self, running_second: int | None, now_ms: int) -> int:
        with self._write_lock:
            self._end_seconds(running_second)
            done = 0
            while batch := self._batch():
                try:
                    self._commit(batch)
                except Exception as error:
                    self._failed(error)
                    break
                done += len(batch)
            self._close_idle(now_ms)
            return done

    def _end_seconds(self, running_second: int | None) -> None:
        waiting = self._waiting
        with waiting.lock:
            for collector, (second, layout, frame) in list(waiting.newest.items()):
                if second != running_second:
                    self._push(layout, frame)
                    del waiting.newest[collector]

    def _push(self, layout: Layout, frame: Frame) -> None:
        self._push_pending(Pending(layout, frame.t_ms, mark_missing(frame.values)))

    def _push_pending(self, pending: Pending) -> None:
        waiting = self._waiting
        waiting.backlog.append(pending)
        waiting.bytes += pending.bytes
        while waiting.bytes > self._options.backlog_bytes and len(waiting.backlog) > 1:
            waiting.bytes -= waiting.backlog.popleft().bytes
            self.counts.dropped_frames += 1

    def _batch(self) -> list[Pending]:
        """The oldest waiting frames; they stay in the backlog until they are committed."""
        batch: list[Pending] = []
        size = 0
        with self._waiting.lock:
            for pending in itertools.islice(self._waiting.backlog, _BATCH_FRAMES):
                size += pending.bytes
                if batch and size > _BATCH_BYTES:
                    break
                batch.append(pending)
        return batch

    def _commit(self, batch: list[Pending]) -> None:
        started_ns = self._clock.monotonic_ns()
        placement = Placement(self._open, self.new_block_id, self.seal_ms, self._options.tail_bytes)
        placed = [placement.place(frame) for frame in batch]
        rows = [
            {"id": p.key, "layout_id": p.frame.layout.id, "t_ms": p.frame.t_ms, "data": p.frame.values.tobytes()}
            for p in placed
        ]
        with self._database.write() as connection:
            written = self._layouts.persist(connection)
            connection.execute(insert(frame_table), rows)
        self._layouts.persisted(written)
        self._apply(placement, placed)
        self._forget_waiting(batch)
        self._health.recovered()
        seconds = (self._clock.monotonic_ns() - started_ns) / 1e9
        self.counts.frames += len(batch)
        self.counts.commits += 1
        self.counts.commit_seconds += seconds
        self.counts.last_commit_seconds = seconds
        self._tell([(frame.layout.collector, frame.t_ms) for frame in batch if not frame.farewell])

    def _tell(self, committed: Committed) -> None:
        for callback in self._committed:
            try:
                callback(committed)
            except Exception:
                log.exception("a listener for commits failed")

    def _apply(self, placement: Placement, placed: list[Placed]) -> None:
        """Make what was committed readable."""
        now_ns = self._clock.monotonic_ns()
        for one in placed:
            one.tail.append(one.frame.t_ms, one.frame.values)
            one.tail.positions = (one.key & (1 << ID_BITS) - 1) + 1
            one.tail.touched_ns = now_ns
        for tail in placement.begun:
            if tail.layout.id in self._open:
                self.due.set()
            self._publish(tail)

    def _publish(self, tail: Tail) -> None:
        self._tails[tail.layout.id] = (*self._tails.get(tail.layout.id, ()), tail)
        self._open[tail.layout.id] = tail

    def _forget_waiting(self, batch: list[Pending]) -> None:
        """Take committed frames out of the backlog; an overflow meanwhile may have dropped some of them."""
        done = set(map(id, batch))
        waiting = self._waiting
        with waiting.lock:
            while waiting.backlog and id(waiting.backlog[0]) in done:
                waiting.bytes -= waiting.backlog.popleft().bytes

    def _failed(self, error: Exception) -> None:
        self._open.clear()
        self.counts.failed_commits += 1
        if self._health.value.ok:
            expected = isinstance(error, StorageUnavailable)
            log.error("frames cannot be stored and wait in memory: %s", error, exc_info=None if expected else error)
        self._health.failed(str(error))

    def _close_idle(self, now_ms: int) -> None:
        """Close blocks whose stretch of time is over although no frame came to end it."""
        quiet_since_ns = self._clock.monotonic_ns() - _IDLE_NS
        for layout_id, tail in list(self._open.items()):
            if tail.touched_ns < quiet_since_ns and tail.t0_ms // self.seal_ms != now_ms // self.seal_ms:
                del self._open[layout_id]
                self.due.set()

    def _seal(self, tail: Tail) -> None:
        started_ns = self._clock.monotonic_ns()
        t_ms, values = tail.columns()
        sealed = seal(tail.block_id, tail.layout.id, t_ms, values)
        low, high = tail.block_id << ID_BITS, tail.block_id + 1 << ID_BITS
        with self._database.write() as connection:
            insert_sealed(connection, sealed, self._clock.now_ns() // 1_000_000)
            connection.execute(delete(frame_table).where(frame_table.c.id >= low, frame_table.c.id < high))
        # First into the blocks, then out of the tails: a reader, who looks the other way round, never misses it.
        self._blocks.add([sealed.header])
        with self._write_lock:
            rest = tuple(other for other in self._tails[tail.layout.id] if other is not tail)
            if rest:
                self._tails[tail.layout.id] = rest
            else:
                del self._tails[tail.layout.id]
        self.counts.sealed_blocks += 1
        self.counts.seal_seconds += (self._clock.monotonic_ns() - started_ns) / 1e9
