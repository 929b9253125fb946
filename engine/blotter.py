"""Blotter: the orders of clients, from the gates to their end, in one int64 array.

    header | first order of each instrument | hash heads | rows

One array for the reason that `engine.layout` gives. A reference to a row is its offset, 0 none. A live
order is in its instrument's chain (a halt cancels without a search) and in the hash by (client, the
client's id). Rows are used again in the order in which they were given back, so a finished order stays
readable for as long as there is room. What an order may become is `NEXT_STATES`, and only `move` changes it.

An order's id tells its row: -((k * capacity + row) * 4 + 3), k counting the orders ever taken.
`working`, int64 (n, 2), holds the lots of live orders: bids in column 0, asks in column 1.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np

from engine.jit import inline_kernel, kernel
from metrics.frame import IntArray

BLOTTER: Final = 3  # the place that an id of ours tells: 0 maker's bid, 1 maker's ask, 2 child, 3 here


class OrderState(IntEnum):
    """Where a client's order stands."""

    FREE = 0
    PENDING = 1  # accepted by the gates, on its way into the book
    WORKING = 2
    PARTIAL = 3
    FILLED = 4
    CANCELLED = 5
    REJECTED = 6
    EXPIRED = 7


_S = OrderState
TRANSITIONS: Final = {
    _S.FREE: {_S.PENDING},
    _S.PENDING: {_S.WORKING, _S.REJECTED},
    _S.WORKING: {_S.PARTIAL, _S.FILLED, _S.CANCELLED, _S.EXPIRED},
    _S.PARTIAL: {_S.PARTIAL, _S.FILLED, _S.CANCELLED, _S.EXPIRED},
    _S.FILLED: {_S.PENDING},  # the row's next order
    _S.CANCELLED: {_S.PENDING},
    _S.REJECTED: {_S.PENDING},
    _S.EXPIRED: {_S.PENDING},
}
NEXT_STATES: Final = tuple(sum(1 << after for after in TRANSITIONS[state]) for state in OrderState)
FREE, PENDING, WORKING, PARTIAL, FILLED, CANCELLED, REJECTED, EXPIRED = (int(state) for state in OrderState)

# Header.
CAPACITY, HASH_MASK, CHAINS, HASH, ROWS, FREE_HEAD, FREE_TAIL, LIVE, LIVE_PEAK, TAKEN, FAULTS = range(11)
HEADER_WORDS: Final = 16
# A row.
ID, INSTRUMENT, SIDE, PRICE, QTY, LEFT, KIND, CLIENT, CLIENT_ID, SENT_NS, FIRST_FILL_NS, STATE = range(12)
NEXT, PREV, HASH_NEXT, FLAGS = range(12, 16)  # NEXT links free rows, too; FLAGS holds the owner above 16 bits
ROW_WORDS: Final = 16
MAX_CAPACITY: Final = 1 << 20
NOBODY: Final = -1  # client of an order whose session has gone and left it working


