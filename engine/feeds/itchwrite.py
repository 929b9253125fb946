"""ITCH write: TotalView-ITCH 5.0 messages from arrays, and whole days from LOBSTER recordings.

A LOBSTER file of N levels starts in the middle of the orders' lives and leaves out what happens beyond its
levels. What ITCH needs beside its messages is *inserted*: an add at the day's start for an order that was there
before, and a cancel before a delete whose size says that part of the order had gone unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.feeds.itchtable import MESSAGES, NUMBER
from engine.feeds.lobster import (
    ADD,
    CROSS_TRADE,
    DELETE,
    EXECUTION,
    HALT_MESSAGE,
    HIDDEN_EXECUTION,
    ID,
    PARTIAL_CANCEL,
    PRICE_UNIT_USD,
    TIME,
    TYPE,
    LobsterDay,
)
from engine.feeds.scan import ByteArray
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

MAX_SHARES: Final = (1 << 32) - 1
MAX_PRICE: Final = (1 << 32) - 1
MAX_DAYS: Final = (1 << 16) - 2
HALT_STATES: Final = {-1: "H", 0: "Q", 1: "T"}  # LOBSTER's price of a halt message: halted, quoting, trading

Column = IntArray | npt.NDArray[np.bytes_] | str | int


class Batch(NamedTuple):
    """Messages of one type: rows uint8 (n, 2 + length), framed; t_ns and rank int64 (n,): their place among others."""

    rows: ByteArray
    t_ns: IntArray
    rank: IntArray


@dataclass(frozen=True, eq=False, slots=True)
class Written:
    """A file in the making. data: framed messages, uint8 (n,); ids: the recording's order id of each reference number, which
    count from 1; inserted bool (messages,): which messages the recording does not have."""

    data: ByteArray
    ids: IntArray
    inserted: npt.NDArray[np.bool_]


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
            texts = np.char.ljust(np.asarray(value, dtype=f"S{size}"), size, b" ")
            to[:] = np.broadcast_to(texts, len(t_ns)).copy().view(np.uint8).reshape(-1, size)
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


def write_itch(days: Sequence[LobsterDay]) -> Written:
    """LOBSTER days of different stocks as one ITCH day; stock locates count from 1 in the order of `days`.

    DeskvigilError where a size or a price is larger than ITCH can say.
    """
    if not 1 <= len(days) <= MAX_DAYS:
        raise DeskvigilError(f"{len(days)} recordings, expected 1 to {MAX_DAYS}")
    batches, masks, ids, offset = [], [], [], 0
    start = np.array([min(int(day.messages[0, TIME]) for day in days)])
    for k, day in enumerate(days):
        for part, inserted in _day_batches(day, k, offset, start):
            batches.append(part)
            masks.append(np.full(len(part.rows), inserted))
        known = _orders(day)[0]
        ids.append(known)
        offset += len(known)
    data, order = merge(batches)
    return Written(data, np.concatenate(ids), np.concatenate(masks)[order])


def _orders(day: LobsterDay) -> tuple[IntArray, IntArray, IntArray]:
    """Distinct order ids by first appearance, the rows about an order, and each one's index among the ids."""
    kind = day.messages[:, TYPE]
    rows = np.flatnonzero((kind >= ADD) & (kind <= EXECUTION))
    distinct, first, index = np.unique(day.messages[rows, ID], return_index=True, return_inverse=True)
    by_appearance = np.argsort(first, kind="stable")
    rank = np.empty(len(distinct), dtype=np.int64)
    rank[by_appearance] = np.arange(len(distinct))
    return distinct[by_appearance], rows, rank[index]


