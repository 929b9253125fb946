"""Reconcile: replay a venue's order messages through our book and compare with the venue's own, row by row.

The venue shows N levels a side, and only what touches them has a message. So everything at or
better than the worst level of the row before (the *horizon*) is known, and must come out right. A
level that enters from beyond it, and a level remembered there that turns out to be gone, have to be
taken from the venue's book; each such level is counted, and nothing else is ever taken.

Of a level that was taken, the orders are not known. They are one *anonymous* quantity, and messages
about orders that were never seen to arrive take from it: more than there is, or an order that cannot
have been there yet, is a contradiction. That makes wrong order ids show as soon as anything else in
the file speaks against them.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import ladder
from engine.book import Books, apply, make_books
from engine.events import CANCEL, EXECUTE, LIMIT, REDUCE, REST_ONLY, Tape
from engine.feeds.lobster import (
    ADD,
    DELETE,
    DIRECTION,
    EXECUTION,
    HALT_MESSAGE,
    HIDDEN_EXECUTION,
    ID,
    PARTIAL_CANCEL,
    PRICE,
    SIZE,
    TIME,
    TYPE,
    LobsterDay,
    read_lobster,
)
from engine.feeds.lobsterflow import flow_tape
from engine.feeds.result import Result
from engine.jit import inline_kernel, kernel
from engine.layout import BEST, EXTRA, NO_KEY, QTY
from engine.layout import ID as SLOT_ID
from engine.matching import drop, following, leading, take_off
from engine.pool import find, side_at, take_slot
from metrics.frame import IntArray

ANONYMOUS = 1 << 60  # ids from here on are anonymous quantities: ANONYMOUS + 2 * price + (0 bid, 1 ask)
UNSEEN, RESTING, UNCERTAIN, GONE = 0, 1, 2, 3  # what is known of an order
STATE, LEFT, WHERE = 0, 1, 2  # columns of `orders`; WHERE is side * price
NO_BOUND = 1 << 60
NEIGHBOURS = 8
IN_ORDER = 0.99  # share of arrivals with rising ids from which on the venue is taken to number orders as they come
HIDDEN_ID_ZERO_FROM = "2010-12-06"  # NASDAQ has since sent 0 as the order id of hidden executions

# What `compare` counts.
MISMATCHES, TAKEN, FILLS, FIRST_ROW, FIRST_WHY = range(5)
FIELD, ORDER_ID, ORDER_STATE, LEVEL_WRONG, ROW_WRONG, UNSEEN_PART = range(1, 7)
WHY = (
    "", "a field has no possible value", "its order id contradicts other messages", "it does not fit its order",
    "the book differs from the venue's", "the venue's row is not a book", "it concerns a level that nobody could see",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Outcome: rows with a contradiction, levels taken from the venue's book, executions of visible orders.

    first_row: 0-based row of the first contradiction, -1 where there is none; why: in words.
    """

    rows: int
    mismatches: int
    levels_from_book: int
    fills: int
    first_row: int
    why: str


@inline_kernel
def _anonymous_id(key: int) -> int:
    return ANONYMOUS + 2 * abs(key) + (1 if key < 0 else 0)


@kernel
def _replace_level(w: IntArray, side: int, key: int, size: int, bound: int, orders: IntArray) -> None:
    """Forget the orders of a level; what rests there is `size` anonymous lots (0: nothing)."""
    total = ladder.level_total(w, side, key)
    slot = leading(w, side, key) if total > 0 else 0
    while slot != 0:
        after = following(w, side, slot, key)
        if w[slot + SLOT_ID] < ANONYMOUS:
            orders[w[slot + SLOT_ID] - 1, STATE] = UNCERTAIN
        drop(w, side, slot)
        slot = after
    if size > 0:
        direction = 1 if key > 0 else -1
        slot = take_slot(w, 0, _anonymous_id(key), direction, abs(key), size, bound)
        ladder.insert(w, side, slot)


@inline_kernel
def _from_anonymous(w: IntArray, side: int, key: int, size: int, real_id: int) -> bool:
    """Take lots of an order that was not seen to arrive; False where it cannot have been there."""
    slot = find(w, 0, _anonymous_id(key))
    if slot == 0 or w[slot + QTY] < size or real_id >= w[slot + EXTRA]:
        return False
    take_off(w, side, slot, size)
    return True


