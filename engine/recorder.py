"""Recorder: how latencies are recorded inside kernels, the slowest orders, and what the recording itself costs."""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.buckets import bucket_of
from engine.histogram import BUCKETS
from engine.jit import inline_kernel, kernel
from engine.nanoclock import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_ns
from metrics.frame import FloatArray, IntArray

# Rows of `stages`, int64 (STAGE_ROWS, histograms): the last duration of each stage, its longest since
# the publisher last began a second, and words of the slowest orders' table.
LAST, LONGEST, SLOW = range(3)
STAGE_ROWS: Final = 3
SLOW_FIRST: Final = 0  # in row SLOW: first row of the window under way
SLOW_LEAST: Final = 1  # the shortest time in it once it is full, else -1

SLOWEST_KEPT: Final = 20
# One of the slowest orders of a minute, all int64 so that kernels see words: from the intended time to
# the acknowledgement (an aggressor's: with its fill), and of that the event's way into the book, the
# decision, the gates; what is left is matching and waiting for orders sent in the same moment.
SLOWEST: Final = np.dtype(
    [
        ("total_ns", np.int64),  # 0: no order
        ("market_data_ns", np.int64),
        ("decision_ns", np.int64),
        ("gate_ns", np.int64),
        ("book_ns", np.int64),
        ("wall_ns", np.int64),
        ("engine_ns", np.int64),
        ("order_id", np.int64),
        ("instrument", np.int64),
        ("filled", np.int64),  # 1: an aggressor that filled
    ]
)
_ROUNDS: Final = 5
_RECORDS: Final = 20_000


@inline_kernel
def put(latencies: IntArray, sums: FloatArray, stages: IntArray, which: int, duration_ns: int) -> None:
    """Count one duration: latencies int64 (h, BUCKETS), sums float64 (h,), stages int64 (STAGE_ROWS, h)."""
    duration = max(duration_ns, 0)
    latencies[which, bucket_of(duration)] += 1
    sums[which] += duration
    stages[LAST, which] = duration
    stages[LONGEST, which] = max(stages[LONGEST, which], duration)


@kernel
def note_order(
    slowest: IntArray, stages: IntArray, total_ns: int, market_data_ns: int, decision_ns: int, gate_ns: int, t_ns: int,
    order_id: int, i: int, filled: int,
) -> None:  # fmt: skip
    """Keep an order that is among the slowest of the window under way; slowest: int64 (2 * SLOWEST_KEPT, 10)."""
    if total_ns <= stages[SLOW, SLOW_LEAST]:
        return
    first = stages[SLOW, SLOW_FIRST]
    least = first
    for row in range(first + 1, first + SLOWEST_KEPT):
        if slowest[row, 0] < slowest[least, 0]:
            least = row
    row_of = slowest[least]
    row_of[0], row_of[1], row_of[2], row_of[3] = total_ns, market_data_ns, decision_ns, gate_ns
    row_of[4] = max(total_ns - market_data_ns - decision_ns - gate_ns, 0)
    row_of[5], row_of[6], row_of[7], row_of[8], row_of[9] = clock_ns(CLOCK_REALTIME), t_ns, order_id, i, filled
    shortest = total_ns
    for row in range(first, first + SLOWEST_KEPT):
        shortest = min(shortest, slowest[row, 0])
    stages[SLOW, SLOW_LEAST] = shortest if shortest > 0 else -1


def begin_window(slowest: IntArray, stages: IntArray) -> None:
    """Begin the next window of the slowest orders in the other half; the window before stays readable."""
    first = SLOWEST_KEPT - int(stages[SLOW, SLOW_FIRST])
    slowest[first : first + SLOWEST_KEPT] = 0
    stages[SLOW, SLOW_FIRST], stages[SLOW, SLOW_LEAST] = first, -1


@kernel
def _records_ns(latencies: IntArray, sums: FloatArray, stages: IntArray, n: int) -> int:
    started = clock_ns(CLOCK_MONOTONIC)
    for k in range(n):
        put(latencies, sums, stages, k & 1, (k * 7919) & 0xFFFFF)
    return int(clock_ns(CLOCK_MONOTONIC) - started)


@kernel
def _clocks_ns(n: int) -> int:
    started = clock_ns(CLOCK_MONOTONIC)
    last = started
    for _ in range(n):
        last = max(last, clock_ns(CLOCK_MONOTONIC))
    return int(last - started)


def cost_s() -> tuple[float, float]:
    """What one record and one look at the clock cost here, in seconds: the best of a few rounds of many."""
    latencies, sums = np.zeros((2, BUCKETS), dtype=np.int64), np.zeros(2)
    stages = np.zeros((STAGE_ROWS, 2), dtype=np.int64)
    records = min(_records_ns(latencies, sums, stages, _RECORDS) for _ in range(_ROUNDS))
    clocks = min(_clocks_ns(_RECORDS) for _ in range(_ROUNDS))
    return records / _RECORDS / 1e9, clocks / _RECORDS / 1e9
