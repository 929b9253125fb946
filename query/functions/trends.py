"""Straight lines and smoothing through a window's samples."""

from __future__ import annotations

import numpy as np

from metrics.frame import FloatArray, IntArray
from query.errors import execution
from query.windows import Window, batches, expanded


def deriv(window: Window) -> FloatArray:
    """Slope per second of the least-squares line."""
    return _lines(window, window.t[window.first()])[0]


def predict_linear(window: Window, ahead_s: FloatArray) -> FloatArray:
    """The least-squares line's value `ahead_s` seconds after the evaluation time."""
    slope, intercept = _lines(window, window.at)
    return slope * ahead_s + intercept


def _lines(window: Window, origin_ms: IntArray) -> tuple[FloatArray, FloatArray]:
    """Slope per second and value at `origin_ms` (int64 [steps]), both float64 [series, steps]."""
    shape = (len(window.v), window.steps)
    slope, intercept = np.full(shape, np.nan), np.full(shape, np.nan)
    for steps in batches(window):
        some = steps.start + np.flatnonzero(window.count[steps] >= 2)
        if len(some):
            slope[:, some], intercept[:, some] = _fit(window, some, origin_ms[some])
    return slope, intercept


def _fit(window: Window, steps: IntArray, origin_ms: IntArray) -> tuple[FloatArray, FloatArray]:
    """Sums around each window's own means keep all digits, whatever the size of times and values."""
    lo, hi = window.lo[steps], window.hi[steps]
    counts = hi - lo
    positions, begins = expanded(lo, hi)
    y = window.v[:, positions]
    x = (window.t[positions] - np.repeat(origin_ms, counts)) / 1000.0
    mean_x = np.add.reduceat(x, begins) / counts
    mean_y = np.add.reduceat(y, begins, axis=1) / counts
    off_x = x - np.repeat(mean_x, counts)
    off_y = y - np.repeat(mean_y, counts, axis=1)
    slope = np.add.reduceat(off_x * off_y, begins, axis=1) / np.add.reduceat(off_x * off_x, begins)
    intercept = mean_y - slope * mean_x
    first = window.v[:, lo]
    level = np.minimum.reduceat(y == np.repeat(first, counts, axis=1), begins, axis=1)
    infinite = level & np.isinf(first)
    slope = np.where(level, np.where(infinite, np.nan, 0.0), slope)
    intercept = np.where(level, np.where(infinite, np.nan, first), intercept)
    return slope, intercept


def double_exponential_smoothing(window: Window, smoothing: FloatArray, trend: FloatArray) -> FloatArray:
    """Holt's linear smoothing; all windows advance together, one sample of each per round."""
    for name, factor in (("smoothing", smoothing), ("trend", trend)):
        if not ((factor > 0) & (factor < 1)).all():
            raise execution(f"invalid {name} factor. Expected: 0 < {name[0]}f < 1, got: {float(factor[0]):f}")
    last = len(window.t) - 1
    level = window.v[:, window.first()]
    slope = window.v[:, np.minimum(window.lo + 1, last)] - level
    previous = np.zeros_like(level)
    for i in range(1, int(window.count.max(initial=0))):
        alive = window.count > i
        if i > 1:
            slope = np.where(alive, trend * (level - previous) + (1 - trend) * slope, slope)
        sample = window.v[:, np.minimum(window.lo + i, last)]
        smoothed = smoothing * sample + (1 - smoothing) * (level + slope)
        previous, level = np.where(alive, level, previous), np.where(alive, smoothed, level)
    return level
