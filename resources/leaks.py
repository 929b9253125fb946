"""Leaks: whether a process's memory grows without end, told from one reading a minute.

Memory saws (caches that fill and are dropped, garbage that waits), steps (a table is loaded), and settles after
a start. What a leak alone does is raise the floor, steadily and for long. So the readings are cut into blocks, each
with its lowest reading; single dips are filled up to their neighbours; and the floor at a block is the lowest that
follows it within the window: what is given back later was no leak. The slope of the floor is Theil and Sen's (the
median of the slopes of all pairs), its interval by Sen's ranks. Growth counts where the interval's lower end is above
the threshold *and* each third of the window grew: a step, a start that settles or the last tooth of a saw grows in
one third only. A second signal, what the allocators say is in use, confirms; without it the growth is the
heap's holes or somebody's mapped pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import erf, sqrt

import numpy as np

from metrics.errors import DeskvigilError
from metrics.frame import FloatArray

BLOCK_S = 300.0
PARTS = 3  # of the window; each has to grow
PART_SHARE = 0.25  # of the whole slope is the least that each part must have
CONFIRM_SHARE = 0.5  # of the growth that the second signal must show
Z = 1.96  # of the slope's interval


class LeakVerdict(IntEnum):
    """What is thought of a process's memory; the number is the value of the published series."""

    WARMING_UP = 0
    CALM = 1
    SUSPECTED = 2
    LEAK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakLimits:
    """When growth is a leak. warm_up_s after the process's start is not looked at, then least_s of readings are needed;
    the newest window_s are judged. threshold: bytes a second that the slope's lower end must exceed."""

    warm_up_s: float = 1_200.0
    least_s: float = 4_500.0
    window_s: float = 7_200.0
    threshold: float = 0.25e6 / 60.0


@dataclass(frozen=True, slots=True)
class Growth:
    """Slope of the floor in bytes a second with its 95 % interval; confidence (0-1) that it rises at all (Mann and
    Kendall); whether every part of the window rose. NaN and False where there is too little to go by."""

    slope: float
    low: float
    high: float
    confidence: float
    steady: bool


@dataclass(frozen=True, slots=True)
class LeakReport:
    """A verdict, and what it rests on."""

    verdict: LeakVerdict
    growth: Growth


UNKNOWN = Growth(float("nan"), float("nan"), float("nan"), float("nan"), False)


def judge(
    t_s: FloatArray, resident: FloatArray, in_use: Sequence[FloatArray], started_s: float, limits: LeakLimits
) -> LeakReport:
    """Judge one process as of its last reading.

    t_s float64 (n,), ascending seconds; resident float64 (n,): its anonymous memory in bytes (NaN: no reading);
    in_use: second signals of the same shape, bytes that its allocators have handed out. started_s: when the process
    started, on the clock of t_s. DeskvigilError where shapes differ or times do not ascend.
    """
    _check(t_s, resident, in_use)
    if len(t_s) == 0:
        return LeakReport(LeakVerdict.WARMING_UP, UNKNOWN)
    since_s = max(started_s + limits.warm_up_s, float(t_s[-1]) - limits.window_s)
    window = t_s >= since_s
    if float(t_s[-1]) - since_s < limits.least_s:
        return LeakReport(LeakVerdict.WARMING_UP, UNKNOWN)
    growth = growth_of(t_s[window], resident[window])
    if np.isnan(growth.slope):
        return LeakReport(LeakVerdict.WARMING_UP, UNKNOWN)
    if not (growth.steady and growth.low > limits.threshold):
        return LeakReport(LeakVerdict.CALM, growth)
    for signal in in_use:
        second = growth_of(t_s[window], signal[window])
        if second.steady and second.slope >= CONFIRM_SHARE * growth.low:
            return LeakReport(LeakVerdict.LEAK, growth)
    return LeakReport(LeakVerdict.SUSPECTED, growth)


def growth_of(t_s: FloatArray, values: FloatArray) -> Growth:
    """How the floor of values (float64 (n,), bytes; NaN: no reading) grows; UNKNOWN for fewer than 3 * PARTS blocks."""
    at, lowest = _blocks(t_s, values)
    if len(at) < 3 * PARTS:
        return UNKNOWN
    rising = floor(lowest)
    slopes = _slopes(at, rising)
    slope = float(np.median(slopes))
    n = len(at)
    deviation = sqrt(n * (n - 1) * (2 * n + 5) / 18.0)  # of Kendall's score, without ties
    ranked = np.sort(slopes)
    reach = Z * deviation / 2.0
    middle = (len(ranked) - 1) / 2.0
    low = float(ranked[max(int(np.floor(middle - reach)), 0)])
    high = float(ranked[min(int(np.ceil(middle + reach)), len(ranked) - 1)])
    score = float(np.sign(_slopes(at, _without_dips(lowest))).sum())
    confidence = 0.5 * (1.0 + erf((score - np.sign(score)) / deviation / sqrt(2.0)))
    parts = zip(np.array_split(at, PARTS), np.array_split(rising, PARTS), strict=True)
    steady = all(float(np.median(_slopes(*part))) >= PART_SHARE * slope for part in parts) and slope > 0.0
    return Growth(slope, low, high, confidence, steady)


def floor(lowest: FloatArray) -> FloatArray:
    """The lowest value at or after each place, single dips filled; float64 (n,) in and out, never falling."""
    smooth = _without_dips(lowest)
    rising: FloatArray = np.minimum.accumulate(smooth[::-1])[::-1]
    return rising


def _without_dips(lowest: FloatArray) -> FloatArray:
    """A block far below both its neighbours, which are at about one level, is a dip (pages reclaimed and wanted again).

    The trough of a saw is none: what follows it is far below what was before it.
    """
    filled = lowest.copy()
    before, after = lowest[:-2], lowest[2:]
    depth = np.minimum(before, after) - lowest[1:-1]
    filled[1:-1] += np.where(depth > np.abs(after - before), depth, 0.0)
    return filled


def _blocks(t_s: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Middle and lowest value of each stretch of BLOCK_S that has a reading, counted back from the last."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(0), np.zeros(0)
    t_s, values = t_s[known], values[known]
    number = np.floor((t_s[-1] - t_s) / BLOCK_S).astype(np.int64)
    begins = np.flatnonzero(np.concatenate([[True], np.diff(number) != 0]))
    return t_s[-1] - (number[begins] + 0.5) * BLOCK_S, np.minimum.reduceat(values, begins)


def _slopes(at: FloatArray, values: FloatArray) -> FloatArray:
    first, second = np.triu_indices(len(at), 1)
    slopes: FloatArray = (values[second] - values[first]) / (at[second] - at[first])
    return slopes


def _check(t_s: FloatArray, resident: FloatArray, in_use: Sequence[FloatArray]) -> None:
    for name, array in (("resident", resident), *((f"in_use[{i}]", signal) for i, signal in enumerate(in_use))):
        if array.shape != t_s.shape or t_s.ndim != 1:
            raise DeskvigilError(f"leaks: {name} has shape {array.shape}, t_s {t_s.shape}; both are to be (n,)")
    if not (np.diff(t_s) > 0).all():
        raise DeskvigilError("leaks: t_s does not ascend")
