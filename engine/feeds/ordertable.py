"""Order table: the living orders of a feed by their number, for feeds whose later messages name nothing else.

A hash table in the words `w` of a parser, from w[ORDERS] on. An order that is gone keeps its row, with no
quantity left, until the table is renewed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine.jit import inline_kernel, kernel
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

I64: Any = np.int64  # what widens a byte in a kernel; NumPy's own type is no int to a type checker
U64: Any = np.uint64
MAX_ORDERS: Final = 1 << 24
# Header words of every parser.
CAPACITY: Final = 0  # rows of the table, a power of two
USED: Final = 1  # rows in use, by living orders and by gone ones
ORDERS: Final = 2  # offset of the table, which is the last part of the words

# A row: number (0: empty), 2 * instrument + (0 bid, 1 ask), quantity left (0: gone), price in ticks.
# From bit 32 on TAG has what is filled but not yet taken off, for feeds that tell both.
REF, TAG, LEFT, PRICE = range(4)
ROW_WORDS: Final = 4
TAG_MASK: Final = (1 << 32) - 1


@inline_kernel
def _home(w: IntArray, ref: int) -> int:
    """Row in which an order would lie if no other were in its way.

    Numbers that follow each other lie beside each other, since orders of one time are spoken of together; where a
    stretch of them lies is scattered, so that no step between the numbers in use fills one place.
    """
    stretch = np.uint64(ref >> 5) * np.uint64(0x9E3779B97F4A7C15)
    return int((I64(stretch >> np.uint64(32)) * 32 + (ref & 31)) & (w[CAPACITY] - 1))


@inline_kernel
def find_order(w: IntArray, ref: int, i: int) -> int:
    """Offset of the row of an instrument's order, or of the empty one where it belongs."""
    mask, row = w[CAPACITY] - 1, _home(w, ref)
    at = w[ORDERS] + row * ROW_WORDS
    while w[at] != 0 and (w[at] != ref or (w[at + TAG] & TAG_MASK) >> 1 != i):
        row = (row + 1) & mask
        at = w[ORDERS] + row * ROW_WORDS
    return int(at)


@kernel
def rehash(old: IntArray, new: IntArray) -> None:
    """Bring the header and the living orders of `old` into `new`, whose table is empty."""
    capacity = new[CAPACITY]
    for k in range(old[ORDERS]):
        new[k] = old[k]
    new[CAPACITY], new[USED] = capacity, 0
    for row in range(old[CAPACITY]):
        at = old[ORDERS] + row * ROW_WORDS
        if old[at + LEFT] > 0:
            to = find_order(new, old[at], (old[at + TAG] & TAG_MASK) >> 1)
            for k in range(ROW_WORDS):
                new[to + k] = old[at + k]
            new[USED] += 1


def renew(w: IntArray) -> IntArray:
    """Words to go on with where half of the rows are in use: without the orders that are gone, and larger if the living ones need it.

    DeskvigilError where more than MAX_ORDERS live.
    """
    capacity, first = int(w[CAPACITY]), int(w[ORDERS])
    living = int(np.count_nonzero(w[first + LEFT :: ROW_WORDS]))
    if living > MAX_ORDERS:
        raise DeskvigilError(f"more than {MAX_ORDERS} orders rest at a time")
    larger = capacity if 8 * living < capacity else 4 * capacity
    new = np.zeros(first + larger * ROW_WORDS, dtype=np.int64)
    new[CAPACITY], new[ORDERS] = larger, first
    rehash(w, new)
    return new
