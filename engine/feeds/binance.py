"""Binance: a raw combined-stream capture, one `ns json` line per message, with the REST snapshot among them.

Depth messages carry the first and last update id they cover (U, u); on the futures market also the last id
of the message before (pu). A snapshot holds everything up to lastUpdateId: messages received before it
are applied after it where they reach beyond, as Binance's manual says. Best quotes (bookTicker) are not
part of the flow: where one has the update id of a depth message, it is a check of the book.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from engine import events as ev
from engine.book import apply_all, depth, make_books
from engine.events import EventArray, Instrument, Tape, empty_events, empty_fills
from engine.feeds.files import Opening, read_unpacked
from engine.feeds.result import Result
from engine.feeds.scan import read_table
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

DECIMALS: Final = 8  # Binance's prices and quantities have no more
UNIT: Final = 10**DECIMALS
MAX_LEVELS: Final = 1 << 20


class Message(NamedTuple):
    """One message of the capture; its price and quantity pairs lie from `first` on, bids before asks."""

    t_ns: int
    kind: int  # DEPTH, SNAPSHOT, PRINT, QUOTE
    first: int
    bids: int
    asks: int
    first_id: int  # U
    last_id: int  # u, lastUpdateId
    before_id: int  # pu; -1 where the market has none
    side: int  # the aggressor's, of a print
    line: int


DEPTH, SNAPSHOT, PRINT, QUOTE = range(4)


@dataclass(slots=True)
class _Lines:
    """What has been read so far: messages and the price and quantity pairs they refer to."""

    messages: list[Message] = field(default_factory=list)
    pairs: list[list[str]] = field(default_factory=list)
    symbols: set[str] = field(default_factory=set)
    skipped: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Capture:
    """A capture, synchronised. events: dtype EVENT, LEVEL and TRADE.

    checks int64 (n, 5): how many events to apply, then best bid, its size, best ask, its size as the
    venue quoted them at that update, in ticks and lots; quotes_on_time: how many of those quotes arrived
    while the book stood at their update, not before it. gaps: breaks in the chain of update ids;
    skipped_lines: messages of other streams, and a last line that was cut short.
    """

    name: str
    instrument: Instrument
    events: EventArray
    checks: IntArray
    quotes_on_time: int
    gaps: int
    skipped_lines: int
    start_ns: int
    end_ns: int


def is_capture(opening: Opening) -> bool:
    """Whether it begins with an `ns json` line."""
    stamp, _, text = opening.line.partition(b" ")
    return stamp.isdigit() and text.startswith(b"{")


def read_capture(path: Path) -> Capture:
    """Read a capture, plain, .gz or .xz.

    DeskvigilError names the line that is not as expected; so does a capture without a snapshot or of
    several symbols.
    """
    read = _read_lines(path)
    kinds = {message.kind for message in read.messages}
    if not {DEPTH, SNAPSHOT} <= kinds:
        raise DeskvigilError(f"{path.name}: expected depth updates and a REST snapshot (lastUpdateId) among the lines")
    if len(read.symbols) > 1:
        raise DeskvigilError(f"{path.name}: expected one symbol, found {', '.join(sorted(read.symbols))}")
    try:
        text = "\n".join(map(",".join, read.pairs)).encode()
        pairs = read_table(text, path.name, ("price", "quantity"), (DECIMALS, DECIMALS))
    except (DeskvigilError, TypeError):
        raise _bad_number(path.name, read) from None
    if (pairs[:, 0] <= 0).any() or (pairs[:, 1] < 0).any():
        line = _line_of(read, int(np.argmax((pairs[:, 0] <= 0) | (pairs[:, 1] < 0))))
        raise DeskvigilError(f"{path.name}, line {line}: expected prices above 0 and no quantity below")
    tick, lot = (max(int(np.gcd.reduce(pairs[:, column])), 1) for column in (0, 1))
    pairs //= (tick, lot)
    book = _Synchroniser(read.messages, pairs)
    return Capture(
        path.name, Instrument(read.symbols.pop(), tick / UNIT, lot / UNIT),
        _events_of(book.ordered, pairs, book.events), np.array(book.checks, dtype=np.int64).reshape(-1, 5),
        book.quotes_on_time, book.gaps, read.skipped, read.messages[0].t_ns, read.messages[-1].t_ns,
    )  # fmt: skip


def capture_tape(capture: Capture) -> Tape:
    """The capture as a tape of price levels and prints."""
    return Tape(
        instruments=(capture.instrument,), events=capture.events, simulated_market=False, source="binance",
        start_ns=capture.start_ns, end_ns=capture.end_ns, level_book=True,
    )  # fmt: skip


# --- lines ----------------------------------------------------------------------------------------


def _read_lines(path: Path) -> _Lines:
    data = read_unpacked(path)
    read = _Lines()
    before_ns = 0
    lines = data.split(b"\n")
    cut_short = lines.pop()  # without its newline: capturing ended in the middle
    for number, line in enumerate(lines, start=1):
        stamp, _, text = line.partition(b" ")
        try:
            t_ns, message = int(stamp), orjson.loads(text)
            if t_ns < before_ns:
                raise ValueError
            known = _read_message(read, t_ns, number, message)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DeskvigilError(
                f"{path.name}, line {number}: expected 'ns json' with a Binance message, not before the line above, "
                f"found {line[:80]!r}"
            ) from None
        before_ns = t_ns
        read.skipped += not known
    read.skipped += bool(cut_short.strip())
    return read


def _read_message(read: _Lines, t_ns: int, line: int, message: dict[str, Any]) -> bool:
    """Append one message; False where it is of another stream."""
    first = len(read.pairs)
    data = message.get("data", message)
    if "lastUpdateId" in data:
        bids, asks = data["bids"], data["asks"]
        kind, ids, side = SNAPSHOT, (0, int(data["lastUpdateId"]), -1), 0
    else:
        stream = message.get("stream", "").partition("@")[2]
        if stream.startswith("depth"):
            bids, asks = data["b"], data["a"]
            kind, ids, side = DEPTH, (int(data["U"]), int(data["u"]), int(data.get("pu", -1))), 0
        elif stream == "bookTicker":
            bids, asks = [[data["b"], data["B"]]], [[data["a"], data["A"]]]
            kind, ids, side = QUOTE, (0, int(data["u"]), -1), 0
        elif stream == "trade" and data.get("X", "MARKET") == "MARKET":
            bids, asks = [[data["p"], data["q"]]], []
            kind, ids, side = PRINT, (0, 0, -1), -1 if data["m"] else 1
        else:
            return False
        read.symbols.add(data["s"])
    read.pairs += bids
    read.pairs += asks
    read.messages.append(Message(t_ns, kind, first, len(bids), len(asks), *ids, side, line))
    return True


def _line_of(read: _Lines, pair: int) -> int:
    """Number of the line that a pair came from."""
    return next(m.line for m in read.messages if m.first <= pair < m.first + m.bids + m.asks)


def _bad_number(name: str, read: _Lines) -> DeskvigilError:
    """The error for the first pair that is not two decimal numbers."""
    for k, pair in enumerate(read.pairs):
        try:
            read_table(",".join(pair).encode(), name, ("price", "quantity"), (DECIMALS, DECIMALS))
        except (DeskvigilError, TypeError):
            return DeskvigilError(
                f"{name}, line {_line_of(read, k)}: expected a price and a quantity as decimal numbers, found {pair!r}"
            )
    return DeskvigilError(f"{name}: expected prices and quantities as decimal numbers")


# --- synchronising --------------------------------------------------------------------------------


class _Synchroniser:
    """Goes through the messages as they came and puts them in the order in which they make the book.

    ordered: messages and the time each is applied; events: how many those make; checks, gaps,
    quotes_on_time: see Capture.
    """

    def __init__(self, messages: list[Message], pairs: IntArray) -> None:
        self.ordered: list[tuple[Message, int]] = []
        self.checks: list[tuple[int, ...]] = []
        self.events = self.gaps = self.quotes_on_time = 0
        self._pairs = pairs
        self._quotes = {m.last_id: m for m in messages if m.kind == QUOTE}
        self._snapshot: Message | None = None
        self._depth: Message | None = None
        self._waiting: list[Message] = []  # depth messages before the first snapshot
        self._linked = False
        steps = {PRINT: self._print, QUOTE: self._quote, SNAPSHOT: self._take_snapshot, DEPTH: self._take_depth}
        for message in messages:
            steps[message.kind](message)

    def _apply(self, message: Message, t_ns: int) -> None:
        self.ordered.append((message, t_ns))
        self.events += message.bids + message.asks + (message.kind == SNAPSHOT)

    def _print(self, message: Message) -> None:
        self._apply(message, message.t_ns)

    def _quote(self, message: Message) -> None:
        on_time = self._depth is not None and self._depth.last_id == message.last_id
        self.quotes_on_time += on_time and self._linked

    def _take_snapshot(self, message: Message) -> None:
        self._snapshot, self._linked = message, False
        self._apply(message, message.t_ns)
        for update in self._waiting:
            self._update(update, message)
        self._waiting = []

    def _take_depth(self, message: Message) -> None:
        before, self._depth = self._depth, message
        if before is not None:
            chained = (
                message.before_id == before.last_id
                if message.before_id >= 0
                else message.first_id <= before.last_id + 1
            )
            self.gaps += not chained
        if self._snapshot is None:
            self._waiting.append(message)
        else:
            self._update(message, self._snapshot)

    def _update(self, update: Message, snapshot: Message) -> None:
        """Apply a depth message unless the snapshot holds it already."""
        if update.last_id <= snapshot.last_id:
            return
        if not self._linked:
            missing = (
                update.before_id > snapshot.last_id if update.before_id >= 0 else update.first_id > snapshot.last_id + 1
            )
            self.gaps += missing
            self._linked = True
        self._apply(update, max(update.t_ns, snapshot.t_ns))
        quote = self._quotes.get(update.last_id)
        if quote is not None:
            bid, ask = self._pairs[quote.first : quote.first + 2].tolist()
            self.checks.append((self.events, *bid, *ask))


def _events_of(ordered: list[tuple[Message, int]], pairs: IntArray, count: int) -> EventArray:
    """The messages' pairs as events; a snapshot starts with a CLEAR."""
    events = empty_events(count)
    at = 0
    for message, t_ns in ordered:
        if message.kind == SNAPSHOT:
            events[at : at + 1]["t_ns"], events[at : at + 1]["kind"] = t_ns, ev.CLEAR
            at += 1
        n = message.bids + message.asks
        part, source = events[at : at + n], pairs[message.first : message.first + n]
        part["t_ns"], part["price"], part["qty"] = t_ns, source[:, 0], source[:, 1]
        part["kind"] = ev.TRADE if message.kind == PRINT else ev.LEVEL
        if message.kind == PRINT:
            part["side"] = message.side
        else:
            part["side"][: message.bids], part["side"][message.bids :] = 1, -1
        at += n
    return events


