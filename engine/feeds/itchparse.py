"""ITCH parse: framed messages to events, compiled. Nothing is done in Python per message.

Two kernels over the same bytes. `survey` learns what is in a file: how busy each stock is, its name and
the step of its prices. `parse` makes the events of the chosen stocks. Executions, cancels and deletes name
nothing but an order, so the orders of the chosen stocks are kept in a hash table: that gives each event its
side, and finds messages about orders that nobody has seen.

Their words, `w` (see `engine.feeds.parsewords`), have of their own:

    ... | places | ticks, halts of each instrument | table of orders
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.events import CANCEL, EXECUTE, HALT, HIDDEN, LIMIT, MAX_VENUE_ID, REDUCE, REST_ONLY, RESUME, EventArray
from engine.feeds.itchtable import MESSAGES
from engine.feeds.ordertable import CAPACITY, I64, LEFT, ORDERS, PRICE, ROW_WORDS, TAG, U64, USED, find_order
from engine.feeds.parsewords import (
    AT,
    COUNTS,
    DONE,
    LATE,
    LATEST_NS,
    OUT_FULL,
    PARSER,
    TABLE_FULL,
    WRITTEN,
    skip,
    write_event,
)
from engine.feeds.scan import ByteArray
from engine.jit import inline_kernel, kernel
from metrics.frame import IntArray

LENGTHS: Final = np.zeros(256, dtype=np.int64)
for _kind, _layout in MESSAGES.items():
    LENGTHS[ord(_kind)] = _layout.length

A, B, C, D, E, F, H, P, Q, R, S, U, X = (ord(letter) for letter in "ABCDEFHPQRSUX")
OPERATIONAL: Final = ord("h")
START_OF_MESSAGES, MARKET_OPENS = ord("O"), ord("Q")  # system events
TRADING, NO = ord("T"), ord("N")
LOCATES: Final = 1 << 16
NON_PRINTABLE: Final = 128  # flag of an EXECUTE: the print comes with a cross, so volume must not count it

# The header's words beside those that all parsers have.
MESSAGES_READ: Final = 6
ENDS: Final = 8  # marks of a session's end
CROSSES, BROKEN = 10, 11  # cross trades with shares, broken trades
UNKNOWN_TYPE, WRONG_LENGTH, TRUNCATED, BAD_VALUE = range(16, 20)  # why a message was skipped
UNKNOWN_ORDER, DUPLICATE_ORDER, TOO_MUCH = range(20, 23)  # what contradicts the messages before
SKIP_NAMES: Final = {
    UNKNOWN_TYPE: "unknown type", WRONG_LENGTH: "wrong length", TRUNCATED: "cut short", BAD_VALUE: "impossible value",
}  # fmt: skip
CONTRADICTION_NAMES: Final = {
    UNKNOWN_ORDER: "unknown order", DUPLICATE_ORDER: "order number used twice", TOO_MUCH: "more shares than the order has",
}  # fmt: skip

PLACES: Final = PARSER  # of each stock locate: its instrument plus one, 0 where it is not chosen
INSTRUMENTS: Final = PLACES + LOCATES
INSTRUMENT_WORDS: Final = 2  # tick in 1e-4 dollars, why it is halted
HALTED_BY_STATE, HALTED_BY_MARKET, HALTED_BY_HOURS = 1, 2, 4


def make_words(locates: IntArray, ticks: IntArray, capacity: int = 1 << 12) -> IntArray:
    """Fresh words for the stocks with these locates, their ticks in 1e-4 dollars; capacity: rows of the table of orders."""
    orders = INSTRUMENTS + len(locates) * INSTRUMENT_WORDS
    w = np.zeros(orders + capacity * ROW_WORDS, dtype=np.int64)
    w[CAPACITY], w[ORDERS] = capacity, orders
    w[PLACES + locates] = np.arange(1, len(locates) + 1)
    w[INSTRUMENTS:orders:INSTRUMENT_WORDS] = ticks
    return w


# Unsigned positions: a signed one may mean "from the end", and asking whether it does keeps the bytes from being read as one word.


@inline_kernel
def _be2(data: ByteArray, at: int) -> int:
    k = U64(at)
    return int((I64(data[k]) << 8) | I64(data[k + U64(1)]))


@inline_kernel
def _be4(data: ByteArray, at: int) -> int:
    k = U64(at)
    high = (I64(data[k]) << 24) | (I64(data[k + U64(1)]) << 16)
    return int(high | (I64(data[k + U64(2)]) << 8) | I64(data[k + U64(3)]))


@inline_kernel
def _be6(data: ByteArray, at: int) -> int:
    return (_be2(data, at) << 32) | _be4(data, at + 2)


@inline_kernel
def _be8(data: ByteArray, at: int) -> int:
    return (_be4(data, at) << 32) | _be4(data, at + 4)


@kernel
def survey(data: ByteArray, w: IntArray, busy: IntArray, steps: IntArray, symbols: IntArray) -> None:
    """Count the events each stock locate could give (busy), the step of its prices (steps, 1e-4 dollars) and its name
    (symbols: eight bytes as one number, 0 where no message says); each int64 (LOCATES,)."""
    at, end = 0, len(data)
    while at + 2 <= end:
        length, start = _be2(data, at), at + 2
        at = start + length
        if at > end:
            break
        if length == 0 or length != LENGTHS[data[start]]:
            continue
        kind, locate = data[start], _be2(data, start + 1)
        w[COUNTS + kind] += 1
        w[MESSAGES_READ] += 1
        price = I64(0)
        if kind in (A, F):
            busy[locate] += 1
            price = _be4(data, start + 32)
            if symbols[locate] == 0:
                symbols[locate] = _be8(data, start + 24)
        elif kind == U:
            busy[locate] += 2
            price = _be4(data, start + 31)
        elif kind == R:
            symbols[locate] = _be8(data, start + 11)
        elif kind in (E, C, X, D, P, H, OPERATIONAL):
            busy[locate] += 1
        if price > 0:
            step = steps[locate]
            if step != 1 and (step == 0 or price % step != 0):
                while price != 0:
                    step, price = price, step % price
                steps[locate] = step


@inline_kernel
def _is_order(ref: int, qty: int, price: int) -> bool:
    """Whether an order could have these; the number must also be one that a book takes."""
    return (ref > 0) & (ref <= MAX_VENUE_ID) & (qty > 0) & (price > 0)


@kernel
def _rarely(data: ByteArray, w: IntArray, start: int, kind: int, i: int) -> int:
    """Crosses, broken trades and halts; returns HALT or RESUME where the instrument's state has changed, else 0."""
    before = w[INSTRUMENTS + i * INSTRUMENT_WORDS + 1]
    after = before
    if kind == H:
        after = before & ~HALTED_BY_STATE if data[start + 19] == TRADING else before | HALTED_BY_STATE
    elif kind == OPERATIONAL and data[start + 19] == Q:  # Nasdaq's own market, not BX or PSX
        after = before & ~HALTED_BY_MARKET if data[start + 20] == TRADING else before | HALTED_BY_MARKET
    elif kind == Q:
        w[CROSSES] += _be8(data, start + 11) != 0
    elif kind == B:
        w[BROKEN] += 1
    w[INSTRUMENTS + i * INSTRUMENT_WORDS + 1] = after
    if (before == 0) == (after == 0):
        return 0
    return HALT if after != 0 else RESUME


