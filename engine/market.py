"""Markets: where the engine's events come from: a recording in a loop, the synthetic market, or a live one."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.events import LEVEL, EventArray, Instrument, Tape, empty_events
from engine.feeds.tape import load_tape
from engine.figures import load_market
from engine.livemarket import LiveMarket
from engine.options import EngineOptions
from engine.synthetic import SyntheticMarket
from metrics.paths import RuntimePaths

SYNTHETIC_BUFFER = 16_384
MIN_ORDERS, MAX_ORDERS = 1 << 16, 1 << 20
State = Mapping[str, npt.NDArray[Any]]


class Market(Protocol):
    """A source of events in sessions.

    start_ns, end_ns: the running session on the events' clock. level_book: events are price levels
    and prints. starts_empty: the book is empty at each session's start, what is left of the one
    before is void. max_orders: how many orders or levels its books must have room for. name: the
    recording's file name, None where there is none. faults: gaps, bad checksums and damaged messages so
    far, of a feed that can have any.
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
    faults: int

    def take(self, until_ns: int) -> EventArray:
        """The next events before `until_ns` (may be more where they are there anyway), never taken twice.

        Empty where none lies before it. The array is the market's and holds until the next call.
        """
        ...

    def restart(self) -> None:
        """Begin the next session."""
        ...

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Where the market stands just before the last `take` of this session, copies."""
        ...

    def restore(self, state: State) -> EventArray:
        """Go to a `state` of the same market and give again what its last `take` gave; ValueError for another's."""
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
        self.faults = 0
        self._events = tape.events
        self._taken = self._was_taken = False

    def take(self, until_ns: int) -> EventArray:
        """The whole recording at once."""
        events = self._events[:0] if self._taken else self._events
        self._was_taken, self._taken = self._taken, True
        return events

    def restart(self) -> None:
        """From the top."""
        self._taken = self._was_taken = False

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Whether the recording had been taken before the last time, and is now."""
        return {"taken": np.array([self._was_taken, self._taken], dtype=np.int64)}

    def restore(self, state: State) -> EventArray:
        """The whole recording where the last time gave it, else nothing."""
        before, now = (bool(word) for word in state["taken"])
        self._taken = before
        return self.take(self.end_ns) if now else self._events[:0]


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
        self.faults = 0
        self._market = market
        self._buffer = empty_events(SYNTHETIC_BUFFER)
        self._before = market.state()
        self._until_ns = market.now_ns

    def take(self, until_ns: int) -> EventArray:
        """The events before `until_ns`, as many as the buffer holds."""
        self._before, self._until_ns = self._market.state(), until_ns
        return self._buffer[: self._market.fill(self._buffer, min(until_ns, self.end_ns))]

    def restart(self) -> None:
        """The next session follows at once."""
        self.start_ns = self.end_ns
        self.end_ns = self._market.next_boundary_ns(self.start_ns)
        self._before, self._until_ns = self._market.state(), self.start_ns

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The generator before it drew the last events, and the session's span."""
        arrays = {f"{position:02d}": array for position, array in enumerate(self._before)}
        return arrays | {"span": np.array([self.start_ns, self.end_ns, self._until_ns])}

    def restore(self, state: State) -> EventArray:
        """Draw the last events again."""
        self._market.restore([state[name] for name in sorted(state) if name != "span"])
        self.start_ns, self.end_ns, until_ns = (int(word) for word in state["span"])
        return self.take(until_ns)


def market_key(market: Market, seed: int) -> int:
    """A number (int32, positive) that is the same for the same market: its source, name, instruments and seed."""
    words = repr((market.source, market.name, market.instruments, market.level_book, market.starts_empty, seed))
    return zlib.crc32(words.encode()) & 0x7FFFFFFF


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
