"""DBN parse: Databento's market-by-order and market-by-price records to events, compiled.

`walk` goes through the records once and says where those of use lie; `parse_orders` and `parse_levels` make the
events of the chosen instruments. In market-by-order data a fill (F) changes no book: the cancel or modification
of the same order that comes with it does. So a fill is remembered with its order, and what that record takes off
becomes an EXECUTE as far as it was filled: one reduction, once. What was filled beyond what was shown is HIDDEN.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.events import (
    CANCEL,
    CLEAR,
    EXECUTE,
    HALT,
    HIDDEN,
    LEVEL,
    LIMIT,
    MAX_VENUE_ID,
    REDUCE,
    REST_ONLY,
    RESUME,
    TRADE,
    EventArray,
)
from engine.feeds.ordertable import CAPACITY, I64, LEFT, ORDERS, PRICE, ROW_WORDS, TAG, TAG_MASK, USED, find_order
from engine.feeds.scan import ByteArray
from engine.jit import inline_kernel, kernel
from metrics.frame import IntArray

# Record types, and their lengths in units of four bytes.
MBP_1, MBP_10, STATUS, SYMBOL_MAPPING, MBO = 0x01, 0x0A, 0x12, 0x16, 0xA0
MBO_UNITS, STATUS_UNITS, LEVELS_UNITS, LEVEL_UNITS = 14, 10, 12, 8
F_LAST, F_TOB, F_SNAPSHOT, F_MBP, F_BAD_TS_RECV = 128, 64, 32, 16, 8
A, B, C, F, M, N, R, T = (ord(letter) for letter in "ABCFMNRT")
TRADING_STATUS: Final = 7
STATUS_STOPS: Final = (
    1,
    2,
    3,
    4,
    5,
    8,
    9,
    10,
    12,
    13,
    15,
)  # pre-open to rotation, halt, pause, suspend, close, unavailable
UNDEFINED: Final = (1 << 63) - 1
MAX_LEVELS: Final = 10
MAX_FILLED: Final = (1 << 31) - 1

# Header of the words; the first are the order table's.
AT: Final = 3  # next row of `where`
LATEST_NS: Final = 4
WRITTEN: Final = 5
MARKED: Final = 6
LATE: Final = 7
TRADES: Final = 8  # T records
SIDELESS: Final = 9  # trades without an aggressor's side, as in auctions
SKIPPED_AT: Final = 10
UNSEEN_FILLS: Final = 20  # fills of orders that were never shown, and their lots
UNSEEN_LOTS: Final = 21
WRONG_LENGTH, TRUNCATED, BAD_VALUE, AGGREGATED = range(12, 16)  # why a record was skipped
UNKNOWN_ORDER, DUPLICATE_ORDER, TOO_MUCH = range(16, 19)  # what contradicts the records before
SKIP_NAMES: Final = {
    WRONG_LENGTH: "wrong length", TRUNCATED: "cut short", BAD_VALUE: "impossible value",
    AGGREGATED: "aggregated level among orders",
}  # fmt: skip
CONTRADICTION_NAMES: Final = {
    UNKNOWN_ORDER: "unknown order", DUPLICATE_ORDER: "order id used twice", TOO_MUCH: "more lots than the order has",
}  # fmt: skip
COUNTS: Final = 32  # records by type
SKIPS: Final = COUNTS + 256  # position and reason of the first skipped records
SKIPS_KEPT: Final = 64
INSTRUMENTS: Final = SKIPS + 2 * SKIPS_KEPT
# An instrument: its tick in 1e-9, phase, whether it has traded since, living orders, whether the venue tells its phases, and
# the levels last seen: price and size.
TICK, PHASE, TRADED, LIVING, TOLD, SEEN = range(6)
INSTRUMENT_WORDS: Final = SEEN + 4 * MAX_LEVELS
UNTOLD, PRE_OPEN, OPEN = 0, 1, 2  # phases

DONE, OUT_FULL, TABLE_FULL = 0, 1, 2
OFFSET, KEY = 0, 1  # columns of `where`
# Columns of `marks`, one row for each end of a venue's event: events written by then in this block, instrument, phase, and
# in price levels the best bid, its size, best ask, its size.
MARK_EVENTS, MARK_INSTRUMENT, MARK_PHASE, MARK_BID = range(4)
MARK_COLUMNS: Final = 7
ORDER_EVENTS, LEVEL_EVENTS = 4, 4 * MAX_LEVELS + 3  # that one record gives at most


def make_words(ticks: IntArray, capacity: int = 1 << 12) -> IntArray:
    """Fresh words; ticks: of the chosen instruments, in 1e-9 of the currency."""
    orders = INSTRUMENTS + len(ticks) * INSTRUMENT_WORDS
    w = np.zeros(orders + capacity * ROW_WORDS, dtype=np.int64)
    w[CAPACITY], w[ORDERS] = capacity, orders
    w[INSTRUMENTS + TICK : orders : INSTRUMENT_WORDS] = ticks
    return w


@inline_kernel
def _le2(data: ByteArray, at: int) -> int:
    return int(I64(data[at]) | (I64(data[at + 1]) << 8))


@inline_kernel
def _le4(data: ByteArray, at: int) -> int:
    return _le2(data, at) | (_le2(data, at + 2) << 16)


@inline_kernel
def _le8(data: ByteArray, at: int) -> int:
    return _le4(data, at) | (_le4(data, at + 4) << 32)


@kernel
def _skip(w: IntArray, at: int, reason: int) -> None:
    w[reason] += 1
    if w[SKIPPED_AT] < SKIPS_KEPT:
        to = SKIPS + 2 * w[SKIPPED_AT]
        w[to], w[to + 1] = at, reason
        w[SKIPPED_AT] += 1


@kernel
def walk(data: ByteArray, start: int, w: IntArray, where: IntArray) -> int:
    """Write offset and key (publisher << 32 | instrument id) of each order, level, status and mapping record to `where`,
    int64 (n, 2), from byte `start` on; returns how many. Other types are counted; w: see `make_words`."""
    at, end, found = start, len(data), 0
    while at < end:
        units = I64(data[at])
        if units < 4 or at + 4 * units > end:  # a header alone has four units: from here on nothing can be told apart
            _skip(w, at, TRUNCATED)
            break
        kind = data[at + 1]
        w[COUNTS + kind] += 1
        expected = units
        if kind == MBO:
            expected = MBO_UNITS
        elif kind == MBP_1:
            expected = LEVELS_UNITS + LEVEL_UNITS
        elif kind == MBP_10:
            expected = LEVELS_UNITS + 10 * LEVEL_UNITS
        elif kind == STATUS:
            expected = STATUS_UNITS
        if units < expected:  # with a time of sending appended it may be longer
            _skip(w, at, WRONG_LENGTH)
        elif kind in (MBO, MBP_1, MBP_10, STATUS, SYMBOL_MAPPING):
            where[found, OFFSET] = at
            where[found, KEY] = (_le2(data, at + 2) << 32) | _le4(data, at + 4)
            found += 1
        at += 4 * units
    return found


@kernel
def find_steps(data: ByteArray, where: IntArray, instrument: IntArray, steps: IntArray) -> None:
    """The step of each instrument's prices, in 1e-9, into `steps`; instrument: of each row of `where`, -1 for none."""
    for row in range(len(where)):
        i, at = instrument[row], where[row, OFFSET]
        if i < 0 or data[at + 1] in (STATUS, SYMBOL_MAPPING):
            continue
        levels = data[at + 1] != MBO
        count = 2 * ((I64(data[at]) - LEVELS_UNITS) // LEVEL_UNITS) if levels else 1
        for k in range(count):
            price = _le8(data, at + 48 + 32 * (k >> 1) + 8 * (k & 1)) if levels else _le8(data, at + 24)
            other = not levels and (data[at + 38] not in (A, M))
            step = steps[i]
            if 0 < price < UNDEFINED and not other and (step == 0 or price % step != 0):
                while price != 0:
                    step, price = price, step % price
                steps[i] = step


@inline_kernel
def _time(data: ByteArray, at: int, recv_at: int, flags: int) -> int:
    """When a record reached the capture, or left the venue where that is not known. Snapshots carry when they were made."""
    received = _le8(data, at + recv_at)
    trusted = received > 0 and (flags & F_BAD_TS_RECV == 0 or flags & F_SNAPSHOT != 0)
    return received if trusted else _le8(data, at + 8)


@inline_kernel
def _write(
    out: EventArray, at: int, t_ns: int, order_id: int, price: int, qty: int, i: int, kind: int, side: int, flags: int
) -> None:
    event = out[at]
    event.t_ns, event.order_id, event.price, event.qty = t_ns, order_id, price, qty
    event.instrument, event.kind, event.side, event.flags = i, kind, side, flags


@kernel
def _forget(w: IntArray, i: int) -> None:
    """Drop all orders of an instrument."""
    if w[INSTRUMENTS + i * INSTRUMENT_WORDS + LIVING] == 0:
        return
    for row in range(w[CAPACITY]):
        at = w[ORDERS] + row * ROW_WORDS
        if (w[at + TAG] & TAG_MASK) >> 1 == i:
            w[at + LEFT] = 0
            w[at + TAG] &= TAG_MASK
    w[INSTRUMENTS + i * INSTRUMENT_WORDS + LIVING] = 0


@kernel
def _turn(w: IntArray, out: EventArray, written: int, t_ns: int, i: int, phase: int) -> int:
    """Change an instrument's phase; returns how many events are written then."""
    at = INSTRUMENTS + i * INSTRUMENT_WORDS
    if w[at + PHASE] != phase:
        if phase == PRE_OPEN or w[at + PHASE] == PRE_OPEN:
            _write(out, written, t_ns, 0, 0, 0, i, HALT if phase == PRE_OPEN else RESUME, 0, 0)
            written += 1
        w[at + PHASE] = phase
    if phase == PRE_OPEN:
        w[at + TRADED] = 0
    return written


@kernel
def _status(data: ByteArray, at: int, w: IntArray, out: EventArray, written: int, t_ns: int, i: int) -> int:
    """What the venue says of its phase; returns how many events are written then."""
    action = _le2(data, at + 24)
    if action == TRADING_STATUS or action in STATUS_STOPS:
        w[INSTRUMENTS + i * INSTRUMENT_WORDS + TOLD] = 1
    if action == TRADING_STATUS:
        return _turn(w, out, written, t_ns, i, OPEN)
    if action in STATUS_STOPS:
        return _turn(w, out, written, t_ns, i, PRE_OPEN)
    return written


@kernel
def parse_orders(
    data: ByteArray, where: IntArray, instrument: IntArray, w: IntArray, out: EventArray, marks: IntArray
) -> int:
    """Events of market-by-order records, from row w[AT] of `where` on; w[WRITTEN] events and w[MARKED] marks.

    instrument: of each row, -1 for those not wanted. marks: int64 (len(out), MARK_COLUMNS). Returns as
    `itchparse.parse` does. Before the first trade after a snapshot or a cleared book the venue is taken to be in its
    pre-open, in which books may cross; where the venue tells its status, that alone counts. One long function, as there.
    """
    written, marked, row, t_ns = 0, 0, w[AT], w[LATEST_NS]
    room, limit, status = len(out) - ORDER_EVENTS, w[CAPACITY] // 2, DONE
    while row < len(where):
        i, at = instrument[row], where[row, OFFSET]
        if i < 0:
            row += 1
            continue
        if written > room or w[USED] >= limit:
            status = OUT_FULL if written > room else TABLE_FULL
            break
        row += 1
        kind, flags = data[at + 1], I64(data[at + 36])
        here = INSTRUMENTS + i * INSTRUMENT_WORDS
        if kind == STATUS:
            t_ns = max(t_ns, _time(data, at, 16, 0))
            written = _status(data, at, w, out, written, t_ns, i)
            continue
        if kind != MBO:
            continue
        now, tick = _time(data, at, 40, flags), w[here + TICK]
        w[LATE] += now < t_ns
        t_ns = max(t_ns, now)
        ref, price, size = _le8(data, at + 16), _le8(data, at + 24), _le4(data, at + 32)
        action, letter = data[at + 38], data[at + 39]
        side = I64(1) if letter == B else I64(-1)
        # Before the first trade after a snapshot there is no telling whether the venue matches.
        if flags & F_SNAPSHOT != 0 and w[here + PHASE] != PRE_OPEN and w[here + TOLD] == 0:
            written = _turn(w, out, written, t_ns, i, PRE_OPEN)
        if action == T:
            w[TRADES] += 1
            w[SIDELESS] += letter not in (A, B)
            w[here + TRADED] = 1
        elif action == R:
            _forget(w, i)
            _write(out, written, t_ns, 0, 0, 0, i, CLEAR, 0, 0)
            written += 1
            if w[here + TOLD] == 0:
                written = _turn(w, out, written, t_ns, i, PRE_OPEN)
        elif action in (A, C, F, M):
            ticks = price // tick
            priced = (action in (C, F)) or (0 < price < UNDEFINED and ticks * tick == price and letter in (A, B))
            if flags & (F_TOB | F_MBP) != 0:
                _skip(w, at, AGGREGATED)
            elif not (0 < ref <= MAX_VENUE_ID and size > 0 and priced):
                _skip(w, at, BAD_VALUE)
            else:
                order = find_order(w, ref, i)
                left = w[order + LEFT]
                filled = w[order + TAG] >> 32
                rests = 2 * i + (0 if letter == B else 1)
                if action == F:
                    if left == 0:  # an order that was never shown, as stops in an auction
                        w[UNSEEN_FILLS] += 1
                        w[UNSEEN_LOTS] += size
                    else:
                        both = min(filled + size, MAX_FILLED)
                        w[order + TAG] = (w[order + TAG] & TAG_MASK) | (both << 32)
                elif action == A and left > 0:
                    w[DUPLICATE_ORDER] += 1
                elif left == 0 and action != A:
                    w[UNKNOWN_ORDER] += 1
                # A modification says all that an add does, so an order from before the recording comes to be known by it.
                new = size if action in (A, M) and left == 0 else I64(0)
                if action in (C, M) and left > 0:
                    w[order + TAG] &= TAG_MASK
                    stays = 1 - 2 * (w[order + TAG] & 1)
                    w[TOO_MUCH] += action == C and size > left
                    goes = min(size, left) if action == C else left - min(size, left)
                    # A modification that leaves what it was, or more, showed more of an order after its fill.
                    executed = min(filled, goes) if action == C else min(filled, left)
                    if executed > 0:
                        _write(out, written, t_ns, ref, w[order + PRICE], executed, i, EXECUTE, stays, 0)
                        written += 1
                        left -= executed
                        goes = max(goes - executed, 0)
                    if filled > executed:  # more than was shown of it
                        _write(out, written, t_ns, 0, w[order + PRICE], filled - executed, i, HIDDEN, stays, 0)
                        written += 1
                    loses_place = action == M and (ticks != w[order + PRICE] or size > left or stays != side)
                    if loses_place:
                        goes = left
                        new = size
                    goes = min(goes, left)
                    if goes > 0:
                        what = CANCEL if goes == left else REDUCE
                        _write(out, written, t_ns, ref, w[order + PRICE], goes, i, what, stays, 0)
                        written += 1
                    w[order + LEFT] = left - goes
                    w[here + LIVING] -= left == goes
                if new > 0:
                    w[USED] += w[order] == 0
                    w[order], w[order + TAG], w[order + LEFT], w[order + PRICE] = ref, rests, new, ticks
                    w[here + LIVING] += 1
                    _write(out, written, t_ns, ref, ticks, new, i, LIMIT, side, REST_ONLY)
                    written += 1
        if flags & F_LAST != 0:
            if w[here + TRADED] != 0 and w[here + PHASE] != OPEN and w[here + TOLD] == 0:
                written = _turn(w, out, written, t_ns, i, OPEN)
            marks[marked, MARK_EVENTS], marks[marked, MARK_INSTRUMENT] = written, i
            marks[marked, MARK_PHASE] = w[here + PHASE]
            marked += 1
            if marked == len(marks):
                status = OUT_FULL
                break
    w[AT], w[WRITTEN], w[MARKED], w[LATEST_NS] = row, written, marked, t_ns
    return status


@kernel
def parse_levels(
    data: ByteArray, where: IntArray, instrument: IntArray, w: IntArray, out: EventArray, marks: IntArray
) -> int:
    """Events of market-by-price records: TRADE, and LEVEL for what differs from the record before; else as `parse_orders`.

    A level that leaves the view is taken to be gone: nothing more is heard of it.
    """
    written, marked, row, t_ns = 0, 0, w[AT], w[LATEST_NS]
    room, status = len(out) - LEVEL_EVENTS, DONE
    while row < len(where):
        i, at = instrument[row], where[row, OFFSET]
        if written > room or marked == len(marks):
            status = OUT_FULL
            break
        row += 1
        if i < 0:
            continue
        kind, here = data[at + 1], INSTRUMENTS + i * INSTRUMENT_WORDS
        if kind == STATUS:
            t_ns = max(t_ns, _time(data, at, 16, 0))
            written = _status(data, at, w, out, written, t_ns, i)
            continue
        if kind not in (MBP_1, MBP_10):
            continue
        flags, tick = I64(data[at + 30]), w[here + TICK]
        now = _time(data, at, 32, flags)
        w[LATE] += now < t_ns
        t_ns = max(t_ns, now)
        price, size, action, letter = _le8(data, at + 16), _le4(data, at + 24), data[at + 28], data[at + 29]
        depth = 1 if kind == MBP_1 else 10
        if action == T:
            w[TRADES] += 1
            if letter not in (A, B):
                w[SIDELESS] += 1
            elif 0 < price < UNDEFINED and price // tick > 0 and size > 0:
                _write(out, written, t_ns, 0, price // tick, size, i, TRADE, 1 if letter == B else -1, 0)
                written += 1
            else:
                _skip(w, at, BAD_VALUE)
        for s in range(2):
            side, seen = 1 - 2 * s, here + SEEN + 2 * MAX_LEVELS * s
            for old in range(MAX_LEVELS):
                was = w[seen + 2 * old]
                if was > 0:
                    gone = True
                    for k in range(depth):
                        level = _le8(data, at + 48 + 32 * k + 8 * s)
                        if level == was * tick and _le4(data, at + 64 + 32 * k + 4 * s) > 0:
                            gone = False
                    if gone:
                        _write(out, written, t_ns, 0, was, 0, i, LEVEL, side, 0)
                        written += 1
            for k in range(depth):
                level, lots = _le8(data, at + 48 + 32 * k + 8 * s), _le4(data, at + 64 + 32 * k + 4 * s)
                ticks = level // tick if 0 < level < UNDEFINED and lots > 0 else I64(0)
                before = I64(-1)
                for old in range(MAX_LEVELS):
                    if w[seen + 2 * old] == ticks:
                        before = w[seen + 2 * old + 1]
                if ticks > 0 and before != lots:
                    _write(out, written, t_ns, 0, ticks, lots, i, LEVEL, side, 0)
                    written += 1
            for k in range(MAX_LEVELS):
                level, lots = I64(0), I64(0)
                if k < depth:
                    level, lots = _le8(data, at + 48 + 32 * k + 8 * s), _le4(data, at + 64 + 32 * k + 4 * s)
                shown = 0 < level < UNDEFINED and lots > 0
                w[seen + 2 * k] = level // tick if shown else 0
                w[seen + 2 * k + 1] = lots if shown else 0
        marks[marked, MARK_EVENTS], marks[marked, MARK_INSTRUMENT], marks[marked, MARK_PHASE] = written, i, OPEN
        for s in range(2):
            seen = here + SEEN + 2 * MAX_LEVELS * s
            marks[marked, MARK_BID + 2 * s], marks[marked, MARK_BID + 2 * s + 1] = w[seen], w[seen + 1]
        marked += 1
    w[AT], w[WRITTEN], w[MARKED], w[LATEST_NS] = row, written, marked, t_ns
    return status
