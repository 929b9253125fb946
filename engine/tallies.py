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
ROW_WORDS = 4  # a power of two: a set of four rows is two cache lines
WAYS = 4
SETS = 512
WORDS = SETS * WAYS * ROW_WORDS  # of one table; key 0 is no key
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0xC2B2AE3D27D4EB4F)
_THIRD = np.uint64(0x165667B19E3779F9)
_SHIFT = np.uint64(29)
_TOP = np.uint64(40)
_SET_MASK = np.uint64(SETS - 1)
_SOME = np.uint64(1)
_NEVER = -(1 << 62)  # since when a free row counts: it is older than every other


@inline_kernel
def key_of(first: int, second: int, third: int) -> np.uint64:
    """A key of three numbers. The products do not wait for each other: a check has no time to spare."""
    parts = (np.uint64(first) * _GOLDEN) ^ (np.uint64(second) * _SECOND) ^ (np.uint64(third) * _THIRD)
    return (parts ^ (parts >> _SHIFT)) * _SPREAD


def empty(w: IntArray, table: int) -> None:
    """Forget everything that the table at `table` counted."""
    w[table : table + WORDS] = 0
    w[table + SINCE_NS : table + WORDS : ROW_WORDS] = _NEVER


@inline_kernel
def _make_room(w: IntArray, first: int, t_ns: int) -> int:
    """The oldest row of the set at `first`. Ages are unsigned: what lies in the future is older than everything."""
    row, longest = first, np.uint64(t_ns - w[first + SINCE_NS])
    for way in range(1, WAYS):
        at = first + way * ROW_WORDS
        age_ns = np.uint64(t_ns - w[at + SINCE_NS])
        row = at if age_ns > longest else row
        longest = age_ns if age_ns > longest else longest
    return int(row)


@inline_kernel
def entry_of(w: IntArray, table: int, key: np.uint64, t_ns: int, while_ns: int) -> tuple[int, int]:
    """The offset in `w` of a key's row in the table at `table`, and its count: 0 where its while is over or it is new.

    The caller stores the count. Time that goes backwards ends a while.
    """
    word = np.int64(key | _SOME)
    first = table + int(np.int64((key >> _TOP) & _SET_MASK)) * (WAYS * ROW_WORDS)
    row, count = -1, 0
    for way in range(WAYS):
        at = first + way * ROW_WORDS
        row = at if w[at + KEY] == word else row
    if row >= 0 and np.uint64(t_ns - w[row + SINCE_NS]) < np.uint64(while_ns):
        count = w[row + COUNT]
    else:
        if row < 0:
            row = _make_room(w, first, t_ns)
            w[row + KEY] = word
        w[row + SINCE_NS] = t_ns
    return int(row), int(count)
