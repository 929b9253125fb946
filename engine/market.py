"""Markets: where the engine's events come from: a recording in a loop, the synthetic market, or a live one."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from engine.events import LEVEL, EventArray, Instrument, Tape, empty_events
from engine.feeds.tape import load_tape
from engine.figures import load_market
from engine.livemarket import LiveMarket
from engine.options import EngineOptions
from engine.synthetic import SyntheticMarket
from metrics.paths import RuntimePaths

SYNTHETIC_BUFFER = 16_384
MIN_ORDERS, MAX_ORDERS = 1 << 16, 1 << 20


class Market(Protocol):
    """A source of events in sessions.

    start_ns, end_ns: the running session on the events' clock. level_book: events are price levels
    and prints. starts_empty: the book is empty at each session's start, what is left of the one
    before is void. max_orders: how many orders or levels its books must have room for. name: the
    recording's file name, None where there is none.
    """

    instruments: tuple[Instrument, ...]
    source: str
    name: str | None
    simulated: bool
    level_book: bool
    starts_empty: bool
    max_orders: int
    start_ns: int
    end_ns: int

    def take(self, until_ns: int) -> EventArray:
        """The next events before `until_ns` (may be more where they are there anyway), never taken twice.

        Empty where none lies before it. The array is the market's and holds until the next call.
        """
        ...

    def restart(self) -> None:
        """Begin the next session."""
        ...


class TapeMarket:
    """A recording, played again and again."""

    def __init__(self, tape: Tape, name: str) -> None:
        self.instruments = tape.instruments
        self.source = tape.source
        self.name: str | None = name
        self.simulated = tape.simulated_market
        self.level_book = tape.level_book
        self.starts_empty = True
        self.max_orders = min(max(_levels_in(tape), MIN_ORDERS), MAX_ORDERS)
        self.start_ns, self.end_ns = tape.start_ns, tape.end_ns
        self._events = tape.events
        self._taken = False

    def take(self, until_ns: int) -> EventArray:
        """The whole recording at once."""
        events = self._events[:0] if self._taken else self._events
        self._taken = True
        return events

    def restart(self) -> None:
        """From the top."""
        self._taken = False


class SyntheticFeed:
    """The synthetic market, generated as it is needed; its books stay through the ends of its sessions."""

    def __init__(self, market: SyntheticMarket) -> None:
        self.instruments = market.instruments
        self.source = "synthetic"
        self.name: str | None = None
        self.simulated = True
        self.level_book = False
        self.starts_empty = False
        self.max_orders = MIN_ORDERS
        self.start_ns = market.now_ns
        self.end_ns = market.next_boundary_ns(market.now_ns)
        self._market = market
        self._buffer = empty_events(SYNTHETIC_BUFFER)

    def take(self, until_ns: int) -> EventArray:
        """The events before `until_ns`, as many as the buffer holds."""
        return self._buffer[: self._market.fill(self._buffer, min(until_ns, self.end_ns))]

    def restart(self) -> None:
        """The next session follows at once."""
        self.start_ns = self.end_ns
        self.end_ns = self._market.next_boundary_ns(self.start_ns)


def _levels_in(tape: Tape) -> int:
    """How many different price levels a tape names: snapshots of many instruments can be large."""
    levels = tape.events[tape.events["kind"] == LEVEL]
    if len(levels) <= MIN_ORDERS:
        return len(levels)
    places = levels["instrument"].astype(np.int64) << 49 | levels["price"] << 1 | (levels["side"] > 0)
    return len(np.unique(places))


def open_market(options: EngineOptions, paths: RuntimePaths | None = None) -> Market:
    """The market that the options name; a DeskvigilError says what is wrong with a recording.

    paths: where a live market's events come in; waits for the feed process to tell what is traded.
    """
    if options.live.venue and paths is not None:
        return LiveMarket(options.live, paths)
    if options.tape is not None:
        return TapeMarket(load_tape(options.tape), options.tape.name)
    return SyntheticFeed(SyntheticMarket(load_market(), seed=options.seed))
