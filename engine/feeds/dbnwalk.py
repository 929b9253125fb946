"""DBN walk: where the records of use lie in a file, and the step of their prices; compiled."""

from __future__ import annotations

from engine.feeds.dbnwords import (
    KEY,
    LEVEL_UNITS,
    LEVELS_UNITS,
    MBO,
    MBO_UNITS,
    MBP_1,
    MBP_10,
    OFFSET,
    STATUS,
    STATUS_UNITS,
    SYMBOL_MAPPING,
    TRUNCATED,
    UNDEFINED,
    WRONG_LENGTH,
    A,
    M,
    le2,
    le4,
    le8,
)
from engine.feeds.ordertable import I64
from engine.feeds.parsewords import COUNTS, skip
from engine.feeds.scan import ByteArray
from engine.jit import kernel
from metrics.frame import IntArray


@kernel
def walk(data: ByteArray, start: int, w: IntArray, where: IntArray) -> int:
    """Write offset and key (publisher << 32 | instrument id) of each order, level, status and mapping record to `where`,
    int64 (n, 2), from byte `start` on; returns how many. Other types are counted; w: see `make_words`."""
    at, end, found = start, len(data), 0
    while at < end:
        units = I64(data[at])
        if units < 4 or at + 4 * units > end:  # a header alone has four units: from here on nothing can be told apart
            skip(w, at, TRUNCATED)
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
            skip(w, at, WRONG_LENGTH)
        elif kind in (MBO, MBP_1, MBP_10, STATUS, SYMBOL_MAPPING):
            where[found, OFFSET] = at
            where[found, KEY] = (le2(data, at + 2) << 32) | le4(data, at + 4)
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
            price = le8(data, at + 48 + 32 * (k >> 1) + 8 * (k & 1)) if levels else le8(data, at + 24)
            other = not levels and (data[at + 38] not in (A, M))
            step = steps[i]
            if 0 < price < UNDEFINED and not other and (step == 0 or price % step != 0):
                while price != 0:
                    step, price = price, step % price
                steps[i] = step
