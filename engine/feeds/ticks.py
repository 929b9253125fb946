"""Ticks: consolidated quotes and trades of US equities, in the CSV files that LEAN keeps (zipped).

`20131007_aig_Quote_Tick.csv`: ms since midnight, bid, bid size, ask, ask size, exchange, condition, suspicious;
`..._Trade_Tick.csv`: ms, price, size, exchange, condition, suspicious; prices in 1e-4 dollars, no header; the name
says day, symbol and kind. A recording is one such file, a zip with one or more, or a folder of those, of one day.

A quote replaces the touch of each side it names: the level of the one before is removed. Bid and ask of one
moment stand in two lines and are taken together; where only one is given and meets the other side's, that one
is void. Trades come before the quotes of their millisecond. A trade's side is that of the quote it is nearer
to; at mid, and where there are no quotes, a rise of the price is a purchase and a fall a sale.
"""

from __future__ import annotations

import logging
import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine import events as ev
from engine.book import apply_all, depth, make_books
from engine.events import LEVEL, TRADE, EventArray, Instrument, Tape, empty_events, empty_fills
from engine.feeds.files import Opening, open_zip, read_member, read_unpacked
from engine.feeds.result import Result
from engine.feeds.scan import TEXT, read_table
from engine.jit import kernel
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

LOG = logging.getLogger("deskvigil.engine.feeds")
NAME: Final = re.compile(
    r"(?:.*/)?(?P<day>\d{8})_(?P<symbol>[A-Za-z0-9.\-]+)_(?P<what>quote|trade)_tick\.csv(?:\.gz|\.xz)?", re.IGNORECASE
)
ZIP_NAME: Final = re.compile(r".*_(quote|trade)\.zip", re.IGNORECASE)
LINE: Final = re.compile(rb"\d+,\d+,\d+(,\d+,\d+)?,[A-Z]?,[^,]*,[01]")
QUOTE_COLUMNS: Final = (0, 0, 0, 0, 0, TEXT, TEXT, 0)
TRADE_COLUMNS: Final = (0, 0, 0, TEXT, TEXT, 0)
PRICE_UNIT_USD: Final = 1e-4
DAY_MS: Final = 86_400_000
MS: Final = 1_000_000
CHECK_EVERY: Final = 1000  # rows
IS_QUOTE, AT_MS, BID, BID_SIZE, ASK, ASK_SIZE = range(
    6
)  # columns of the merged rows; a trade's price and size lie in BID's
MERGED: Final = 6


@kernel
def touch_events(rows: IntArray, tick: int, out: IntArray, touches: IntArray) -> tuple[int, int]:
    """Turn one symbol's merged rows (see MERGED; n of them) into events.

    out: int64, shape (4 * n, 5): ms, kind, side, price in ticks, size. touches: int64, shape
    (n // CHECK_EVERY + 1, 5): every so often the events so far and bid, its size, ask, its size, 0
    where there is none. Returns how many of either were written.
    """
    count, checks, at, last, rising = 0, 0, 0, 0, 1
    price, size = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)  # bid, ask
    new_price, new_size = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    named = np.zeros(2, dtype=np.bool_)
    while at < len(rows):
        row = rows[at]
        ms = row[AT_MS]
        if row[IS_QUOTE] == 0:
            paid = row[BID]
            if paid != last:
                rising = 1 if paid > last else -1
            side = rising if last > 0 else 1
            if price[0] > 0 and price[1] > 0 and 2 * paid != price[0] + price[1]:
                side = 1 if 2 * paid > price[0] + price[1] else -1
            last = paid
            # Off the grid of the quotes a print counts as the worse price for who was resting.
            ticks = paid // tick if side > 0 else -(-paid // tick)
            out[count] = ms, TRADE, side, max(ticks, 1), row[BID_SIZE]
            count += 1
            at += 1
        else:
            both = (
                row[BID] > 0 and row[ASK] == 0 and at + 1 < len(rows) and rows[at + 1, IS_QUOTE] == 1
                and rows[at + 1, AT_MS] == ms and rows[at + 1, BID] == 0 and rows[at + 1, ASK] > 0
            )  # fmt: skip
            other = rows[at + 1] if both else row
            named[0], named[1] = row[BID] > 0, other[ASK] > 0
            new_price[0], new_size[0] = (row[BID], row[BID_SIZE]) if named[0] else (price[0], size[0])
            new_price[1], new_size[1] = (other[ASK], other[ASK_SIZE]) if named[1] else (price[1], size[1])
            for k in range(2):
                if new_size[k] == 0:
                    new_price[k] = 0
            if new_price[0] > 0 and new_price[1] > 0 and new_price[0] >= new_price[1]:
                together = named[0] == named[1]
                for k in range(2):
                    if together or not named[k]:
                        new_price[k] = new_size[k] = 0
            for k in range(2):
                if price[k] > 0 and new_price[k] != price[k]:
                    out[count] = ms, LEVEL, 1 - 2 * k, price[k] // tick, 0
                    count += 1
            for k in range(2):
                if new_price[k] > 0 and (new_price[k] != price[k] or new_size[k] != size[k]):
                    out[count] = ms, LEVEL, 1 - 2 * k, new_price[k] // tick, new_size[k]
                    count += 1
                price[k], size[k] = new_price[k], new_size[k]
            at += 2 if both else 1
        if at >= (checks + 1) * CHECK_EVERY or at == len(rows):
            touches[checks] = count, price[0] // tick, size[0], price[1] // tick, size[1]
            checks += 1
    return count, checks


