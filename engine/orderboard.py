"""Order board: the telemetry block of the Orders page: working orders, parents at work, positions, depth, and the order log.

A block of its own beside the engine's, so that who looks ten times a second at figures does not copy
this as well. It is written five times a second between two steps, from the arrays that kernels work on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from engine import account as acc
from engine import blotter as blot
from engine import mailbox as ask
from engine import strategy as plan
from engine.book import Books, best_price, next_price
from engine.events import Instrument
from engine.gates import CLIENTS, MAKER, MAX_CLIENTS, PARENTS
from engine.jit import kernel
from engine.ladder import level_own, level_total
from engine.orderlog import OF_FOK, OF_IOC, OF_LIMIT, OF_POST_ONLY
from engine.orderlogfile import OrderLog
from engine.pool import side_at
from engine.telemetry import BlockSpec, BlockWriter, TableSpec
from metrics.catalogue import series
from metrics.frame import FloatArray, IntArray

if TYPE_CHECKING:
    from engine.deskarrays import Desk

EVERY_NS: Final = 200_000_000
WORKING_KEPT: Final = 512
LEVELS_SHOWN: Final = 10
NAME_BYTES: Final = 64
_ID, _SIDE, _PRICE, _LEFT, _SENT_NS = range(5)  # columns of `Desk.own` (engine.orders)
# One own order that rests; age_s: since it was sent, on the engine's clock for the house, on the machine's for clients.
WORKING: Final = np.dtype(
    [
        ("order_id", np.int64), ("instrument", np.int64), ("side", np.int64), ("price", np.int64), ("left", np.int64),
        ("qty", np.int64),  # 0: not known (the house keeps only what is left)
        ("kind", np.int64), ("strategy", np.int64), ("client", np.int64), ("age_s", np.float64),
    ]
)  # fmt: skip
# One parent at work; due: how much of its time is over (0 .. 1); arrival in ticks.
PARENT: Final = np.dtype(
    [
        ("instrument", np.int64), ("number", np.int64), ("algo", np.int64), ("side", np.int64), ("target", np.int64),
        ("filled", np.int64), ("notional", np.int64), ("control", np.int64), ("limit", np.int64), ("orders", np.int64),
        ("due", np.float64), ("left_s", np.float64), ("arrival", np.float64),
    ]
)  # fmt: skip
# One instrument of the account, in units and USD; mark NaN before the first price.
POSITION: Final = np.dtype(
    [
        ("qty", np.float64), ("avg_usd", np.float64), ("mark_usd", np.float64), ("realised_usd", np.float64),
        ("unrealised_usd", np.float64), ("fees_usd", np.float64), ("state", np.int64),  # state: its trading state
    ]
)  # fmt: skip
# One level of one side: price in ticks (0: none), lots of all, lots of ours.
LEVEL: Final = np.dtype([("price", np.int64), ("lots", np.int64), ("own", np.int64)])
CLIENT: Final = np.dtype([("name", f"S{NAME_BYTES}")])


def order_block_spec(instruments: Sequence[Instrument], info: Mapping[str, Any]) -> BlockSpec:
    """The spec of the orders' block."""
    n = len(instruments)
    return BlockSpec(
        "orders",
        tuple(series(f"deskvigil_orders_{what}") for what in ("working", "board_cost_seconds", "logged_total")),
        (),
        {
            "working": TableSpec(WORKING.descr, WORKING_KEPT),
            "parents": TableSpec(PARENT.descr, n),
            "positions": TableSpec(POSITION.descr, n),
            "depth": TableSpec(LEVEL.descr, 2 * n * LEVELS_SHOWN),
            "clients": TableSpec(CLIENT.descr, MAX_CLIENTS),
        },
        {
            "instruments": [row.symbol for row in instruments],
            "ticks": [row.tick_size_usd for row in instruments],
            "lots": [row.lot_size for row in instruments],
            **info,
        },
    )


@kernel
def look_at_depth(books: Books, out: IntArray, n: int, levels: int) -> None:
    """Write the best levels of all instruments: out int64 (n * 2 * levels, 3), bids before asks, best first."""
    w = books.words
    out[:] = 0
    for i in range(n):
        for column in range(2):
            side = 1 - 2 * column
            at = side_at(w, i, side)
            price, row = best_price(books, i, side), (i * 2 + column) * levels
            last = row + levels
            while price > 0 and row < last:
                out[row, 0] = price
                out[row, 1], out[row, 2] = level_total(w, at, side * price), level_own(w, at, side * price)
                price = next_price(books, i, side, price)
                row += 1


@kernel
def look_at_orders(
    own: IntArray, w: IntArray, engine_ns: int, now_ns: int, out: IntArray, ages_s: FloatArray
) -> int:  # fmt: skip
    """Write the own orders that rest, the house's first, then clients' with each instrument's youngest first.

    own, w: as in `Desk` (w: the blotter). out int64, ages_s float64 (room, columns of WORKING): two views
    of the same table. Returns how many rows were written.
    """
    count = 0
    for i in range(own.shape[0]):
        for place in range(own.shape[1]):
            if own[i, place, _ID] == 0 or count == len(out):
                continue
            row = out[count]
            row[0], row[1], row[2], row[3] = own[i, place, _ID], i, own[i, place, _SIDE], own[i, place, _PRICE]
            row[4], row[5], row[6] = own[i, place, _LEFT], 0, OF_POST_ONLY
            row[7], row[8] = PARENTS if place == 2 else MAKER, 0  # the third place is a parent's child
            ages_s[count, 9] = max(engine_ns - own[i, place, _SENT_NS], 0) / 1e9
            count += 1
    for i in range(own.shape[0]):
        at = w[w[blot.CHAINS] + i]
        while at != 0 and count < len(out):
            row, flags = out[count], w[at + blot.FLAGS] & 0xFFFF
            row[0], row[1], row[2], row[3] = w[at + blot.ID], i, w[at + blot.SIDE], w[at + blot.PRICE]
            row[4], row[5], row[7], row[8] = w[at + blot.LEFT], w[at + blot.QTY], CLIENTS, w[at + blot.FLAGS] >> 16
            row[6] = OF_POST_ONLY if flags & ask.POST_ONLY else OF_LIMIT
            if w[at + blot.KIND] == ask.IOC:
                row[6] = OF_FOK if flags & ask.FOK else OF_IOC
            ages_s[count, 9] = max(now_ns - w[at + blot.SENT_NS], 0) / 1e9
            count += 1
            at = w[at + blot.NEXT]
    return count


