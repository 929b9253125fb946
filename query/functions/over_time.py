"""Functions of a window's values: *_over_time, changes, resets.

Every kernel takes a Window (and scalars, float64 [steps]) and returns float64 [series, steps];
what it returns for windows with too few samples is masked by the caller.
"""

from __future__ import annotations

import numpy as np

from metrics.frame import FloatArray, IntArray
from query.values import BoolArray
from query.windows import Window, batches, expanded, reduce, sums


def sum_over_time(window: Window) -> FloatArray:
    return sums(window.v, window.lo, window.hi)


def avg_over_time(window: Window) -> FloatArray:
    count = np.maximum(window.count, 1)
    mean = sums(window.v, window.lo, window.hi) / count
    if not np.isfinite(mean).all():
        overflown = np.isinf(mean)
        rows = overflown.any(axis=1)
        # The sum left float64's range although the mean is inside it: divide first, then add.
        scaled = sums(window.v[rows] / 2.0**64, window.lo, window.hi) / count * 2.0**64
        mean[rows] = np.where(overflown[rows], scaled, mean[rows])
    return mean


def min_over_time(window: Window) -> FloatArray:
    return reduce(np.fmin, window.v, window.lo, window.hi)


def max_over_time(window: Window) -> FloatArray:
    return reduce(np.fmax, window.v, window.lo, window.hi)


def count_over_time(window: Window) -> FloatArray:
    return np.broadcast_to(window.count.astype(np.float64), (len(window.v), window.steps))


def present_over_time(window: Window) -> FloatArray:
    return np.ones((len(window.v), window.steps))


def first_over_time(window: Window) -> FloatArray:
    return window.v[:, window.first()]


def last_over_time(window: Window) -> FloatArray:
    return window.v[:, window.last()]


def stdvar_over_time(window: Window) -> FloatArray:
    """Population variance, each window around its own mean."""
    if window.single:
        only = window.slice()
        off = only - only[:, :1]
        once: FloatArray = np.square(off - off.mean(axis=1, keepdims=True)).mean(axis=1, keepdims=True)
        return once
    result = np.full((len(window.v), window.steps), np.nan)
    for steps in batches(window):
        lo, hi = window.lo[steps], window.hi[steps]
        some = np.flatnonzero(hi > lo)
        if len(some):
            result[:, steps.start + some] = _variance(window.v, lo[some], hi[some])
    return result


def stddev_over_time(window: Window) -> FloatArray:
    return np.sqrt(stdvar_over_time(window))


def _variance(v: FloatArray, lo: IntArray, hi: IntArray) -> FloatArray:
    positions, begins = expanded(lo, hi)
    counts = hi - lo
    off = v[:, positions] - np.repeat(v[:, lo], counts, axis=1)  # so that equal values vary by exactly 0
    off -= np.repeat(np.add.reduceat(off, begins, axis=1) / counts, counts, axis=1)
    variance: FloatArray = np.add.reduceat(off * off, begins, axis=1) / counts
    return variance


def quantile_over_time(window: Window, q: FloatArray) -> FloatArray:
    """Linear interpolation between the two nearest ranks; NaN sorts lowest, as in Prometheus."""
    result = np.full((len(window.v), window.steps), np.nan)
    counts = window.count
    for length in np.unique(counts[counts > 0]).tolist():
        steps = np.flatnonzero(counts == length)
        stride = max(1, 2_000_000 // (length * max(len(window.v), 1)))
        for begin in range(0, len(steps), stride):
            some = steps[begin : begin + stride]
            positions = window.lo[some][:, None] + np.arange(length)
            result[:, some] = quantile_sorted(sorted_nan_first(window.v[:, positions]), length, q[some])
    return result


def sorted_nan_first(values: FloatArray) -> FloatArray:
    """Sort along the last axis with NaN before everything else."""
    ordered: FloatArray = -np.sort(-values, axis=-1)[..., ::-1]  # np.sort puts NaN last, so sort the negatives
    return ordered


def quantile_sorted(ordered: FloatArray, count: int | IntArray, q: FloatArray) -> FloatArray:
    """The q-quantile along the last axis of sorted values, of which the first `count` are used.

    ordered: float64 [..., n]; count: an int or int64 [...]; q broadcasts against [...].
    """
    count = np.broadcast_to(np.asarray(count), ordered.shape[:-1])
    safe = np.clip(np.where(np.isnan(q), 0.0, q), 0.0, 1.0)
    rank = safe * (count - 1)
    lower = np.clip(np.floor(rank), 0, None).astype(np.int64)
    upper = np.clip(np.minimum(lower + 1, count - 1), 0, None).astype(np.int64)
    weight = rank - np.floor(rank)
    low = np.take_along_axis(ordered, lower[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(ordered, upper[..., None], axis=-1)[..., 0]
    value = low * (1 - weight) + high * weight
    value = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, value))
    result: FloatArray = np.where(np.isnan(q), np.nan, value)
    return result


def changes(window: Window) -> FloatArray:
    before, after = window.v[:, :-1], window.v[:, 1:]
    return _transitions(window, (before != after) & ~(np.isnan(before) & np.isnan(after)))


def resets(window: Window) -> FloatArray:
    return _transitions(window, window.v[:, 1:] < window.v[:, :-1])


def _transitions(window: Window, happened: BoolArray) -> FloatArray:
    """Count per window the marks between its neighbouring samples, by prefix sums of whole numbers."""
    prefix = np.zeros((len(window.v), len(window.t)), dtype=np.int64)
    np.cumsum(happened, axis=1, out=prefix[:, 1:])
    counted: FloatArray = (prefix[:, window.last()] - prefix[:, window.first()]).astype(np.float64)
    return counted


def mad_over_time(window: Window) -> FloatArray:
    """Median of the absolute distances from the window's median."""
    half = np.full(window.steps, 0.5)
    median = quantile_over_time(window, half)
    result = np.full(median.shape, np.nan)
    counts = window.count
    for length in np.unique(counts[counts > 0]).tolist():
        for step in np.array_split(steps := np.flatnonzero(counts == length), max(1, len(steps) * length // 1_000_000)):
            positions = window.lo[step][:, None] + np.arange(length)
            off = np.abs(window.v[:, positions] - median[:, step][..., None])
            result[:, step] = quantile_sorted(sorted_nan_first(off), length, half[step])
    return result


def ts_of_last_over_time(window: Window) -> FloatArray:
    return np.broadcast_to(window.t[window.last()] / 1000.0, (len(window.v), window.steps))


def ts_of_first_over_time(window: Window) -> FloatArray:
    return np.broadcast_to(window.t[window.first()] / 1000.0, (len(window.v), window.steps))
