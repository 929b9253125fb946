"""Own fills: what the books report of own orders, put into orders, account and records; and how an own order ends."""

from __future__ import annotations

from engine import account as acc
from engine import counters as at
from engine.blotter import (
    BLOTTER,
    CLIENT,
    CLIENT_ID,
    FAULTS,
    FILLED,
    FIRST_FILL_NS,
    INSTRUMENT,
    PARTIAL,
    close_order,
    move,
    owner_of,
    row_of,
    take_lots,
)
from engine.blotter import CANCELLED as ORDER_CANCELLED
from engine.blotter import EXPIRED as ORDER_EXPIRED
from engine.blotter import LEFT as ORDER_LEFT
from engine.blotter import PRICE as ORDER_PRICE
from engine.blotter import SENT_NS as ORDER_SENT_NS
from engine.blotter import SIDE as ORDER_SIDE
from engine.deskarrays import CHILD, ID, LATEST_NS, LEFT, OWN_FILLED, PRICE, SIDE, TRADED_BY_OTHERS, Desk, word
from engine.dropcopy import execution_id, send_drop_copy
from engine.events import SELF_CANCEL, TAKER_CANCEL, FillArray
from engine.executions import record_execution
from engine.gates import CLIENTS, HOUSE, MAKER, PARENTS
from engine.jit import inline_kernel, kernel
from engine.journal import digest_fill
from engine.mailbox import S_LIVE, SESSION_WORDS, What, Why, answer
from engine.nanoclock import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_ns
from engine.orderlog import CANCELLED as LOG_CANCELLED
from engine.orderlog import FILL, log_order
from engine.ordertimes import record
from engine.strategy import P_CONTROL, note_fill
from engine.working import follow_orders

_FILL, _CANCEL = int(What.FILL), int(What.CANCEL)
_SELF_TRADE, _SESSION_END = int(Why.SELF_TRADE), int(Why.SESSION_END)


@inline_kernel
def strategy_of(desk: Desk, order_id: int) -> int:
    """Index in gates.STRATEGIES of the one that sent an own order."""
    place = (-order_id) & 3
    return MAKER if place < CHILD else (PARENTS if place == CHILD else CLIENTS)


@inline_kernel
def client_of(desk: Desk, order_id: int) -> int:
    """Index of the client that an own order is for; HOUSE for the desk's own, and for one that nobody knows."""
    row = row_of(desk.blotter, order_id) if (-order_id) & 3 == BLOTTER else 0
    return owner_of(desk.blotter, row) if row != 0 else HOUSE


@inline_kernel
def log_cancel(desk: Desk, i: int, place: int, order_id: int, lots: int, left: int, why: int) -> None:
    """Log that lots of a house order were cancelled."""
    log_order(
        desk.order_events, desk.order_events_written, desk.clockwork[LATEST_NS], order_id, LOG_CANCELLED, i,
        desk.own[i, place, SIDE], desk.own[i, place, PRICE], lots, left, 0, strategy_of(desk, order_id), HOUSE, why, 0,
    )  # fmt: skip


@kernel
def end_client_order(desk: Desk, row: int, state: int, why: int) -> None:
    """End what is left of a client's order in CANCELLED or EXPIRED, and tell the client."""
    w = desk.blotter
    session = w[row + CLIENT]
    close_order(w, desk.working, row, state)
    follow_orders(desk, w[row + INSTRUMENT])
    desk.counts[at.CANCELLED] += 1
    log_order(
        desk.order_events, desk.order_events_written, desk.clockwork[LATEST_NS], w[row], LOG_CANCELLED,
        w[row + INSTRUMENT], w[row + ORDER_SIDE], w[row + ORDER_PRICE], w[row + ORDER_LEFT], 0, 0, CLIENTS,
        owner_of(w, row), why, 0,
    )  # fmt: skip
    if session >= 0:
        desk.sessions[session * SESSION_WORDS + S_LIVE] -= 1
    answer(
        desk.sessions, session, _CANCEL, why, w[row + CLIENT_ID], w[row], w[row + INSTRUMENT], w[row + ORDER_SIDE], 0,
        w[row + ORDER_LEFT], 0, 0,
    )  # fmt: skip


@kernel
def fill_client_order(desk: Desk, order_id: int, lots: int, ticks: int, taker: int) -> None:
    """Put a fill into a client's order and tell the client."""
    w = desk.blotter
    row = row_of(w, order_id)
    if row == 0:
        w[FAULTS] += 1
        return
    if w[row + FIRST_FILL_NS] == 0:
        w[row + FIRST_FILL_NS] = clock_ns(CLOCK_MONOTONIC)
        if taker:
            record(desk, at.LATENCY_CLIENT_FILL, w[row + FIRST_FILL_NS] - w[row + ORDER_SENT_NS])
    session = w[row + CLIENT]
    take_lots(w, desk.working, row, lots)
    if w[row + ORDER_LEFT] > 0:
        move(w, row, PARTIAL)
    else:
        close_order(w, desk.working, row, FILLED)
        desk.counts[at.FILLED] += 1
        if session >= 0:
            desk.sessions[session * SESSION_WORDS + S_LIVE] -= 1
    answer(
        desk.sessions, session, _FILL, 0, w[row + CLIENT_ID], order_id, w[row + INSTRUMENT], w[row + ORDER_SIDE],
        ticks, lots, w[row + ORDER_LEFT], taker,
    )  # fmt: skip


