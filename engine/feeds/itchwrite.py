"""ITCH write: TotalView-ITCH 5.0 messages from arrays, and whole days from tapes of orders, such as LOBSTER recordings.

A day has what a venue's has around its orders: system events, the directory, and each stock's trading action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.events import CANCEL, EXECUTE, HALT, HIDDEN, LIMIT, REDUCE, RESUME, EventArray, Tape
from engine.feeds.itchtable import MESSAGES, NUMBER
from engine.feeds.published import published
from engine.feeds.scan import ByteArray
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

PRICE_UNIT_USD: Final = 1e-4
MAX_SHARES: Final = (1 << 32) - 1
MAX_PRICE: Final = (1 << 32) - 1
MAX_STOCKS: Final = (1 << 16) - 2
OPENING_RANK, EVENT_RANK, CLOSING_RANK = 0, 1 << 20, 1 << 40  # places among the messages of one time

Column = IntArray | npt.NDArray[np.bytes_] | str | int


class Batch(NamedTuple):
    """Messages of one type: rows uint8 (n, 2 + length), framed; t_ns and rank int64 (n,): their place among others."""

    rows: ByteArray
    t_ns: IntArray
    rank: IntArray


def batch(kind: str, t_ns: IntArray, rank: IntArray, **columns: Column) -> Batch:
    """Messages of one type. columns: the fields of `itchtable.MESSAGES`, arrays or one value for all; those not given
    are 0 or blank."""
    layout = MESSAGES[kind]
    rows = np.zeros((len(t_ns), 2 + layout.length), dtype=np.uint8)
    rows[:, 1], rows[:, 2] = layout.length, ord(kind)
    for name, offset, size, form in layout.fields:
        to = rows[:, 2 + offset : 2 + offset + size]
        value = t_ns if name == "timestamp_ns" else columns.pop(name, 0 if form == NUMBER else "")
        if form == NUMBER:
            numbers = np.broadcast_to(np.asarray(value), len(t_ns)).astype(">u8")
            to[:] = numbers.view(np.uint8).reshape(-1, 8)[:, 8 - size :]
        else:
            texts = np.broadcast_to(np.asarray(value, dtype=f"S{size}"), len(t_ns))
            raw = texts.copy().view(np.uint8).reshape(-1, size)
            to[:] = np.where(raw == 0, ord(" "), raw)
    if columns:
        raise ValueError(f"ITCH message {kind} has no field {', '.join(columns)}")
    return Batch(rows, np.asarray(t_ns, dtype=np.int64), np.asarray(rank, dtype=np.int64))


def merge(batches: Sequence[Batch]) -> tuple[ByteArray, IntArray]:
    """One stream of all messages, by time and then by rank; also, for each message of it, its place among all batches'."""
    lengths = np.concatenate([np.full(len(part.rows), part.rows.shape[1], dtype=np.int64) for part in batches])
    order = np.lexsort(
        (np.concatenate([part.rank for part in batches]), np.concatenate([part.t_ns for part in batches]))
    )
    starts = np.empty(len(order), dtype=np.int64)
    starts[order] = np.cumsum(lengths[order]) - lengths[order]
    data = np.empty(int(lengths.sum()), dtype=np.uint8)
    at = 0
    for part in batches:
        where = starts[at : at + len(part.rows)]
        data[where[:, None] + np.arange(part.rows.shape[1])] = part.rows
        at += len(part.rows)
    return data, order


def _references(events: EventArray) -> IntArray:
    """A reference number for each event's order, unique over all stocks as the venue's are; from 1 on."""
    orders = np.stack((events["instrument"].astype(np.int64), events["order_id"]), axis=1)
    return np.asarray(np.unique(orders, axis=0, return_inverse=True)[1].reshape(-1) + 1, dtype=np.int64)


def write_itch(tape: Tape, market_hours: tuple[int, int] | None = None) -> ByteArray:
    """A tape of orders as an ITCH day: framed messages, uint8 (n,); stock locates count from 1.

    market_hours: first and last ns in which the venue's market is open, the tape's span where not given.
    DeskvigilError where the tape is of levels, or a size or price is larger than ITCH can say.
    """
    events = published(tape)
    if len(tape.instruments) > MAX_STOCKS or not len(events):
        raise DeskvigilError(
            f"{tape.source}: {len(tape.instruments)} instruments and {len(events)} events are no ITCH day"
        )
    scale = np.array([round(row.tick_size_usd / PRICE_UNIT_USD) for row in tape.instruments], dtype=np.int64)
    stock, locate = events["instrument"], events["instrument"].astype(np.int64) + 1
    price = events["price"] * scale[stock]
    too_large = (events["qty"] > MAX_SHARES) | (price > MAX_PRICE) | (scale[stock] < 1)
    if too_large.any():
        row = int(np.argmax(too_large))
        raise DeskvigilError(
            f"{tape.source} {tape.instruments[stock[row]].symbol}, event {row}: {events['qty'][row]} shares at {price[row]} x 1e-4 "
            f"dollars, expected whole numbers of four bytes"
        )
    names = np.array([row.symbol[:8] for row in tape.instruments], dtype="S8")
    reference, rank = _references(events), EVENT_RANK + np.arange(len(events))
    sides = np.where(events["side"] > 0, b"B", b"S")

    def of(letter: str, kind: int, **columns: Column) -> Batch:
        chosen = events["kind"] == kind
        picked = {name: value[chosen] if isinstance(value, np.ndarray) else value for name, value in columns.items()}
        return batch(letter, events["t_ns"][chosen], rank[chosen], stock_locate=locate[chosen], **picked)

    shares = events["qty"]
    terms: dict[str, Column] = {"side": sides, "shares": shares, "price": price, "stock": names[stock]}
    return merge([
        *_frame(tape, events, names, market_hours or (tape.start_ns, tape.end_ns)),
        of("A", LIMIT, order_reference=reference, **terms),
        of("X", REDUCE, order_reference=reference, shares=shares),
        of("D", CANCEL, order_reference=reference),
        of("E", EXECUTE, order_reference=reference, shares=shares, match_number=rank),
        of("P", HIDDEN, match_number=rank, **terms),
        of("H", HALT, stock=names[stock], trading_state="H"),
        of("H", RESUME, stock=names[stock], trading_state="T"),
    ])[0]  # fmt: skip


def _frame(tape: Tape, events: EventArray, names: npt.NDArray[np.bytes_], market_hours: tuple[int, int]) -> list[Batch]:
    """What a venue says around its orders: its day's phases, its stocks, and that each may be traded."""
    opens_ns, closes_ns = market_hours
    first_ns = min(tape.start_ns, opens_ns, int(events["t_ns"][0]))
    last_ns = max(tape.end_ns, closes_ns, int(events["t_ns"][-1]))
    n = len(names)
    stocks = np.arange(n, dtype=np.int64)

    def system(code: str, t_ns: int, rank: int) -> Batch:
        return batch("S", np.array([t_ns]), np.array([rank]), event_code=code)

    def each(letter: str, rank: int, **columns: Column) -> Batch:
        return batch(letter, np.full(n, first_ns), rank + stocks, stock_locate=stocks + 1, stock=names, **columns)

    return [
        system("O", first_ns, OPENING_RANK), each("R", 1, round_lot_size=100, round_lots_only="N", authenticity="P"),
        each("H", 1 + n, trading_state="T"), system("S", first_ns, 1 + 2 * n), system("Q", opens_ns, 2 + 2 * n),
        system("M", closes_ns, CLOSING_RANK), system("E", last_ns, CLOSING_RANK + 1), system("C", last_ns, CLOSING_RANK + 2),
    ]  # fmt: skip
