"""Tallies: how often the same thing happened within a while, for as many things as a small table holds.

A thing is known by a 64-bit key. Its count begins anew when its while is over, counted from its first
occurrence. The table is set-associative: a fifth live key that falls into the same set of four
forgets the oldest, which is then counted from one again.
"""

from __future__ import annotations

import numpy as np

from engine.jit import inline_kernel
from metrics.frame import IntArray

KEY, SINCE_NS, COUNT = range(3)
COLUMNS = 4  # a power of two: a set of four rows is two cache lines
WAYS = 4
SETS = 512
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(29)
_TOP = np.uint64(40)
_SET_MASK = np.uint64(SETS - 1)
_SOME = np.uint64(1)
_FAR_NS = 1 << 62


def empty_tally() -> IntArray:
    """int64, shape (SETS * WAYS, COLUMNS); key 0 is no key."""
    return np.zeros((SETS * WAYS, COLUMNS), dtype=np.int64)


@inline_kernel
def mix(key: np.uint64, part: int) -> np.uint64:
    """Fold one more part into a key."""
    mixed = (key ^ np.uint64(part)) * _GOLDEN
    return (mixed ^ (mixed >> _SHIFT)) * _SPREAD


@inline_kernel
def entry_of(table: IntArray, key: np.uint64, t_ns: int, while_ns: int) -> int:
    """The row of a key, its count 0 where its while is over or it is new. Time that goes backwards ends a while."""
    word = np.int64(key | _SOME)
    first = np.int64((key >> _TOP) & _SET_MASK) * WAYS
    row, oldest_ns = first, np.int64(-1)
    for way in range(WAYS):
        at = first + way
        if table[at, KEY] == word:
            row, oldest_ns = at, np.int64(_FAR_NS)
        age_ns = t_ns - table[at, SINCE_NS]
        if age_ns < 0 or table[at, KEY] == 0:
            age_ns = _FAR_NS - 1
        if age_ns > oldest_ns:
            row, oldest_ns = at, age_ns
    age_ns = t_ns - table[row, SINCE_NS]
    if table[row, KEY] != word or age_ns < 0 or age_ns >= while_ns:
        table[row, KEY] = word
        table[row, SINCE_NS] = t_ns
        table[row, COUNT] = 0
    return int(row)
