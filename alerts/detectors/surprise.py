"""Surprise: how unlikely a sample is, given everything that its own series did before.

Each series is seen through a few views (a jump against the last samples, a shifted level, another spread, ...).
Every view yields one number a sample and keeps a histogram of that number's size, above and below apart. What is
rarer than the histogram's upper part is extrapolated by a Pareto tail (the estimator of B. Hill, Annals of Statistics
1975, with a prior for the first samples): a series that always had spikes has a heavy tail, and one more spike is
nothing to tell. A view's surprise is -log10 of that probability. The surprises of all views are added up (as a norm,
so that the largest counts most), and the sum is held against its own history in the same way: some views are always
a little surprised. The score is -log10 of the probability of the sum: 3 is once in a thousand samples.

Nothing is assumed of a series' scale, distribution or memory: it is its own reference. Nothing grows: a series takes
some 40 kB for ever. One call takes one sample of each of many series.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BinArray = npt.NDArray[np.float32]
F = TypeVar("F", bound=Callable[..., Any])


class View(IntEnum):
    """What a series is looked at for; the most surprised one is the reason that is told."""

    JUMP = 0  # against the median of the five samples before
    LEVEL = 1  # the last few samples against the last few hundred
    RANGE = 2  # against all that was seen
    SPREAD = 3  # how much it moves now against how much it used to
    SEASON = 4  # against the same time of earlier days
    SHAPE = 5  # the course of the last samples against the most similar course before
    FLAT = 6  # it stands still
    MISSING = 7  # it has no readings


class Tuning(NamedTuple):
    """What the detector is made to; chosen on one half of the labelled series (`python -m validation.detectors`).

    Times are in samples. warm: nothing is said before so many. forget: what a sample more counts than the one
    before it. tail, least: the share of the histogram, and the samples, that a tail is fitted to. prior_xi,
    prior_count: tail index assumed at first, and the samples it counts for. *_weight: of a view's surprise.
    threshold, calm: where an incident begins, and the quiet samples after which it is over.
    """

    fast: float = 6.0
    slow: float = 600.0
    long: float = 4000.0
    move_fast: float = 60.0
    move_slow: float = 300.0
    warm: float = 60.0
    forget: float = 1e-4
    tail: float = 0.02
    least: float = 8.0
    prior_xi: float = 0.25
    prior_count: float = 30.0
    jump_weight: float = 0.25
    level_weight: float = 1.0
    range_weight: float = 0.75
    spread_weight: float = 1.0
    season_weight: float = 0.5
    shape_weight: float = 1.0
    flat_weight: float = 1.0
    missing_weight: float = 1.0
    power: float = 2.0
    sum_tail: float = 0.01
    sum_xi: float = 0.8
    sum_count: float = 40.0
    threshold: float = 2.5
    calm: float = 120.0


TUNING = Tuning()
ROWS = len(View) + 1  # the views' histograms and the sum's
SUM = len(View)
BINS = 128
PER_OCTAVE = 4.0
PER_NAT = PER_OCTAVE / 0.6931471805599453
PER_POINT = 5.0  # bins of the sum's histogram
ZERO_BIN = 40  # a deviation of the reference's size; bin 0 holds what is no deviation at all
SLOTS = 96  # of a day
COURSE = 32  # samples that the shape is made of
MEMORY = 1024  # samples among which a similar course is looked for
HEAVIEST = 1e6  # of a sample, before all weights are scaled down
MAX_SCORE = 20.0
DAY_S = 86_400.0

# Columns of the state; RECENT is the first of five.
N, X, WEIGHT, REFERENCE, FAST, SLOW, LONG, MOVE_FAST, MOVE_SLOW, RUN, GAP = range(11)
SLOT, SLOT_SUM, SLOT_COUNT, INCIDENT, PEAK, QUIET, HEAD, FILLED, BASE, RECENT = range(11, 21)
COLUMNS = RECENT + 5


def kernel(function: F) -> F:
    """Compile a free function over arrays; nogil, because it touches no Python object.

    Numba looks only at a kernel's own file to tell whether its cached code is current: all kernels stay in this file.
    """
    if not os.environ.get("NUMBA_CACHE_DIR"):
        numba.config.CACHE_DIR = ""  # type: ignore[attr-defined]  # beside the source, whatever others have set
    return cast(F, numba.njit(function, cache=True, nogil=True, error_model="numpy"))


@kernel
def _surprise(
    above: BinArray,
    below: BinArray,
    weight: float,
    position: float,
    tail: float,
    least: float,
    xi: float,
    count: float,
    floor: float,
) -> float:
    """-log10 of how often a deviation comes to this position (in bins) or beyond, on its side.

    above, below: histograms of its side and of the other one; weight: of one sample now. xi (in bins) and count:
    prior; floor: the least xi, for numbers so coarse that their histogram says nothing of what lies between.
    """
    side = other = 0.0
    for i in range(BINS):
        side += above[i]
        other += below[i]
    total = side + other
    need = max(tail * total, least * weight)
    inside = moment = 0.0
    edge = BINS
    while edge > 1 and inside < need:
        edge -= 1
        inside += above[edge]
        moment += above[edge] * (edge + 0.5)
    if inside < need:  # hardly ever on this side
        while edge < BINS - 1 and above[edge] == 0.0:
            edge += 1
        if inside <= 0.0:  # never: as far out as ever on the other side is usual
            edge = BINS - 1
            while edge > 0 and below[edge] == 0.0:
                edge -= 1
            inside = weight
            moment = weight * edge
    if position <= edge:
        beyond = weight
        for i in range(max(1, int(position)), BINS):
            beyond += above[i]
        return -math.log10(min(1.0, beyond / (total + weight)))
    samples = inside / weight
    excess = max(moment - inside * edge, 0.0) / weight
    slope = max(floor, (excess + xi * count) / (samples + count))
    share = min(1.0, inside / (total + weight))
    return min(-math.log10(share) + 0.4342944819032518 * (position - edge) / slope, MAX_SCORE)


@kernel
def _position(size: float, reference: float) -> float:
    """Where a deviation of this size lies in a histogram."""
    if size <= 0.0 or reference <= 0.0:
        return 0.0
    return min(max(0.0, ZERO_BIN + PER_OCTAVE * math.log2(size / reference)), 1e6)


@kernel
def _learn(histogram: BinArray, position: float, weight: float) -> None:
    histogram[min(BINS - 1, int(position))] += weight


@kernel
def _median5(a: float, b: float, c: float, d: float, e: float) -> float:
    if a > b:
        a, b = b, a
    if c > d:
        c, d = d, c
    low, high = max(a, c), min(b, d)  # neither the smallest nor the largest of the four
    return max(min(low, high), min(max(low, high), e))


@kernel
def _stranger(x: float, state: FloatArray, ring: FloatArray) -> float:
    """How far the last COURSE samples, their mean taken off, are from the most similar ones before; -1: too few.

    The left matrix profile (Yeh et al., ICDM 2016) of a bounded past: the dot products with all earlier courses are
    brought forward by one sample, so that it costs a few operations a sample remembered. ring: rows of samples, of
    courses' means and of their sums of squared deviations, 2 * MEMORY wide, so that the past lies in one piece; and
    of dot products by lag.
    """
    head = int(state[HEAD])
    if head >= 2 * MEMORY:  # the newest half goes to the front
        for row in range(3):
            for i in range(MEMORY):
                ring[row, i] = ring[row, i + MEMORY]
        head = MEMORY
    filled = min(int(state[FILLED]) + 1, MEMORY - COURSE)  # what leaves a course is needed once more
    state[HEAD], state[FILLED] = head + 1, filled
    ring[0, head] = x
    gone, dots = head - COURSE, ring[3]
    for lag in range(COURSE, filled):
        dots[lag] += x * ring[0, head - lag]
    if gone >= 0:
        y = ring[0, gone]
        for lag in range(COURSE, min(filled, gone + 1)):
            dots[lag] -= y * ring[0, gone - lag]
    mean = square = 0.0
    if filled >= COURSE:
        for i in range(head - COURSE + 1, head + 1):
            mean += ring[0, i]
        mean /= COURSE
        for i in range(head - COURSE + 1, head + 1):
            square += (ring[0, i] - mean) ** 2
    ring[1, head], ring[2, head] = mean, square
    if filled < 4 * COURSE:
        return -1.0
    best = np.inf
    for lag in range(COURSE, filled - COURSE):
        at = head - lag
        distance = square + ring[2, at] - 2.0 * (dots[lag] - COURSE * mean * ring[1, at])
        best = min(best, distance)
    return float(np.sqrt(max(best, 0.0) / COURSE))


@kernel
def _season(t_s: float, x: float, state: FloatArray, season: FloatArray) -> float:
    """What was usual at this time of earlier days, NaN while two of them are not known; takes the sample in."""
    slot = int((t_s % DAY_S) * SLOTS / DAY_S) % SLOTS
    last = int(state[SLOT])
    if slot != last:
        if last >= 0 and state[SLOT_COUNT] > 0.0:
            days = season[last, 1]
            season[last, 0] += (state[SLOT_SUM] / state[SLOT_COUNT] - season[last, 0]) * max(0.2, 1.0 / (days + 1.0))
            season[last, 1] = days + 1.0
        state[SLOT], state[SLOT_SUM], state[SLOT_COUNT] = slot, 0.0, 0.0
    state[SLOT_SUM] += x
    state[SLOT_COUNT] += 1.0
    return float(season[slot, 0]) if season[slot, 1] >= 2.0 else np.nan


@kernel
def _deviation(
    view: int,
    t_s: float,
    x: float,
    before: float,
    middle: float,
    slow: float,
    long: float,
    state: FloatArray,
    season: FloatArray,
    ring: FloatArray,
) -> tuple[float, float]:
    """A view's number for one sample and what it takes for usual; NaN where it has none yet."""
    reference = state[REFERENCE]
    if view == 0:
        return x - before, before
    if view == 1:
        return state[FAST] - slow, slow
    if view == 2:
        return middle - long, long
    if view == 3:
        floor = 1e-3 * reference
        return reference * math.log2((state[MOVE_FAST] + floor) / (state[MOVE_SLOW] + floor)), state[MOVE_SLOW]
    if view == 4:
        usual = _season(t_s, x, state, season)
        return middle - usual, usual
    scaled = min(max((x - state[BASE]) / reference, -1e6), 1e6)
    far = _stranger(scaled, state, ring)
    return (reference * far if far >= 0.0 else np.nan), np.nan


