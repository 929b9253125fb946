"""What enters a book and what leaves it: events, fills, instruments and tapes as aligned records.

Prices are whole ticks, quantities whole lots, times whole nanoseconds. Side is +1 for bid (buy)
and -1 for ask (sell); an aggressor (IOC, TRADE, marketable LIMIT) carries its own side, a record
about a resting order (REDUCE, CANCEL, EXECUTE, LEVEL) the side it rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

EVENT: Final = np.dtype(
    [
        ("t_ns", np.int64),  # since midnight or since the epoch, as the tape says; never falls
        ("order_id", np.int64),  # venue ids 1 .. 2**61 - 1; our own are negative; 0 where there is none
        ("price", np.int64),  # ticks; 0 in an IOC: at any price
        ("qty", np.int64),  # lots; absolute size in LEVEL, amount taken off in REDUCE and EXECUTE
        ("instrument", np.int32),  # index into the tape's instruments
        ("kind", np.uint8),
        ("side", np.int8),
        ("flags", np.uint16),
    ],
    align=True,
)

LIMIT: Final = 1  # matches what it crosses, rests with what is left
REDUCE: Final = 2  # takes qty off a resting order, which keeps its place in the queue
CANCEL: Final = 3  # removes a resting order
IOC: Final = 4  # matches what it crosses, the rest lapses
LEVEL: Final = 5  # price-level feeds: the level's size is now qty (0: gone)
TRADE: Final = 6  # price-level feeds: a print, with the aggressor's side
EXECUTE: Final = 7  # the venue's own matching executed qty of a resting order
HIDDEN: Final = 8  # an execution against undisplayed interest: changes no book
CLEAR: Final = 9  # the venue's whole book is void; our own orders stay unless EVERYTHING is set
HALT: Final = 10  # no matching until RESUME; orders may still come to rest and be cancelled
RESUME: Final = 11  # matching again; what crossed meanwhile trades at the older order's price
# A resting order gets a new price and qty, its new *remaining* size (what has traded already does not count).
# The same price and not more lots: it keeps its place; anything else: it arrives anew and may match. Its side stays.
REPLACE: Final = 12
KIND_NAMES: Final = (
    "none", "limit", "reduce", "cancel", "ioc", "level", "trade", "execute", "hidden", "clear", "halt", "resume",
    "replace",
)  # fmt: skip

REST_ONLY: Final = 1  # LIMIT, REPLACE: rest without matching (replay of a venue that has matched already)
POST_ONLY: Final = 2  # LIMIT, REPLACE: refused where it would match
EVERYTHING: Final = 4  # CLEAR: our own orders too
WRAP: Final = 8  # first event of a repeated session
FOK: Final = 16  # IOC: refused unless all of it trades at once
# IOC, LIMIT, REPLACE: what happens where our aggressor meets our own resting order. With neither flag the
# resting order is cancelled and the aggressor goes on.
STP_TAKER: Final = 32  # the aggressor's rest is cancelled
STP_BOTH: Final = 64  # both are
BLIND: Final = 128  # HALT: it is our data that cannot be trusted, so no order is sent either

FILL: Final = np.dtype(
    [
        ("t_ns", np.int64),
        ("sequence", np.int64),  # of the event that traded: how many the books had applied, this one included
        ("maker_id", np.int64),  # the resting order
        ("taker_id", np.int64),  # the aggressor; 0 where the venue does not say
        ("price", np.int64),  # ticks: the resting order's price
        ("qty", np.int64),  # lots
        ("instrument", np.int32),
        ("side", np.int8),  # the aggressor's side
        ("flags", np.uint8),  # 0: a trade; SELF_CANCEL, TAKER_CANCEL: no trade
    ],
    align=True,
)
# Our aggressor met our own resting order, nothing traded:
SELF_CANCEL: Final = 1  # qty of maker_id was cancelled
TAKER_CANCEL: Final = 2  # qty of taker_id was cancelled, all that was left of it

# Why an event was refused; a refused event is counted and changes nothing else.
UNKNOWN_ORDER: Final = -1  # no order rests under that id (it may have just been filled)
DUPLICATE_ID: Final = -2  # an order rests under that id
BOOK_FULL: Final = -3
INVALID: Final = -4  # a field is outside what its kind allows
WOULD_MATCH: Final = -5  # POST_ONLY
VENUE_HALTED: Final = -6  # an IOC while there is no matching
UNFILLABLE: Final = -7  # FOK, and not all of it can trade now
REFUSAL_NAMES: Final = (
    "unknown_order", "duplicate_id", "book_full", "invalid", "would_match", "venue_halted", "unfillable",
)  # fmt: skip

MAX_VENUE_ID: Final = (1 << 61) - 1
MAX_PRICE_TICKS: Final = (1 << 48) - 1
MAX_QTY_LOTS: Final = (1 << 48) - 1

EventArray = npt.NDArray[Any]  # dtype EVENT
FillArray = npt.NDArray[Any]  # dtype FILL


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is traded: one tick is `tick_size_usd` of price, one lot `lot_size` units (shares, coins)."""

    symbol: str
    tick_size_usd: float
    lot_size: float = 1.0

    def __post_init__(self) -> None:
        if not (self.tick_size_usd > 0.0 and self.lot_size > 0.0):
            raise ValueError(f"instrument {self.symbol!r}: tick and lot size must be positive")


@dataclass(frozen=True, eq=False, slots=True)
class Tape:
    """A recorded (or generated) session.

    events: dtype EVENT, shape (n,), t_ns never falling; instruments: what their index means;
    level_book: events are price levels and prints (LEVEL, TRADE) rather than orders;
    start_ns, end_ns: the session's span on the events' clock; source: a name for people.
    """

    instruments: tuple[Instrument, ...]
    events: EventArray
    simulated_market: bool
    source: str
    start_ns: int
    end_ns: int
    level_book: bool = False

    def __post_init__(self) -> None:
        if self.events.dtype != EVENT:
            raise ValueError(f"tape {self.source!r}: events have dtype {self.events.dtype}, not EVENT")
        if len(self.events) > 1 and bool(np.any(np.diff(self.events["t_ns"]) < 0)):
            raise ValueError(f"tape {self.source!r}: time goes backwards")
        self.events.flags.writeable = False


def empty_events(n: int) -> EventArray:
    """A zeroed EVENT array, shape (n,)."""
    return np.zeros(n, dtype=EVENT)


def empty_fills(n: int) -> FillArray:
    """A zeroed FILL array, shape (n,)."""
    return np.zeros(n, dtype=FILL)
