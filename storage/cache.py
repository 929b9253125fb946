"""TimesCache: decoded time axes, least recently used ones dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict

from metrics.frame import IntArray


class TimesCache:
    """Time axes by block id, at most `limit_bytes` of them. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._axes: OrderedDict[int, IntArray] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        return self._bytes

    def get(self, block_id: int) -> IntArray | None:
        with self._lock:
            axis = self._axes.get(block_id)
            if axis is not None:
                self._axes.move_to_end(block_id)
            return axis

    def put(self, block_id: int, axis: IntArray) -> None:
        with self._lock:
            if block_id in self._axes:
                return
            self._axes[block_id] = axis
            self._bytes += axis.nbytes
            while self._bytes > self._limit and len(self._axes) > 1:
                self._bytes -= self._axes.popitem(last=False)[1].nbytes
