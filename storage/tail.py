"""Tail: frames of one layout that are in the database but not sealed yet, in memory for reading and sealing."""

from __future__ import annotations

import numpy as np

from metrics.frame import FloatArray, IntArray
from storage.layouts import Layout


class Tail:
    """Committed frames of one block in the making: times ascend strictly.

    One thread appends, any number read: columns are written before `n` says that they are there,
    and never again afterwards.
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
        self._values: FloatArray = np.empty((len(layout.series_ids), capacity))

    @property
    def t0_ms(self) -> int:
        return int(self._t_ms[0])

    @property
    def t1_ms(self) -> int:
        return int(self._t_ms[self.n - 1])

    @property
    def bytes(self) -> int:
        return 8 * self.n * (1 + len(self._values))

    def append(self, t_ms: int, values: FloatArray) -> None:
        """Add a frame that is later than all before; values float64 [series]."""
        self._t_ms[self.n] = t_ms
        self._values[:, self.n] = values
        self.n += 1

    def columns(self) -> tuple[IntArray, FloatArray]:
        """Return views: times int64 [n], values float64 [series, n]."""
        n = self.n
        return self._t_ms[:n], self._values[:, :n]

    def window(self, rows: slice | IntArray, t0_ms: int, t1_ms: int) -> tuple[IntArray, FloatArray]:
        """Return times (a view) and values (a view, or a copy of picked rows) with t0 <= t <= t1."""
        times, values = self.columns()
        low, high = np.searchsorted(times, [t0_ms, t1_ms + 1]).tolist()
        return times[low:high], values[rows, low:high]
