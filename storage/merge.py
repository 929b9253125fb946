"""Merge: stretches of the same series from several places as one, sorted and without duplicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metrics.frame import FloatArray, IntArray
from storage.stale import is_stale

Piece = tuple[IntArray, FloatArray]
"""t_ms int64 [n] strictly ascending, values float64 [series, n]."""


def merge(pieces: Sequence[Piece], series: int) -> Piece:
    """Join pieces given in the order in which they were written.

    Where two pieces hold the same instant (a clock that was set back, a sample sent again), the
    one written later counts. Pieces that do not overlap in time are only laid end to end.
    """
    filled = [piece for piece in pieces if len(piece[0])]
    if not filled:
        return np.empty(0, np.int64), np.empty((series, 0))
    if len(filled) == 1:
        return filled[0]
    ordered = sorted(range(len(filled)), key=lambda i: int(filled[i][0][0]))
    clusters: list[list[int]] = [[ordered[0]]]
    end = int(filled[ordered[0]][0][-1])
    for i in ordered[1:]:
        t_ms = filled[i][0]
        if t_ms[0] > end:
            clusters.append([i])
        else:
            clusters[-1].append(i)
        end = max(end, int(t_ms[-1]))
    joined = [filled[c[0]] if len(c) == 1 else _overlapping([filled[i] for i in sorted(c)]) for c in clusters]
    if len(joined) == 1:
        return joined[0]
    return np.concatenate([t for t, _ in joined]), np.concatenate([v for _, v in joined], axis=1)


def sorted_unique(t_ms: IntArray, values: FloatArray) -> Piece:
    """Sort columns by time; of equal instants the last one stays. values: float64 [series, n].

    A stale marker does not replace a value of the same instant: a schema that ends marks all its
    series at the first frame of the next one, which may go on with some of them.
    """
    order = np.argsort(t_ms, kind="stable")
    t_sorted, columns = t_ms[order], values[:, order]
    repeated = np.flatnonzero(t_sorted[1:] == t_sorted[:-1])
    if len(repeated) == 0:
        return t_sorted, columns
    for later in _runs(repeated):
        stale = is_stale(columns[:, later])
        if stale.any():
            columns[:, later] = np.where(stale, columns[:, later - 1], columns[:, later])
    last = np.ones(len(order), np.bool_)
    last[repeated] = False
    return t_sorted[last], columns[:, last]


def _runs(repeated: IntArray) -> list[IntArray]:
    """Positions that repeat the one before, so arranged that each is dealt with after the one before it."""
    starts = np.flatnonzero(np.diff(repeated, prepend=-2) != 1)
    depth = np.arange(len(repeated)) - np.repeat(starts, np.diff(starts, append=len(repeated)))
    return [repeated[depth == level] + 1 for level in range(int(depth.max()) + 1)]


def _overlapping(pieces: Sequence[Piece]) -> Piece:
    return sorted_unique(np.concatenate([t for t, _ in pieces]), np.concatenate([v for _, v in pieces], axis=1))