@dataclass(frozen=True, eq=False, slots=True)
class Ticks:
    """A recording. events: dtype EVENT, t_ns since midnight; touches: per instrument int64 (n, 5), see
    `touch_events`, its events counted among the instrument's own; skipped: lines left out.
    """

    name: str
    day: str
    instruments: tuple[Instrument, ...]
    events: EventArray
    touches: tuple[IntArray, ...]
    skipped: int

    def tape(self) -> Tape:
        """The recording as a tape of price levels and prints."""
        t_ns = self.events["t_ns"]
        return Tape(
            instruments=self.instruments, events=self.events, simulated_market=False, source=f"ticks {self.day}",
            start_ns=int(t_ns[0]), end_ns=int(t_ns[-1]), level_book=True,
        )  # fmt: skip


def read_ticks(path: Path) -> Ticks:
    """Read a file, a zip or a folder of quote and trade ticks.

    A line that is not as expected is left out and counted. DeskvigilError where there is no such file, or
    none with a tick, or where they are of several days.
    """
    merged: dict[str, list[IntArray]] = {}
    days: set[str] = set()
    skipped = 0
    for name, data in _files_of(path):
        found = NAME.fullmatch(name)
        if found is None:
            raise DeskvigilError(f"{path.name}: expected DAY_SYMBOL_Quote_Tick.csv or ..._Trade_Tick.csv, found {name}")
        rows, left_out = _read_rows(name, data, quotes=found["what"].lower() == "quote")
        merged.setdefault(found["symbol"].upper(), []).append(rows)
        days.add(found["day"])
        skipped += left_out
    if len(days) != 1 or not any(len(rows) for parts in merged.values() for rows in parts):
        what = f"files of {', '.join(sorted(days))}" if len(days) > 1 else "none"
        raise DeskvigilError(f"{path.name}: expected quote or trade ticks of one day, found {what}")
    instruments, parts, touches = [], [], []
    for i, symbol in enumerate(sorted(merged)):
        rows = np.concatenate(merged[symbol])
        rows = rows[np.lexsort((rows[:, IS_QUOTE], rows[:, AT_MS]))]  # stable: lines of a moment keep their order
        tick = _tick_of(rows)
        table = np.empty((4 * len(rows), 5), dtype=np.int64)
        touch = np.empty((len(rows) // CHECK_EVERY + 1, 5), dtype=np.int64)
        count, checks = touch_events(rows, tick, table, touch)
        instruments.append(Instrument(symbol, tick * PRICE_UNIT_USD))
        parts.append(_as_events(table[:count], i))
        touches.append(touch[:checks])
    events = np.concatenate(parts)
    if len(parts) > 1:
        events = events[np.argsort(events["t_ns"], kind="stable")]
    return Ticks(path.name, days.pop(), tuple(instruments), events, tuple(touches), skipped)


def _files_of(path: Path) -> list[tuple[str, bytes]]:
    """Names and contents of the CSV files."""
    if path.is_dir():
        inside = sorted(
            entry for entry in path.iterdir() if ZIP_NAME.fullmatch(entry.name) or NAME.fullmatch(entry.name)
        )
        return [file for entry in inside for file in _files_of(entry)]
    if not zipfile.is_zipfile(path):
        return [(path.name, read_unpacked(path))]
    with open_zip(path) as archive:
        names = [name for name in archive.namelist() if NAME.fullmatch(name)]
        if not names:
            raise DeskvigilError(f"{path.name}: expected a ..._Quote_Tick.csv or ..._Trade_Tick.csv in it, found none")
        return [(name, read_member(archive, name, path)) for name in names]


def _read_rows(name: str, data: bytes, quotes: bool) -> tuple[IntArray, int]:
    """Merged rows of one file and how many lines were left out; those marked suspicious are left out too."""
    read = read_table(data, name, QUOTE_COLUMNS if quotes else TRADE_COLUMNS)
    table = read.rows
    values = table[:, 1:5] if quotes else table[:, 1:3]
    sound = (table[:, 0] < DAY_MS) & (values <= ev.MAX_QTY_LOTS).all(axis=1) & (table[:, -1] == 0)
    sound &= (table >= 0).all(axis=1)
    sound &= (values[:, 0::2] > 0).any(axis=1) if quotes else (values > 0).all(axis=1)
    unsound = int(np.count_nonzero(~sound))
    if unsound:
        LOG.warning("%s: %d rows skipped that are suspicious or mean nothing", name, unsound)
    table = table[sound]
    rows = np.zeros((len(table), MERGED), dtype=np.int64)
    rows[:, IS_QUOTE], rows[:, AT_MS] = quotes, table[:, 0]
    rows[:, BID : ASK_SIZE + 1 if quotes else ASK] = table[:, 1:5] if quotes else table[:, 1:3]
    return rows, len(read.bad) + unsound


def _tick_of(rows: IntArray) -> int:
    """The largest step that all quotes (without any: all trades) are multiples of, in 1e-4 dollars."""
    quotes = rows[rows[:, IS_QUOTE] == 1]
    prices = quotes[:, (BID, ASK)] if len(quotes) else rows[:, BID]
    return max(int(np.gcd.reduce(prices, axis=None)), 1)


def _as_events(table: IntArray, instrument: int) -> EventArray:
    events = empty_events(len(table))
    events["t_ns"] = table[:, 0] * MS
    for column, name in enumerate(("kind", "side", "price", "qty"), start=1):
        events[name] = table[:, column]
    events["instrument"] = instrument
    return events


def is_ticks(opening: Opening) -> bool:
    """Whether such files are in it, or it begins as one."""
    inside = any(NAME.fullmatch(name) or ZIP_NAME.fullmatch(name) for name in opening.members)
    return inside or (not opening.members and LINE.fullmatch(opening.line) is not None)


def load(path: Path) -> Tape:
    """A recording as a tape."""
    return read_ticks(path).tape()


def prove(path: Path, _: Path | None) -> Result:
    """Replay a recording; every so often the compiled book's best levels are compared with the last quotes."""
    ticks = read_ticks(path)
    books = make_books(len(ticks.instruments), level_book=True)
    started = time.perf_counter()
    rows = mismatches = 0
    for i, touches in enumerate(ticks.touches):
        own = ticks.events[ticks.events["instrument"] == i] if len(ticks.touches) > 1 else ticks.events
        at = 0
        for count, *touch in touches.tolist():
            apply_all(books, own[at:count], empty_fills(0))
            at = count
            mismatches += _touch(books, i) != touch
        rows += len(touches)
    return Result(
        events=len(ticks.events), seconds=time.perf_counter() - started,
        fills=int(np.count_nonzero(ticks.events["kind"] == TRADE)), book_rows_checked=rows, mismatches=mismatches,
        skipped_lines=ticks.skipped,
    )  # fmt: skip


def _touch(books: Any, i: int) -> list[int]:
    """Bid, its size, ask, its size; the only levels there are."""
    prices, quantities = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    found: list[int] = []
    for side in (1, -1):
        there = depth(books, i, side, prices, quantities)
        found += [int(prices[0]), int(quantities[0])] if there == 1 else [0, 0] if there == 0 else [0, -1]
    return found
