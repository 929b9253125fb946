"""Decisions: what the strategies want done about one instrument now, as requests for `orders.act`.

Nothing here touches a book: the touch is handed in, wishes are noted. A decision that depends on how
an earlier one came out (did the crossing order fill?) is taken when its timer is looked at again.
"""

from __future__ import annotations

import numpy as np

from engine import account as acc
from engine import counters as at
from engine import strategy as plan
from engine.gates import MAKER, PARENTS, TradingState
from engine.jit import inline_kernel, kernel
from engine.orders import (
    CHILD,
    CROSS,
    ID,
    LEFT,
    MAKER_ASK,
    MAKER_BID,
    PLACES,
    PRICE,
    REST,
    SENT_NS,
    SIDE,
    VENUE_HALTED,
    WITHDRAW,
    Desk,
    ask,
    state_of,
    working_lots,
)

RETRY_NS = 1_000_000_000  # a parent that cannot start now tries again then
_ACTIVE, _REDUCING = int(TradingState.ACTIVE), int(TradingState.REDUCING)


@inline_kernel
def clear_of_own(desk: Desk, i: int, side: int, ticks: int) -> int:
    """A resting price that does not meet an own order of the other side; 0 where none is left."""
    for place in range(PLACES):
        if desk.own[i, place, ID] != 0 and desk.own[i, place, SIDE] == -side:
            limit = desk.own[i, place, PRICE] - side
            ticks = min(ticks, limit) if side > 0 else max(ticks, limit)
    return max(ticks, 0)


@inline_kernel
def wanted_quote(desk: Desk, i: int, side: int, bid: int, ask_price: int) -> int:
    """Where the maker wants its quote of one side, 0 for nowhere. bid and ask_price: the others' touch."""
    price = 0
    state, held = state_of(desk, i, MAKER), desk.account[i, acc.POSITION]
    allowed = state == _ACTIVE or (state == _REDUCING and side * held < 0.0)
    if allowed and desk.settings[i, plan.MAKER_ON] != 0.0 and desk.status[i, VENUE_HALTED] == 0 and 0 < bid < ask_price:
        value = desk.maker_lots[i] * 0.5 * (bid + ask_price) * desk.account[i, acc.USD]
        inventory = value / desk.settings[i, plan.MAKER_MAX_USD]
        skew, edge = desk.settings[i, plan.MAKER_SKEW], int(desk.settings[i, plan.MAKER_EDGE])
        price = plan.quote_price(side, bid, ask_price, inventory, skew, edge)
        if price != 0:
            price = clear_of_own(desk, i, side, price)
    return price


@inline_kernel
def follow_touch(desk: Desk, count: int, i: int, bid: int, ask_price: int, t_ns: int) -> int:
    """Ask that a parent's resting slice moves where the touch has gone; returns the number of requests."""
    if desk.own[i, CHILD, ID] != 0 and 0 < bid < ask_price:
        side = desk.own[i, CHILD, SIDE]
        touch, opposite = (bid, ask_price) if side > 0 else (ask_price, bid)
        wanted = plan.resting_price(side, touch, opposite, int(desk.settings[i, plan.PARENT_IMPROVE]))
        wanted = clear_of_own(desk, i, side, wanted)
        rested = t_ns - desk.own[i, CHILD, SENT_NS] >= desk.settings[i, plan.PARENT_FOLLOW_NS]
        if rested and side * (wanted - desk.own[i, CHILD, PRICE]) > 0:
            lots = desk.own[i, CHILD, LEFT]
            count = ask(desk, count, i, CHILD, WITHDRAW, side, 0, 0)
            count = ask(desk, count, i, CHILD, REST, side, wanted, lots)
    return count


@kernel
def decide_quotes(desk: Desk, i: int, bid: int, ask_price: int, t_ns: int) -> int:
    """Note what is to be done about the orders that rest in one instrument; returns the number of requests.

    bid, ask_price: the others' touch, 0 where a side is empty.
    """
    count = 0
    for place in range(MAKER_BID, MAKER_ASK + 1):
        side = 1 - 2 * place
        wanted = wanted_quote(desk, i, side, bid, ask_price)
        resting = desk.own[i, place, ID] != 0
        rested = t_ns - desk.own[i, place, SENT_NS] >= desk.settings[i, plan.MAKER_REQUOTE_NS]
        moves = rested and plan.is_worth_moving(desk.own[i, place, PRICE], wanted, bid, ask_price)
        if resting and (wanted == 0 or moves):
            count = ask(desk, count, i, place, WITHDRAW, side, 0, 0)
        if wanted != 0 and rested and (moves or not resting):
            mid = 0.5 * (bid + ask_price)
            lots = plan.lots_for(desk.settings[i, plan.MAKER_USD], mid, desk.account[i, acc.USD])
            if state_of(desk, i, MAKER) == _REDUCING:
                others = working_lots(desk, i, side) - (desk.own[i, place, LEFT] if resting else 0)
                lots = min(lots, int(abs(desk.account[i, acc.POSITION])) - others)
            if lots > 0:
                count = ask(desk, count, i, place, REST, side, wanted, lots)
    return follow_touch(desk, count, i, bid, ask_price, t_ns)


