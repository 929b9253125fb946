"""Tail: frames of one layout that are in the database but not sealed yet, in memory for reading and sealing."""

from __future__ import annotations

import numpy as np

from metrics.frame import FloatArray, IntArray
from storage.layouts import Layout

_SEGMENT = 128


class Tail:
    """Committed frames of one block in the making: times ascend strictly.

    One thread appends, any number read: columns are written before `n` says that they are there,
    and never again afterwards. Memory is taken in segments of some frames: a whole hour of many series
    at once would make the commit that begins it wait for tens of megabytes.
    """

    def __init__(self, block_id: int, layout: Layout, capacity: int) -> None:
        self.block_id = block_id
        self.layout = layout
        self.capacity = capacity
        self.positions = 0
        """How many row keys of the block have been given out."""
        self.touched_ns = 0
        """Monotonic time of the last append by this process."""
        self.n = 0
        self._t_ms: IntArray = np.empty(capacity, np.int64)
        self._segments: list[FloatArray] = []

    @property
    def t0_ms(self) -> int:
        return int(self._t_ms[0])

    @property
    def t1_ms(self) -> int:
        return int(self._t_ms[self.n - 1])

    @property
    def bytes(self) -> int:
        return 8 * self.n * (1 + len(self.layout.series_ids))

    def append(self, t_ms: int, values: FloatArray) -> None:
        """Add a frame that is later than all before; values float64 [series]."""
        segment, place = divmod(self.n, _SEGMENT)
        if segment == len(self._segments):
            self._segments.append(np.empty((len(self.layout.series_ids), _SEGMENT)))
        self._t_ms[self.n] = t_ms
        self._segments[segment][:, place] = values
        self.n += 1

    def columns(self) -> tuple[IntArray, FloatArray]:
        """Return times int64 [n], a view, and values float64 [series, n]."""
        n = self.n
        return self._t_ms[:n], self._values(slice(None), 0, n)

    def window(self, rows: slice | IntArray, t0_ms: int, t1_ms: int) -> tuple[IntArray, FloatArray]:
        """Return times (a view) and values with t0 <= t <= t1."""
        times = self._t_ms[: self.n]
        low, high = np.searchsorted(times, [t0_ms, t1_ms + 1]).tolist()
        return times[low:high], self._values(rows, low, high)

    def _values(self, rows: slice | IntArray, low: int, high: int) -> FloatArray:
        parts = [
            self._segments[segment][rows, max(low - segment * _SEGMENT, 0) : high - segment * _SEGMENT]
            for segment in range(low // _SEGMENT, -(-high // _SEGMENT))
        ]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return np.empty((len(self.layout.series_ids), 0))[rows]
        return np.concatenate(parts, axis=1)
