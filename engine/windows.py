"""Windows: what an instrument saw within the last while, in buckets of time that are dropped as they age.

A window of BUCKETS buckets spans the running one and BUCKETS - 1 whole ones before it, so it covers
its period and at most a fifteenth more: a limit over it is never laxer than its period says. Time
that goes backwards (a new session of a tape) drops what would lie in the future.

A window is WORDS words of the gates' memory, which kernels see twice: `w` as int64, `v` as float64 (two
arrays instead of many, because every array that a kernel takes out of a tuple costs reference counting).
What every order asks for, the running bucket and all older ones taken together, lies in its first words.
"""

from __future__ import annotations

import numpy as np

from engine.jit import inline_kernel
from metrics.frame import FloatArray, IntArray

BUCKETS = 16
# A window's words: when the running bucket began (int64); its two figures, and those of the older ones together
# (float64); the two figures of each older bucket (float64), and which bucket of time lies in each place (int64).
FROM_NS, RUNNING, OLDER = 0, 1, 3
FIGURES = OLDER + 2
STAMPS = FIGURES + 2 * BUCKETS
WORDS = STAMPS + BUCKETS
LOW, HIGH = 0, 1  # figures of a price window
LOTS, VALUE = 0, 1  # figures of a volume window
NO_LOW, NO_HIGH = np.inf, -np.inf
_NEVER = -(1 << 62)


def width_of(period_s: float) -> int:
    """Nanoseconds of one bucket."""
    return max(round(period_s * 1e9 / (BUCKETS - 1)), 1)


def empty(w: IntArray, v: FloatArray, at: int, first: float, second: float) -> None:
    """Forget everything that the window at `at` saw; first, second: the figures of an empty bucket."""
    w[at + FROM_NS] = w[at + STAMPS : at + WORDS] = _NEVER
    v[at + RUNNING] = v[at + OLDER] = v[at + FIGURES : at + FIGURES + BUCKETS] = first
    v[at + RUNNING + 1] = v[at + OLDER + 1] = v[at + FIGURES + BUCKETS : at + STAMPS] = second


@inline_kernel
def is_running(w: IntArray, at: int, width_ns: int, t_ns: int) -> bool:
    """Whether `t_ns` lies in the running bucket: one comparison, as what lies before it wraps to a huge number."""
    return bool(np.uint64(t_ns - w[at + FROM_NS]) < np.uint64(width_ns))


@inline_kernel
def _begin_bucket(w: IntArray, v: FloatArray, at: int, width_ns: int, t_ns: int, first: float, second: float) -> None:
    """Put the running bucket away, empty those that no longer count, and go on with the one of `t_ns`."""
    place = at + FIGURES + (w[at + FROM_NS] // width_ns) % BUCKETS
    v[place], v[place + BUCKETS] = v[at + RUNNING], v[at + RUNNING + 1]
    bucket = t_ns // width_ns
    for k in range(BUCKETS):
        age = bucket - w[at + STAMPS + k]
        if age < 0 or age >= BUCKETS:
            w[at + STAMPS + k] = _NEVER
            v[at + FIGURES + k] = first
            v[at + FIGURES + BUCKETS + k] = second
    w[at + FROM_NS] = bucket * width_ns
    w[at + STAMPS + bucket % BUCKETS] = bucket
    place = at + FIGURES + bucket % BUCKETS
    v[at + RUNNING], v[at + RUNNING + 1] = v[place], v[place + BUCKETS]
    v[place], v[place + BUCKETS] = first, second


@inline_kernel
def roll_prices(w: IntArray, v: FloatArray, at: int, width_ns: int, t_ns: int) -> None:
    """Let a price window be that of `t_ns`."""
    _begin_bucket(w, v, at, width_ns, t_ns, NO_LOW, NO_HIGH)
    low, high = NO_LOW, NO_HIGH
    for k in range(BUCKETS):
        low = min(low, v[at + FIGURES + k])
        high = max(high, v[at + FIGURES + BUCKETS + k])
    v[at + OLDER + LOW] = low
    v[at + OLDER + HIGH] = high


@inline_kernel
def roll_volumes(w: IntArray, v: FloatArray, at: int, width_ns: int, t_ns: int) -> None:
    """Let a volume window be that of `t_ns`."""
    _begin_bucket(w, v, at, width_ns, t_ns, 0.0, 0.0)
    lots = value = 0.0
    for k in range(BUCKETS):
        lots += v[at + FIGURES + k]
        value += v[at + FIGURES + BUCKETS + k]
    v[at + OLDER + LOTS] = lots
    v[at + OLDER + VALUE] = value


@inline_kernel
def see_price(v: FloatArray, at: int, price: float) -> None:
    """Take one price into the running bucket."""
    if price < v[at + RUNNING + LOW]:
        v[at + RUNNING + LOW] = price
    if price > v[at + RUNNING + HIGH]:
        v[at + RUNNING + HIGH] = price


@inline_kernel
def add_volume(v: FloatArray, at: int, lots: float, value: float) -> None:
    """Add to the running bucket; negative: take back."""
    v[at + RUNNING + LOTS] += lots
    v[at + RUNNING + VALUE] += value
