"""Ring: the newest frames of one schema, in memory, read without stopping the writer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Schema
from storage.merge import sorted_unique
from storage.stale import STALE_NAN

NEVER_MS = -(2**62)
Rows = slice | IntArray
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Newest:
    """The frame appended last: its time as int and as int64 [1], its values float64 [series]."""

    t_ms: int
    times: IntArray
    values: FloatArray


class Ring:
    """A preallocated ring: times int64 [capacity], values float64 [series, capacity].

    Values lie series by series, because windows of one series are read far more often than frames
    are appended. One frame may be appended at a time (a lock); readers copy what they need and
    look afterwards whether the writer has come round meanwhile.

    A frame that is not later than the one before (the clock was set back) is kept like any other.
    Until the frames from before the step have left the ring, readers get the ring's content sorted
    by time instead of a plain slice; of frames with the same instant the later one counts.
    """

    def __init__(self, schema: Schema, capacity: int, shadow_ms: int = NEVER_MS) -> None:
        self.schema = schema
        self.capacity = capacity
        self.newest: Newest | None = None
        self.shadow_ms = shadow_ms
        """Nothing at or before this instant is sure to be in order: older data reach up to here."""
        self._times: IntArray = np.empty(capacity, np.int64)
        self._values: FloatArray = np.empty((len(schema), capacity))
        self._count = 0
        self._unsorted_until = 0
        self._max_ms = shadow_ms
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return min(self._count, self.capacity - 1)

    @property
    def bytes(self) -> int:
        return self._values.nbytes + self._times.nbytes

    @property
    def max_ms(self) -> int:
        """The latest instant ever appended."""
        return self._max_ms

    def append(self, t_ms: int, values: FloatArray) -> None:
        """Add one frame; values float64 [series]."""
        with self._lock:
            if self.newest is not None and t_ms <= self.newest.t_ms:
                self._unsorted_until = self._count
                self.shadow_ms = max(self.shadow_ms, self._max_ms)
            slot = self._count % self.capacity
            self._times[slot] = t_ms
            self._values[:, slot] = values
            self._max_ms = max(self._max_ms, t_ms)
            self.newest = Newest(t_ms, np.array([t_ms], np.int64), values)
            self._count += 1

    def erase(self, row: int, t0_ms: int, t1_ms: int) -> None:
        """Make the values of one series with t0 <= t <= t1 stale markers."""
        with self._lock:
            held = min(self._count, self.capacity)
            inside = np.flatnonzero((self._times[:held] >= t0_ms) & (self._times[:held] <= t1_ms))
            self._values[row, inside] = STALE_NAN
            if self.newest is not None and t0_ms <= self.newest.t_ms <= t1_ms:
                values = self.newest.values.copy()  # it may be the frame's own
                values[row] = STALE_NAN
                self.newest = Newest(self.newest.t_ms, self.newest.times, values)

    @property
    def oldest_ms(self) -> int:
        """Time of the oldest frame that can be read; an empty ring begins in the far future."""
        count = self._count
        if count == 0:
            return -NEVER_MS
        return int(self._times[self._first(count) % self.capacity])

    def covers(self, t0_ms: int) -> bool:
        """Whether everything from t0_ms on is in the ring, so that nobody else need be asked."""
        return self.shadow_ms < t0_ms and (self._count < self.capacity or self.oldest_ms <= t0_ms)

    def window(self, rows: Rows, t0_ms: int, t1_ms: int) -> tuple[IntArray, FloatArray]:
        """Return copies: times int64 [n] ascending, values float64 [rows, n], with t0 <= t <= t1."""
        return self._consistent(lambda count, first: self._slice(rows, t0_ms, t1_ms, count, first))

    def last(self, rows: Rows, t0_ms: int, t1_ms: int) -> tuple[IntArray, FloatArray]:
        """Like `window`, but only its last column, or none."""
        return self._consistent(lambda count, first: self._last(rows, t0_ms, t1_ms, count, first))

    def _last(self, rows: Rows, t0_ms: int, t1_ms: int, count: int, first: int) -> tuple[IntArray, FloatArray]:
        if self._unsorted_until > first:
            times, values = self._slice(rows, t0_ms, t1_ms, count, first)
            return times[-1:], values[:, -1:]
        high = self._search(t1_ms + 1, first, count)
        times, values = self._copy(rows, max(high - 1, first), high)
        found = len(times) == 1 and times[0] >= t0_ms
        return (times, values) if found else (times[:0], values[:, :0])

    def _first(self, count: int) -> int:
        """The oldest readable frame: the slot that the next append will write is left out."""
        return max(0, count - self.capacity + 1)

    def _consistent(self, read: Callable[[int, int], _T]) -> _T:
        """Read without the lock, and with it where the writer came round twice meanwhile."""
        for _ in range(2):
            count = self._count
            first = self._first(count)
            result = read(count, first)
            if self._first(self._count) == first:
                return result
        with self._lock:
            return read(self._count, self._first(self._count))

    def _slice(self, rows: Rows, t0_ms: int, t1_ms: int, count: int, first: int) -> tuple[IntArray, FloatArray]:
        if self._unsorted_until > first:
            times, values = self._copy(rows, first, count)
            times, values = sorted_unique(times, values)
            low, high = np.searchsorted(times, [t0_ms, t1_ms + 1]).tolist()
            return times[low:high], values[:, low:high]
        newest = self.newest
        low = self._search(t0_ms, first, count)
        all_of_it = newest is not None and newest.t_ms <= t1_ms
        high = count if all_of_it else self._search(t1_ms + 1, first, count)
        return self._copy(rows, low, max(low, high))

    def _search(self, t_ms: int, first: int, count: int) -> int:
        """Position (in frames ever appended) of the first frame at or after t_ms; the ring is sorted here."""
        if count == first:
            return first
        start, stop = first % self.capacity, (count - 1) % self.capacity + 1
        if start < stop:
            return first + int(self._times[start:stop].searchsorted(t_ms))
        older = self._times[start:]
        if t_ms > older[-1]:
            return first + len(older) + int(self._times[:stop].searchsorted(t_ms))
        return first + int(older.searchsorted(t_ms))

    def _copy(self, rows: Rows, low: int, high: int) -> tuple[IntArray, FloatArray]:
        if low == high:
            return np.empty(0, np.int64), self._values[rows, :0].copy()
        start, stop = low % self.capacity, (high - 1) % self.capacity + 1
        if start < stop:
            return self._times[start:stop].copy(), np.array(self._values[rows, start:stop])
        return (
            np.concatenate((self._times[start:], self._times[:stop])),
            np.concatenate((self._values[rows, start:], self._values[rows, :stop]), axis=1),
        )