@kernel
def look_at_parents(parents: IntArray, arrival: FloatArray, engine_ns: int, out: IntArray, parts: FloatArray) -> int:
    """Write the parents at work; out int64, parts float64 (n, columns of PARENT): two views of one table."""
    count = 0
    for i in range(len(parents)):
        parent, row, part = parents[i], out[count], parts[count]
        if parent[plan.P_STATE] == plan.IDLE:
            continue
        start_ns, end_ns = parent[plan.P_START_NS], parent[plan.P_END_NS]
        row[0], row[1], row[2], row[3] = i, parent[plan.P_COUNT] - 1, parent[plan.P_ALGO], parent[plan.P_SIDE]
        row[4], row[5], row[6] = parent[plan.P_TARGET], parent[plan.P_FILLED], parent[plan.P_NOTIONAL]
        row[7], row[8], row[9] = parent[plan.P_CONTROL], parent[plan.P_LIMIT], parent[plan.P_ORDERS]
        part[10] = min(max(engine_ns - start_ns, 0) / max(end_ns - start_ns, 1), 1.0)
        part[11] = max(end_ns - engine_ns, 0) / 1e9
        part[12] = arrival[i]
        count += 1
    return count


@kernel
def look_at_positions(account: FloatArray, units: FloatArray, status: IntArray, out: IntArray, usd: FloatArray) -> None:
    """Write every instrument's position; out int64, usd float64 (n, columns of POSITION): two views of one table."""
    for i in range(len(account)):
        held, mark, average = account[i, acc.POSITION], account[i, acc.MARK], account[i, acc.AVERAGE]
        row = usd[i]
        row[0], row[2], row[3] = held * units[i, 1], mark * units[i, 0], account[i, acc.REALISED]
        row[1] = average * units[i, 0] if held != 0.0 else np.nan
        row[4] = held * (mark - average) * account[i, acc.USD] if held != 0.0 else 0.0
        row[5] = account[i, acc.FEES]
        out[i, 6] = status[i, 0]


class OrderBoard:
    """Owns the block and the order log beside it; the block says how far the log is whole.

    Kernels write `events` (int64 (EVENTS_KEPT, WORDS)) and `events_written`, both the log's, directly.
    """

    def __init__(
        self, path: Path, instruments: Sequence[Instrument], info: Mapping[str, Any], hidden: bool = False
    ) -> None:
        """hidden: the block takes its place with the first `publish`."""
        self._block = BlockWriter(path, order_block_spec(instruments, info), hidden)
        tables, written = self._block.tables, self._block.written
        n = len(instruments)
        log = OrderLog(path.with_suffix(".orderlog"), instruments)
        self.events: IntArray = log.events
        self.events_written: IntArray = log.events_written
        self._views: dict[str, tuple[IntArray, FloatArray]] = {
            name: (_as(np.int64, tables[name]), _as(np.float64, tables[name]))
            for name in ("working", "parents", "positions")
        }
        self._names: npt.NDArray[Any] = tables["clients"].view(CLIENT)["name"]
        self._depth: IntArray = tables["depth"].view(np.int64).reshape(-1, 3)
        self._written = written
        self._n = n
        self._next_ns = 0

    def touch(self) -> None:
        """Have the block in memory."""
        self._block.touch()

    def publish(self, now_ns: int, engine_ns: int, desk: Desk, books: Books, clients: Sequence[str]) -> None:
        """Make the state of now (wall clock, and the engine's) visible, not more often than every EVERY_NS."""
        if self._next_ns - EVERY_NS <= now_ns < self._next_ns:
            return
        started = time.perf_counter()
        self._next_ns = now_ns + EVERY_NS
        orders, ages = self._views["working"]
        shown = look_at_orders(desk.own, desk.blotter, engine_ns, time.monotonic_ns(), orders, ages)
        at_work = look_at_parents(desk.parents, desk.arrival, engine_ns, *self._views["parents"])
        look_at_positions(desk.account, desk.units, desk.status, *self._views["positions"])
        look_at_depth(books, self._depth, self._n, LEVELS_SHOWN)
        if len(clients) != self._written[4]:
            self._names[: len(clients)] = [name.encode()[:NAME_BYTES] for name in clients]
        self._written[:] = shown, at_work, self._n, len(self._depth), len(clients)
        house = int(np.count_nonzero(desk.own[:, :, _ID]))
        self._block.scalars[0] = house + int(desk.blotter[blot.LIVE])
        self._block.scalars[2] = self.events_written[0]
        self._block.publish(now_ns)
        self._block.scalars[1] = time.perf_counter() - started  # seen with the next one


def _as(word: type, table: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A table whose columns are all of eight bytes, as plain words: (rows, columns)."""
    return table.view(word).reshape(len(table), -1)
