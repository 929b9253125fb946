"""Minutes: samples by the minute, for many series at once; how they are made and laid together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Series

MINUTE_MS = 60_000
MIN, MAX, SUM, COUNT, LAST = range(5)
EVERY = (MIN, MAX, SUM, COUNT, LAST)
"""Rows of a table of minutes, in the order of storage.tables.ROLLUP_COLUMNS."""


@dataclass(frozen=True, eq=False, slots=True)
class MinuteBlock:
    """Series by minutes: t_ms int64 [n] ascending starts of minutes, columns float64 [5, series, n].

    columns: min, max, sum, count, last; a minute in which a series has no sample has count 0 and NaN. Rows that
    were not asked for hold anything.
    `series` is the same tuple as long as the set of series has not changed.
    """

    series: tuple[Series, ...]
    t_ms: IntArray
    columns: FloatArray


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """Minutes of some series of a group, from one place: t_ms int64 [n] ascending, columns float64 [5, rows, n]."""

    rows: IntArray
    t_ms: IntArray
    columns: FloatArray


def minutes(t_ms: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Roll samples up: times int64 [n >= 1] ascending, values float64 [series, n] -> float64 [5, series, minutes].

    NaN (missing) is left out; a minute without any sample of a series has count 0 and NaN.
    """
    minute = t_ms // MINUTE_MS
    starts = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    out = np.empty((5, len(values), len(starts)))
    present = ~np.isnan(values)
    if present.all():
        np.minimum.reduceat(values, starts, axis=1, out=out[MIN])
        np.maximum.reduceat(values, starts, axis=1, out=out[MAX])
        np.add.reduceat(values, starts, axis=1, out=out[SUM])
        out[COUNT] = np.diff(starts, append=len(t_ms))
        out[LAST] = values[:, np.append(starts[1:], len(t_ms)) - 1]
        return minute[starts] * MINUTE_MS, out
    newest = np.maximum.reduceat(np.where(present, np.arange(len(t_ms)), -1), starts, axis=1)
    # Not fmin: the stale marker is a signalling NaN, for which C leaves open what fmin returns.
    np.minimum.reduceat(np.where(present, values, np.inf), starts, axis=1, out=out[MIN])
    np.maximum.reduceat(np.where(present, values, -np.inf), starts, axis=1, out=out[MAX])
    np.add.reduceat(np.where(present, values, 0.0), starts, axis=1, out=out[SUM])
    out[COUNT] = np.add.reduceat(present, starts, axis=1, dtype=np.int64)
    out[LAST] = np.take_along_axis(values, np.maximum(newest, 0), axis=1)
    empty = out[COUNT] == 0
    for row in (MIN, MAX, SUM, LAST):
        out[row][empty] = np.nan
    return minute[starts] * MINUTE_MS, out


def join(parts: Sequence[Part], series: int, wanted: Sequence[int] = EVERY) -> tuple[IntArray, FloatArray]:
    """Lay parts of one group together, in the order of writing: times int64 [n], columns float64 [5, series, n].

    A minute that several parts hold becomes one: smallest, largest, sum, number, and the last of the later part.
    wanted: the columns that matter, COUNT among them.
    """
    parts = [part for part in parts if len(part.t_ms)]
    if not parts:
        return np.empty(0, np.int64), np.empty((5, series, 0))
    ordered = sorted(parts, key=lambda part: int(part.t_ms[0]))
    apart = all(a.t_ms[-1] < b.t_ms[0] for a, b in pairwise(ordered))
    if apart and all(len(part.rows) == series for part in ordered):
        if len(ordered) == 1:
            return ordered[0].t_ms, ordered[0].columns
        t_ms = np.concatenate([p.t_ms for p in ordered])
        out = np.empty((len(EVERY), series, len(t_ms)))
        for column in wanted:
            np.concatenate([p.columns[column] for p in ordered], axis=1, out=out[column])
        return t_ms, out
    t_ms = np.unique(np.concatenate([part.t_ms for part in parts]))
    out = np.full((5, series, len(t_ms)), np.nan)
    out[COUNT] = 0
    for part in parts:
        place = (part.rows[:, None], np.searchsorted(t_ms, part.t_ms)[None, :])
        count, more = out[COUNT][place], part.columns[COUNT]
        here = more > 0
        both = here & (count > 0)
        for row, add in ((MIN, np.minimum), (MAX, np.maximum), (SUM, np.add)):
            if row not in wanted:
                continue
            held, new = out[row][place], part.columns[row]
            out[row][place] = np.where(both, add(held, new), np.where(here, new, held))
        out[LAST][place] = np.where(here, part.columns[LAST], out[LAST][place])
        out[COUNT][place] = count + more
    return t_ms, out
