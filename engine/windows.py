"""Windows: what an instrument saw within the last while, in buckets of time that are dropped as they age.

A window of BUCKETS buckets spans the running one and BUCKETS - 1 whole ones before it, so it covers
its period and at most a fifteenth more: a limit over it is never laxer than its period says. Time
that goes backwards (a new session of a tape) drops what would lie in the future.

A window is WORDS words of the gates' memory, which kernels see twice: `w` as int64, `v` as float64 (two
arrays instead of many, because every array that a kernel takes out of a tuple costs reference counting).
"""

from __future__ import annotations

import numpy as np

from engine.jit import inline_kernel, kernel
from metrics.frame import FloatArray, IntArray

BUCKETS = 16
# A window's words: the running bucket's span and place (int64); the window's two figures, then those of each
# bucket (float64); which bucket of time lies in each place (int64).
FROM_NS, UNTIL_NS, SLOT, NOW = range(4)
FIGURES = NOW + 2
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
    w[at + FROM_NS] = w[at + UNTIL_NS] = w[at + STAMPS : at + WORDS] = _NEVER
    w[at + SLOT] = 0
    v[at + FIGURES : at + FIGURES + BUCKETS] = v[at + NOW] = first
    v[at + FIGURES + BUCKETS : at + STAMPS] = v[at + NOW + 1] = second


@inline_kernel
def _roll(w: IntArray, v: FloatArray, at: int, width_ns: int, t_ns: int, first: float, second: float) -> None:
    """Begin the bucket of `t_ns` and empty those that no longer count."""
    bucket = t_ns // width_ns
    for k in range(BUCKETS):
        age = bucket - w[at + STAMPS + k]
        if age < 0 or age >= BUCKETS:
            w[at + STAMPS + k] = _NEVER
            v[at + FIGURES + k] = first
            v[at + FIGURES + BUCKETS + k] = second
    w[at + FROM_NS] = bucket * width_ns
    w[at + UNTIL_NS] = (bucket + 1) * width_ns
    w[at + SLOT] = bucket % BUCKETS
    w[at + STAMPS + bucket % BUCKETS] = bucket


@kernel
def _roll_prices(w: IntArray, v: FloatArray, at: int, width_ns: int, t_ns: int) -> None:
    _roll(w, v, at, width_ns, t_ns, NO_LOW, NO_HIGH)
    low, high = NO_LOW, NO_HIGH
    for k in range(BUCKETS):
        low = min(low, v[at + FIGURES + k])
        high = max(high, v[at + FIGURES + BUCKETS + k])
    v[at + NOW + LOW] = low
    v[at + NOW + HIGH] = high


@kernel
def _roll_volumes(w: IntArray, v: FloatArray, at: int, width_ns: int, t_ns: int) -> None:
    _roll(w, v, at, width_ns, t_ns, 0.0, 0.0)
    lots = value = 0.0
    for k in range(BUCKETS):
        lots += v[at + FIGURES + k]
        value += v[at + FIGURES + BUCKETS + k]
    v[at + NOW + LOTS] = lots
    v[at + NOW + VALUE] = value


@inline_kernel
def see_price(w: IntArray, v: FloatArray, at: int, width_ns: int, price: float, t_ns: int) -> None:
    """Take one price into a price window."""
    if t_ns >= w[at + UNTIL_NS] or t_ns < w[at + FROM_NS]:
        _roll_prices(w, v, at, width_ns, t_ns)
    place = at + FIGURES + w[at + SLOT]
    if price < v[place]:
        v[place] = price
        v[at + NOW + LOW] = min(v[at + NOW + LOW], price)
    if price > v[place + BUCKETS]:
        v[place + BUCKETS] = price
        v[at + NOW + HIGH] = max(v[at + NOW + HIGH], price)


@inline_kernel
def bring_up(w: IntArray, v: FloatArray, at: int, width_ns: int, t_ns: int) -> None:
    """Let a volume window be that of `t_ns`."""
    if t_ns >= w[at + UNTIL_NS] or t_ns < w[at + FROM_NS]:
        _roll_volumes(w, v, at, width_ns, t_ns)


@inline_kernel
def add_volume(w: IntArray, v: FloatArray, at: int, lots: float, value: float) -> None:
    """Add to the running bucket (negative: take back); `bring_up` comes first."""
    place = at + FIGURES + w[at + SLOT]
    v[place] += lots
    v[place + BUCKETS] += value
    v[at + NOW + LOTS] += lots
    v[at + NOW + VALUE] += value