def _day_batches(day: LobsterDay, k: int, offset: int, start: IntArray) -> list[tuple[Batch, bool]]:
    """A day's messages by type, and whether they are inserted."""
    tick = round(day.instrument.tick_size_usd / PRICE_UNIT_USD)
    time, kind, _, size, price, side = day.messages.T
    if size.max(initial=0) > MAX_SHARES or price.max(initial=0) * tick > MAX_PRICE:
        raise DeskvigilError(f"{day.source}: a size or a price is above what four bytes hold")
    ids, rows, index = _orders(day)
    ref = np.zeros(len(kind), dtype=np.int64)
    ref[rows] = index + 1 + offset
    sides = np.where(side > 0, b"B", b"S")
    stock: dict[str, Column] = {"stock_locate": k + 1, "stock": day.instrument.symbol[:8]}
    locate: dict[str, Column] = {"stock_locate": k + 1}
    rank = 4 * np.arange(len(kind), dtype=np.int64) + 3 + (1 << 40)

    def of(letter: str, chosen: npt.NDArray[np.bool_], **columns: Column) -> tuple[Batch, bool]:
        picked = {name: value[chosen] if isinstance(value, np.ndarray) else value for name, value in columns.items()}
        return batch(letter, time[chosen], rank[chosen], **picked), False

    def before(letter: str, order: int, **columns: Column) -> tuple[Batch, bool]:
        return batch(letter, start, np.array([order]), **columns), True

    adds: dict[str, Column] = {"order_reference": ref, "side": sides, "shares": size, "price": price * tick}
    takes: dict[str, Column] = {"order_reference": ref, "shares": size}
    result = [
        before("S", 0, event_code="O"), before("R", k + 1, round_lot_size=100, round_lots_only="N", authenticity="P", **stock),
        before("H", (1 << 20) + k, trading_state="T", **stock), before("S", 1 << 30, event_code="Q"),
    ] if k == 0 else [
        before("R", k + 1, round_lot_size=100, round_lots_only="N", authenticity="P", **stock),
        before("H", (1 << 20) + k, trading_state="T", **stock),
    ]  # fmt: skip
    result += [
        of("A", kind == ADD, **adds, **stock),
        of("X", kind == PARTIAL_CANCEL, **takes, **locate),
        of("D", kind == DELETE, order_reference=ref, **locate),
        of("E", kind == EXECUTION, match_number=np.arange(len(kind)) + 1, **takes, **locate),
        of("P", kind == HIDDEN_EXECUTION, match_number=np.arange(len(kind)) + 1, **{**adds, "order_reference": 0}, **stock),
        of("Q", kind == CROSS_TRADE, shares=size, cross_price=price * tick, match_number=np.arange(len(kind)) + 1, **stock),
    ]  # fmt: skip
    for code, state in HALT_STATES.items():
        result.append(of("H", (kind == HALT_MESSAGE) & (price == code), trading_state=state, **stock))

    n = len(ids)
    of_order = kind[rows]
    taken = np.where(of_order == ADD, 0, size[rows])
    added = np.bincount(index, np.where(of_order == ADD, size[rows], 0), n).astype(np.int64)
    gone = np.bincount(index, taken, n).astype(np.int64)
    last = np.zeros(n, dtype=np.int64)
    last[index] = rows  # the last row of each order: later assignments win
    first = np.full(n, len(kind), dtype=np.int64)
    np.minimum.at(first, index, rows)

    seeds = np.flatnonzero(kind[first] != ADD)
    # A partial cancel leaves something, so an order whose last message is one had at least one share more.
    shares = gone[seeds] + (kind[last[seeds]] == PARTIAL_CANCEL)
    if shares.max(initial=0) > MAX_SHARES:
        raise DeskvigilError(f"{day.source}: an order of more shares than four bytes hold")
    result.append((
        batch("A", np.full(len(seeds), start[0]), (1 << 31) + offset + seeds, order_reference=seeds + 1 + offset,
              side=sides[first[seeds]], shares=shares, price=price[first[seeds]] * tick, **stock), True,
    ))  # fmt: skip
    unseen = added - gone
    cut = np.flatnonzero((kind[first] == ADD) & (kind[last] == DELETE) & (unseen > 0))
    result.append((
        batch("X", time[last[cut]], rank[last[cut]] - 1, order_reference=cut + 1 + offset, shares=unseen[cut], **locate), True,
    ))  # fmt: skip
    return result