@kernel
def _forget(state: FloatArray, bins: BinArray, tuning: Tuning) -> None:
    """Later samples weigh more, which is the same as forgetting the earlier ones."""
    state[WEIGHT] *= 1.0 + tuning.forget
    if state[WEIGHT] > HEAVIEST:
        for row in range(ROWS):
            for side in range(2):
                for i in range(BINS):
                    bins[row, side, i] /= HEAVIEST
        state[WEIGHT] /= HEAVIEST


@kernel
def _start(x: float, state: FloatArray) -> None:
    for i in range(5):
        state[RECENT + i] = x
    state[FAST] = state[SLOW] = state[LONG] = state[X] = x
    state[N] = state[WEIGHT] = 1.0
    state[SLOT] = -1.0


@kernel
def _incident(score: float, state: FloatArray, tuning: Tuning) -> float:
    """One incident, one anomaly: returns the score as it is told.

    While an incident lasts its peak is told; once it calms down (QUIET > 4) nothing that is less than its peak is
    above the threshold again, until `calm` quiet samples have passed.
    """
    if state[INCIDENT] > 0.0:
        if score > state[PEAK]:
            state[PEAK], state[QUIET] = score, 0.0
        elif score >= 0.6 * tuning.threshold and state[QUIET] <= 4.0:
            state[QUIET] = 0.0
        elif score >= 0.6 * tuning.threshold:
            state[QUIET] = 5.0
        else:
            state[QUIET] += 1.0
        if state[QUIET] <= 4.0:
            return float(state[PEAK])
        if state[QUIET] <= tuning.calm:
            return min(score, 0.99 * tuning.threshold)
        state[INCIDENT] = state[PEAK] = state[QUIET] = 0.0
    if score >= tuning.threshold:
        state[INCIDENT], state[PEAK], state[QUIET] = 1.0, score, 0.0
    return score