@kernel
def _book_message(
    books: Books, kind: int, order: int, size: int, key: int, real_id: int, row: int, orders: IntArray
) -> int:
    """Put a message of type 1 to 4 into the book; returns 0 or why that is impossible.

    order: the order's row in `orders`; key: side * price.
    """
    w = books.words
    direction = 1 if key > 0 else -1
    side = side_at(w, 0, direction)
    state = orders[order, STATE]
    if kind == ADD:
        if state != UNSEEN:
            return ORDER_ID
        orders[order, STATE], orders[order, LEFT], orders[order, WHERE] = RESTING, size, key
        apply(books, row, order + 1, abs(key), size, 0, LIMIT, direction, REST_ONLY)
        return 0
    if state == GONE:
        return ORDER_ID
    if state != UNSEEN:
        left = orders[order, LEFT]
        if orders[order, WHERE] != key or size > left:
            return ORDER_STATE
        if state == RESTING and ((kind == DELETE and size != left) or (kind == PARTIAL_CANCEL and size == left)):
            return ORDER_STATE
    if kind == EXECUTION and w[side + BEST] != key:
        return ORDER_STATE
    if state == RESTING:
        by = EXECUTE if kind == EXECUTION else (CANCEL if kind == DELETE else REDUCE)
        apply(books, row, order + 1, abs(key), size, 0, by, direction, 0)
    elif not _from_anonymous(w, side, key, size, real_id):
        return ORDER_ID
    orders[order, LEFT] = (NO_BOUND if state == UNSEEN else orders[order, LEFT]) - size
    orders[order, WHERE] = key
    if kind == DELETE or orders[order, LEFT] == 0:
        orders[order, STATE] = GONE
    elif state == UNSEEN:
        orders[order, STATE] = UNCERTAIN
    return 0


@inline_kernel
def _is_a_side(row: IntArray, direction: int) -> bool:
    """Whether a side of a row is a sequence of levels, best first."""
    at = 0 if direction < 0 else 2
    before = 0
    for k in range(at, len(row), 4):
        price, size = row[k], row[k + 1]
        if size < 0 or (size == 0) != (price == 0) or price < 0:
            return False
        if k > at and size > 0 and (before == 0 or direction * (before - price) <= 0):
            return False
        before = price
    return True


@inline_kernel
def _horizon(row: IntArray, direction: int) -> int:
    """Key of the worst level shown; where there are fewer than could be shown everything is known."""
    price = row[len(row) - 4 + (0 if direction < 0 else 2)]
    return NO_KEY if price == 0 else direction * price


@kernel
def _settle(
    w: IntArray, row: IntArray, direction: int, horizon: int, bound: int, counts: IntArray, orders: IntArray
) -> bool:
    """Compare our side with the venue's row and take over what lay beyond the horizon; False where they differ.

    After a difference our side is set to the venue's, so that each is counted once.
    """
    side = side_at(w, 0, direction)
    same = True
    key = w[side + BEST]
    at = 0 if direction < 0 else 2
    while at < len(row) and row[at + 1] > 0:
        shown, size = direction * row[at], row[at + 1]
        while key > shown:  # we have a level that is not there
            after = ladder.next_key(w, side, key)
            same = same and key < horizon
            counts[TAKEN] += key < horizon
            _replace_level(w, side, key, 0, 0, orders)
            key = after
        ours = ladder.level_total(w, side, shown) if key == shown else 0
        if key == shown:
            key = ladder.next_key(w, side, key)
        if shown < horizon:
            counts[TAKEN] += ours != size
            _replace_level(w, side, shown, size, bound, orders)
        elif ours != size:
            same = False
            _replace_level(w, side, shown, size, bound, orders)
        at += 4
    if at < len(row):
        while key != NO_KEY:  # the venue shows all it has; we have more
            after = ladder.next_key(w, side, key)
            same = same and key < horizon
            counts[TAKEN] += key < horizon
            _replace_level(w, side, key, 0, 0, orders)
            key = after
    return same


@inline_kernel
def _unchanged(book: IntArray, row: int, direction: int) -> bool:
    for k in range(0 if direction < 0 else 2, book.shape[1], 4):
        if book[row, k] != book[row - 1, k] or book[row, k + 1] != book[row - 1, k + 1]:
            return False
    return True


