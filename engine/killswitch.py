"""Kill switch: cancels own orders as the trading states demand, and reports each one it cancelled.

It walks the books, not our lists: an own order that nobody knows any more (a fault) is found as well,
cancelled with its instrument, and reported as unattributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import account as acc
from engine import ladder
from engine.blotter import BLOTTER
from engine.book import Books, apply
from engine.deskarrays import LATEST_NS, STATE, desk_of
from engine.events import CANCEL
from engine.gates import STRATEGIES, TradingState, state_for
from engine.jit import inline_kernel, kernel
from engine.journal import OWN, append, done
from engine.layout import BEST, ID, NO_KEY, OWN_ORDERS, QTY
from engine.matching import following, leading
from engine.ownfills import client_of, forget, strategy_of
from engine.pool import instrument_at, side_at
from engine.working import follow_orders
from metrics.frame import IntArray

# What is found, int64 (room, FOUND): one own order a row.
F_ID, F_INSTRUMENT, F_SIDE, F_LOTS, F_STRATEGY, F_CLIENT, F_KNOWN = range(7)
FOUND = 8
_REDUCING, _HALTED = int(TradingState.REDUCING), int(TradingState.HALTED)
EVERYTHING, NOT_ALLOWED, NOTHING, OF_CLIENTS = range(4)  # what to cancel; NOTHING only looks


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What one use of the kill switch cancelled: orders in all, by symbol, by strategy and by client; unattributed
    ones belonged to nobody."""

    orders: int
    by_instrument: dict[str, int]
    by_strategy: dict[str, int]
    by_client: dict[str, int]
    unattributed: int


def report(found: IntArray, symbols: Sequence[str], clients: Sequence[str]) -> Cancelled:
    """Sum up the rows that the kill switch wrote."""
    known = found[found[:, F_KNOWN] == 1]

    def by(column: int, names: Sequence[str], rows: IntArray) -> dict[str, int]:
        indexes, counts = np.unique(rows[:, column], return_counts=True)
        return {names[index]: count for index, count in zip(indexes.tolist(), counts.tolist(), strict=True)}

    return Cancelled(
        orders=len(found),
        by_instrument=by(F_INSTRUMENT, symbols, found),
        by_strategy=by(F_STRATEGY, STRATEGIES, known),
        by_client=by(F_CLIENT, clients, known),
        unattributed=len(found) - len(known),
    )


def in_scope(found: IntArray, scope: str, symbols: Sequence[str], clients: Sequence[str]) -> int:
    """How many of the rows belong to a scope: "all", a symbol, strategy:NAME or client:NAME."""
    kind, _, name = scope.rpartition(":")
    if kind == "strategy":
        return int(np.count_nonzero(found[:, F_STRATEGY] == STRATEGIES.index(name)))
    if kind == "client":
        return int(np.count_nonzero(found[:, F_CLIENT] == clients.index(name))) if name in clients else 0
    if scope in symbols:
        return int(np.count_nonzero(found[:, F_INSTRUMENT] == list(symbols).index(scope)))
    return len(found)


@inline_kernel
def find_own(books: Books, i: int, found: IntArray, first: int) -> int:
    """Write the own orders that rest in an instrument into `found` from row `first`; returns how many rows it has then."""
    w = books.words
    count = first
    last = min(len(found), first + w[instrument_at(w, i) + OWN_ORDERS])
    for side in (1, -1):
        ladder_side = side_at(w, i, side)
        key = w[ladder_side + BEST]
        while key != NO_KEY and count < last:
            slot = leading(w, ladder_side, key) if ladder.level_own(w, ladder_side, key) > 0 else 0
            while slot != 0 and count < last:
                if w[slot + ID] < 0:
                    found[count, F_ID], found[count, F_INSTRUMENT] = w[slot + ID], i
                    found[count, F_SIDE], found[count, F_LOTS] = side, w[slot + QTY]
                    count += 1
                slot = following(w, ladder_side, slot, key)
            key = ladder.next_key(w, ladder_side, key)
    return count


@kernel
def cancel_own(table: IntArray, what: int, why: int, found: IntArray) -> int:
    """Cancel own orders for a reason (mailbox.Why, for clients) and write a row for each into `found`, int64 (room, FOUND); returns how many rows.

    EVERYTHING: all. NOT_ALLOWED: those that the strictest state of their instrument, strategy and
    client does not allow (any more): HALTED none; REDUCING those that add to the position, and what goes
    beyond it. OF_CLIENTS: all of clients. NOTHING: only find them. An own order's id (negative): that one.
    What does not fit into `found` stays: call again while it is full. table: the lent desk.
    """
    desk = desk_of(table)
    books = desk.books
    t_ns = desk.clockwork[LATEST_NS]
    written = 0
    for i in range(desk.own.shape[0]):
        held = desk.account[i, acc.POSITION]
        left = abs(held)
        follow_orders(desk, i)  # a replay asks no gates, so they know nothing of the orders that it found
        end = find_own(books, i, found, written)
        for row in range(written, end):
            order_id, side, lots = found[row, F_ID], found[row, F_SIDE], found[row, F_LOTS]
            strategy, client = strategy_of(desk, order_id), client_of(desk, order_id)
            state = state_for(desk.gates, desk.status[i, STATE], strategy, client)
            adds = side * held >= 0.0 or lots > left
            goes = what != NOT_ALLOWED or state >= _HALTED or (state == _REDUCING and adds)
            if what == OF_CLIENTS:
                goes = (-order_id) & 3 == BLOTTER
            elif what < 0:
                goes = order_id == what
            if not goes:
                left -= lots if side * held < 0.0 else 0
                continue
            known = 1
            if what != NOTHING:
                known = forget(desk, i, order_id, why)
                append(desk.journal, desk.journal_head, OWN, t_ns, order_id, 0, 0, i, CANCEL, side, 0, 0)
                apply(books, t_ns, order_id, 0, 0, i, CANCEL, side, 0)
            found[written, F_ID], found[written, F_INSTRUMENT] = order_id, i
            found[written, F_SIDE], found[written, F_LOTS] = side, lots
            found[written, F_STRATEGY], found[written, F_CLIENT], found[written, F_KNOWN] = strategy, client, known
            written += 1
    done(desk.journal_head)
    return written