@kernel
def _silent(state: FloatArray, bins: BinArray, tuning: Tuning) -> float:
    """The surprise of a missing reading."""
    state[GAP] += 1.0
    if state[N] <= tuning.warm:
        return 0.0
    position = _position(1.0 + state[GAP], 1.0)
    surprise = _surprise(
        bins[7, 0], bins[7, 1], state[WEIGHT], position,
        tuning.tail, tuning.least, tuning.prior_xi * PER_NAT, tuning.prior_count, tuning.prior_xi * PER_NAT,
    )  # fmt: skip
    return tuning.missing_weight * surprise


@kernel
def _take(
    t_s: float,
    x: float,
    state: FloatArray,
    bins: BinArray,
    season: FloatArray,
    ring: FloatArray,
    tuning: Tuning,
) -> tuple[float, int, float]:
    """One sample of one series: its score before incidents are told apart, the most surprised view, what was usual."""
    n, weight = state[N], state[WEIGHT]
    xi = tuning.prior_xi * PER_NAT
    if n == 0.0:
        _start(x, state)
        return 0.0, 0, np.nan
    if n > tuning.warm:
        _learn(bins[7, 0], _position(1.0 + state[GAP], 1.0), weight)
    state[GAP] = 0.0
    before = _median5(state[RECENT], state[RECENT + 1], state[RECENT + 2], state[RECENT + 3], state[RECENT + 4])
    state[RECENT + int(n) % 5] = x
    middle = _median5(state[RECENT], state[RECENT + 1], state[RECENT + 2], state[RECENT + 3], state[RECENT + 4])
    move = abs(x - state[X])
    if move <= 1e-9 * (abs(x) + abs(state[X])):
        move = 0.0
    slow, long = state[SLOW], state[LONG]
    state[FAST] += (middle - state[FAST]) * max(1.0 / tuning.fast, 1.0 / (n + 1.0))
    state[SLOW] += (middle - slow) * max(1.0 / tuning.slow, 1.0 / (n + 1.0))
    state[LONG] += (middle - long) * max(1.0 / tuning.long, 1.0 / (n + 1.0))
    state[MOVE_FAST] += (move - state[MOVE_FAST]) * max(1.0 / tuning.move_fast, 1.0 / n)
    state[MOVE_SLOW] += (move - state[MOVE_SLOW]) * max(1.0 / tuning.move_slow, 1.0 / n)
    state[X], state[N] = x, n + 1.0
    if move == 0.0:
        state[RUN] += 1.0
    else:  # how long it stood still is learned when it moves again
        if n > 8.0:
            _learn(bins[6, 0], _position(1.0 + state[RUN], 1.0), weight)
        state[RUN] = 0.0
    judged = n >= tuning.warm
    if state[REFERENCE] == 0.0:
        if not judged and (n < 16.0 or state[MOVE_SLOW] == 0.0):
            return 0.0, 0, np.nan
        state[REFERENCE] = state[MOVE_SLOW] if state[MOVE_SLOW] > 0.0 else max(1e-6 * abs(x), 1e-12)
        state[BASE] = slow
    weights = (
        tuning.jump_weight, tuning.level_weight, tuning.range_weight, tuning.spread_weight,
        tuning.season_weight, tuning.shape_weight, tuning.flat_weight,
    )  # fmt: skip
    best, view, usual, added = 0.0, 0, np.nan, 0.0
    for v in range(7):
        if v == 6:
            reference, size, expected = 1.0, 1.0 + state[RUN], np.nan
        else:
            reference = state[REFERENCE]
            size, expected = _deviation(v, t_s, x, before, middle, slow, long, state, season, ring)
            if size != size:
                continue
        above, below = (bins[v, 0], bins[v, 1]) if size >= 0.0 else (bins[v, 1], bins[v, 0])
        size = abs(size)
        if size <= 1e-9 * abs(x) and v < 6:
            size = 0.0
        position = _position(size, reference)
        if judged and size > 0.0 and (v < 6 or state[RUN] > 0.0):
            surprise = _judge(
                above, below, weight, position, tuning.tail, tuning.least, tuning.warm, xi, tuning.prior_count,
                xi if v == 6 else 0.0,
            )  # fmt: skip
            added += (weights[v] * surprise) ** tuning.power
            plain = 0.5 * surprise if v == 5 else surprise  # whatever has a plainer reason is told by that
            if plain > best:
                best, view, usual = plain, v, expected
        if v < 6:
            _learn(above, position, weight)
    score = 0.0
    if judged:
        position = 1.0 + min(PER_POINT * added ** (1.0 / tuning.power), 1e6)
        score = _judge(
            bins[SUM, 0], bins[SUM, 1], weight, position,
            tuning.sum_tail, tuning.least, tuning.warm, tuning.sum_xi * PER_POINT, tuning.sum_count, 0.0,
        )  # fmt: skip
        _learn(bins[SUM, 0], position, weight)
    _forget(state, bins, tuning)
    return score, view, usual


