"""Decoder: a venue's messages one by one, from a recorded file or off a live socket, as updates of books.

A decoder never needs to see ahead. It knows of each instrument whether its book may be traded on (the
*feed state*) and what would mend it; a book that may not is void: its levels are cleared and the
instrument is halted, by updates like any others, so a recording stops trading where a socket would.

    SYNCING       no snapshot yet, or a new connection          -> LIVE by a snapshot
    LIVE          the book is the venue's                       -> all others
    GAP           messages are missing, or the book crossed     -> LIVE by a snapshot
    BAD_CHECKSUM  the book differs from the venue's             -> LIVE by a snapshot
    STALE         nothing has come for too long: halted only    -> LIVE by any message
    DISCONNECTED  the connection is gone                        -> SYNCING by a new one

Prices and quantities are whole numbers in units of 1e-18 (`engine.feeds.decimals`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

import orjson

from engine.events import CLEAR, HALT, LEVEL, RESUME, TRADE
from engine.feeds.decimals import UNIT, Increments, decimals_of, price_units, units

MAX_INSTRUMENTS: Final = 4096  # of one decoder: a venue that names more is not believed
KEPT_PLACES: Final = 1000  # of damaged lines
NAMED_PLACES: Final = 10
QUOTED: Final = 120  # characters of a damaged line that are kept
DAMAGED: Final = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)


class FeedState(Enum):
    """Whether an instrument's book may be traded on, and if not, why."""

    SYNCING = "syncing"
    LIVE = "live"
    GAP = "gap"
    BAD_CHECKSUM = "bad_checksum"
    STALE = "stale"
    DISCONNECTED = "disconnected"


class Remedy(Enum):
    """What makes a book whole again."""

    NOTHING = "nothing"
    SNAPSHOT = "snapshot"  # ask for one (over REST)
    RESUBSCRIBE = "resubscribe"  # the venue sends a snapshot to each new subscription
    RECONNECT = "reconnect"


class Update(NamedTuple):
    """One change: kind as in `engine.events`; instrument: index into the decoder's symbols."""

    t_ns: int
    instrument: int
    kind: int
    side: int = 0
    price: int = 0
    qty: int = 0
    order_id: int = 0


class Check(NamedTuple):
    """What the venue says the best levels are once `after` updates of the line have been applied.

    bids, asks: (price, quantity), best first, quantity -1 where the venue does not say. on_time: the
    venue said so while the book stood there, not before.
    """

    after: int
    instrument: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]
    on_time: bool = True


@dataclass(slots=True)
class FeedCounters:
    """What a decoder has seen.

    skipped: damaged or unknown messages; skipped_at: (line, how it begins) of the first of them.
    duplicates: messages that say what a later one has overtaken, or what has been said already.
    """

    messages: int = 0
    gaps: int = 0
    checksums_ok: int = 0
    checksums_bad: int = 0
    duplicates: int = 0
    skipped: int = 0
    skipped_at: list[tuple[int, str]] = field(default_factory=list)

    def skip(self, line: int, text: bytes) -> None:
        """Count one message that was left out."""
        self.skipped += 1
        if len(self.skipped_at) < KEPT_PLACES:
            self.skipped_at.append((line, text[:QUOTED].decode("utf-8", "replace")))

    def skipped_words(self) -> str:
        """Where the first of them are, for a log or an error; empty where there are none."""
        if not self.skipped:
            return ""
        line, text = self.skipped_at[0]
        others = ", ".join(str(line) for line, _ in self.skipped_at[1:NAMED_PLACES])
        more = f" (then {others}{', ...' if self.skipped > NAMED_PLACES else ''})" if others else ""
        return f"{self.skipped} lines skipped, the first: line {line}: {text!r}{more}"


class Decoder(Protocol):
    """What a recorded file and a live socket need of a venue's format.

    symbols: the instruments seen so far, in the order of their index; checks: of the last line.
    """

    symbols: list[str]
    counters: FeedCounters
    checks: list[Check]

    def decode(self, line: bytes, received_ns: int) -> list[Update]:
        """The updates of one message; one that is damaged is counted, skipped and gives none."""
        ...

    def learn(self, body: bytes) -> None:
        """Take tick and lot sizes from the venue's list of instruments; what is none is left alone."""
        ...

    def increments(self, symbol: str) -> Increments | None:
        """Tick and lot: the venue's where learnt, else by the decimals of the snapshot; None before either."""
        ...

    def state(self, symbol: str) -> FeedState:
        """The feed state of an instrument."""
        ...

    def reason(self, symbol: str) -> str:
        """Why it is in that state, in words."""
        ...

    def requires(self, symbol: str) -> Remedy:
        """What would make it LIVE."""
        ...

    def look(self, now_ns: int) -> list[Update]:
        """Go STALE where nothing has come for too long."""
        ...

    def connected(self, t_ns: int) -> list[Update]:
        """A new connection: every book is void until its snapshot."""
        ...

    def disconnected(self, t_ns: int) -> list[Update]:
        """The connection is gone."""
        ...


