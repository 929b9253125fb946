"""Ring: records of one cache line from one process to another, through shared memory, without a system call.

One producer, one consumer. A ring is a header of HEADER_BYTES and `capacity` (a power of two) records
of RECORD_BYTES; the first word of a record is its sequence, its position + 1. It is stored last and
with release, so a producer that dies in the middle of a record leaves nothing that could be read, and
the consumer looks at one cache line only. The consumer's position (TAIL) and its flag (ASLEEP) have
cache lines of their own.

Each end is a *port*: PORT_WORDS int64 in private memory, addressed as an array and an offset into it.
What the other end can write (sequences, records, TAIL, ASLEEP) is never used as an address or a
length: the worst that a hostile end can do is to lose its own records or to send some that make no sense.

A consumer that goes to sleep says so (`doze`) and looks once more; a producer that finds the flag after
`publish` clears it and has to wake the consumer. While nobody sleeps, nobody calls the system.
"""

from __future__ import annotations

import mmap
import os
from typing import Any, Final

import numpy as np

from engine.jit import inline_kernel, kernel
from engine.memory import acquire, fence, load, release, store
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

MAGIC: Final = 0x4456_5249_4E47_0000
VERSION: Final = 1
RECORD_BYTES: Final = 64
RECORD_WORDS: Final = 8
HEADER_BYTES: Final = 512
MAX_CAPACITY: Final = 1 << 20
_MAGIC, _VERSION, _PID, _CAPACITY = range(4)  # words of the header's first line
TAIL: Final = 64  # bytes into the ring, as the next
ASLEEP: Final = 128

ADDRESS, MASK, POSITION, SEEN = range(4)  # words of a port; SEEN: the consumer's position as the producer last read it
PORT_WORDS: Final = 8


class RingError(DeskvigilError):
    """Shared memory that holds no ring of this version."""


def ring_bytes(capacity: int) -> int:
    """Size of a ring of so many records; ValueError where that is not a power of two within limits."""
    if not 2 <= capacity <= MAX_CAPACITY or capacity & (capacity - 1):
        raise ValueError(f"a ring's capacity is a power of two up to {MAX_CAPACITY}, not {capacity}")
    return HEADER_BYTES + capacity * RECORD_BYTES


