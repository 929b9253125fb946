"""Functions of a window's values: *_over_time, changes, resets.

Every kernel takes a Window (and scalars, float64 [steps]) and returns float64 [series, steps];
what it returns for windows with too few samples is masked by the caller.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metrics.frame import FloatArray, IntArray
from query.local import stretches
from query.order import Order
from query.values import BoolArray
from query.windows import CANCELLED, Window, expanded, reduce, sums

# From this many times the samples on, windows overlap so much that an index of the samples is cheaper than sorting each.
SORTED_AT_MOST = 20
# Values that are sorted together: few enough to stay in the cache.
SORTED_AT_ONCE = 100_000


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
    for stretch in stretches(window):
        count = stretch.count
        mean = reduce(np.add, stretch.y, stretch.lo, stretch.hi) / count
        variance = reduce(np.add, np.square(stretch.y), stretch.lo, stretch.hi) / count - np.square(mean)
        # Where the mean is far from the origin, digits have cancelled: once more around each window's own.
        doubtful = ~(variance > CANCELLED * np.square(mean)) & ~np.isnan(variance)
        rows, columns = np.flatnonzero(doubtful.any(axis=1)), np.flatnonzero(doubtful.any(axis=0))
        for some in np.array_split(columns, max(1, int(count[columns].sum()) * len(rows) // 2_000_000)):
            if len(some):
                variance[np.ix_(rows, some)] = _variance(stretch.y[rows], stretch.lo[some], stretch.hi[some])
        result[:, stretch.steps] = variance
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
    if int(window.count.sum()) > SORTED_AT_MOST * len(window.t):
        return _quantile_by_order(window, q)
    for some, values in _by_length(window):
        result[:, some] = quantile_of(values, q[some])
    return result


def _by_length(window: Window) -> Iterator[tuple[IntArray, FloatArray]]:
    """Steps whose windows have equally many samples, and these: float64 [series, steps, samples]; some at a time."""
    counts = window.count
    for length in np.unique(counts[counts > 0]).tolist():
        steps = np.flatnonzero(counts == length)
        stride = max(1, SORTED_AT_ONCE // (length * max(len(window.v), 1)))
        for begin in range(0, len(steps), stride):
            window.check()
            some = steps[begin : begin + stride]
            yield some, window.v[:, window.lo[some][:, None] + np.arange(length)]


def quantile_of(values: FloatArray, q: FloatArray) -> FloatArray:
    """The q-quantiles (float64 [steps]) along the last axis of float64 [series, steps, n]."""
    n = values.shape[-1]
    if not (q.min() >= 0 and q.max() == q.min() and q.max() <= 1) or np.isnan(values).any():
        return quantile_sorted(sorted_nan_first(values), n, q)
    rank = float(q[0]) * (n - 1)
    lower = int(rank)
    upper = min(lower + 1, n - 1)
    placed = np.partition(values, (lower, upper), axis=-1)
    weight = rank - lower
    result: FloatArray = placed[..., lower] * (1 - weight) + placed[..., upper] * weight
    return result


def _quantile_by_order(window: Window, q: FloatArray) -> FloatArray:
    """The same for windows that overlap a lot."""
    count = np.maximum(window.count, 1)
    rank = np.clip(np.where(np.isnan(q), 0.0, q), 0.0, 1.0) * (count - 1)
    lower = np.floor(rank).astype(np.int64)
    upper = np.minimum(lower + 1, count - 1)
    weight = rank - lower
    some = np.flatnonzero(window.count > 0)
    lo, hi = window.lo[some], window.hi[some]
    result = np.full((len(window.v), window.steps), np.nan)
    for row, values in enumerate(window.v):  # each builds an index of all its samples, which is the work
        window.check()
        order = Order(values)
        low, high = order.smallest(lo, hi, lower[some]), order.smallest(lo, hi, upper[some])
        result[row, some] = low * (1 - weight[some]) + high * weight[some]
    result = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, result))
    return np.where(np.isnan(q), np.nan, result)


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
    """Median of the absolute distances from the window's median; NaN where the window has one."""
    result = np.full((len(window.v), window.steps), np.nan)
    for some, values in _by_length(window):
        half = np.full(len(some), 0.5)
        off = np.abs(values - quantile_of(values, half)[..., None])
        result[:, some] = np.where(np.isnan(values).any(axis=-1), np.nan, quantile_of(off, half))
    return result


def ts_of_last_over_time(window: Window) -> FloatArray:
    return np.broadcast_to(window.t[window.last()] / 1000.0, (len(window.v), window.steps))


def ts_of_first_over_time(window: Window) -> FloatArray:
    return np.broadcast_to(window.t[window.first()] / 1000.0, (len(window.v), window.steps))


def ts_of_max_over_time(window: Window) -> FloatArray:
    """When the window's largest value was seen last, in seconds; NaN counts only where nothing else is."""
    return _time_of_largest(window, window.v)


def ts_of_min_over_time(window: Window) -> FloatArray:
    """When the window's smallest value was seen last, in seconds; NaN counts only where nothing else is."""
    return _time_of_largest(window, -window.v)


def _time_of_largest(window: Window, values: FloatArray) -> FloatArray:
    """The largest rank of a window tells which sample it is: ranks go by value, then by time, NaN before all."""
    first, last = int(window.lo.min(initial=len(window.t))), int(window.hi.max(initial=0))
    if last <= first:
        return np.full((len(values), window.steps), np.nan)
    values, n = values[:, first:last], last - first
    result = np.empty((len(values), window.steps))
    lo, hi = window.lo - first, window.hi - first
    seconds = window.t[first:last] / 1000.0
    at_once = max(1, SORTED_AT_ONCE * 10 // n)
    for start in range(0, len(values), at_once):
        window.check()
        some = values[start : start + at_once]
        by_rank = np.argsort(some, axis=1, kind="stable")  # NaN comes last: turn each row until it comes first
        turn = n - np.isnan(some).sum(axis=1)[:, None]
        by_rank = np.take_along_axis(by_rank, (np.arange(n) + turn) % n, axis=1)
        ranks = np.empty(some.shape)
        np.put_along_axis(ranks, by_rank, np.arange(n, dtype=np.float64)[None, :], axis=1)
        largest = np.where(hi > lo, reduce(np.maximum, ranks, lo, hi), 0.0).astype(np.int64)
        result[start : start + at_once] = seconds[np.take_along_axis(by_rank, largest, axis=1)]
    return result
