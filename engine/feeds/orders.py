"""Orders: plain order flow as a CSV file, and the fills that strict price-time priority gives for it.

`ts_ns,order_id,kind,side,price,qty`: kind limit, reduce (qty is the amount taken off), cancel or ioc (the
aggressor, which needs no id); side buy or sell; price in 1e-4 dollars. The fills go out as
`row,resting_order_id,qty,price`, row being the 0-based data row of the aggressor.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from engine import events as ev
from engine.book import apply_all, make_books
from engine.events import EventArray, Instrument, Tape, empty_events, empty_fills
from engine.feeds.files import Opening, read_unpacked
from engine.feeds.result import Result
from engine.feeds.scan import read_table
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

HEADER: Final = b"ts_ns,order_id,kind,side,price,qty"
COLUMNS: Final = ("ts_ns", "order_id", "kind", "side", "price", "qty")
KINDS: Final = {b"limit": ev.LIMIT, b"reduce": ev.REDUCE, b"cancel": ev.CANCEL, b"ioc": ev.IOC}
SIDES: Final = {b"buy": 1, b"sell": -1}
PRICE_UNIT_USD: Final = 1e-4
FILLS_HEADER: Final = "row,resting_order_id,qty,price"
MAX_BOOK: Final = 1 << 22  # orders that may rest at a time


@dataclass(frozen=True, eq=False, slots=True)
class OrderFile:
    """Order flow of one instrument: events, dtype EVENT, one a data row; tick: in units of 1e-4 dollars."""

    name: str
    symbol: str
    tick: int
    events: EventArray


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
    """Read an order file, plain, .gz or .xz. DeskvigilError names the line that is not as expected."""
    data = read_unpacked(path).replace(b"\r\n", b"\n")
    header, _, body = data.partition(b"\n")
    if header.strip() != HEADER:
        raise DeskvigilError(f"{path.name}, line 1: expected the header {HEADER.decode()}, found {header[:60]!r}")
    # Words become numbers first, so that one compiled parser reads it all.
    rows = body.replace(b",,ioc,", b",0,ioc,")
    lines = sum(1 for line in body.split(b"\n") if line.strip())
    for place, words in (("kind", KINDS), ("side", SIDES)):
        known = sum(rows.count(b",%s," % word) for word in words)
        if known != lines:
            raise _unknown_word(path.name, body, COLUMNS.index(place), tuple(words))
        for word, number in words.items():
            rows = rows.replace(b",%s," % word, b",%d," % number)
    # The header keeps its line as an empty one, so that line numbers in errors are the file's.
    table = read_table(b"\n" + rows, path.name, COLUMNS, (0,) * len(COLUMNS))
    _check_rows(path.name, table)
    tick = max(int(np.gcd.reduce(table[:, 4])), 1)
    events = empty_events(len(table))
    for column, name in enumerate(("t_ns", "order_id", "kind", "side", "price", "qty")):
        events[name] = table[:, column] // tick if name == "price" else table[:, column]
    return OrderFile(path.name, path.name.replace(".", "_").split("_")[0] or "?", tick, events)


def _unknown_word(name: str, body: bytes, column: int, words: tuple[bytes, ...]) -> DeskvigilError:
    """The error for the first line whose kind or side is no known word."""
    expected = ", ".join(word.decode() for word in words)
    for number, line in enumerate(body.split(b"\n"), start=2):
        cells = line.split(b",")
        if line.strip() and (len(cells) != len(COLUMNS) or cells[column] not in words):
            where = f"{name}, line {number}, column {column + 1} ({COLUMNS[column]})"
            return DeskvigilError(f"{where}: expected {expected}, found {line[:80]!r}")
    return DeskvigilError(f"{name}: expected one of {expected} a line, in column {column + 1}")


def _check_rows(name: str, table: IntArray) -> None:
    """Refuse rows with values that mean nothing; names the first one's line."""
    if not len(table):
        raise DeskvigilError(f"{name}, line 2: expected an order, found the end of the file")
    t_ns, order_id, kind, _, price, qty = table.T
    named = kind != ev.IOC
    for bad, expected in (
        (np.diff(t_ns, prepend=t_ns[0]) < 0, "a ts_ns not before the line above"),
        ((named & (order_id <= 0)) | (order_id > ev.MAX_VENUE_ID) | (order_id < 0), "an order_id above 0"),
        ((price < 0) | (price > ev.MAX_PRICE_TICKS) | (named & (price == 0)), "a price above 0"),
        (((kind != ev.CANCEL) & (qty <= 0)) | (qty < 0) | (qty > ev.MAX_QTY_LOTS), "a qty above 0"),
    ):
        if bad.any():
            raise DeskvigilError(f"{name}, line {int(np.argmax(bad)) + 2}: expected {expected}")


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
        fills["sequence"] - 1, fills["maker_id"].copy(), fills["qty"].copy(), fills["price"] * orders.tick
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
    return Result(events=len(orders.events), seconds=seconds, fills=len(fills.row), fills_crc32=fills.crc32())
