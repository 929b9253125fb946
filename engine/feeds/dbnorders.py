"""DBN orders: market-by-order records to events, compiled.

A fill (F) changes no book: the cancel or modification of the same order that comes with it does. So a fill is
remembered with its order, and what that record takes off becomes an EXECUTE as far as it was filled: one reduction,
once. What was filled beyond what was shown is HIDDEN.
"""

from __future__ import annotations

from typing import Final

from engine.events import (
    CANCEL,
    CLEAR,
    EXECUTE,
    HIDDEN,
    LIMIT,
    MAX_PRICE_TICKS,
    MAX_VENUE_ID,
    REDUCE,
    REST_ONLY,
    EventArray,
)
from engine.feeds.dbnphase import OPEN, PRE_OPEN, tell_status, turn
from engine.feeds.dbnwords import (
    AGGREGATED,
    BAD_VALUE,
    DUPLICATE_ORDER,
    F_LAST,
    F_MBP,
    F_SNAPSHOT,
    F_TOB,
    INSTRUMENT_WORDS,
    INSTRUMENTS,
    LIVING,
    MARK_EVENTS,
    MARK_INSTRUMENT,
    MARK_PHASE,
    MARKED,
    MBO,
    OFFSET,
    PHASE,
    SIDELESS,
    STATUS,
    TICK,
    TOLD,
    TOO_MUCH,
    TRADED,
    TRADES,
    UNDEFINED,
    UNKNOWN_ORDER,
    UNSEEN_FILLS,
    UNSEEN_LOTS,
    A,
    B,
    C,
    F,
    M,
    R,
    T,
    le4,
    le8,
    time_of,
)
from engine.feeds.ordertable import CAPACITY, I64, LEFT, ORDERS, PRICE, ROW_WORDS, TAG, TAG_MASK, USED, find_order
from engine.feeds.parsewords import AT, DONE, LATE, LATEST_NS, OUT_FULL, TABLE_FULL, WRITTEN, skip, write_event
from engine.feeds.scan import ByteArray
from engine.jit import kernel
from metrics.frame import IntArray

MAX_FILLED: Final = (1 << 31) - 1
ORDER_EVENTS: Final = 4  # that one record gives at most


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
            t_ns = max(t_ns, time_of(data, at, 16, 0))
            written = tell_status(data, at, w, out, written, t_ns, i)
            continue
        if kind != MBO:
            continue
        now, tick = time_of(data, at, 40, flags), w[here + TICK]
        w[LATE] += now < t_ns
        t_ns = max(t_ns, now)
        ref, price, size = le8(data, at + 16), le8(data, at + 24), le4(data, at + 32)
        action, letter = data[at + 38], data[at + 39]
        side = I64(1) if letter == B else I64(-1)
        # Before the first trade after a snapshot there is no telling whether the venue matches.
        if flags & F_SNAPSHOT != 0 and w[here + PHASE] != PRE_OPEN and w[here + TOLD] == 0:
            written = turn(w, out, written, t_ns, i, PRE_OPEN)
        if action == T:
            w[TRADES] += 1
            w[SIDELESS] += letter not in (A, B)
            w[here + TRADED] = 1
        elif action == R:
            _forget(w, i)
            write_event(out, written, t_ns, 0, 0, 0, i, CLEAR, 0, 0)
            written += 1
            if w[here + TOLD] == 0:
                written = turn(w, out, written, t_ns, i, PRE_OPEN)
        elif action in (A, C, F, M):
            ticks = price // tick
            on_grid = 0 < price < UNDEFINED and ticks * tick == price and ticks <= MAX_PRICE_TICKS
            priced = (action in (C, F)) or (on_grid and letter in (A, B))
            if flags & (F_TOB | F_MBP) != 0:
                skip(w, at, AGGREGATED)
            elif not (0 < ref <= MAX_VENUE_ID and size > 0 and priced):
                skip(w, at, BAD_VALUE)
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
                        write_event(out, written, t_ns, ref, w[order + PRICE], executed, i, EXECUTE, stays, 0)
                        written += 1
                        left -= executed
                        goes = max(goes - executed, 0)
                    if filled > executed:  # more than was shown of it
                        write_event(out, written, t_ns, 0, w[order + PRICE], filled - executed, i, HIDDEN, stays, 0)
                        written += 1
                    loses_place = action == M and (ticks != w[order + PRICE] or size > left or stays != side)
                    if loses_place:
                        goes = left
                        new = size
                    goes = min(goes, left)
                    if goes > 0:
                        what = CANCEL if goes == left else REDUCE
                        write_event(out, written, t_ns, ref, w[order + PRICE], goes, i, what, stays, 0)
                        written += 1
                    w[order + LEFT] = left - goes
                    w[here + LIVING] -= left == goes
                if new > 0:
                    w[USED] += w[order] == 0
                    w[order], w[order + TAG], w[order + LEFT], w[order + PRICE] = ref, rests, new, ticks
                    w[here + LIVING] += 1
                    write_event(out, written, t_ns, ref, ticks, new, i, LIMIT, side, REST_ONLY)
                    written += 1
        if flags & F_LAST != 0:
            if w[here + TRADED] != 0 and w[here + PHASE] != OPEN and w[here + TOLD] == 0:
                written = turn(w, out, written, t_ns, i, OPEN)
            marks[marked, MARK_EVENTS], marks[marked, MARK_INSTRUMENT] = written, i
            marks[marked, MARK_PHASE] = w[here + PHASE]
            marked += 1
            if marked == len(marks):
                status = OUT_FULL
                break
    w[AT], w[WRITTEN], w[MARKED], w[LATEST_NS] = row, written, marked, t_ns
    return status