class RingMemory:
    """A mapping that holds rings one after the other; keep it as long as a port points into it.

    The memory is a sealed anonymous file: its descriptor goes to the other process over a Unix socket.
    It has no name, so nothing is left behind by processes that die, and it cannot shrink under the
    reader's hands.
    """

    def __init__(self, descriptor: int, capacities: tuple[int, ...]) -> None:
        """Map a descriptor (which stays the caller's); RingError where it is shorter than its rings."""
        size = sum(ring_bytes(capacity) for capacity in capacities)
        if os.fstat(descriptor).st_size < size:
            raise RingError(
                f"rings of {capacities} records need {size} bytes, there are {os.fstat(descriptor).st_size}"
            )
        self._map = mmap.mmap(descriptor, size)
        self._words: IntArray = np.frombuffer(self._map, dtype=np.int64)
        self._capacities = capacities

    def format(self) -> None:
        """Make the rings new: empty, and every page of them there before the first record."""
        for k, capacity in enumerate(self._capacities):
            header = self._header(k)
            self.words(k)[:] = 0
            header[[_VERSION, _PID, _CAPACITY]] = VERSION, os.getpid(), capacity
            header[_MAGIC] = MAGIC

    def check(self) -> None:
        """RingError where the headers are not those of rings of this version and size."""
        for k, capacity in enumerate(self._capacities):
            header = self._header(k)
            if header[_MAGIC] != MAGIC or header[_VERSION] != VERSION or header[_CAPACITY] != capacity:
                raise RingError(f"ring {k} has not the header of a ring of {capacity} records, version {VERSION}")

    def pid(self, k: int) -> int:
        """Who formatted ring k."""
        return int(self._header(k)[_PID])

    def port(self, k: int) -> IntArray:
        """A fresh port of ring k, int64 of shape (PORT_WORDS,), for either end."""
        port = np.zeros(PORT_WORDS, dtype=np.int64)
        port[ADDRESS] = self._words.ctypes.data + self._offset(k)
        port[MASK] = self._capacities[k] - 1
        return port

    def words(self, k: int) -> IntArray:
        """Ring k with its header, int64."""
        start = self._offset(k) // 8
        return self._words[start : start + ring_bytes(self._capacities[k]) // 8]

    def _offset(self, k: int) -> int:
        return sum(ring_bytes(capacity) for capacity in self._capacities[:k])

    def _header(self, k: int) -> Any:
        return self.words(k)[: HEADER_BYTES // 8]


def shared_memory(capacities: tuple[int, ...]) -> int:
    """A new sealed anonymous file (mode 0600) with room for these rings; returns its descriptor. Linux only."""
    import fcntl

    descriptor = os.memfd_create("deskvigil-orders", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(descriptor, 0o600)
    os.ftruncate(descriptor, sum(ring_bytes(capacity) for capacity in capacities))
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


# The producer's end: slot = room(p, at); store the record's words from slot + 8 on; publish(p, at, slot).


@inline_kernel
def room(p: IntArray, at: int) -> int:
    """Address of the next record to write, 0 where the ring is full."""
    position = p[at + POSITION]
    if position - p[at + SEEN] > p[at + MASK]:
        p[at + SEEN] = acquire(p[at + ADDRESS] + TAIL)
        if position - p[at + SEEN] > p[at + MASK]:
            return 0
    return int(p[at + ADDRESS] + HEADER_BYTES + (position & p[at + MASK]) * RECORD_BYTES)


@inline_kernel
def room_for(p: IntArray, at: int, records: int) -> bool:
    """Whether so many records could be written now."""
    if p[at + POSITION] - p[at + SEEN] + records > p[at + MASK] + 1:
        p[at + SEEN] = acquire(p[at + ADDRESS] + TAIL)
    return bool(p[at + POSITION] - p[at + SEEN] + records <= p[at + MASK] + 1)


@inline_kernel
def publish(p: IntArray, at: int, slot: int) -> None:
    """Let the consumer see the record at `slot`."""
    p[at + POSITION] += 1
    release(slot, p[at + POSITION])


@inline_kernel
def unread(p: IntArray, at: int) -> int:
    """How many records the consumer has not given back yet; never more than there is room for, whatever it claims."""
    return int(min(max(p[at + POSITION] - acquire(p[at + ADDRESS] + TAIL), 0), p[at + MASK] + 1))


@inline_kernel
def must_wake(p: IntArray, at: int) -> bool:
    """After `publish`: whether the consumer sleeps and this producer is the one that has to wake it."""
    fence()
    if load(p[at + ADDRESS] + ASLEEP) == 0:
        return False
    store(p[at + ADDRESS] + ASLEEP, 0)
    return True


# The consumer's end: slot = arrived(p, at); load the words from slot + 8 on; taken(p, at).


@inline_kernel
def arrived(p: IntArray, at: int) -> int:
    """Address of the next record to read, 0 where none has come."""
    slot = p[at + ADDRESS] + HEADER_BYTES + (p[at + POSITION] & p[at + MASK]) * RECORD_BYTES
    return int(slot) if acquire(slot) == p[at + POSITION] + 1 else 0


@inline_kernel
def arrived_count(p: IntArray, at: int) -> int:
    """How many records wait to be read: they lie one after the other, so the first that has not come is searched by halves."""
    first, last = 0, p[at + MASK] + 1
    while first < last:
        middle = (first + last) >> 1
        position = p[at + POSITION] + middle
        slot = p[at + ADDRESS] + HEADER_BYTES + (position & p[at + MASK]) * RECORD_BYTES
        if acquire(slot) == position + 1:
            first = middle + 1
        else:
            last = middle
    return int(first)


@inline_kernel
def taken(p: IntArray, at: int) -> None:
    """Go on to the next record; the producer learns of it by `give_back`."""
    p[at + POSITION] += 1


@inline_kernel
def give_back(p: IntArray, at: int) -> None:
    """Let the producer write over all records taken so far."""
    release(p[at + ADDRESS] + TAIL, p[at + POSITION])


@inline_kernel
def doze(p: IntArray, at: int) -> bool:
    """Say that this consumer goes to sleep; False where a record has come and it must not."""
    store(p[at + ADDRESS] + ASLEEP, 1)
    fence()
    if arrived(p, at) == 0:
        return True
    store(p[at + ADDRESS] + ASLEEP, 0)
    return False


@inline_kernel
def rouse(p: IntArray, at: int) -> None:
    """Say that this consumer is awake."""
    store(p[at + ADDRESS] + ASLEEP, 0)


# For Python: one call for a record or a batch.

FULL, WRITTEN, WAKE = range(3)


@kernel
def push(port: IntArray, record: IntArray) -> int:
    """Write one record, int64 (RECORD_WORDS,), whose word 0 is left out.

    Returns FULL (nothing was written), WRITTEN, or WAKE: written, and the consumer has to be woken.
    """
    slot = room(port, 0)
    if slot == 0:
        return FULL
    for k in range(1, RECORD_WORDS):
        store(slot + 8 * k, record[k])
    publish(port, 0, slot)
    return WAKE if must_wake(port, 0) else WRITTEN


@kernel
def pull(port: IntArray, records: IntArray, spin_ns: int) -> int:
    """Take what has come, at most len(records) records; waits for the first one up to spin_ns, spinning.

    records: int64 (n, RECORD_WORDS), written. Returns how many.
    """
    count = 0
    until_ns = 0
    while count < len(records):
        slot = arrived(port, 0)
        if slot == 0:
            if count > 0 or spin_ns <= 0:
                break
            now_ns = clock_ns(CLOCK_MONOTONIC)
            until_ns = until_ns if until_ns > 0 else now_ns + spin_ns
            if now_ns >= until_ns:
                break
            continue
        for k in range(RECORD_WORDS):
            records[count, k] = load(slot + 8 * k)
        taken(port, 0)
        count += 1
    if count > 0:
        give_back(port, 0)
    return count


@kernel
def may_sleep(port: IntArray) -> bool:
    """Say that this consumer goes to sleep; False where a record has come meanwhile."""
    return doze(port, 0)


@kernel
def wake_up(port: IntArray) -> None:
    """Say that this consumer is awake."""
    rouse(port, 0)
