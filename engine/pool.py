"""Pool: the slots that hold resting orders, and the hash chains that find them by instrument and id."""

from __future__ import annotations

import numpy as np

from engine.jit import inline_kernel
from engine.layout import (
    EXTRA,
    FREE,
    HASH_MASK,
    HASH_NEXT,
    HEADS,
    ID,
    INSTRUMENT_WORDS,
    INSTRUMENTS,
    KEY,
    NEXT,
    OWN_ORDERS,
    QTY,
    RESTING,
    RESTING_PEAK,
    SIDE_WORDS,
    SIDES,
    TAG,
)
from metrics.frame import IntArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SPREAD = np.uint64(0x632BE59BD9B4E019)
TOP = np.uint64(32)
NEIGHBOUR_BITS, NEIGHBOURS = np.uint64(4), np.uint64(15)  # there are at least 16 heads


@inline_kernel
def instrument_at(w: IntArray, i: int) -> int:
    """Offset of an instrument's words."""
    return int(w[INSTRUMENTS]) + i * INSTRUMENT_WORDS


@inline_kernel
def side_at(w: IntArray, i: int, side: int) -> int:
    """Offset of a side (+1 bid, -1 ask) of an instrument's book."""
    return int(w[SIDES]) + (2 * i + (1 - side) // 2) * SIDE_WORDS


@inline_kernel
def _chain(w: IntArray, i: int, order_id: int) -> int:
    """Offset of the head of an id's chain.

    Sixteen neighbouring ids share two cache lines, because what comes next is mostly about an id (or a
    price) near the last ones. The groups are scattered, so that ids in steps do not meet in one chain.
    """
    # Unsigned: a signed product that overflows is undefined, and the compiler makes use of that.
    word = np.uint64(order_id)
    mixed = ((word >> NEIGHBOUR_BITS) ^ (np.uint64(i) * SPREAD)) * GOLDEN
    return int(w[HEADS]) + int(((mixed >> TOP) & np.uint64(w[HASH_MASK])) ^ (word & NEIGHBOURS))


@inline_kernel
def find(w: IntArray, i: int, order_id: int) -> int:
    """Slot of an order, 0 where none rests under that id."""
    slot = w[_chain(w, i, order_id)]
    while slot != 0 and (w[slot + ID] != order_id or w[slot + TAG] >> 1 != i):
        slot = w[slot + HASH_NEXT]
    return int(slot)


@inline_kernel
def take_slot(w: IntArray, i: int, order_id: int, side: int, price: int, qty: int, extra: int) -> int:
    """Fill a free slot (the caller has seen that there is one) and make it findable."""
    slot = w[FREE]
    w[FREE] = w[slot + NEXT]
    w[slot + ID] = order_id
    w[slot + KEY] = side * price
    w[slot + QTY] = qty
    w[slot + TAG] = 2 * i + (1 - side) // 2
    w[slot + EXTRA] = extra
    head = _chain(w, i, order_id)
    w[slot + HASH_NEXT] = w[head]
    w[head] = slot
    w[RESTING] += 1
    w[RESTING_PEAK] = max(w[RESTING_PEAK], w[RESTING])
    if order_id < 0:
        w[instrument_at(w, i) + OWN_ORDERS] += 1
    return int(slot)


@inline_kernel
def give_slot(w: IntArray, slot: int) -> None:
    """Forget an order that has left its queue."""
    i = w[slot + TAG] >> 1
    link = _chain(w, i, w[slot + ID])
    while w[link] != slot:
        link = w[link] + HASH_NEXT
    w[link] = w[slot + HASH_NEXT]
    w[slot + NEXT] = w[FREE]
    w[FREE] = slot
    w[RESTING] -= 1
    if w[slot + ID] < 0:
        w[instrument_at(w, i) + OWN_ORDERS] -= 1
