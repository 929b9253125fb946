"""Orders: plain order flow as a CSV file, and the fills that strict price-time priority gives for it.

`ts_ns,order_id,kind,side,price,qty`: kind limit, reduce (qty is the amount taken off), cancel or ioc (the
aggressor, which needs no id); side buy or sell; price in 1e-4 dollars. The fills go out as
`row,resting_order_id,qty,price`, row being the 0-based data row of the aggressor.
"""

from __future__ import annotations

import logging
import re
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from engine import events as ev
from engine.book import apply_all, make_books
from engine.events import EventArray, Instrument, Tape, empty_events, empty_fills
from engine.feeds.files import Opening, read_unpacked
from engine.feeds.result import Result
from engine.feeds.scan import read_table
from engine.feeds.times import in_order
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

LOG = logging.getLogger("deskvigil.engine.feeds")
HEADER: Final = b"ts_ns,order_id,kind,side,price,qty"
COLUMNS: Final = ("ts_ns", "order_id", "kind", "side", "price", "qty")
KINDS: Final = {b"limit": ev.LIMIT, b"reduce": ev.REDUCE, b"cancel": ev.CANCEL, b"ioc": ev.IOC}
SIDES: Final = {b"buy": 1, b"sell": -1}
LINE: Final = re.compile(rb"\d{1,18},\d{0,18},(?:limit|reduce|cancel|ioc),(?:buy|sell),\d{1,18},\d{1,18}")
PRICE_UNIT_USD: Final = 1e-4
FILLS_HEADER: Final = "row,resting_order_id,qty,price"
MAX_BOOK: Final = 1 << 22  # orders that may rest at a time


@dataclass(frozen=True, eq=False, slots=True)
class OrderFile:
    """Order flow of one instrument.

    events: dtype EVENT; rows: int64, the 0-based data row of each; tick: in units of 1e-4 dollars; skipped:
    lines left out.
    """

    name: str
    symbol: str
    tick: int
    events: EventArray
    rows: IntArray
    skipped: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class OrderFills:
    """What the flow traded, in order: row, resting_order_id, qty, price (1e-4 dollars), int64, shape (fills,)."""

    row: IntArray
    resting_order_id: IntArray
    qty: IntArray
    price: IntArray

    def crc32(self) -> int:
        """CRC32 of (row, resting_order_id, qty) as little-endian int64 triples."""
        return zlib.crc32(np.column_stack((self.row, self.resting_order_id, self.qty)).astype("<i8").tobytes())

    def write(self, path: Path) -> None:
        """Write the fills as CSV with a header."""
        table = np.column_stack((self.row, self.resting_order_id, self.qty, self.price))
        lines = "\n".join(map(",".join, table.astype(str).tolist()))
        path.write_text(f"{FILLS_HEADER}\n{lines}\n" if lines else f"{FILLS_HEADER}\n", encoding="ascii")


def is_orders(opening: Opening) -> bool:
    """Whether it begins with the header."""
    return opening.line == HEADER


def read_orders(path: Path) -> OrderFile:
    """Read an order file, plain, .gz or .xz.

    A line that is not as expected is left out, counted and logged. DeskvigilError where the header is another
    or no line is an order.
    """
    header, _, body = read_unpacked(path).replace(b"\r\n", b"\n").partition(b"\n")
    if header.strip() != HEADER:
        raise DeskvigilError(f"{path.name}, line 1: expected the header {HEADER.decode()}, found {header[:60]!r}")
    lines = body.split(b"\n")
    # Words become numbers first, so that one compiled parser reads it all; what is no order becomes a word.
    sound = [line.strip() if LINE.fullmatch(line.strip()) else b"?" * bool(line.strip()) for line in lines]
    numbers = b"\n".join(sound).replace(b",,ioc,", b",0,ioc,")
    for words in (KINDS, SIDES):
        for word, number in words.items():
            numbers = numbers.replace(b",%s," % word, b",%d," % number)
    read = read_table(numbers, path.name, (0,) * len(COLUMNS))
    kept = _sound_rows(read.rows)
    left_out = np.sort(np.concatenate((read.bad, read.lines[~kept])))
    first = f"line {left_out[0] + 2}: {lines[left_out[0]][:80]!r}" if len(left_out) else ""
    if not kept.any():
        raise DeskvigilError(f"{path.name}, line 2: expected an order, found {first or 'the end of the file'}")
    if first:
        LOG.warning("%s: %d lines skipped, the first: %s", path.name, len(left_out), first)
    table = read.rows[kept]
    tick = max(int(np.gcd.reduce(table[:, 4])), 1)
    events = empty_events(len(table))
    for column, name in enumerate(("t_ns", *COLUMNS[1:])):
        events[name] = table[:, column] // tick if name == "price" else table[:, column]
    symbol = path.name.replace(".", "_").split("_")[0] or "?"
    return OrderFile(path.name, symbol, tick, events, read.lines[kept], len(left_out))


def _sound_rows(table: IntArray) -> npt.NDArray[np.bool_]:
    """Which rows mean something: numbers in range, and times that do not fall."""
    t_ns, order_id, kind, _, price, qty = table.T
    named = kind != ev.IOC
    sound = (order_id <= ev.MAX_VENUE_ID) & ((order_id > 0) | ~named)
    sound &= (price <= ev.MAX_PRICE_TICKS) & ((price > 0) | ~named)
    sound &= (qty <= ev.MAX_QTY_LOTS) & ((qty > 0) | (kind == ev.CANCEL))
    rows = np.flatnonzero(sound)
    sound[rows[~in_order(t_ns[rows])]] = False
    return np.asarray(sound, dtype=np.bool_)


def match_orders(orders: OrderFile) -> OrderFills:
    """Match the flow by strict price-time priority.

    DeskvigilError where more than `MAX_BOOK` orders could rest at a time.
    """
    limits = int(np.count_nonzero(orders.events["kind"] == ev.LIMIT))
    if limits > MAX_BOOK:
        raise DeskvigilError(f"{orders.name}: {limits} limit orders, expected at most {MAX_BOOK}")
    # Each fill takes the last of a resting order or of an aggressor.
    fills = empty_fills(2 * len(orders.events))
    count = apply_all(make_books(1, max_orders=max(limits, 16), max_fills=max(limits, 16)), orders.events, fills)
    fills = fills[:count]
    return OrderFills(
        orders.rows[fills["sequence"] - 1], fills["maker_id"].copy(), fills["qty"].copy(), fills["price"] * orders.tick
    )


def orders_tape(orders: OrderFile) -> Tape:
    """The flow as a tape; the symbol is the file name's first part."""
    t_ns = orders.events["t_ns"]
    return Tape(
        instruments=(Instrument(orders.symbol, orders.tick * PRICE_UNIT_USD),), events=orders.events,
        simulated_market=False, source="orders", start_ns=int(t_ns[0]), end_ns=int(t_ns[-1]),
    )  # fmt: skip


def load(path: Path) -> Tape:
    """An order file as a tape."""
    return orders_tape(read_orders(path))


def prove(path: Path, fills_out: Path | None) -> Result:
    """Match an order file; its fills go to `fills_out`."""
    orders = read_orders(path)
    started = time.perf_counter()
    fills = match_orders(orders)
    seconds = time.perf_counter() - started
    if fills_out is not None:
        fills.write(fills_out)
    return Result(
        events=len(orders.events),
        seconds=seconds,
        fills=len(fills.row),
        fills_crc32=fills.crc32(),
        skipped_lines=orders.skipped,
    )
