"""DeviceMemory: one graphics processor's pool, with a ceiling and figures of its own.

CuPy's pool counts bytes and no hits; its hooks do, in the thread that entered them alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any


@dataclass(frozen=True)
class PoolFigures:
    """hits: requests that the pool answered without the driver; misses: the others. trims: how often least recently
    used batches were given up to make room. held_bytes: taken from the driver, used_bytes of them in use."""

    hits: int = 0
    misses: int = 0
    trims: int = 0
    used_bytes: int = 0
    held_bytes: int = 0
    limit_bytes: int = 0

    @property
    def fragmentation(self) -> float:
        """Share of the held bytes that is in no use; 0 of none."""
        return 1.0 - self.used_bytes / self.held_bytes if self.held_bytes else 0.0

    @classmethod
    def sum_of(cls, figures: Sequence[PoolFigures]) -> PoolFigures:
        return cls(*(sum(column) for column in zip(*map(astuple, figures), strict=True)))


class DeviceMemory:
    """The pool of the current device, which must be current in every call."""

    def __init__(self, cupy: Any, limit_bytes: int) -> None:
        self._hook = _counting_hook(cupy)
        self._pool = cupy.cuda.MemoryPool()
        self._pool.set_limit(size=limit_bytes)
        self._pinned = cupy.cuda.PinnedMemoryPool()
        self._limit_bytes = limit_bytes
        self._trims = 0

    def take(self, size: int) -> Any:
        """Device memory, given back when nobody refers to it; CuPy's OutOfMemoryError beyond the ceiling."""
        with self._hook:
            return self._pool.malloc(size)

    def take_pinned(self, size: int) -> Any:
        """Memory of the host that the device can copy to and from while the host goes on."""
        return self._pinned.malloc(size)

    def trim(self) -> None:
        """Give what is in no use back to the driver."""
        self._trims += 1
        self._pool.free_all_blocks()
        self._pinned.free_all_blocks()

    def figures(self) -> PoolFigures:
        """How the pool does."""
        hook, pool = self._hook, self._pool
        misses: int = hook.allocated
        return PoolFigures(
            hook.asked - misses, misses, self._trims, int(pool.used_bytes()), int(pool.total_bytes()), self._limit_bytes
        )


def _counting_hook(cupy: Any) -> Any:
    """A hook that counts requests and those that went on to the driver; the base class comes with CuPy."""

    class Counting(cupy.cuda.MemoryHook):  # type: ignore[misc]
        name = "deskvigil"
        asked = 0
        allocated = 0

        def malloc_preprocess(self, **_: Any) -> None:
            self.asked += 1

        def alloc_preprocess(self, **_: Any) -> None:
            self.allocated += 1

    return Counting()
