"""Timeline: how engine time (the events' clock) and monotonic time belong together.

int64, shape (2,): the same instant on both clocks; and `speed`, engine seconds per second. Below
2**53 ns (104 days) of distance from the origin the mapping is exact at speed 1.
"""

from __future__ import annotations

from engine.jit import inline_kernel
from metrics.frame import IntArray

ORIGIN_MONOTONIC, ORIGIN_ENGINE = 0, 1


@inline_kernel
def due_ns(timeline: IntArray, speed: float, engine_ns: int) -> int:
    """Monotonic time at which an instant of engine time is due."""
    return int(timeline[ORIGIN_MONOTONIC]) + int((engine_ns - timeline[ORIGIN_ENGINE]) / speed)
