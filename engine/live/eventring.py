"""EventRing: a live market's events on their way from the feed process to the engine.

The ring is `engine.ring`'s (one producer, one consumer, sequence stored last), here in a named file of the
blocks' folder, so that either end may die and find it again. Beside it lies the grid: what ticks, lots
and instrument numbers mean, and the market's clock. A record is its sequence, an EVENT, and the number of
the handover that it belongs to: the engine asks for a handover (every book anew) by counting REQUESTED
up, and does not look at what is of an older one.

The market's clock is the wall clock as it stood when the ring was made, going on with the monotonic
clock: a clock that is set cannot put events before others, and both processes read the same time.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.events import EVENT, EventArray, Instrument
from engine.jit import kernel
from engine.memory import store
from engine.ring import (
    HEADER_BYTES,
    POSITION,
    RECORD_BYTES,
    RECORD_WORDS,
    SEEN,
    TAIL,
    RingError,
    RingMemory,
    give_back,
    may_sleep,
    must_wake,
    publish,
    pull,
    ring_bytes,
    room,
    wake_up,
)
from metrics.errors import TransientError
from metrics.frame import IntArray

CAPACITY: Final = 1 << 18  # records: half a minute of a wild market, or the largest books at once; 16 MB
TAKEN_AT_ONCE: Final = 1 << 14
EVENT_WORDS: Final = EVENT.itemsize // 8
HANDOVER: Final = 1 + EVENT_WORDS  # word of a record
# Words of the ring's header that are ours, by who writes them; each on a cache line of its own.
REQUESTED: Final = 24  # the engine's
HEARTBEAT_NS, ACTIVE, SWITCHES, CAUSE = 32, 33, 34, 35  # the feed's; monotonic; index of the feed; FeedState's index
_BELL = b"\0"


@dataclass(frozen=True, slots=True)
class Grid:
    """What the numbers in events mean. steps: tick and lot of each instrument in units of 1e-18.

    wall_ns, monotonic_ns: one instant of the market's clock. levels: how many a book may have.
    """

    source: str
    symbols: tuple[str, ...]
    steps: tuple[tuple[int, int], ...]
    levels: int
    wall_ns: int
    monotonic_ns: int

    def now_ns(self, monotonic_ns: int) -> int:
        """The market's time at a monotonic instant."""
        return self.wall_ns + monotonic_ns - self.monotonic_ns

    def instruments(self) -> tuple[Instrument, ...]:
        """What is traded."""
        return tuple(
            Instrument(symbol, tick / 10**18, lot / 10**18)
            for symbol, (tick, lot) in zip(self.symbols, self.steps, strict=True)
        )

    def write(self, path: Path) -> None:
        """Replace the grid's file."""
        temporary = path.with_suffix(".new")
        temporary.write_text(
            json.dumps([self.source, self.symbols, self.steps, self.levels, self.wall_ns, self.monotonic_ns])
        )
        temporary.replace(path)


def read_grid(path: Path) -> Grid | None:
    """The grid in a file; None where there is none."""
    try:
        source, symbols, steps, levels, wall_ns, monotonic_ns = json.loads(path.read_text())
        pairs = tuple((int(tick), int(lot)) for tick, lot in steps)
        return Grid(str(source), tuple(symbols), pairs, int(levels), int(wall_ns), int(monotonic_ns))
    except (OSError, ValueError, TypeError):
        return None


@kernel
def push_all(port: IntArray, records: IntArray) -> int:
    """Write records, int64 (n, RECORD_WORDS) whose word 0 is left out, as many as there is room for; returns how many.

    Negative (less one): the consumer has to be woken too.
    """
    written = 0
    for k in range(len(records)):
        slot = room(port, 0)
        if slot == 0:
            break
        for word in range(1, RECORD_WORDS):
            store(slot + 8 * word, records[k, word])
        publish(port, 0, slot)
        written += 1
    if written > 0 and must_wake(port, 0):
        return -1 - written
    return written


@kernel
def skip_to(port: IntArray, position: int) -> None:
    """Let the consumer go on from a position."""
    port[POSITION] = position
    give_back(port, 0)