@kernel
def _judge(
    above: BinArray,
    below: BinArray,
    weight: float,
    position: float,
    tail: float,
    least: float,
    warm: float,
    xi: float,
    count: float,
    floor: float,
) -> float:
    """The surprise once a view has seen enough to have one, else 0."""
    seen = 0.0
    for i in range(BINS):
        seen += above[i] + below[i]
    if seen < warm * weight:
        return 0.0
    return _surprise(above, below, weight, position, tail, least, xi, count, floor)


@kernel
def observe(
    t_s: float,
    values: FloatArray,
    rows: npt.NDArray[np.int64],
    state: FloatArray,
    bins: BinArray,
    season: FloatArray,
    rings: FloatArray,
    tuning: Tuning,
    told: FloatArray,
) -> None:
    """Take one sample of some series: values and rows (k,); NaN and infinities are missing readings.

    t_s: wall clock, seconds; only the time of day is read off it. state (n, COLUMNS), bins (n, ROWS, 2, BINS),
    season (n, SLOTS, 2), rings (n, 4, 2 * MEMORY). told (n, 3) gets the score, the view and what it takes for usual.
    """
    for i in range(len(values)):
        x, row = values[i], rows[i]
        if np.isfinite(x) and abs(x) < 1e150:
            score, view, usual = _take(t_s, x, state[row], bins[row], season[row], rings[row], tuning)
        else:
            score, view, usual = _silent(state[row], bins[row], tuning), 7, np.nan
        told[row, 0] = _incident(score, state[row], tuning)
        told[row, 1], told[row, 2] = view, usual


@kernel
def replay(
    t_s: FloatArray,
    values: FloatArray,
    state: FloatArray,
    bins: BinArray,
    season: FloatArray,
    rings: FloatArray,
    tuning: Tuning,
    scores: FloatArray,
    views: FloatArray,
) -> None:
    """Take many samples of one series, the bank's first: t_s, values, scores and views are (n,)."""
    rows, one, told = np.zeros(1, np.int64), np.empty(1), np.empty((1, 3))
    for i in range(len(values)):
        one[0] = values[i]
        observe(t_s[i], one, rows, state, bins, season, rings, tuning, told)
        scores[i], views[i] = told[0, 0], told[0, 1]
