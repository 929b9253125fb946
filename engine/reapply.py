"""Reapply: the kernel that carries out journal records again, as they were carried out live but without deciding anything."""

from __future__ import annotations

from engine import journal as log
from engine import strategy as plan
from engine.blotter import CAPACITY, TAKEN
from engine.book import apply, best_price
from engine.deskarrays import (
    BLINDED,
    ID,
    LAST_EVENT_NS,
    LAST_ID,
    LATEST_NS,
    LEFT,
    PLACES,
    PRICE,
    SENT_NS,
    SIDE,
    VENUE_HALTED,
    Desk,
    desk_of,
)
from engine.events import BLIND, CANCEL, HALT, IOC, RESUME
from engine.jit import inline_kernel, kernel
from engine.ownfills import book_fills
from engine.step import mark
from metrics.frame import IntArray


@inline_kernel
def _replay_status(desk: Desk, i: int, kind: int, flags: int, t_ns: int) -> None:
    if kind == HALT:
        desk.status[i, VENUE_HALTED] = BLINDED if flags & BLIND != 0 else 1
    elif kind == RESUME:
        desk.status[i, VENUE_HALTED] = 0
    desk.clockwork[LATEST_NS] = t_ns
    desk.status[i, LAST_EVENT_NS] = t_ns


@inline_kernel
def _replay_parent(
    desk: Desk, i: int, t_ns: int, starts_ns: int, arrival: int, target: int, state: int, side: int, worked_by: int,
    number: int,
) -> None:  # fmt: skip
    row = desk.parents[i]
    if row[plan.P_STATE] == plan.IDLE and state != plan.IDLE:
        row[plan.P_FILLED] = row[plan.P_NOTIONAL] = row[plan.P_FILLS] = row[plan.P_ORDERS] = 0
        row[plan.P_FIRST_NS] = -1
    row[plan.P_STATE], row[plan.P_SIDE], row[plan.P_TARGET], row[plan.P_COUNT] = state, side, target, number
    row[plan.P_ALGO], row[plan.P_CONTROL] = worked_by & 0xFF, worked_by >> 8
    if state == plan.IDLE:
        row[plan.P_NEXT_NS] = starts_ns
    else:
        row[plan.P_START_NS], row[plan.P_NEXT_NS] = starts_ns, t_ns
    desk.arrival[i] = 0.5 * arrival


@kernel
def reapply(table: IntArray, words: IntArray, first: int, skip: IntArray, head: IntArray) -> int:
    """Carry out the records from `first` on; returns where a SESSION, SETTLE or GAP stands, or the end.

    table: the lent desk; skip: sequences to leave out. head[BUSY] is the record under way, should it kill
    the engine again.
    """
    desk = desk_of(table)
    books = desk.books
    for k in range(first, len(words)):
        what = words[k, log.W_WHAT] & 0xFFFFFFFF
        packed, t_ns, order_id = words[k, log.W_EVENT], words[k, log.W_T_NS], words[k, log.W_ORDER_ID]
        i, kind, flags = packed & 0xFFFFFFFF, (packed >> 32) & 0xFF, (packed >> 48) & 0xFFFF
        side = (packed >> 40) & 0xFF
        side = side - 256 if side > 127 else side
        price, qty = words[k, log.W_PRICE], words[k, log.W_QTY]
        if what == log.PARENT:
            _replay_parent(desk, i, t_ns, order_id, price, qty, kind, side, flags, words[k, log.W_WHAT] >> 32)
            mark(desk, best_price(books, i, 1), best_price(books, i, -1), i, t_ns)
        elif what == log.MARKET or what == log.OWN:
            sequence = words[k, log.W_SEQUENCE]
            left_out = False
            for other in skip:
                left_out = left_out or other == sequence
            if left_out:
                continue
            head[log.BUSY] = sequence
            place = (-order_id) & 3
            known = what == log.OWN and place < PLACES
            if what == log.OWN and not known:  # a client's: ids go on behind it
                used = ((-order_id) >> 2) // desk.blotter[CAPACITY]
                desk.blotter[TAKEN] = max(desk.blotter[TAKEN], used)
            if known and kind == CANCEL:
                if desk.own[i, place, ID] == order_id:
                    desk.own[i, place, ID] = 0
            elif known:
                desk.own[i, place, ID], desk.own[i, place, SIDE], desk.own[i, place, PRICE] = order_id, side, price
                desk.own[i, place, LEFT], desk.own[i, place, SENT_NS] = qty, t_ns
                desk.clockwork[LAST_ID] = max(desk.clockwork[LAST_ID], (-order_id) >> 2)
            count = apply(books, t_ns, order_id, price, qty, i, kind, side, flags)
            if count > 0:  # handing the desk over costs more than all the rest
                book_fills(desk, books.fills, count, t_ns)
            if what == log.MARKET:
                _replay_status(desk, i, kind, flags, t_ns)
                mark(desk, best_price(books, i, 1), best_price(books, i, -1), i, t_ns)
            elif known and kind != CANCEL and (count < 0 or kind == IOC) and desk.own[i, place, ID] == order_id:
                desk.own[i, place, ID] = 0  # refused by the venue, or what did not fill at once has lapsed
        elif what == log.SESSION or what == log.SETTLE or what == log.GAP:
            head[log.BUSY] = 0
            return k
    head[log.BUSY] = 0
    return len(words)