class _End:
    """What both ends share: the mapping, its port, and the words of the header."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.inode = os.fstat(descriptor).st_ino
            self._memory = RingMemory(descriptor, (CAPACITY,))
            self._memory.check()
        finally:
            os.close(descriptor)
        self.port = self._memory.port(0)
        self.words = self._memory.words(0)

    def written(self) -> int:
        """How many records were ever written: the newest sequence, which is stored last."""
        return int(self.words[HEADER_BYTES // 8 :: RECORD_BYTES // 8].max())


class EventProducer(_End):
    """The feed's end. A ring that is there and sound is gone on with, else a new one takes its place."""

    def __init__(self, path: Path, bell: Path) -> None:
        try:
            super().__init__(path)
        except (OSError, RingError):
            _make(path)
            super().__init__(path)
        self._bell_path = bell
        self._bell = -1
        self.port[POSITION] = self.written()
        self.port[SEEN] = int(self.words[TAIL // 8])
        self.lost = 0

    @property
    def requested(self) -> int:
        """The number of the handover that the engine asked for last."""
        return int(self.words[REQUESTED])

    def has_room(self, records: int) -> bool:
        """Whether so many records could be written now."""
        return int(self.port[POSITION]) - int(self.words[TAIL // 8]) + records <= CAPACITY

    def write(self, events: EventArray, handover: int) -> bool:
        """Write events; False where there was no room for all, and what is left was counted as lost."""
        records = np.zeros((len(events), RECORD_WORDS), dtype=np.int64)
        records[:, 1 : 1 + EVENT_WORDS] = events.view(np.int64).reshape(-1, EVENT_WORDS)
        records[:, HANDOVER] = handover
        written = int(push_all(self.port, records))
        if written < 0:
            written = -1 - written
            self._ring()
        self.lost += len(events) - written
        return written == len(events)

    def beat(self, now_ns: int, active: int, switches: int, cause: int) -> None:
        """Give a sign of life (monotonic), and say which feed is the active one and why."""
        self.words[[ACTIVE, CAUSE]] = active, cause
        self.words[SWITCHES] = switches
        self.words[HEARTBEAT_NS] = now_ns

    def close(self) -> None:
        """Let go of the bell."""
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1

    def _ring(self) -> None:
        """Wake the engine; where it has no ear it is gone, and will look when it comes."""
        try:
            if self._bell < 0:
                self._bell = os.open(self._bell_path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.write(self._bell, _BELL)
        except BlockingIOError:  # full: it has been rung
            return
        except OSError:
            self.close()


class EventConsumer(_End):
    """The engine's end: begins behind everything that is in the ring, and asks for a handover."""

    def __init__(self, path: Path, bell: Path) -> None:
        """TransientError where there is no ring (yet)."""
        try:
            super().__init__(path)
        except (OSError, RingError) as error:
            raise TransientError(f"no events of a live market at {path}: {error}") from None
        self._path = path
        with suppress(FileExistsError):
            os.mkfifo(bell, 0o600)
        self._bell = os.open(bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._records = np.zeros((TAKEN_AT_ONCE, RECORD_WORDS), dtype=np.int64)
        skip_to(self.port, self.written())
        self.ask()

    def ask(self) -> None:
        """Ask for every book anew; what was written before is left aside."""
        self.words[REQUESTED] += 1
        self._handover = int(self.words[REQUESTED])

    def take(self) -> EventArray:
        """The next events of the handover asked for last, at most TAKEN_AT_ONCE."""
        count = int(pull(self.port, self._records, 0))
        taken = self._records[:count]
        taken = taken[taken[:, HANDOVER] == self._handover]
        events: Any = np.ascontiguousarray(taken[:, 1 : 1 + EVENT_WORDS]).view(EVENT)
        flat: EventArray = events.reshape(-1)
        return flat

    def age_ns(self, now_ns: int) -> int:
        """Time since the feed process's last sign of life (monotonic)."""
        return now_ns - int(self.words[HEARTBEAT_NS])

    def is_replaced(self) -> bool:
        """Whether another ring has taken this one's place."""
        try:
            return self._path.stat().st_ino != self.inode
        except OSError:
            return True

    @property
    def bell(self) -> int:
        """Readable when the feed has written while this end was parked."""
        return self._bell

    def park(self) -> bool:
        """This end is about to sleep; False where events have come and it must not."""
        return bool(may_sleep(self.port))

    def unpark(self) -> None:
        """This end is awake again."""
        wake_up(self.port)
        with suppress(BlockingIOError):
            os.read(self._bell, 64)

    def close(self) -> None:
        """Let go of the bell."""
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1


def new_grid(source: str, symbols: tuple[str, ...], steps: tuple[tuple[int, int], ...], levels: int) -> Grid:
    """A grid whose clock begins now."""
    return Grid(source, symbols, steps, levels, time.time_ns(), time.monotonic_ns())


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, ring_bytes(CAPACITY))
        RingMemory(descriptor, (CAPACITY,)).format()
    finally:
        os.close(descriptor)
    temporary.replace(path)