@inline_kernel
def _check_quiet(message: IntArray, row: IntArray, zero_ids: bool) -> int:
    """A message that changes no book (hidden execution, cross trade, halt): 0, or what is wrong with it."""
    if message[TYPE] == HALT_MESSAGE:
        return 0 if -1 <= message[PRICE] <= 1 and message[ID] == 0 and message[SIZE] == 0 else FIELD
    if message[SIZE] <= 0 or message[PRICE] <= 0:
        return FIELD
    if message[TYPE] == HIDDEN_EXECUTION:
        if message[DIRECTION] != 1 and message[DIRECTION] != -1:
            return FIELD
        if zero_ids and message[ID] != 0:
            return ORDER_ID
        # Between the best prices (rounded down to a tick, so the ask cannot be exceeded by the rounding).
        if (row[1] > 0 and message[PRICE] > row[0]) or (row[3] > 0 and message[PRICE] < row[2]):
            return ORDER_STATE
    return 0


@inline_kernel
def _check_message(
    books: Books, message: IntArray, order: int, row: int, before: IntArray, orders: IntArray, zero_ids: bool
) -> int:
    """Carry out a message; returns 0 or why it cannot be. before: the venue's row that it met."""
    kind, size, price, direction = message[TYPE], message[SIZE], message[PRICE], message[DIRECTION]
    if kind < ADD or kind > HALT_MESSAGE:
        return FIELD
    if kind > EXECUTION:
        return _check_quiet(message, before, zero_ids)
    if size <= 0 or price <= 0 or (direction != 1 and direction != -1) or message[ID] <= 0:
        return FIELD
    key = direction * price
    if key < _horizon(before, direction):
        return UNSEEN_PART
    return _book_message(books, kind, order, size, key, message[ID], row, orders)


@kernel
def compare(
    books: Books, messages: IntArray, book: IntArray, order_of: IntArray, bounds: IntArray, orders: IntArray,
    span: tuple[int, int], zero_ids: bool, counts: IntArray,
) -> None:  # fmt: skip
    """Carry out message after message and compare each with its row of the venue's book.

    messages, book: see LobsterDay; order_of int64 (n,): row in `orders` of each message's order;
    bounds int64 (n + 1,): ids from bounds[row] on were given after that row; orders int64 (m, 3):
    zeroed; span: first and last ns allowed; counts int64 (5,): results, see above.
    """
    w = books.words
    last_ns = span[0]
    for row in range(len(messages)):
        message, shown = messages[row], book[row]
        why = 0
        if message[TIME] < last_ns or message[TIME] > span[1]:
            why = FIELD
        last_ns = max(last_ns, message[TIME])
        known = row > 0
        if known:
            failed = _check_message(books, message, order_of[row], row, book[row - 1], orders, zero_ids)
            why = failed if failed != 0 else why
            counts[FILLS] += message[TYPE] == EXECUTION
        for direction in (1, -1):
            if known and message[DIRECTION] != direction and why == 0 and _unchanged(book, row, direction):
                continue
            if not _is_a_side(shown, direction):
                why = ROW_WRONG
                continue
            horizon = _horizon(book[row - 1], direction) if known else NO_KEY
            same = _settle(w, shown, direction, horizon, bounds[row], counts, orders)
            if known and not same:
                why = why if why != 0 else LEVEL_WRONG
        if row == 0:
            failed = _open(books, message, order_of[0], shown, bounds[0], orders, zero_ids)
            why = failed if failed != 0 else why
        if why != 0:
            counts[MISMATCHES] += 1
            if counts[FIRST_ROW] < 0:
                counts[FIRST_ROW], counts[FIRST_WHY] = row, why


