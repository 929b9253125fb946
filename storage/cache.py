"""Cache: decoded columns and time axes, least recently used ones dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_V = TypeVar("_V")


class Cache(Generic[_V]):
    """Values by key with a size in bytes each, at most `limit_bytes` of them in all. Thread-safe.

    What is larger than four fifths of the limit is not kept: it would drive everything else out.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[_V, int]] = OrderedDict()
        self._bytes = 0
        self.hits = 0
        self.misses = 0

    @property
    def bytes(self) -> int:
        return self._bytes

    def get(self, key: Hashable) -> _V | None:
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return found[0]

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._entries

    def put(self, key: Hashable, value: _V, size: int) -> None:
        if size > self._limit * 4 // 5:
            return
        with self._lock:
            before = self._entries.pop(key, None)
            self._bytes += size - (before[1] if before else 0)
            self._entries[key] = (value, size)
            while self._bytes > self._limit:
                self._bytes -= self._entries.popitem(last=False)[1][1]

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0