def make_blotter(n_instruments: int, capacity: int) -> IntArray:
    """An empty blotter; ValueError where capacity is not a power of two within limits."""
    if not 2 <= capacity <= MAX_CAPACITY or capacity & (capacity - 1):
        raise ValueError(f"a blotter's capacity is a power of two up to {MAX_CAPACITY}, not {capacity}")
    heads = HEADER_WORDS + -(-n_instruments // 8) * 8
    rows = heads + 2 * capacity
    words = np.zeros(rows + capacity * ROW_WORDS, dtype=np.int64)
    words[[CAPACITY, HASH_MASK, CHAINS, HASH, ROWS]] = capacity, 2 * capacity - 1, HEADER_WORDS, heads, rows
    offsets = rows + np.arange(capacity, dtype=np.int64) * ROW_WORDS
    words[offsets[:-1] + NEXT] = offsets[1:]
    words[FREE_HEAD], words[FREE_TAIL] = offsets[0], offsets[-1]
    return words


def rows_of(words: IntArray) -> IntArray:
    """All rows as a view, int64 (capacity, ROW_WORDS)."""
    return words[int(words[ROWS]) :].reshape(-1, ROW_WORDS)


def live_orders(words: IntArray, instrument: int | None = None) -> int:
    """How many orders are live, of one instrument or of all."""
    if instrument is None:
        return int(words[LIVE])
    rows = rows_of(words)
    live = (rows[:, STATE] >= PENDING) & (rows[:, STATE] <= PARTIAL)
    return int(np.count_nonzero(live & (rows[:, INSTRUMENT] == instrument)))


@inline_kernel
def is_live(w: IntArray, row: int) -> bool:
    return bool(PENDING <= w[row + STATE] <= PARTIAL)


@inline_kernel
def owner_of(w: IntArray, row: int) -> int:
    """Index of the client that an order belongs to, also when its session has gone."""
    return int(w[row + FLAGS] >> 16)


@inline_kernel
def move(w: IntArray, row: int, state: int) -> None:
    """Put an order into its next state; one that `TRANSITIONS` does not name is counted in FAULTS."""
    if (NEXT_STATES[w[row + STATE]] >> state) & 1 == 0:
        w[FAULTS] += 1
    w[row + STATE] = state


@inline_kernel
def _hash_at(w: IntArray, client: int, client_id: int) -> int:
    mixed = (np.uint64(client_id) + np.uint64(client << 48)) * np.uint64(0x9E3779B97F4A7C15)
    return int(w[HASH] + (np.int64(mixed >> np.uint64(32)) & w[HASH_MASK]))


@inline_kernel
def find_order(w: IntArray, client: int, client_id: int) -> int:
    """Row of a live order by its client's id, 0 where there is none."""
    row = w[_hash_at(w, client, client_id)]
    while row != 0 and (w[row + CLIENT] != client or w[row + CLIENT_ID] != client_id):
        row = w[row + HASH_NEXT]
    return int(row)


@inline_kernel
def row_of(w: IntArray, order_id: int) -> int:
    """Row of a live order by our own id, 0 where the row is another order's by now."""
    row = w[ROWS] + (((-order_id) >> 2) & (w[CAPACITY] - 1)) * ROW_WORDS
    return int(row) if w[row + ID] == order_id and is_live(w, row) else 0


@inline_kernel
def _unhash(w: IntArray, row: int) -> None:
    at = _hash_at(w, w[row + CLIENT], w[row + CLIENT_ID])
    if w[at] == row:
        w[at] = w[row + HASH_NEXT]
        return
    other = w[at]
    while other != 0 and w[other + HASH_NEXT] != row:
        other = w[other + HASH_NEXT]
    if other != 0:
        w[other + HASH_NEXT] = w[row + HASH_NEXT]


@kernel
def open_order(
    w: IntArray, working: IntArray, i: int, side: int, price: int, lots: int, kind: int, flags: int, client: int,
    client_id: int, sent_ns: int, owner: int,
) -> int:  # fmt: skip
    """Enter a PENDING order; returns its row, 0 where the blotter is full.

    client: its session; owner: the client's index for gates and kill switch, which outlives the session.
    """
    row = w[FREE_HEAD]
    if row == 0:
        return 0
    w[FREE_HEAD] = w[row + NEXT]
    if w[FREE_HEAD] == 0:
        w[FREE_TAIL] = 0
    w[TAKEN] += 1
    w[LIVE] += 1
    w[LIVE_PEAK] = max(w[LIVE_PEAK], w[LIVE])
    w[row + ID] = -(((w[TAKEN] * w[CAPACITY] + (row - w[ROWS]) // ROW_WORDS) << 2) | BLOTTER)
    w[row + INSTRUMENT], w[row + SIDE], w[row + PRICE] = i, side, price
    w[row + QTY], w[row + LEFT], w[row + KIND], w[row + FLAGS] = lots, lots, kind, flags | owner << 16
    w[row + CLIENT], w[row + CLIENT_ID], w[row + SENT_NS], w[row + FIRST_FILL_NS] = client, client_id, sent_ns, 0
    move(w, row, PENDING)
    chain = w[CHAINS] + i
    w[row + PREV], w[row + NEXT] = 0, w[chain]
    if w[chain] != 0:
        w[w[chain] + PREV] = row
    w[chain] = row
    at = _hash_at(w, client, client_id)
    w[row + HASH_NEXT] = w[at]
    w[at] = row
    working[i, 0 if side > 0 else 1] += lots
    return int(row)


@kernel
def close_order(w: IntArray, working: IntArray, row: int, state: int) -> None:
    """End an order in `state`: what is left of it works no longer, its row is free. LEFT stays, to be read."""
    move(w, row, state)
    i = w[row + INSTRUMENT]
    working[i, 0 if w[row + SIDE] > 0 else 1] -= w[row + LEFT]
    if w[row + PREV] != 0:
        w[w[row + PREV] + NEXT] = w[row + NEXT]
    else:
        w[w[CHAINS] + i] = w[row + NEXT]
    if w[row + NEXT] != 0:
        w[w[row + NEXT] + PREV] = w[row + PREV]
    if w[row + CLIENT] != NOBODY:
        _unhash(w, row)
    w[row + NEXT] = 0
    if w[FREE_TAIL] != 0:
        w[w[FREE_TAIL] + NEXT] = row
    else:
        w[FREE_HEAD] = row
    w[FREE_TAIL] = row
    w[LIVE] -= 1


@inline_kernel
def take_lots(w: IntArray, working: IntArray, row: int, lots: int) -> None:
    """Take lots off a live order that stays live or is about to be closed."""
    w[row + LEFT] -= lots
    working[w[row + INSTRUMENT], 0 if w[row + SIDE] > 0 else 1] -= lots


@inline_kernel
def change_order(w: IntArray, working: IntArray, row: int, price: int, lots: int) -> None:
    """Give a live order another price and another quantity left."""
    working[w[row + INSTRUMENT], 0 if w[row + SIDE] > 0 else 1] += lots - w[row + LEFT]
    w[row + QTY] += lots - w[row + LEFT]
    w[row + LEFT], w[row + PRICE] = lots, price


@inline_kernel
def disown(w: IntArray, row: int) -> None:
    """The order's session has gone; it goes on working for nobody who could ask for it."""
    _unhash(w, row)
    w[row + CLIENT] = NOBODY
