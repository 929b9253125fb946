"""Rates of counters and differences of gauges, with Prometheus's extrapolation to the window's ends.

Formulas: promql/functions.go of Prometheus 3, extrapolatedRate and instantValue.
"""

from __future__ import annotations

import numpy as np

from metrics.frame import FloatArray
from query.windows import Window, reduce

EDGE = 1.1  # a series that ends within 1.1 sample distances of the window's end is taken to reach it


def rate(window: Window) -> FloatArray:
    return _extrapolated(window, counter=True, per_s=window.range_ms / 1000.0)


def increase(window: Window) -> FloatArray:
    return _extrapolated(window, counter=True)


def delta(window: Window) -> FloatArray:
    return _extrapolated(window, counter=False)


def _extrapolated(window: Window, *, counter: bool, per_s: float = 1.0) -> FloatArray:
    if window.single and window.lost is None:
        return _extrapolated_once(window, counter=counter, per_s=per_s)
    first, last = window.first(), window.last()
    start = window.v[:, first]
    change = window.v[:, last] - start
    if counter:
        change = change + _lost_at_resets(window)
    sampled = (window.t[last] - window.t[first]) / 1000.0
    mean = sampled / np.maximum(window.count - 1, 1)
    to_start = (window.t[first] - (window.ends - window.range_ms)) / 1000.0
    to_end = (window.ends - window.t[last]) / 1000.0
    to_start = np.where(to_start >= mean * EDGE, mean / 2, to_start)
    to_end = np.where(to_end >= mean * EDGE, mean / 2, to_end)
    if counter:
        # A counter was never below zero: do not extrapolate past the point where it would have been.
        to_zero = np.where((change > 0) & (start >= 0), sampled * (start / change), np.inf)
        to_start = np.minimum(to_start, to_zero)
    result: FloatArray = change * ((sampled + to_start + to_end) / sampled / per_s)
    return result


def _lost_at_resets(window: Window) -> FloatArray | float:
    """What counters had counted before each reset inside a window; 0 where none was reset."""
    lost = window.lost
    if lost is None:
        fell = window.v[:, 1:] < window.v[:, :-1]
        if not fell.any():
            return 0.0
        lost = np.zeros_like(window.v)
        lost[:, 1:] = np.where(fell, window.v[:, :-1], 0.0)
    if not lost.size:
        return 0.0
    behind_first = np.minimum(window.lo + 1, window.hi)
    return np.where(window.hi > behind_first, reduce(np.add, lost, behind_first, window.hi), 0.0)


def _extrapolated_once(window: Window, *, counter: bool, per_s: float) -> FloatArray:
    """The same for one instant: everything about time is a plain number, which makes rules cheap."""
    lo, hi = int(window.lo[0]), int(window.hi[0])
    v = window.v
    if hi - lo < 2:
        return np.full((len(v), 1), np.nan)
    start = v[:, lo]
    change = v[:, hi - 1] - start
    if counter:
        fell = v[:, lo + 1 : hi] < v[:, lo : hi - 1]
        if fell.any():
            change = change + np.where(fell, v[:, lo : hi - 1], 0.0).sum(axis=1)
    first, last, end = int(window.t[lo]), int(window.t[hi - 1]), int(window.ends[0])
    sampled = (last - first) / 1000.0
    mean = sampled / (hi - lo - 1)
    to_start = (first - (end - window.range_ms)) / 1000.0
    to_end = (end - last) / 1000.0
    to_start = mean / 2 if to_start >= mean * EDGE else to_start
    to_end = mean / 2 if to_end >= mean * EDGE else to_end
    if not counter:
        once: FloatArray = (change * ((sampled + to_start + to_end) / sampled / per_s))[:, None]
        return once
    to_zero = np.where((change > 0) & (start >= 0), sampled * (start / change), np.inf)
    factor = (sampled + np.minimum(to_zero, to_start) + to_end) / sampled / per_s
    corrected: FloatArray = (change * factor)[:, None]
    return corrected


def irate(window: Window) -> FloatArray:
    """Per-second rate between the last two samples; after a reset the last value is the increase."""
    last = window.last()
    before = np.maximum(last - 1, 0)
    new, old = window.v[:, last], window.v[:, before]
    seconds = (window.t[last] - window.t[before]) / 1000.0
    result: FloatArray = np.where(new < old, new, new - old) / seconds
    return result


def idelta(window: Window) -> FloatArray:
    last = window.last()
    difference: FloatArray = window.v[:, last] - window.v[:, np.maximum(last - 1, 0)]
    return difference