@inline_kernel
def book_own_fill(
    desk: Desk, i: int, side: int, order_id: int, lots: int, ticks: int, taker: int, t_ns: int, execution: int
) -> None:
    """Put one own fill where it belongs: order, parent, account, counters, record, ring."""
    place, left, client = (-order_id) & 3, 0, HOUSE
    if place == BLOTTER:
        row = row_of(desk.blotter, order_id)
        if row != 0:
            left, client = desk.blotter[row + ORDER_LEFT] - lots, owner_of(desk.blotter, row)
        fill_client_order(desk, order_id, lots, ticks, taker)
    elif desk.own[i, place, ID] == order_id:
        desk.own[i, place, LEFT] -= lots
        left = max(desk.own[i, place, LEFT], 0)
        if desk.own[i, place, LEFT] <= 0:
            desk.own[i, place, ID] = 0
            desk.counts[at.FILLED] += 1
    usd = desk.account[i, acc.USD]
    acc.book_fill(desk.account, desk.ledger, desk.fees, i, side, lots, ticks, taker)
    follow_orders(desk, i)
    desk.counts[at.FILLS_TAKER if taker else at.FILLS_MAKER] += 1
    desk.sums[at.TRADED_VALUE] += float(lots) * ticks * usd
    desk.volumes[OWN_FILLED, i] += lots
    if place == CHILD:
        note_fill(desk.parents[i], lots, ticks, t_ns)
        if desk.parents[i, P_CONTROL] == 0:
            desk.sums[at.SLIPPAGE_COST] += side * (ticks - desk.arrival[i]) * lots * usd
            desk.sums[at.SLIPPAGE_VALUE] += desk.arrival[i] * lots * usd
    elif place != BLOTTER:
        desk.maker_lots[i] += side * lots
    log_order(
        desk.order_events, desk.order_events_written, t_ns, order_id, FILL, i, side, ticks, lots, left, 0,
        strategy_of(desk, order_id), client, taker, 0,
    )  # fmt: skip
    wall_ns = clock_ns(CLOCK_REALTIME)
    record_execution(
        desk.executions, desk.ledger, execution, order_id, i, side, ticks, lots, taker, t_ns, wall_ns
    )  # fmt: skip
    out = desk.fills[desk.fills_written[0] % len(desk.fills)]
    out.t_ns = wall_ns
    out.engine_ns = t_ns
    out.order_id = order_id
    out.price_usd = ticks * desk.units[i, 0]
    out.qty = lots * desk.units[i, 1]
    out.instrument = i
    out.side = side
    out.taker = taker
    out.strategy = strategy_of(desk, order_id)
    desk.fills_written[0] += 1


@kernel
def book_fills(desk: Desk, fills: FillArray, count: int, t_ns: int) -> int:
    """Go through the fills of one event; returns how many were our own aggressor's."""
    send_drop_copy(desk.dropcopy, fills, count)
    taken = 0
    for k in range(count):
        fill = fills[k]
        i, side = word(fill.instrument), word(fill.side)
        digest_fill(desk.journal_head, fill.t_ns, fill.maker_id, fill.taker_id, fill.price, fill.qty, i)
        if fill.flags & (SELF_CANCEL | TAKER_CANCEL):
            cancelled_id = fill.maker_id if fill.flags & SELF_CANCEL else fill.taker_id
            place = (-cancelled_id) & 3
            if place == BLOTTER:
                row = row_of(desk.blotter, cancelled_id)
                if row != 0:
                    end_client_order(desk, row, ORDER_CANCELLED, _SELF_TRADE)
            elif desk.own[i, place, ID] == cancelled_id:
                desk.own[i, place, LEFT] -= fill.qty
                log_cancel(desk, i, place, cancelled_id, fill.qty, max(desk.own[i, place, LEFT], 0), _SELF_TRADE)
                if desk.own[i, place, LEFT] <= 0:
                    desk.own[i, place, ID] = 0
                    desk.counts[at.CANCELLED] += 1
                follow_orders(desk, i)
        elif fill.taker_id < 0 or fill.maker_id < 0:
            taker = 1 if fill.taker_id < 0 else 0
            taken += taker
            own_id, own_side = (fill.taker_id, side) if taker else (fill.maker_id, -side)
            execution = execution_id(fill.sequence, k, taker)
            book_own_fill(desk, i, own_side, own_id, fill.qty, fill.price, taker, t_ns, execution)
        else:
            desk.volumes[TRADED_BY_OTHERS, i] += fill.qty
    return taken


@inline_kernel
def forget(desk: Desk, i: int, order_id: int, why: int) -> int:
    """Note that an own order that rests is cancelled, and tell its client why; 0 where nobody knew it."""
    place = (-order_id) & 3
    known = 0
    if place == BLOTTER:
        row = row_of(desk.blotter, order_id)
        if row != 0:
            end_client_order(desk, row, ORDER_EXPIRED if why == _SESSION_END else ORDER_CANCELLED, why)
            known = 1
    elif desk.own[i, place, ID] == order_id:
        log_cancel(desk, i, place, order_id, desk.own[i, place, LEFT], 0, why)
        desk.own[i, place, ID] = 0
        follow_orders(desk, i)
        desk.counts[at.CANCELLED] += 1
        known = 1
    desk.counts[at.CANCELS_OF + strategy_of(desk, order_id)] += 1
    return known
