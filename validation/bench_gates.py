"""What the gates cost: one check alone, and in the path of an order (with the gates and without them)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine.book import Books, apply, make_books, reset
from engine.events import IOC, LIMIT
from engine.gates import PARENTS, Gates, make_gates
from engine.jit import kernel
from engine.limits import Limits
from engine.options import GateOptions
from engine.pretrade import check
from metrics.frame import IntArray
from validation.figure import Figure

NAME = "gates"
ORDERS = 400_000
ROUNDS = 9
MID = 10_000.0
PACE_NS = 1_000  # engine time between two orders
# Wide enough that every order passes every gate: a refusal would end the check early and flatter the figure.
OPTIONS = replace(
    GateOptions(), max_order_usd=1e15, max_position_usd=1e15, max_working_usd=1e15, max_period_usd=1e15, max_gross_usd=1e15,
    max_working_total_usd=1e15, max_period_qty=1 << 50, max_identical=1 << 50, max_repeats=1 << 50,
    max_messages_per_s=1e9, message_burst=1_000_000_000,
)  # fmt: skip
PEERS = "nautilus, hftbacktest: no comparable pre-trade check"


@kernel
def check_all(gates: Gates, orders: IntArray, accepted: IntArray) -> None:
    """Check orders, int64 (n, 5): instrument, side, ticks, lots, intent."""
    for k in range(len(orders)):
        i, side, ticks, lots, intent = orders[k, 0], orders[k, 1], orders[k, 2], orders[k, 3], orders[k, 4]
        reason = check(gates, i, side, ticks, lots, PARENTS, 0, intent, MID, 0.01, 5.0, 3, 4, 0, 0, k * PACE_NS)
        accepted[0] += 1 if reason == 0 else 0


@kernel
def send_all(gates: Gates, books: Books, orders: IntArray, accepted: IntArray, with_gates: bool) -> None:
    """Cross each order with the book, checked first where with_gates is set."""
    for k in range(len(orders)):
        i, side, ticks, lots, intent = orders[k, 0], orders[k, 1], orders[k, 2], orders[k, 3], orders[k, 4]
        reason = 0
        if with_gates:
            reason = check(gates, i, side, ticks, lots, PARENTS, 0, intent, MID, 0.01, 5.0, 3, 4, 0, 0, k * PACE_NS)
        if reason == 0:
            accepted[0] += apply(books, k * PACE_NS, -(k + 1), ticks, lots, i, IOC, side, 0)


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Time the same orders in turn alone, in path without gates, and in path with them; medians of the rounds."""
    say(f"gates: {ORDERS:,} orders, {ROUNDS} rounds ...")
    n = 10
    rng = np.random.default_rng(1)
    side = rng.choice([1, -1], ORDERS)
    rows = [rng.integers(0, n, ORDERS), side, MID + side * rng.integers(10, 50, ORDERS), rng.integers(1, 4, ORDERS),
            rng.integers(0, 200, ORDERS)]  # fmt: skip
    orders = np.ascontiguousarray(np.stack(rows, axis=1).astype(np.int64))
    accepted = np.zeros(1, dtype=np.int64)
    books = make_books(n)
    alone: list[float] = []
    bare: list[float] = []
    gated: list[float] = []
    check_all(_gates(n), orders[:1], accepted)
    for with_gates in (False, True):
        send_all(_gates(n), books, orders[:1], accepted, with_gates)
    refused = 0
    for _ in range(ROUNDS):
        accepted[0] = 0
        alone.append(_timed(check_all, _gates(n), orders, accepted))
        refused += ORDERS - int(accepted[0])
        for with_gates, times in ((False, bare), (True, gated)):
            _fill(books, n)
            accepted[0] = 0
            times.append(_timed(send_all, _gates(n), books, orders, accepted, with_gates))
            refused += max(ORDERS - int(accepted[0]), 0)
    path_ns = float(np.median(np.array(gated) - np.array(bare)))
    return [
        Figure(benchmark=NAME, what="all gates, one order, alone", value=float(np.median(alone)), unit="ns", decimals=1),
        Figure(benchmark=NAME, what="one order through the book, no gates", value=float(np.median(bare)), unit="ns", decimals=1),
        Figure(benchmark=NAME, what="all gates, one order, in path", value=path_ns, unit="ns", decimals=1, limit=30, peer=PEERS),
        Figure(benchmark=NAME, what="orders refused or not filled", value=refused, unit="orders", decimals=0, limit=0),
    ]  # fmt: skip


def _gates(instruments: int) -> Gates:
    gates = make_gates(OPTIONS, instruments)
    Limits(OPTIONS, tuple(f"I{i}" for i in range(instruments)), (1.0,) * instruments, gates)
    return gates


def _fill(books: Books, instruments: int) -> None:
    """Two sides that hold more than all orders together take."""
    reset(books)
    for i in range(instruments):
        for side in (1, -1):
            for level in range(1, 9):
                order_id = (i * 2 + (side > 0)) * 8 + level
                apply(books, 0, order_id, int(MID) - side * level, 1 << 40, i, LIMIT, side, 0)


def _timed(function: Callable[..., None], *arguments: object) -> float:
    """Nanoseconds of CPU an order: other programs' turns are left out."""
    began = time.thread_time()
    function(*arguments)
    return (time.thread_time() - began) / ORDERS * 1e9
