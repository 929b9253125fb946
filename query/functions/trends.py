"""Straight lines and smoothing through a window's samples."""

from __future__ import annotations

import numpy as np

from metrics.frame import FloatArray, IntArray
from query.errors import execution
from query.local import Stretch, level, stretches
from query.windows import Window, reduce

# What a sample contributes once it has aged so much is beyond the last digit.
FORGOTTEN = 1e-22


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
    for stretch in stretches(window, least=2):
        steps = stretch.steps
        slope[:, steps], intercept[:, steps] = _fit(stretch, origin_ms[steps])
    odd = ~np.isfinite(window.v)
    if odd.any():  # no line goes through what is not finite
        hit = (window.count > 0) & (reduce(np.maximum, odd.astype(np.float64), window.lo, window.hi) > 0)
        slope[hit] = intercept[hit] = np.nan
    flat = level(window)
    first = window.v[:, window.first()]
    infinite = np.isinf(first)
    slope = np.where(flat, np.where(infinite, np.nan, 0.0), slope)
    intercept = np.where(flat, np.where(infinite, np.nan, first), intercept)
    return slope, intercept


def _fit(stretch: Stretch, origin_ms: IntArray) -> tuple[FloatArray, FloatArray]:
    """Least squares from sums around the stretch's own middle, in time and in value."""
    lo, hi, count = stretch.lo, stretch.hi, stretch.count
    middle = int(stretch.t[len(stretch.t) // 2])
    x = ((stretch.t - middle) / 1000.0)[None, :]
    mean_x, mean_y = reduce(np.add, x, lo, hi) / count, reduce(np.add, stretch.y, lo, hi) / count
    spread = reduce(np.add, x * x, lo, hi) / count - mean_x * mean_x
    slope = (reduce(np.add, x * stretch.y, lo, hi) / count - mean_x * mean_y) / spread
    at = ((origin_ms - middle) / 1000.0)[None, :]
    return slope, stretch.origin + mean_y + slope * (at - mean_x)


def double_exponential_smoothing(window: Window, smoothing: FloatArray, trend: FloatArray) -> FloatArray:
    """Holt's linear smoothing."""
    for name, factor in (("smoothing", smoothing), ("trend", trend)):
        if not ((factor > 0) & (factor < 1)).all():
            raise execution(f"invalid {name} factor. Expected: 0 < {name[0]}f < 1, got: {float(factor[0]):f}")
    count = window.count
    plain = np.isfinite(window.v).all() and smoothing.min() == smoothing.max() and trend.min() == trend.max()
    if not plain or int(count.max(initial=0)) < 8:
        return _smoothed_one_by_one(window, smoothing, trend)
    return _smoothed(window, float(smoothing[0]), float(trend[0]))


def _smoothed(window: Window, smoothing: float, trend: float) -> FloatArray:
    """Every round is the same linear map of (level, level before, slope), so a sample's weight depends on its age only."""
    count, longest = window.count, int(window.count.max())
    after = 1 - smoothing
    turn = np.array([[after * (1 + trend), -after * trend, after * (1 - trend)], [1, 0, 0], [trend, -trend, 1 - trend]])
    state, powers, weights = np.eye(3), [], []
    for _ in range(longest):
        powers.append(state[0])
        weights.append(smoothing * state[0, 0])
        if np.abs(state).max() < FORGOTTEN:
            break
        state = turn @ state
    power, weight = np.array(powers), np.array(weights)
    first, second = window.first(), np.minimum(window.lo + 1, len(window.t) - 1)
    slope = window.v[:, second] - window.v[:, first]
    second_level = smoothing * window.v[:, second] + after * (window.v[:, first] + slope)
    begin = np.where((count - 2 < len(power)) & (count >= 2), count - 2, 0)
    alive = ((count - 2 < len(power)) & (count >= 2)).astype(np.float64)
    of_first = power[begin] * alive[:, None]
    result = of_first[:, 0] * second_level + of_first[:, 1] * window.v[:, first] + of_first[:, 2] * slope
    ages = np.arange(len(weight))
    stride = max(1, 2_000_000 // (len(weight) * max(len(window.v), 1)))
    for start in range(0, window.steps, stride):
        window.check()
        steps = slice(start, start + stride)
        positions = np.maximum(window.hi[steps, None] - 1 - ages, 0)
        own = np.where(ages < (count[steps] - 2)[:, None], weight, 0.0)
        result[:, steps] += np.einsum("rsa,sa->rs", window.v[:, positions], own)
    return result


def _smoothed_one_by_one(window: Window, smoothing: FloatArray, trend: FloatArray) -> FloatArray:
    """All windows advance together, one sample of each per round."""
    last = len(window.t) - 1
    height = window.v[:, window.first()]
    slope = window.v[:, np.minimum(window.lo + 1, last)] - height
    previous = np.zeros_like(height)
    for i in range(1, int(window.count.max(initial=0))):
        window.check()
        alive = window.count > i
        if i > 1:
            slope = np.where(alive, trend * (height - previous) + (1 - trend) * slope, slope)
        sample = window.v[:, np.minimum(window.lo + i, last)]
        smoothed = smoothing * sample + (1 - smoothing) * (height + slope)
        previous, height = np.where(alive, height, previous), np.where(alive, smoothed, height)
    return height
