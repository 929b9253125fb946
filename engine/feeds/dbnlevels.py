"""DBN levels: market-by-price records to events, compiled."""

from __future__ import annotations

from typing import Final

from engine.events import LEVEL, MAX_PRICE_TICKS, TRADE, EventArray
from engine.feeds.dbnphase import OPEN, tell_status
from engine.feeds.dbnwords import (
    BAD_VALUE,
    INSTRUMENT_WORDS,
    INSTRUMENTS,
    MARK_BID,
    MARK_EVENTS,
    MARK_INSTRUMENT,
    MARK_PHASE,
    MARKED,
    MAX_LEVELS,
    MBP_1,
    MBP_10,
    OFFSET,
    SEEN,
    SIDELESS,
    STATUS,
    TICK,
    TRADES,
    UNDEFINED,
    A,
    B,
    T,
    le4,
    le8,
    time_of,
)
from engine.feeds.ordertable import I64
from engine.feeds.parsewords import AT, DONE, LATE, LATEST_NS, OUT_FULL, WRITTEN, skip, write_event
from engine.feeds.scan import ByteArray
from engine.jit import inline_kernel, kernel
from metrics.frame import IntArray

LEVEL_EVENTS: Final = 4 * MAX_LEVELS + 3  # that one record gives at most


@inline_kernel
def _is_beyond(data: ByteArray, at: int, depth: int, tick: int) -> bool:
    """Whether a record shows a price that no book takes."""
    most = MAX_PRICE_TICKS * tick if tick <= UNDEFINED // MAX_PRICE_TICKS else UNDEFINED
    beyond = False
    for k in range(2 * depth):
        price = le8(data, at + 48 + 32 * (k >> 1) + 8 * (k & 1))
        beyond |= most < price < UNDEFINED
    return beyond


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
            t_ns = max(t_ns, time_of(data, at, 16, 0))
            written = tell_status(data, at, w, out, written, t_ns, i)
            continue
        if kind not in (MBP_1, MBP_10):
            continue
        flags, tick = I64(data[at + 30]), w[here + TICK]
        now = time_of(data, at, 32, flags)
        w[LATE] += now < t_ns
        t_ns = max(t_ns, now)
        price, size, action, letter = le8(data, at + 16), le4(data, at + 24), data[at + 28], data[at + 29]
        depth = 1 if kind == MBP_1 else 10
        if _is_beyond(data, at, depth, tick):
            skip(w, at, BAD_VALUE)
            continue
        if action == T:
            w[TRADES] += 1
            if letter not in (A, B):
                w[SIDELESS] += 1
            elif 0 < price < UNDEFINED and 0 < price // tick <= MAX_PRICE_TICKS and size > 0:
                write_event(out, written, t_ns, 0, price // tick, size, i, TRADE, 1 if letter == B else -1, 0)
                written += 1
            else:
                skip(w, at, BAD_VALUE)
        for s in range(2):
            side, seen = 1 - 2 * s, here + SEEN + 2 * MAX_LEVELS * s
            for old in range(MAX_LEVELS):
                was = w[seen + 2 * old]
                if was > 0:
                    gone = True
                    for k in range(depth):
                        level = le8(data, at + 48 + 32 * k + 8 * s)
                        if level == was * tick and le4(data, at + 64 + 32 * k + 4 * s) > 0:
                            gone = False
                    if gone:
                        write_event(out, written, t_ns, 0, was, 0, i, LEVEL, side, 0)
                        written += 1
            for k in range(depth):
                level, lots = le8(data, at + 48 + 32 * k + 8 * s), le4(data, at + 64 + 32 * k + 4 * s)
                ticks = level // tick if 0 < level < UNDEFINED and lots > 0 else I64(0)
                before = I64(-1)
                for old in range(MAX_LEVELS):
                    if w[seen + 2 * old] == ticks:
                        before = w[seen + 2 * old + 1]
                if ticks > 0 and before != lots:
                    write_event(out, written, t_ns, 0, ticks, lots, i, LEVEL, side, 0)
                    written += 1
            for k in range(MAX_LEVELS):
                level, lots = I64(0), I64(0)
                if k < depth:
                    level, lots = le8(data, at + 48 + 32 * k + 8 * s), le4(data, at + 64 + 32 * k + 4 * s)
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
