"""Windows: what an instrument saw within the last while, in buckets of time that are dropped as they age.

A window of BUCKETS buckets spans the running one and BUCKETS - 1 whole ones before it, so it covers
its period and at most a fifteenth more: a limit over it is never laxer than its period says. Time
that goes backwards (a new session of a tape) drops what would lie in the future.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine.jit import inline_kernel, kernel
from metrics.frame import FloatArray, IntArray

BUCKETS = 16
FROM_NS, UNTIL_NS, SLOT = range(3)
LOW, HIGH = 0, 1  # of a price window
LOTS, VALUE = 0, 1  # of a volume window
_NEVER = -(1 << 62)


class Windows(NamedTuple):
    """Rolling windows of n instruments, two figures each.

    edges int64 (n, 3): the running bucket's span and place; stamps int64 (n, BUCKETS): which bucket of
    time lies in each place; values float64 (n, 2, BUCKETS); now float64 (n, 2): the window's figures;
    blank float64 (2,): those of an empty bucket; width_ns int64 (1,): of one bucket.
    """

    edges: IntArray
    stamps: IntArray
    values: FloatArray
    now: FloatArray
    blank: FloatArray
    width_ns: IntArray


def _make(instruments: int, period_s: float, blank: tuple[float, float]) -> Windows:
    windows = Windows(
        edges=np.zeros((instruments, 3), dtype=np.int64),
        stamps=np.zeros((instruments, BUCKETS), dtype=np.int64),
        values=np.zeros((instruments, 2, BUCKETS)),
        now=np.zeros((instruments, 2)),
        blank=np.array(blank),
        width_ns=np.array([max(round(period_s * 1e9 / (BUCKETS - 1)), 1)], dtype=np.int64),
    )
    empty(windows)
    return windows


def price_windows(instruments: int, period_s: float) -> Windows:
    """Empty windows of lowest and highest price: infinite and minus infinite until something is seen."""
    return _make(instruments, period_s, (np.inf, -np.inf))


def volume_windows(instruments: int, period_s: float) -> Windows:
    """Empty windows of sums: lots and USD."""
    return _make(instruments, period_s, (0.0, 0.0))


def empty(windows: Windows) -> None:
    """Forget everything that was seen."""
    windows.edges[:, FROM_NS] = windows.edges[:, UNTIL_NS] = _NEVER
    windows.stamps[:] = _NEVER
    windows.values[:] = windows.blank[:, None]
    windows.now[:] = windows.blank


@kernel
def roll(windows: Windows, i: int, t_ns: int) -> None:
    """Begin the bucket of `t_ns` and drop those that no longer count; `now` is added up again by the caller."""
    bucket = t_ns // windows.width_ns[0]
    slot = bucket % BUCKETS
    windows.edges[i, FROM_NS] = bucket * windows.width_ns[0]
    windows.edges[i, UNTIL_NS] = (bucket + 1) * windows.width_ns[0]
    windows.edges[i, SLOT] = slot
    for k in range(BUCKETS):
        age = bucket - windows.stamps[i, k]
        if age < 0 or age >= BUCKETS:
            windows.stamps[i, k] = _NEVER
            windows.values[i, 0, k] = windows.blank[0]
            windows.values[i, 1, k] = windows.blank[1]
    windows.stamps[i, slot] = bucket


@kernel
def _roll_prices(windows: Windows, i: int, t_ns: int) -> None:
    roll(windows, i, t_ns)
    low, high = windows.blank[0], windows.blank[1]
    for k in range(BUCKETS):
        low = min(low, windows.values[i, LOW, k])
        high = max(high, windows.values[i, HIGH, k])
    windows.now[i, LOW] = low
    windows.now[i, HIGH] = high


@kernel
def _roll_volumes(windows: Windows, i: int, t_ns: int) -> None:
    roll(windows, i, t_ns)
    lots = value = 0.0
    for k in range(BUCKETS):
        lots += windows.values[i, LOTS, k]
        value += windows.values[i, VALUE, k]
    windows.now[i, LOTS] = lots
    windows.now[i, VALUE] = value


@inline_kernel
def see_price(windows: Windows, i: int, price: float, t_ns: int) -> None:
    """Take one price into an instrument's window."""
    if t_ns >= windows.edges[i, UNTIL_NS] or t_ns < windows.edges[i, FROM_NS]:
        _roll_prices(windows, i, t_ns)
    slot = windows.edges[i, SLOT]
    if price < windows.values[i, LOW, slot]:
        windows.values[i, LOW, slot] = price
        windows.now[i, LOW] = min(windows.now[i, LOW], price)
    if price > windows.values[i, HIGH, slot]:
        windows.values[i, HIGH, slot] = price
        windows.now[i, HIGH] = max(windows.now[i, HIGH], price)


@inline_kernel
def bring_up(windows: Windows, i: int, t_ns: int) -> None:
    """Let an instrument's volume window be that of `t_ns`."""
    if t_ns >= windows.edges[i, UNTIL_NS] or t_ns < windows.edges[i, FROM_NS]:
        _roll_volumes(windows, i, t_ns)


@inline_kernel
def add_volume(windows: Windows, i: int, lots: float, value: float) -> None:
    """Add to the running bucket (negative: take back); `bring_up` comes first."""
    slot = windows.edges[i, SLOT]
    windows.values[i, LOTS, slot] += lots
    windows.values[i, VALUE, slot] += value
    windows.now[i, LOTS] += lots
    windows.now[i, VALUE] += value
