"""Capture: a recorded file of a venue's messages, through its decoder, as the events of a tape.

The file as a whole gives what a socket cannot: ticks and lots are the largest steps that every recorded
price and quantity is a multiple of. What the venue says its best levels are is kept beside the events
and compared with the compiled book.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from engine import events as ev
from engine.book import Books, apply_all, depth, make_books
from engine.events import MAX_PRICE_TICKS, EventArray, Instrument, Tape, empty_events, empty_fills
from engine.feeds.decimals import UNIT, Increments, increments_of
from engine.feeds.decoder import Check, FeedCounters, MessageDecoder, Update
from engine.feeds.files import read_unpacked
from engine.feeds.result import Result
from engine.feeds.times import in_order
from metrics.errors import DeskvigilError

LOG = logging.getLogger("deskvigil.engine.feeds")
MAX_LEVELS: Final = 1 << 20
MAX_DISTANCE_NS: Final = 7 * 86_400 * 10**9  # a time further than this from the others is a damaged one


class Origin(Enum):
    """What a line of a capture is."""

    RECEIVED = "received"
    ANSWER = "answer"  # to a REST request
    CONNECTED = "connected"
    OURS = "ours"  # what the recorder sent or noted
    DAMAGED = "damaged"


class Envelope(NamedTuple):
    """A line of a capture, taken apart; t_ns since the epoch, 0 where the line has no time."""

    origin: Origin
    t_ns: int
    message: bytes


@dataclass(frozen=True, eq=False, slots=True)
class Capture:
    """A capture. events: dtype EVENT, kinds as the venue's decoder gives them; checks: with `after` counted
    from the first event, prices and quantities in ticks and lots (-1: not said).
    """

    name: str
    source: str
    instruments: tuple[Instrument, ...]
    events: EventArray
    checks: list[Check]
    counters: FeedCounters
    start_ns: int
    end_ns: int
    level_book: bool

    def tape(self) -> Tape:
        """The capture as a tape."""
        return Tape(
            instruments=self.instruments, events=self.events, simulated_market=False, source=self.source,
            start_ns=self.start_ns, end_ns=self.end_ns, level_book=self.level_book,
        )  # fmt: skip


def ns_json(line: bytes) -> Envelope:
    """A line `ns json`. ValueError where it is none."""
    stamp, _, message = line.partition(b" ")
    if not (stamp.isdigit() and len(stamp) <= 19):
        raise ValueError("expected 'ns json'")
    return Envelope(Origin.RECEIVED, int(stamp), message)


def cryptofeed(line: bytes) -> Envelope:
    """A line of a raw file of cryptofeed's: `seconds: json` as received, `url -> seconds: json` an answer,
    `url <- seconds: json` what was sent, `url <-> seconds` a connection, `configuration: json`. ValueError
    where it is none.
    """
    first, _, rest = line.partition(b" ")
    if first == b"configuration:":
        return Envelope(Origin.OURS, 0, rest)
    if first.endswith(b":"):
        return Envelope(Origin.RECEIVED, _seconds(first[:-1]), rest)
    arrow, _, rest = rest.partition(b" ")
    if arrow == b"<->":
        return Envelope(Origin.CONNECTED, _seconds(rest.strip()), b"")
    stamp, _, message = rest.partition(b": ")
    if arrow not in (b"->", b"<-"):
        raise ValueError("expected 'seconds: json'")
    return Envelope(Origin.ANSWER if arrow == b"->" else Origin.OURS, _seconds(stamp), message)


def _seconds(stamp: bytes) -> int:
    whole, _, fraction = stamp.partition(b".")
    if not (whole.isdigit() and len(whole) <= 10 and (fraction.isdigit() or not fraction)):
        raise ValueError("expected seconds since 1970")
    return int(whole) * 10**9 + int(fraction[:9].ljust(9, b"0"))


def read_capture(path: Path, source: str, split: Callable[[bytes], Envelope], decoder: MessageDecoder) -> Capture:
    """Read a capture, plain, .gz or .xz.

    A line that is not as expected is counted and skipped. DeskvigilError where no line gives an update.
    """
    lines = _lines_of(path, split)
    updates: list[Update] = []
    checks: list[Check] = []
    start_ns = t_ns = lines[0].t_ns if lines else 0
    for number, text, t_ns, origin, message in lines:
        before = len(updates)
        if origin is Origin.RECEIVED:
            decoder.line = number - 1
            updates += decoder.decode(message, t_ns)
            checks += [check._replace(after=before + check.after) for check in decoder.checks]
        elif origin is Origin.CONNECTED:
            updates += decoder.connected(t_ns)
        elif origin is Origin.ANSWER:
            decoder.learn(message)
        elif origin is Origin.DAMAGED:
            decoder.counters.skip(number, text)
    skipped = decoder.counters.skipped_words()
    if not updates:
        words = f"; {skipped}" if skipped else ""
        raise DeskvigilError(f"{path.name}: expected a {source} capture with a snapshot and updates, found none{words}")
    if skipped:
        LOG.warning("%s: %s", path.name, skipped)
    found = _increments(updates, decoder)
    instruments = tuple(
        Instrument(symbol, found[i].tick / UNIT, found[i].lot / UNIT) for i, symbol in enumerate(decoder.symbols)
    )
    return Capture(
        path.name, source, instruments, _events_of(updates, found), [_scaled(check, found) for check in checks],
        decoder.counters, start_ns, t_ns, decoder.level_book,
    )  # fmt: skip


class _Line(NamedTuple):
    number: int
    text: bytes
    t_ns: int
    origin: Origin
    message: bytes


def _lines_of(path: Path, split: Callable[[bytes], Envelope]) -> list[_Line]:
    """The lines that are not empty, with times that never fall.

    A line whose time is far from the others' is damaged; one that changed places, or has no time, takes
    that of the line above.
    """
    lines: list[_Line] = []
    for number, raw in enumerate(read_unpacked(path).split(b"\n"), start=1):
        if text := raw.strip():
            try:
                origin, t_ns, message = split(text)
            except ValueError:
                origin, t_ns, message = Origin.DAMAGED, 0, b""
            lines.append(_Line(number, text, t_ns, origin, message))
    about_ns = statistics.median_low([line.t_ns for line in lines if line.t_ns] or [0])
    far = [bool(line.t_ns) and abs(line.t_ns - about_ns) > MAX_DISTANCE_NS for line in lines]
    timed = [k for k, line in enumerate(lines) if line.t_ns and not far[k]]
    kept = in_order(np.array([lines[k].t_ns for k in timed], dtype=np.int64)).tolist()
    fitting = [k for k, fits in zip(timed, kept, strict=True) if fits]
    t_ns = lines[fitting[0]].t_ns if fitting else 0
    marks = set(fitting)
    for k, line in enumerate(lines):
        t_ns = line.t_ns if k in marks else t_ns
        lines[k] = line._replace(t_ns=t_ns, origin=Origin.DAMAGED if far[k] else line.origin)
    return lines


def _increments(updates: list[Update], decoder: MessageDecoder) -> list[Increments]:
    """Tick and lot of each instrument, the largest that fit all of its values."""
    prices: list[set[int]] = [set() for _ in decoder.symbols]
    quantities: list[set[int]] = [set() for _ in decoder.symbols]
    for update in updates:
        prices[update.instrument].add(update.price)
        quantities[update.instrument].add(update.qty)
    return [increments_of(*values) for values in zip(prices, quantities, strict=True)]


def _events_of(updates: list[Update], found: list[Increments]) -> EventArray:
    events = empty_events(len(updates))
    for column in ("t_ns", "instrument", "kind", "side", "order_id"):
        events[column] = [getattr(update, column) for update in updates]
    # A price out of the book's range is refused by the book, and counted there.
    events["price"] = [min(u.price // found[u.instrument].tick, MAX_PRICE_TICKS + 1) for u in updates]
    events["qty"] = [found[u.instrument].lots(u.qty) for u in updates]
    return events


def _scaled(check: Check, found: list[Increments]) -> Check:
    steps = found[check.instrument]
    bids, asks = (
        tuple((price // steps.tick, qty if qty < 0 else steps.lots(qty)) for price, qty in side)
        for side in (check.bids, check.asks)
    )
    return check._replace(bids=bids, asks=asks)


class CaptureCheck(NamedTuple):
    """Comparisons of the venue's best levels with the compiled book's, and how many failed.

    mismatches is over all of them, also those the venue gave before the book stood there; where it gave
    all too early (slow depth streams), those are what `rows` counts.
    """

    rows: int
    mismatches: int


def check_capture(capture: Capture) -> CaptureCheck:
    """Apply a capture to books and compare them with what the venue said."""
    books = make_books(max(len(capture.instruments), 1), max_orders=MAX_LEVELS, level_book=capture.level_book)
    no_fills = empty_fills(0)
    deepest = max([1, *(len(side) for check in capture.checks for side in (check.bids, check.asks))])
    rooms = np.zeros(deepest, dtype=np.int64), np.zeros(deepest, dtype=np.int64)
    at = mismatches = 0
    for check in capture.checks:
        apply_all(books, capture.events[at : check.after], no_fills)
        at = check.after
        sides = ((1, check.bids), (-1, check.asks))
        mismatches += not all(_agrees(books, check.instrument, side, said, rooms) for side, said in sides)
    apply_all(books, capture.events[at:], no_fills)
    return CaptureCheck(sum(check.on_time for check in capture.checks) or len(capture.checks), mismatches)


def _agrees(
    books: Books, i: int, side: int, said: tuple[tuple[int, int], ...], rooms: tuple[np.ndarray, np.ndarray]
) -> bool:
    """Whether a side of the book begins with these levels; no levels at all: it must be empty."""
    prices, quantities = rooms
    wanted = max(len(said), 1)
    there = depth(books, i, side, prices[:wanted], quantities[:wanted])
    levels = zip(prices[:there].tolist(), quantities[:there].tolist(), strict=True)
    return there == len(said) and all(
        price == said_price and said_qty in (-1, qty)
        for (price, qty), (said_price, said_qty) in zip(levels, said, strict=True)
    )


def prove_capture(capture: Capture) -> Result:
    """Replay a capture and say how it compares with the venue."""
    started = time.perf_counter()
    found = check_capture(capture)
    counters = capture.counters
    return Result(
        events=len(capture.events), seconds=time.perf_counter() - started,
        fills=int(np.count_nonzero(np.isin(capture.events["kind"], (ev.TRADE, ev.EXECUTE)))), book_rows_checked=found.rows,
        mismatches=found.mismatches, checksums_ok=counters.checksums_ok, checksums_bad=counters.checksums_bad,
        gaps=counters.gaps, skipped_lines=counters.skipped,
    )  # fmt: skip