@inline_kernel
def finish_parent(desk: Desk, i: int, t_ns: int) -> None:
    """Count a parent as finished with what it has, and plan the next one, on the other side."""
    arrival, usd = desk.arrival[i], desk.account[i, acc.USD]
    side = desk.parents[i, plan.P_SIDE]
    desk.counts[at.PARENTS_FINISHED] += 1
    desk.sums[at.PARENT_ORDERED] += desk.parents[i, plan.P_TARGET] * arrival * usd
    desk.sums[at.PARENT_FILLED] += desk.parents[i, plan.P_FILLED] * arrival * usd
    desk.counts[at.IMPACT_PARENTS] += 1
    desk.sums[at.IMPACT] += side * (desk.account[i, acc.MARK] - arrival) / arrival * 1e4
    next_ns = desk.parents[i, plan.P_START_NS] + int(desk.settings[i, plan.PARENT_PERIOD_NS])
    desk.parents[i, plan.P_STATE] = plan.IDLE
    desk.parents[i, plan.P_SIDE] = -side
    desk.parents[i, plan.P_NEXT_NS] = max(next_ns, t_ns + 1)


@inline_kernel
def begin_slice(desk: Desk, count: int, i: int, touch: int, opposite: int, t_ns: int) -> int:
    """Ask that the next slice of a parent rests at the touch of its own side; returns the number of requests."""
    side = desk.parents[i, plan.P_SIDE]
    slices = int(desk.settings[i, plan.PARENT_SLICES])
    lots = plan.lots_by_slice(desk.parents[i, plan.P_TARGET], desk.parents[i, plan.P_SLICE] + 1, slices)
    lots -= desk.parents[i, plan.P_FILLED]
    if lots > 0 and touch > 0 and opposite > 0 and side * (opposite - touch) > 0:
        price = plan.resting_price(side, touch, opposite, int(desk.settings[i, plan.PARENT_IMPROVE]))
        price = clear_of_own(desk, i, side, price)
        count = ask(desk, count, i, CHILD, REST, side, price, lots)
    desk.parents[i, plan.P_STATE] = plan.WORKING
    desk.parents[i, plan.P_NEXT_NS] = t_ns + desk.parents[i, plan.P_SLICE_NS]
    return count


@inline_kernel
def cross(desk: Desk, count: int, i: int, opposite: int) -> int:
    """Ask that what a parent is behind its plan at the end of a slice is filled at once."""
    side = desk.parents[i, plan.P_SIDE]
    slices = int(desk.settings[i, plan.PARENT_SLICES])
    lots = plan.lots_by_slice(desk.parents[i, plan.P_TARGET], desk.parents[i, plan.P_SLICE] + 1, slices)
    lots -= desk.parents[i, plan.P_FILLED]
    if lots > 0 and opposite > 0:
        reach = desk.settings[i, plan.PARENT_REACH]
        worst = plan.crossing_price(side, desk.account[i, acc.MARK], opposite, reach)
        count = ask(desk, count, i, CHILD, CROSS, side, worst, lots)
    return count


@kernel
def decide_parent(desk: Desk, i: int, touch: int, opposite: int, t_ns: int) -> int:
    """Move an instrument's parent order on at its timer; returns the number of requests noted.

        IDLE     -> WORKING  a new parent: its first slice rests at the touch
        WORKING  -> CROSSED  the slice is over: its order is withdrawn, what is missing crosses the spread
        CROSSED  -> WORKING  the next slice rests at the touch
        CROSSED  -> IDLE     filled, past its last slice, or trading is restricted: finished

    touch: the others' best price on the parent's side, opposite: the best on the other; 0 for none.
    """
    count = 0
    trading = state_of(desk, i, PARENTS) == _ACTIVE
    open_for_orders = desk.status[i, VENUE_HALTED] == 0
    if desk.parents[i, plan.P_STATE] == plan.IDLE:
        if trading and open_for_orders and not np.isnan(desk.spread[i]):
            mid = desk.account[i, acc.MARK]
            target = plan.lots_for(desk.settings[i, plan.PARENT_USD], mid, desk.account[i, acc.USD])
            desk.parents[i, plan.P_TARGET] = target
            desk.parents[i, plan.P_FILLED] = desk.parents[i, plan.P_SLICE] = 0
            desk.parents[i, plan.P_START_NS] = t_ns
            shortest, longest = desk.settings[i, plan.PARENT_SHORTEST_NS], desk.settings[i, plan.PARENT_LONGEST_NS]
            lasts_ns = plan.duration_ns(desk.parents[i, plan.P_COUNT], i, shortest, longest)
            desk.parents[i, plan.P_SLICE_NS] = max(lasts_ns // int(desk.settings[i, plan.PARENT_SLICES]), 1)
            desk.parents[i, plan.P_COUNT] += 1
            desk.arrival[i] = mid
            desk.counts[at.PARENTS_STARTED] += 1
            count = begin_slice(desk, count, i, touch, opposite, t_ns)
        else:
            desk.parents[i, plan.P_NEXT_NS] = t_ns + RETRY_NS
    elif desk.parents[i, plan.P_STATE] == plan.WORKING:
        count = ask(desk, count, i, CHILD, WITHDRAW, 0, 0, 0)
        if trading and open_for_orders:
            count = cross(desk, count, i, opposite)
        desk.parents[i, plan.P_STATE] = plan.CROSSED
        desk.parents[i, plan.P_NEXT_NS] = t_ns
    else:
        desk.parents[i, plan.P_SLICE] += 1
        over = desk.parents[i, plan.P_SLICE] >= int(desk.settings[i, plan.PARENT_SLICES])
        if over or not trading or desk.parents[i, plan.P_FILLED] >= desk.parents[i, plan.P_TARGET]:
            finish_parent(desk, i, t_ns)
        else:
            count = begin_slice(desk, count, i, touch, opposite, t_ns)
    return count