@kernel
def _system(w: IntArray, out: EventArray, written: int, t_ns: int, code: int) -> int:
    """A system event: orders are sent in market hours (Q) only. With the start of messages (O) every stock is halted until its
    first trading action, as the specification wants it. Returns how many events are written then."""
    for i in range((w[ORDERS] - INSTRUMENTS) // INSTRUMENT_WORDS):
        at = INSTRUMENTS + i * INSTRUMENT_WORDS + 1
        before = w[at]
        w[at] = before & ~HALTED_BY_HOURS if code == MARKET_OPENS else before | HALTED_BY_HOURS
        if code == START_OF_MESSAGES:
            w[at] |= HALTED_BY_STATE
        if (before == 0) != (w[at] == 0):
            write_event(out, written, t_ns, 0, 0, 0, i, RESUME if w[at] == 0 else HALT, 0, 0)
            written += 1
    return written


@kernel
def parse(data: ByteArray, w: IntArray, out: EventArray) -> int:
    """Write the events of the chosen stocks to `out` (dtype EVENT), w[WRITTEN] of them, from w[AT] on.

    Returns DONE, or OUT_FULL or TABLE_FULL where it has to be called again with an emptied `out` or with a larger
    table of orders. A replacement is a CANCEL and a LIMIT under the new number. One long function, because a
    helper that takes arrays and branches costs more here than what it does.
    """
    end, at, written, t_ns = len(data), w[AT], 0, w[LATEST_NS]
    room = len(out) - max(2, (w[ORDERS] - INSTRUMENTS) // INSTRUMENT_WORDS)  # what one message gives at most
    limit = w[CAPACITY] // 2
    status = DONE
    while at + 2 <= end:
        length, start = _be2(data, at), at + 2
        if start + length > end:
            break
        if length == 0:
            w[ENDS] += 1
            at = start
            continue
        kind = data[start]
        if length != LENGTHS[kind]:
            skip(w, at, UNKNOWN_TYPE if LENGTHS[kind] == 0 else WRONG_LENGTH)
            at = start + length
            continue
        if written > room or w[USED] >= limit:
            status = OUT_FULL if written > room else TABLE_FULL
            break
        w[COUNTS + kind] += 1
        here, at = at, start + length
        i = w[PLACES + _be2(data, start + 1)] - 1
        if i < 0:
            if kind == S:  # of the venue, not of a stock
                t_ns = max(t_ns, _be6(data, start + 5))
                written = _system(w, out, written, t_ns, I64(data[start + 11]))
            continue
        now, tick = _be6(data, start + 5), w[INSTRUMENTS + i * INSTRUMENT_WORDS]
        if now < t_ns:
            w[LATE] += 1
        else:
            t_ns = now

        new_ref, new_side, qty, ticks = I64(0), I64(0), I64(0), I64(0)
        if kind in (E, C, X, D, U):
            ref = _be8(data, start + 11)
            if kind == U:
                new_ref, qty, price = _be8(data, start + 19), _be4(data, start + 27), _be4(data, start + 31)
                ticks = price // tick
                sound = _is_order(new_ref, qty, price) & (ticks * tick == price)
            else:
                qty = _be4(data, start + 19) if kind != D else I64(1)
                price = _be4(data, start + 32) if kind == C else I64(1)
                sound = (qty > 0) & (price > 0)
            if not (sound and _is_order(ref, 1, 1)):
                skip(w, here, BAD_VALUE)
                continue
            row = find_order(w, ref, i)
            if w[row + LEFT] == 0:
                w[UNKNOWN_ORDER] += 1
                continue
            left, side = w[row + LEFT], 1 - 2 * (w[row + TAG] & 1)
            taken = left if kind in (D, U) else min(qty, left)
            w[TOO_MUCH] += (qty > left) & ((kind == E) | (kind == C) | (kind == X))
            at_price, flags, what = w[row + PRICE], 0, CANCEL
            if kind in (E, C):
                what = EXECUTE
                if kind == C:
                    at_price = max(price // tick, 1)
                    flags = NON_PRINTABLE if data[start + 31] == NO else 0
            elif taken < left:
                what = REDUCE
            write_event(out, written, t_ns, ref, at_price, taken, i, what, side, flags)
            written += 1
            w[row + LEFT] = left - taken
            if kind != U:
                continue
            new_side = side
        elif kind in (A, F):
            new_ref, qty, price = _be8(data, start + 11), _be4(data, start + 20), _be4(data, start + 32)
            letter = data[start + 19]
            new_side = 1 - 2 * I64(letter == S)
            ticks = price // tick
            if not (_is_order(new_ref, qty, price) & (ticks * tick == price) & ((letter == B) | (letter == S))):
                skip(w, here, BAD_VALUE)
                continue
        elif kind == P:
            letter, qty, price = data[start + 19], _be4(data, start + 20), _be4(data, start + 32)
            if _is_order(1, qty, price) and (letter in (B, S)):
                write_event(out, written, t_ns, 0, price // tick, qty, i, HIDDEN, 1 if letter == B else -1, 0)
                written += 1
            else:
                skip(w, here, BAD_VALUE)
            continue
        else:
            what = _rarely(data, w, start, kind, i)
            if kind == S:
                written = _system(w, out, written, t_ns, I64(data[start + 11]))
            if what != 0:
                write_event(out, written, t_ns, 0, 0, 0, i, what, 0, 0)
                written += 1
            continue

        # A new order, by itself or in another's place.
        row = find_order(w, new_ref, i)
        if w[row + LEFT] != 0:
            w[DUPLICATE_ORDER] += 1
        else:
            w[USED] += w[row] == 0
            w[row], w[row + TAG] = new_ref, 2 * i + ((1 - new_side) >> 1)
            w[row + LEFT], w[row + PRICE] = qty, ticks
            write_event(out, written, t_ns, new_ref, ticks, qty, i, LIMIT, new_side, REST_ONLY)
            written += 1
    if status == DONE and at < end:
        skip(w, at, TRUNCATED)
        at = end
    w[AT], w[WRITTEN], w[LATEST_NS] = at, written, t_ns
    return status
