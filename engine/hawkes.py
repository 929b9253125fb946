"""Arrivals of the synthetic market: when the next event comes and of which group.

A Hawkes process with exponential kernels, drawn by Ogata's thinning. Between events its state is
how strongly each group's past still excites, per time scale: excitation float64 (n, groups, scales).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.jit import inline_kernel
from metrics.frame import FloatArray, IntArray

SPLITMIX_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
SPLITMIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
SPLITMIX_2: Final = np.uint64(0x94D049BB133111EB)
SHIFT_30: Final = np.uint64(30)
SHIFT_27: Final = np.uint64(27)
SHIFT_31: Final = np.uint64(31)
SHIFT_11: Final = np.uint64(11)
UNIT: Final = 2.0**-53

WordArray: TypeAlias = npt.NDArray[np.uint64]
Table: TypeAlias = tuple[FloatArray, FloatArray]  # levels rising in 0..1, values
Streams: TypeAlias = tuple[WordArray, IntArray, FloatArray]  # random state, time of the process, excitation
# baseline (n, groups), decay (scales,), branching (groups, groups, scales), pull (groups, scales), curve, its top, session
Arrivals: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, float, int]


@inline_kernel
def uniform(rng: WordArray, i: int) -> float:
    """Next number in (0, 1) of stream i (SplitMix64, Steele et al. 2014); rng uint64 (n,) moves on."""
    rng[i] += SPLITMIX_STEP
    z = rng[i]
    z = (z ^ (z >> SHIFT_30)) * SPLITMIX_1
    z = (z ^ (z >> SHIFT_27)) * SPLITMIX_2
    z = z ^ (z >> SHIFT_31)
    return float((np.int64(z >> SHIFT_11) + 0.5) * UNIT)


@inline_kernel
def draw(table: Table, u: float) -> float:
    """Value of a quantile table at level u, linear in between, flat outside."""
    levels, values = table
    last = len(levels) - 1
    if u >= levels[last]:
        return float(values[last])
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) >> 1
        if levels[middle] <= u:
            low = middle
        else:
            high = middle
    share = max(0.0, (u - levels[low]) / (levels[high] - levels[low]))
    return float(values[low] + share * (values[high] - values[low]))


@inline_kernel
def draw_whole(table: Table, u: float, at_least: int) -> int:
    """The same, rounded to a whole number of at least `at_least`."""
    return max(at_least, int(np.round(draw(table, u))))


@inline_kernel
def curve_at(curve: FloatArray, t_ns: int, session_ns: int) -> float:
    """Value of a session curve at a time; the session repeats."""
    return float(curve[((t_ns % session_ns) * len(curve)) // session_ns])


@inline_kernel
def next_arrival(i: int, streams: Streams, arrivals: Arrivals) -> Any:
    """Move instrument i's process on to its next event; returns (time, group).

    `pull` is the excited intensity per unit of excitation, summed over the groups it excites, so
    that a candidate costs one sum; which group it is gets worked out only for accepted ones.
    """
    rng, now_ns, excitation = streams
    baseline, decay, branching, pull, curve, curve_top, session_ns = arrivals
    groups, scales = baseline.shape[1], len(decay)
    base = 0.0
    for g in range(groups):
        base += baseline[i, g]
    while True:
        excited = 0.0
        for g in range(groups):
            for p in range(scales):
                excited += pull[g, p] * excitation[i, g, p]
        bound = base * curve_top + excited
        wait_s = -np.log(uniform(rng, i)) / bound
        now_ns[i] += int(wait_s * 1e9) + 1
        excited = 0.0
        for p in range(scales):
            keep = np.exp(-decay[p] * wait_s)
            for g in range(groups):
                excitation[i, g, p] *= keep
                excited += pull[g, p] * excitation[i, g, p]
        level = curve_at(curve, now_ns[i], session_ns)
        aim = uniform(rng, i) * bound
        if aim > base * level + excited:
            continue
        for g in range(groups):
            aim -= baseline[i, g] * level
            for j in range(groups):
                for p in range(scales):
                    aim -= branching[g, j, p] * decay[p] * excitation[i, j, p]
            if aim <= 0.0:
                return now_ns[i], g
        return now_ns[i], groups - 1
