"""Rates over `anchored` and `smoothed` ranges: to the range's edges without extrapolation.

The windows come from an ExtendedSelector: the last sample at or before the range's start belongs to
them, and of a smoothed range the first one at or behind its end. Formulas: promql/functions.go of
Prometheus 3, extendedRate.
"""

from __future__ import annotations

import numpy as np

from metrics.frame import FloatArray, IntArray
from query.windows import Window, reduce


def anchored_rate(window: Window) -> FloatArray:
    return _change(window, counter=True, smoothed=False) / (window.range_ms / 1000)


def anchored_increase(window: Window) -> FloatArray:
    return _change(window, counter=True, smoothed=False)


def anchored_delta(window: Window) -> FloatArray:
    return _change(window, counter=False, smoothed=False)


def smoothed_rate(window: Window) -> FloatArray:
    return _change(window, counter=True, smoothed=True) / (window.range_ms / 1000)


def smoothed_increase(window: Window) -> FloatArray:
    return _change(window, counter=True, smoothed=True)


def smoothed_delta(window: Window) -> FloatArray:
    return _change(window, counter=False, smoothed=True)


def _change(window: Window, *, counter: bool, smoothed: bool) -> FloatArray:
    t, v = window.t, window.v
    first, last = window.first(), window.last()
    begin, end = window.ends - window.range_ms, window.ends
    left, right = v[:, first], v[:, last]
    if smoothed:
        after, before = np.minimum(first + 1, len(t) - 1), np.maximum(last - 1, 0)
        left = np.where(t[first] < begin, _between(window, first, after, begin, counter=counter), left)
        right = np.where(
            (t[last] > end) & (last > window.lo), _between(window, before, last, end, counter=counter), right
        )
    change = right - left
    if not counter:
        return change
    low = first + (t[first] <= begin)  # samples inside the range: low .. high
    high = last - (t[last] >= end)
    some = high >= low
    low, high = np.minimum(low, len(t) - 1), np.maximum(high, 0)
    lost = np.zeros_like(v)
    lost[:, 1:] = np.where(v[:, 1:] < v[:, :-1], v[:, :-1], 0.0)
    inside = high > low
    within = np.where(inside, reduce(np.add, lost, np.where(inside, low + 1, 0), np.where(inside, high + 1, 1)), 0.0)
    at_left = np.where(v[:, low] < left, left, 0.0)
    at_right = np.where(right < v[:, high], v[:, high], 0.0)
    between = np.where(right < left, left, 0.0)
    corrected: FloatArray = change + np.where(some, within + at_left + at_right, between)
    return corrected


def _between(window: Window, a: IntArray, b: IntArray, at: IntArray, *, counter: bool) -> FloatArray:
    """The value at a time between two samples on a straight line; a counter that fell began at 0."""
    low, high = window.v[:, a], window.v[:, b]
    if counter:
        low = np.where(high < low, 0.0, low)
    span = np.maximum(window.t[b] - window.t[a], 1)
    line: FloatArray = low + (high - low) * ((at - window.t[a]) / span)
    return line