# --- checking -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CaptureCheck:
    """Quotes that were compared with the book as it stood when they arrived, and how many comparisons failed.

    mismatches is over all quotes that share an update id with a depth message, also those that arrived
    before it; where all did (slow depth streams), those are what `rows` counts.
    """

    rows: int
    mismatches: int


def check_capture(capture: Capture) -> CaptureCheck:
    """Apply the capture to a book and compare its best prices and sizes with the venue's quotes."""
    books = make_books(1, max_orders=MAX_LEVELS, level_book=True)
    no_fills = empty_fills(0)
    prices, quantities = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    at = mismatches = 0
    for count, *quoted in capture.checks.tolist():
        apply_all(books, capture.events[at:count], no_fills)
        at = count
        best: list[int] = []
        for side in (1, -1):
            there = depth(books, 0, side, prices, quantities)
            best += [int(prices[0]), int(quantities[0])] if there else [0, 0]
        mismatches += best != quoted
    apply_all(books, capture.events[at:], no_fills)
    return CaptureCheck(capture.quotes_on_time or len(capture.checks), mismatches)


def load(path: Path) -> Tape:
    """A capture as a tape."""
    return capture_tape(read_capture(path))


def prove(path: Path, _: Path | None) -> Result:
    """Replay a capture and compare the book with the venue's quotes."""
    capture = read_capture(path)
    started = time.perf_counter()
    found = check_capture(capture)
    return Result(
        events=len(capture.events), seconds=time.perf_counter() - started,
        fills=int(np.count_nonzero(capture.events["kind"] == ev.TRADE)), book_rows_checked=found.rows,
        mismatches=found.mismatches, gaps=capture.gaps, skipped_lines=capture.skipped_lines,
    )  # fmt: skip