@dataclass(slots=True)
class Track:
    """One instrument of a feed."""

    symbol: str
    index: int
    state: FeedState = FeedState.SYNCING
    reason: str = "no snapshot yet"
    since_ns: int = 0
    halted: bool = False
    written: Increments | None = None  # by the decimals of the snapshot


@dataclass(frozen=True, slots=True)
class Levels:
    """Both sides of a message, read whole before anything changes: (price, quantity, price and quantity as written)."""

    bids: list[tuple[int, int, str, str]] = field(default_factory=list)
    asks: list[tuple[int, int, str, str]] = field(default_factory=list)


class MessageDecoder(ABC):
    """What all decoders of JSON messages share; a venue's own adds `_take` and `_increments_in`.

    level_book: updates are price levels and prints rather than orders. snapshot_by: how the venue gives a
    snapshot. stale_after_ns: silence after which `look` goes STALE.
    """

    level_book: bool = True
    snapshot_by: Remedy = Remedy.RESUBSCRIBE

    def __init__(self, stale_after_ns: int = 10_000_000_000) -> None:
        self.symbols: list[str] = []
        self.counters = FeedCounters()
        self.checks: list[Check] = []
        self.line = 0  # of the message under way; a reader of files sets it to the file's line before it
        self._out: list[Update] = []
        self._tracks: dict[str, Track] = {}
        self._learnt: dict[str, Increments] = {}
        self._latest_ns = 0
        self._stale = False
        self.stale_after_ns = stale_after_ns

    def decode(self, line: bytes, received_ns: int) -> list[Update]:
        """The updates of one message; one that is damaged is counted, skipped and gives none."""
        self.line += 1
        self.counters.messages += 1
        self._begin()
        self._latest_ns = received_ns
        if self._stale:
            self._stale = False
            for track in self._tracks.values():
                if track.state is FeedState.STALE:
                    self._go_live(track, received_ns)
        try:
            if not self._take(self._parse(line), received_ns):
                self.counters.skip(self.line, line)
        except DAMAGED:
            self.counters.skip(self.line, line)
        return self._out

    def _parse(self, line: bytes) -> Any:
        """A message taken apart; one of DAMAGED where that cannot be."""
        return orjson.loads(line)

    @abstractmethod
    def _take(self, message: Any, t_ns: int) -> bool:
        """Carry out one message, all of it or (by one of DAMAGED) nothing; False where it is of no known kind."""

    def learn(self, body: bytes) -> None:
        """Take tick and lot sizes from the venue's list of instruments; what is none is left alone."""
        try:
            self._learnt.update(self._increments_in(orjson.loads(body)))
        except DAMAGED:
            return

    @abstractmethod
    def _increments_in(self, listing: Any) -> dict[str, Increments]:
        """Symbols and their increments in the venue's list of instruments."""

    def increments(self, symbol: str) -> Increments | None:
        """Tick and lot: the venue's where learnt, else by the decimals of the snapshot; None before either."""
        track = self._tracks.get(symbol)
        return self._learnt.get(symbol) or (track.written if track else None)

    def state(self, symbol: str) -> FeedState:
        """The feed state of an instrument."""
        track = self._tracks.get(symbol)
        return track.state if track else FeedState.SYNCING

    def reason(self, symbol: str) -> str:
        """Why it is in that state, in words."""
        track = self._tracks.get(symbol)
        return track.reason if track else "not seen yet"

    def requires(self, symbol: str) -> Remedy:
        """What would make it LIVE."""
        state = self.state(symbol)
        if state is FeedState.LIVE:
            return Remedy.NOTHING
        return Remedy.RECONNECT if state in (FeedState.STALE, FeedState.DISCONNECTED) else self.snapshot_by

    def look(self, now_ns: int) -> list[Update]:
        """Go STALE where nothing has come for too long: books stay, trading stops."""
        self._begin()
        if not self._stale and self._latest_ns and now_ns - self._latest_ns > self.stale_after_ns:
            self._stale = True
            for track in self._tracks.values():
                if track.state is FeedState.LIVE:
                    silence_s = (now_ns - self._latest_ns) / 1e9
                    self._move(track, FeedState.STALE, f"nothing came for {silence_s:.1f} s", now_ns)
        return self._out

    def connected(self, t_ns: int) -> list[Update]:
        """A new connection: every book is void until its snapshot."""
        self._begin()
        self._latest_ns = t_ns
        for track in self._tracks.values():
            self._void(track, FeedState.SYNCING, "no snapshot since the new connection", t_ns)
        return self._out

    def disconnected(self, t_ns: int) -> list[Update]:
        """The connection is gone."""
        self._begin()
        for track in self._tracks.values():
            self._void(track, FeedState.DISCONNECTED, "the connection is gone", t_ns)
        return self._out

    # For the venues' decoders.

    def _track(self, symbol: object) -> Track:
        """The instrument of that symbol, a new one where it has not been seen."""
        if not isinstance(symbol, str) or not symbol:
            raise ValueError(f"expected a symbol, found {symbol!r}")
        track = self._tracks.get(symbol)
        if track is None:
            if len(self.symbols) == MAX_INSTRUMENTS:
                raise ValueError(f"more than {MAX_INSTRUMENTS} instruments")
            track = self._tracks[symbol] = Track(symbol, len(self.symbols))
            self.symbols.append(symbol)
        return track

    def _emit_levels(self, track: Track, levels: Levels, t_ns: int) -> None:
        self._out += [Update(t_ns, track.index, LEVEL, 1, price, qty) for price, qty, _, _ in levels.bids]
        self._out += [Update(t_ns, track.index, LEVEL, -1, price, qty) for price, qty, _, _ in levels.asks]

    def _emit_trade(self, track: Track, side: int, price: int, qty: int, t_ns: int) -> None:
        """A print: a fact whatever the state of the book; one of no quantity is none."""
        if qty > 0:
            self._out.append(Update(t_ns, track.index, TRADE, side, price, qty))

    def _snapshot(self, track: Track, levels: Levels, t_ns: int) -> None:
        """A whole book in place of what there was; the instrument is LIVE."""
        self._out.append(Update(t_ns, track.index, CLEAR))
        self._emit_levels(track, levels, t_ns)
        both = levels.bids + levels.asks
        if both:
            tick = max(decimals_of(price) for _, _, price, _ in both)
            lot = max(decimals_of(qty) for _, _, _, qty in both)
            track.written = Increments(max(UNIT // 10**tick, 1), max(UNIT // 10**lot, 1))
        self._go_live(track, t_ns)

    def _void(self, track: Track, state: FeedState, reason: str, t_ns: int) -> None:
        """The book is not the venue's (any more): cleared, and halted until it is."""
        if track.state in (FeedState.LIVE, FeedState.STALE):
            self._out.append(Update(t_ns, track.index, CLEAR))
        self._forget(track)
        self._move(track, state, reason, t_ns)

    @abstractmethod
    def _forget(self, track: Track) -> None:
        """Drop what the decoder itself remembers of a book."""

    def _go_live(self, track: Track, t_ns: int) -> None:
        self._move(track, FeedState.LIVE, "", t_ns)

    def _move(self, track: Track, state: FeedState, reason: str, t_ns: int) -> None:
        """The one place where states change."""
        halt = state is not FeedState.LIVE
        # An instrument that has never been LIVE has no book to halt.
        if halt != track.halted and not (halt and track.state is not FeedState.LIVE):
            self._out.append(Update(t_ns, track.index, HALT if halt else RESUME))
            track.halted = halt
        track.state, track.reason, track.since_ns = state, reason, t_ns

    def _begin(self) -> None:
        """A new list for the caller: the last one is theirs."""
        self._out, self.checks = [], []


def read_levels(bids: Any, asks: Any) -> Levels:
    """Levels as venues write them, [price, quantity, ...] as text; one of DAMAGED where they are none."""
    return Levels(_side(bids), _side(asks))


def _side(rows: Any) -> list[tuple[int, int, str, str]]:
    if not isinstance(rows, list):
        raise TypeError(f"expected a list of levels, found {rows!r:.40}")
    return [(price_units(row[0]), units(row[1]), row[0], row[1]) for row in rows]
