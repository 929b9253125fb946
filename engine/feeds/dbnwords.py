"""DBN words: the records of Databento's encoding as bytes, and the words in which their parsers keep what they know."""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.feeds.ordertable import CAPACITY, I64, ORDERS, ROW_WORDS, U64
from engine.feeds.parsewords import PARSER
from engine.feeds.scan import ByteArray
from engine.jit import inline_kernel
from metrics.frame import IntArray

# Record types, and their lengths in units of four bytes.
MBP_1, MBP_10, STATUS, SYMBOL_MAPPING, MBO = 0x01, 0x0A, 0x12, 0x16, 0xA0
MBO_UNITS, STATUS_UNITS, LEVELS_UNITS, LEVEL_UNITS = 14, 10, 12, 8
F_LAST, F_TOB, F_SNAPSHOT, F_MBP, F_BAD_TS_RECV = 128, 64, 32, 16, 8
A, B, C, F, M, N, R, T = (ord(letter) for letter in "ABCFMNRT")
UNDEFINED: Final = (1 << 63) - 1
MAX_LEVELS: Final = 10

# The header's words beside those that all parsers have. AT is the next row of `where`.
MARKED: Final = 6
TRADES: Final = 8  # T records
SIDELESS: Final = 9  # trades without an aggressor's side, as in auctions
WRONG_LENGTH, TRUNCATED, BAD_VALUE, AGGREGATED = range(16, 20)  # why a record was skipped
UNKNOWN_ORDER, DUPLICATE_ORDER, TOO_MUCH = range(20, 23)  # what contradicts the records before
UNSEEN_FILLS, UNSEEN_LOTS = 23, 24  # fills of orders that were never shown, and their lots
SKIP_NAMES: Final = {
    WRONG_LENGTH: "wrong length", TRUNCATED: "cut short", BAD_VALUE: "impossible value",
    AGGREGATED: "aggregated level among orders",
}  # fmt: skip
CONTRADICTION_NAMES: Final = {
    UNKNOWN_ORDER: "unknown order", DUPLICATE_ORDER: "order id used twice", TOO_MUCH: "more lots than the order has",
}  # fmt: skip
INSTRUMENTS: Final = PARSER
# An instrument: its tick in 1e-9, phase, whether it has traded since, living orders, whether the venue tells its phases, and
# the levels last seen: price and size.
TICK, PHASE, TRADED, LIVING, TOLD, SEEN = range(6)
INSTRUMENT_WORDS: Final = SEEN + 4 * MAX_LEVELS

OFFSET, KEY = 0, 1  # columns of `where`
# Columns of `marks`, one row for each end of a venue's event: events written by then in this block, instrument, phase, and
# in price levels the best bid, its size, best ask, its size.
MARK_EVENTS, MARK_INSTRUMENT, MARK_PHASE, MARK_BID = range(4)
MARK_COLUMNS: Final = 7


def make_words(ticks: IntArray, capacity: int = 1 << 12) -> IntArray:
    """Fresh words; ticks: of the chosen instruments, in 1e-9 of the currency."""
    orders = INSTRUMENTS + len(ticks) * INSTRUMENT_WORDS
    w = np.zeros(orders + capacity * ROW_WORDS, dtype=np.int64)
    w[CAPACITY], w[ORDERS] = capacity, orders
    w[INSTRUMENTS + TICK : orders : INSTRUMENT_WORDS] = ticks
    return w


# Little-endian numbers; unsigned positions, as in `itchparse`.


@inline_kernel
def le2(data: ByteArray, at: int) -> int:
    k = U64(at)
    return int(I64(data[k]) | (I64(data[k + U64(1)]) << 8))


@inline_kernel
def le4(data: ByteArray, at: int) -> int:
    return le2(data, at) | (le2(data, at + 2) << 16)


@inline_kernel
def le8(data: ByteArray, at: int) -> int:
    return le4(data, at) | (le4(data, at + 4) << 32)


@inline_kernel
def time_of(data: ByteArray, at: int, recv_at: int, flags: int) -> int:
    """When a record reached the capture, or left the venue where that is not known. Snapshots carry when they were made."""
    received = le8(data, at + recv_at)
    trusted = received > 0 and (flags & F_BAD_TS_RECV == 0 or flags & F_SNAPSHOT != 0)
    return received if trusted else le8(data, at + 8)
