"""Order board: the telemetry block of the Orders page: order events, working orders, parents at work, positions, depth.

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
from engine.orderlog import EVENTS_KEPT, OF_FOK, OF_IOC, OF_LIMIT, OF_POST_ONLY, ORDER_EVENT, WORDS
from engine.pool import side_at
from engine.telemetry import BlockSpec, BlockWriter, TableSpec
from metrics.catalogue import series
from metrics.frame import IntArray

if TYPE_CHECKING:
    from engine.orders import Desk

EVERY_NS: Final = 200_000_000
WORKING_KEPT: Final = 512
LEVELS_SHOWN: Final = 10
NAME_BYTES: Final = 64
_ID, _SIDE, _PRICE, _LEFT, _SENT_NS = range(5)  # columns of `Desk.own` (engine.orders)
_LATEST_NS: Final = 2  # of `Desk.clockwork`
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
        (series("deskvigil_orders_working"), series("deskvigil_orders_board_cost_seconds")),
        (),
        {
            "events": TableSpec(ORDER_EVENT.descr, EVENTS_KEPT),
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


class OrderBoard:
    """Owns the block. Kernels write `events` (int64 (EVENTS_KEPT, WORDS)) and `events_written` directly."""

    def __init__(self, path: Path, instruments: Sequence[Instrument], info: Mapping[str, Any]) -> None:
        self._block = BlockWriter(path, order_block_spec(instruments, info))
        tables, written = self._block.tables, self._block.written
        n = len(instruments)
        self.events: IntArray = tables["events"].view(np.int64).reshape(EVENTS_KEPT, WORDS)
        self.events_written: IntArray = written[:1]
        self._tables = {name: tables[name].view(dtype) for name, dtype in (
            ("working", WORKING), ("parents", PARENT), ("positions", POSITION), ("clients", CLIENT),
        )}  # fmt: skip
        self._depth: IntArray = tables["depth"].view(np.int64).reshape(-1, 3)
        self._written = written
        self._lot = np.array([row.lot_size for row in instruments])
        self._tick = np.array([row.tick_size_usd for row in instruments])
        self._n = n
        self._next_ns = 0

    def publish(self, now_ns: int, desk: Desk, books: Books, clients: Sequence[str]) -> None:
        """Make the state of now (wall clock) visible, not more often than every EVERY_NS."""
        if self._next_ns - EVERY_NS <= now_ns < self._next_ns:
            return
        started = time.perf_counter()
        self._next_ns = now_ns + EVERY_NS
        engine_ns = int(desk.clockwork[_LATEST_NS])
        working = self._working(desk, engine_ns)
        shown = min(len(working), WORKING_KEPT)
        self._tables["working"][:shown] = working[:shown]
        parents = self._parents(desk, engine_ns)
        self._tables["parents"][: len(parents)] = parents
        self._positions(desk)
        look_at_depth(books, self._depth, self._n, LEVELS_SHOWN)
        self._tables["clients"]["name"][: len(clients)] = [name.encode()[:NAME_BYTES] for name in clients]
        self._written[1:] = shown, len(parents), self._n, len(self._depth), len(clients)
        self._block.scalars[0] = len(working)
        self._block.publish(now_ns)
        self._block.scalars[1] = time.perf_counter() - started  # seen with the next one

    def _working(self, desk: Desk, engine_ns: int) -> npt.NDArray[Any]:
        """The own orders that rest, the house's first, then clients' with the youngest first."""
        i, place = np.nonzero(desk.own[:, :, _ID])
        house = np.zeros(len(i), dtype=WORKING)
        own = desk.own[i, place]
        for name, column in (("order_id", _ID), ("side", _SIDE), ("price", _PRICE), ("left", _LEFT)):
            house[name] = own[:, column]
        house["instrument"], house["kind"] = i, OF_POST_ONLY
        house["strategy"] = np.where(place == 2, PARENTS, MAKER)  # the third place is a parent's child
        house["age_s"] = np.maximum(engine_ns - own[:, _SENT_NS], 0) / 1e9
        if not int(desk.blotter[blot.LIVE]):
            return house
        rows = blot.rows_of(desk.blotter)
        rows = rows[(rows[:, blot.STATE] >= blot.PENDING) & (rows[:, blot.STATE] <= blot.PARTIAL)]
        rows = rows[np.argsort(rows[:, blot.ID])]  # ids fall: the youngest first
        theirs = np.zeros(len(rows), dtype=WORKING)
        same = (("order_id", blot.ID), ("instrument", blot.INSTRUMENT), ("side", blot.SIDE), ("price", blot.PRICE),
                ("left", blot.LEFT), ("qty", blot.QTY))  # fmt: skip
        for name, column in same:
            theirs[name] = rows[:, column]
        flags = rows[:, blot.FLAGS] & 0xFFFF
        aggressive = rows[:, blot.KIND] == ask.IOC
        theirs["kind"] = np.where(
            aggressive,
            np.where(flags & ask.FOK, OF_FOK, OF_IOC),
            np.where(flags & ask.POST_ONLY, OF_POST_ONLY, OF_LIMIT),
        )
        theirs["strategy"], theirs["client"] = CLIENTS, rows[:, blot.FLAGS] >> 16
        theirs["age_s"] = np.maximum(time.monotonic_ns() - rows[:, blot.SENT_NS], 0) / 1e9
        return np.concatenate([house, theirs])

    @staticmethod
    def _parents(desk: Desk, engine_ns: int) -> npt.NDArray[Any]:
        at_work = np.flatnonzero(desk.parents[:, plan.P_STATE] != plan.IDLE)
        rows = desk.parents[at_work]
        out = np.zeros(len(rows), dtype=PARENT)
        columns = (("algo", plan.P_ALGO), ("side", plan.P_SIDE), ("target", plan.P_TARGET), ("filled", plan.P_FILLED),
                   ("notional", plan.P_NOTIONAL), ("control", plan.P_CONTROL), ("limit", plan.P_LIMIT),
                   ("orders", plan.P_ORDERS))  # fmt: skip
        for name, column in columns:
            out[name] = rows[:, column]
        start, end = rows[:, plan.P_START_NS], rows[:, plan.P_END_NS]
        out["instrument"], out["number"] = at_work, rows[:, plan.P_COUNT] - 1
        out["due"] = np.clip((engine_ns - start) / np.maximum(end - start, 1), 0.0, 1.0)
        out["left_s"] = np.maximum(end - engine_ns, 0) / 1e9
        out["arrival"] = desk.arrival[at_work]
        return out

    def _positions(self, desk: Desk) -> None:
        rows, out = desk.account, self._tables["positions"]
        held, mark, average, usd = (rows[:, k] for k in (acc.POSITION, acc.MARK, acc.AVERAGE, acc.USD))
        out["qty"] = held * self._lot
        out["avg_usd"] = np.where(held == 0.0, np.nan, average * self._tick)
        out["mark_usd"] = mark * self._tick
        out["realised_usd"], out["fees_usd"] = rows[:, acc.REALISED], rows[:, acc.FEES]
        out["unrealised_usd"] = np.where(held == 0.0, 0.0, held * (mark - average) * usd)
        out["state"] = desk.status[:, 0]
