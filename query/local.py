"""Sums around a nearby origin: stretches of steps whose windows overlap share one.

Sums of squares and products lose digits when the values are far from 0. Taking them around a value
of the same stretch keeps almost all, and costs a few passes over the samples however long the windows are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray, IntArray
from query.values import BoolArray
from query.windows import Window

LEAST_STEPS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Consecutive steps with at least one sample in each window.

    steps: their positions, int64 [k]. t: int64 [n] ms; y: float64 [series, n], values less `origin` (float64
    [series, 1]). lo, hi: windows as positions in t.
    """

    steps: IntArray
    t: IntArray
    y: FloatArray
    origin: FloatArray
    lo: IntArray
    hi: IntArray

    @property
    def count(self) -> IntArray:
        return self.hi - self.lo


def stretches(window: Window, least: int = 1) -> Iterator[Stretch]:
    """Cut the steps whose windows have `least` samples into stretches about as long as a window."""
    some = np.flatnonzero(window.count >= least)
    if not len(some):
        return
    step_ms = int(window.ends[-1] - window.ends[0]) / max(len(window.ends) - 1, 1)
    size = LEAST_STEPS if step_ms <= 0 else max(LEAST_STEPS, int(window.range_ms / step_ms))
    for begin in range(0, len(some), size):
        window.check()
        steps = some[begin : begin + size]
        lo, hi = window.lo[steps], window.hi[steps]
        first, behind = int(lo.min()), int(hi.max())
        v = window.v[:, first:behind]
        origin = v[:, v.shape[1] // 2 : v.shape[1] // 2 + 1]
        origin = np.where(np.isfinite(origin), origin, 0.0)
        yield Stretch(steps, window.t[first:behind], v - origin, origin, lo - first, hi - first)


def level(window: Window) -> BoolArray:
    """Whether all samples of a window are equal, bool [series, steps]; NaN is equal to nothing."""
    moved = np.zeros((len(window.v), len(window.t)), dtype=np.int32)
    np.cumsum(window.v[:, 1:] != window.v[:, :-1], axis=1, out=moved[:, 1:])
    first, last = window.first(), window.last()
    unmoved: BoolArray = moved[:, last] == moved[:, first]
    return unmoved & ~np.isnan(window.v[:, first])
