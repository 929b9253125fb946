"""LOBSTER: a day of NASDAQ order messages with the venue's book after each, as a pair of CSV files in a zip.

Message types: 1 new order, 2 partial cancel, 3 delete, 4 execution of a visible order, 5 of a hidden
one (changes no book), 6 cross trade (changes no book), 7 trading halt. A file of N levels has only
the messages that touched the N best levels; what enters the view from beyond comes without a message.
Prices are in 1e-4 dollars, times in seconds since midnight.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.events import Instrument
from engine.feeds.files import Opening, open_zip, read_member
from engine.feeds.scan import read_table
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

TIME, TYPE, ID, SIZE, PRICE, DIRECTION = range(6)
ADD, PARTIAL_CANCEL, DELETE, EXECUTION, HIDDEN_EXECUTION, CROSS_TRADE, HALT_MESSAGE = range(1, 8)
NO_PRICE = 9_999_999_999
PRICE_UNIT_USD = 1e-4
DECIMALS = 9
NAME = re.compile(
    r"(?:.*/)?(?P<symbol>[^/_]+)_(?P<day>\d{4}-\d{2}-\d{2})_(?P<start>\d+)_(?P<end>\d+)"
    r"_(?P<what>message|orderbook)_(?P<levels>\d+)\.csv",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False, slots=True)
class LobsterDay:
    """One instrument's day.

    messages: int64 (n, 6) in the order of MESSAGE_COLUMNS, time in ns, prices in ticks (see
    `scale_to_ticks`); book: int64 (n, 4 * levels), per level ask price, ask size, bid price, bid
    size, prices in ticks, size 0 where there is no such level.
    """

    instrument: Instrument
    day: str
    start_ns: int
    end_ns: int
    levels: int
    messages: IntArray
    book: IntArray
    source: str
    skipped: int = 0  # lines left out, of either file with the other's at its place


def is_lobster(opening: Opening) -> bool:
    """Whether it is a zip with one of a day's files."""
    return any(NAME.fullmatch(name) for name in opening.members)


def read_lobster(path: Path) -> LobsterDay:
    """Read the one pair of message and order book file in a zip.

    A line that is not as expected is left out, counted and logged. DeskvigilError where there is no such
    pair or more than one, or where they have not as many lines.
    """
    with open_zip(path) as archive:
        found = {what: [m for m in map(NAME.fullmatch, archive.namelist()) if m and m["what"].lower() == what]
                 for what in ("message", "orderbook")}  # fmt: skip
        if len(found["message"]) != 1 or len(found["orderbook"]) != 1:
            raise DeskvigilError(
                f"{path.name}: expected one SYMBOL_DATE_START_END_message_N.csv and one ..._orderbook_N.csv, found "
                f"{len(found['message'])} and {len(found['orderbook'])} among {', '.join(archive.namelist()[:8]) or 'nothing'}"
            )
        message, orderbook = found["message"][0], found["orderbook"][0]
        levels = int(orderbook["levels"])
        if (message["symbol"], message["day"], message["levels"]) != (
            orderbook["symbol"],
            orderbook["day"],
            orderbook["levels"],
        ):
            raise DeskvigilError(f"{path.name}: {message[0]} and {orderbook[0]} do not belong together")
        if not 1 <= levels <= 1000:
            raise DeskvigilError(f"{path.name}: {levels} levels in {orderbook[0]}, expected 1 to 1000")
        messages = read_table(read_member(archive, message[0], path), message[0], (DECIMALS, 0, 0, 0, 0, 0))
        book = read_table(read_member(archive, orderbook[0], path), orderbook[0], (0,) * (4 * levels))
    totals = [len(table.rows) + len(table.bad) for table in (messages, book)]
    if totals[0] != totals[1] or not totals[0]:
        raise DeskvigilError(
            f"{path.name}: {totals[0]} rows in {message[0]} but {totals[1]} in {orderbook[0]}: expected as many, and some"
        )
    # A row without its counterpart says nothing.
    _, of_messages, of_book = np.intersect1d(messages.lines, book.lines, assume_unique=True, return_indices=True)
    if not len(of_messages):
        raise DeskvigilError(f"{path.name}: no line of {message[0]} and {orderbook[0]} is as expected")
    return _day(path, message, levels, messages.rows[of_messages], book.rows[of_book], totals[0] - len(of_messages))


def _day(
    path: Path, message: re.Match[str], levels: int, messages: IntArray, book: IntArray, skipped: int
) -> LobsterDay:
    tick = scale_to_ticks(messages, book)
    return LobsterDay(
        Instrument(message["symbol"], tick * PRICE_UNIT_USD),
        message["day"], int(message["start"]) * 1_000_000, int(message["end"]) * 1_000_000,
        levels, messages, book, f"LOBSTER {message['symbol']} {message['day']}", skipped,
    )  # fmt: skip


def scale_to_ticks(messages: IntArray, book: IntArray) -> int:
    """Turn prices into ticks in place, empty levels' sizes into 0; returns the tick in 1e-4 dollars.

    The tick is the largest step that all displayed prices of the book file are whole multiples of.
    A message's price off that grid becomes 0, which no order has (hidden executions: rounded down).
    """
    prices, sizes = book[:, 0::2], book[:, 1::2]
    empty = np.abs(prices) >= NO_PRICE
    prices[empty] = 0
    sizes[empty] = 0
    tick = max(int(np.gcd.reduce(prices, axis=None)), 1)
    prices //= tick
    halts = messages[:, TYPE] == HALT_MESSAGE  # their "price" is a code
    off_grid = (messages[:, TYPE] <= EXECUTION) & (messages[:, PRICE] % tick != 0)
    messages[:, PRICE] = np.where(halts, messages[:, PRICE], np.where(off_grid, 0, messages[:, PRICE] // tick))
    return tick