@inline_kernel
def _open(
    books: Books, message: IntArray, order: int, shown: IntArray, bound: int, orders: IntArray, zero_ids: bool
) -> int:
    """The first row has no row before it: the book is the row's, and a first order must be part of it."""
    kind, size, price, direction = message[TYPE], message[SIZE], message[PRICE], message[DIRECTION]
    if kind < ADD or kind > HALT_MESSAGE:
        return FIELD
    if kind > EXECUTION:
        return _check_quiet(message, shown, zero_ids)
    if size <= 0 or price <= 0 or (direction != 1 and direction != -1) or message[ID] <= 0:
        return FIELD
    key = direction * price
    if kind == ADD:
        w = books.words
        side = side_at(w, 0, direction)
        total = ladder.level_total(w, side, key)
        if total < size:
            return LEVEL_WRONG
        _replace_level(w, side, key, total - size, bound, orders)
        return _book_message(books, ADD, order, size, key, message[ID], 0, orders)
    orders[order, STATE] = GONE if kind == DELETE else UNCERTAIN
    orders[order, LEFT], orders[order, WHERE] = NO_BOUND - size, key
    return 0


def _id_bounds(messages: IntArray) -> IntArray:
    """Per row the lowest id known to have been given after it, int64 (n,).

    Venues number orders as they come. An arrival whose id lies above nearly all of its NEIGHBOURS
    before it and below nearly all after it is in line (all but one: another id may be the wrong one),
    and so are later ids later orders. NO_BOUND where a file does not look like that at all.
    """
    bounds = np.full(len(messages), NO_BOUND, dtype=np.int64)
    rows = np.flatnonzero(messages[:, TYPE] == ADD)
    # Orders of one instant did not arrive in it: a recording opens with a burst of orders that rested before.
    at_ns = messages[rows, TIME]
    alone = np.diff(at_ns, prepend=-1, append=-1) != 0
    rows = rows[alone[:-1] & alone[1:]]
    ids = messages[rows, ID]
    if len(ids) <= 2 * NEIGHBOURS or np.mean(np.diff(ids) > 0) < IN_ORDER:
        return bounds
    below, above = np.zeros(len(ids), dtype=np.int64), np.zeros(len(ids), dtype=np.int64)
    for distance in range(1, NEIGHBOURS + 1):
        rises = ids[distance:] > ids[:-distance]
        below[distance:] += rises
        above[:-distance] += rises
    in_line = (below >= NEIGHBOURS - 1) & (above >= NEIGHBOURS - 1)
    rows, ids = rows[in_line], ids[in_line]
    highest = np.maximum.accumulate(ids)
    newest = ids > np.concatenate(([0], highest[:-1]))
    rows, ids = rows[newest], ids[newest]
    following_row = np.searchsorted(rows, np.arange(len(messages)), side="right")
    there = following_row < len(rows)
    bounds[there] = ids[following_row[there]]
    return bounds


def reconcile(day: LobsterDay) -> Reconciliation:
    """Replay a day at order level and compare every row; see the module's text for what counts as what."""
    messages = day.messages
    _, order_of = np.unique(messages[:, ID], return_inverse=True)
    orders = np.zeros((int(order_of.max()) + 1, 3), dtype=np.int64)
    counts = np.zeros(5, dtype=np.int64)
    counts[FIRST_ROW] = -1
    # Never more at a time than orders in the file and levels in the first row and one entering a row.
    books = make_books(1, max_orders=min(len(orders) + len(messages) + 2 * day.levels, 1 << 22))
    compare(
        books, messages, day.book, order_of.astype(np.int64), _id_bounds(messages), orders,
        (day.start_ns, day.end_ns), day.day >= HIDDEN_ID_ZERO_FROM, counts,
    )  # fmt: skip
    return Reconciliation(
        len(messages), int(counts[MISMATCHES]), int(counts[TAKEN]), int(counts[FILLS]), int(counts[FIRST_ROW]),
        WHY[int(counts[FIRST_WHY])],
    )  # fmt: skip


def load(path: Path) -> Tape:
    """A LOBSTER day as a tape of order flow."""
    return flow_tape(read_lobster(path))


def prove(path: Path, _: Path | None) -> Result:
    """Replay a LOBSTER day and compare every row with the venue's book."""
    day = read_lobster(path)
    reconcile(dataclasses.replace(day, messages=day.messages[:1], book=day.book[:1]))  # compiles, unmeasured
    started = time.perf_counter()
    found = reconcile(day)
    return Result(
        events=len(day.messages), seconds=time.perf_counter() - started, fills=found.fills,
        book_rows_checked=found.rows, mismatches=found.mismatches, levels_from_book=found.levels_from_book,
        skipped_lines=day.skipped,
    )  # fmt: skip
