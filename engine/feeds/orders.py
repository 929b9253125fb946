"""Orders: plain order flow as CSV, `ts_ns,order_id,kind,side,price,qty`, and the fills it gives.

kind: limit, reduce (qty is the amount taken off), cancel, ioc (no order id; price 0 or empty: at any
price); side: buy or sell; price in whole ticks, 1e-4 dollars in the recorded files. Compressed or not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.events import CANCEL, EVENT, IOC, LIMIT, REDUCE, EventArray, FillArray, Instrument, Tape, empty_events
from engine.feeds.files import read_unpacked
from engine.feeds.scan import COMMA, NEWLINE, RETURN, ByteArray, count_lines, line_text, read_decimal
from engine.jit import inline_kernel, kernel
from metrics.errors import DeskvigilError

HEADER = b"ts_ns,order_id,kind,side,price,qty"
FILLS_HEADER = "row,resting_order_id,qty,price"
COLUMNS = (
    "ts_ns",
    "order_id",
    "kind (limit, reduce, cancel or ioc)",
    "side (buy or sell)",
    "price",
    "qty",
    "six columns",
)
PRICE_UNIT_USD = 1e-4
_WORDS = 6


@inline_kernel
def _word_length(text: ByteArray, at: int, end: int) -> int:
    k = at
    while k < end and text[k] != COMMA and text[k] != NEWLINE and text[k] != RETURN:
        k += 1
    return k - at


@inline_kernel
def _kind_of(text: ByteArray, at: int, length: int) -> int:
    """LIMIT, REDUCE, CANCEL, IOC or 0, by first letter and length of the word (checked in full by the last letter)."""
    first, last = text[at], text[at + length - 1]
    if length == 5 and first == ord("l") and last == ord("t"):
        return LIMIT
    if length == 6 and first == ord("r") and last == ord("e"):
        return REDUCE
    if length == 6 and first == ord("c") and last == ord("l"):
        return CANCEL
    if length == 3 and first == ord("i") and last == ord("c"):
        return IOC
    return 0


@inline_kernel
def _side_of(text: ByteArray, at: int, length: int) -> int:
    if length == 3 and text[at] == ord("b") and text[at + 2] == ord("y"):
        return 1
    if length == 4 and text[at] == ord("s") and text[at + 3] == ord("l"):
        return -1
    return 0


@kernel
def scan_orders(text: ByteArray, out: EventArray) -> tuple[int, int]:
    """Read lines into events; returns (rows, -1), or (0-based line, column) of the first thing not as expected."""
    at, row, line, end = 0, 0, 0, len(text)
    while at < end:
        if text[at] == NEWLINE or text[at] == RETURN:
            line += text[at] == NEWLINE
            at += 1
            continue
        event = out[row]
        for column in range(_WORDS):
            length = _word_length(text, at, end)
            value = 0
            if column == 2:
                value = _kind_of(text, at, length) if length > 0 else 0
                event.kind = value
            elif column == 3:
                value = _side_of(text, at, length) if length > 0 else 0
                event.side = value
            elif length > 0:
                value, after = read_decimal(text, at, end, 0)
                if after != at + length or value < 0:
                    return line, column
            elif column == 0 or column == 5:
                return line, column
            if (column == 2 or column == 3) and value == 0:
                return line, column
            if column == 0:
                event.t_ns = value
            elif column == 1:
                event.order_id = value
            elif column == 4:
                event.price = value
            elif column == 5:
                event.qty = value
            at += length
            if column < _WORDS - 1:
                if at >= end or text[at] != COMMA:
                    return line, column + 1
                at += 1
        if at < end and text[at] == COMMA:
            return line, _WORDS
        row += 1
    return row, -1


def read_orders(path: Path) -> EventArray:
    """The events of a file, in its units; DeskvigilError names file, line and column of what is wrong."""
    data = read_unpacked(path)
    header, _, body = data.partition(b"\n")
    if header.strip() != HEADER:
        raise DeskvigilError(
            f"{path.name}, line 1: expected {HEADER.decode()!r}, found {header[:80].decode('ascii', 'replace')!r}"
        )
    text = np.frombuffer(body, dtype=np.uint8)
    events = empty_events(count_lines(text))
    row, column = scan_orders(text, events)
    if column >= 0:
        raise DeskvigilError(f"{path.name}, line {row + 2}: expected {COLUMNS[column]}, found {line_text(body, row)!r}")
    return events[:row]


def orders_tape(path: Path) -> Tape:
    """A file as a tape; the tick is the largest that all prices are whole multiples of."""
    events = read_orders(path)
    if len(events) == 0:
        raise DeskvigilError(f"{path.name}: no orders in it")
    back = np.flatnonzero(np.diff(events["t_ns"]) < 0)
    if len(back):
        raise DeskvigilError(f"{path.name}, line {back[0] + 3}: expected a ts_ns not before the line above")
    tick = max(int(np.gcd.reduce(events["price"])), 1)
    events["price"] //= tick
    start, end = int(events["t_ns"][0]), int(events["t_ns"][-1]) + 1
    symbol = path.name.split("_")[0].split(".")[0]
    return Tape((Instrument(symbol, tick * PRICE_UNIT_USD),), events, False, f"orders {path.name}", start, end)


def fills_crc32(fills: FillArray) -> int:
    """CRC-32 over (row, resting order id, qty) of each fill as little-endian int64; row = sequence - 1."""
    import zlib

    triples = np.column_stack((fills["sequence"] - 1, fills["maker_id"], fills["qty"])).astype("<i8")
    return zlib.crc32(triples.tobytes())
