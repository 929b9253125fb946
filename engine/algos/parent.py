"""Parent: the life of an instrument's parent order, the same for every algorithm.

What differs is small: how much must be filled by now (that crosses), how much may be (that rests), and
when to look again. Everything else (prices, limits, the end, the accounts) is here. Requests are noted
for `orders.act`; one child order per instrument works at a time.
"""

from __future__ import annotations

import numpy as np

from engine import account as acc
from engine import counters as at
from engine import strategy as plan
from engine.algos.choice import MARKET, PEG, POV, TWAP, VWAP, algo_of, duration_ns, is_control
from engine.algos.peg import is_worth_crossing, is_worth_waiting, pressure_of
from engine.algos.pov import lots_by_participation
from engine.algos.twap import lots_by_slice, slices_over
from engine.algos.vwap import lots_by_volume
from engine.deskarrays import (
    CHILD,
    CROSS,
    ID,
    LEFT,
    PLACES,
    PRICE,
    REST,
    SENT_NS,
    SESSION_END,
    SESSION_START,
    SIDE,
    TRADED_BY_OTHERS,
    VENUE_HALTED,
    WITHDRAW,
    Desk,
)
from engine.gates import HOLD_CONTROL, HOLD_PARENTS, PARENTS, TradingState, is_held, largest_order
from engine.jit import inline_kernel, kernel
from engine.orders import ask, state_of

RETRY_NS = 1_000_000_000  # a parent that cannot start now tries again then
AGAIN_NS = 250_000_000  # what crossed and found too little, or was refused, tries again then
_ACTIVE = int(TradingState.ACTIVE)


@inline_kernel
def clear_of_own(desk: Desk, i: int, side: int, ticks: int) -> int:
    """A resting price that does not meet an own order of the other side; 0 where none is left."""
    for place in range(PLACES):
        if desk.own[i, place, ID] != 0 and desk.own[i, place, SIDE] == -side:
            limit = desk.own[i, place, PRICE] - side
            ticks = min(ticks, limit) if side > 0 else max(ticks, limit)
    return max(ticks, 0)


@inline_kernel
def within(side: int, ticks: int, limit: int) -> int:
    """A price no worse than the limit."""
    return min(ticks, limit) if side > 0 else max(ticks, limit)


@inline_kernel
def child_price(desk: Desk, i: int, side: int, touch: int, opposite: int) -> int:
    """Where a parent's child should rest, in ticks; 0 for nowhere."""
    price = plan.resting_price(side, touch, opposite, int(desk.settings[i, plan.PARENT_IMPROVE]))
    return clear_of_own(desk, i, side, within(side, price, int(desk.parents[i, plan.P_LIMIT])))


@inline_kernel
def order_lots(desk: Desk, i: int, lots: int) -> int:
    """The lots wanted, cut to the largest order that the gates take; the rest comes with later orders."""
    most = largest_order(desk.gates, i)
    return int(most) if lots > most else lots


@inline_kernel
def follow_touch(desk: Desk, count: int, i: int, bid: int, ask_price: int, t_ns: int) -> int:
    """Ask that a parent's resting child moves where the touch has gone; returns the number of requests."""
    if desk.own[i, CHILD, ID] != 0 and 0 < bid < ask_price:
        side = desk.own[i, CHILD, SIDE]
        touch, opposite = (bid, ask_price) if side > 0 else (ask_price, bid)
        wanted = child_price(desk, i, side, touch, opposite)
        rested = t_ns - desk.own[i, CHILD, SENT_NS] >= desk.settings[i, plan.PARENT_FOLLOW_NS]
        if rested and side * (wanted - desk.own[i, CHILD, PRICE]) > 0:
            lots = desk.own[i, CHILD, LEFT]
            count = ask(desk, count, i, CHILD, WITHDRAW, side, 0, 0)
            count = ask(desk, count, i, CHILD, REST, side, wanted, lots)
            desk.parents[i, plan.P_ORDERS] += 1
    return count


@inline_kernel
def volume_seen(desk: Desk, i: int) -> int:
    """Lots that others have traded since a parent's start."""
    return int(desk.volumes[TRADED_BY_OTHERS, i]) - int(desk.parents[i, plan.P_VOLUME])


@inline_kernel
def must_be_filled(desk: Desk, i: int, spread: int, bid_lots: int, ask_lots: int, t_ns: int) -> int:
    """How many lots of a parent should be filled by now; what is missing crosses."""
    parent = desk.parents[i]
    algo, target = parent[plan.P_ALGO], parent[plan.P_TARGET]
    start_ns, end_ns = parent[plan.P_START_NS], parent[plan.P_END_NS]
    lots = 0
    if t_ns >= end_ns or algo == MARKET:
        lots = target
    elif algo == TWAP:
        over = slices_over(t_ns, start_ns, parent[plan.P_SLICE_NS])
        lots = lots_by_slice(target, over, int(desk.settings[i, plan.PARENT_SLICES]))
    elif algo == VWAP:
        session = desk.session
        lots = lots_by_volume(
            desk.volume_curve, target, t_ns, start_ns, end_ns, session[SESSION_START], session[SESSION_END]
        )
    elif algo == POV:
        lots = lots_by_participation(target, volume_seen(desk, i), desk.settings[i, plan.POV_RATE])
    elif algo == PEG and spread > 0:
        gone = float(t_ns - start_ns) / float(end_ns - start_ns)
        pressure = pressure_of(desk.signal[i], bid_lots, ask_lots)
        negligible = spread <= 2.0 * desk.settings[i, plan.PEG_NEGLIGIBLE] * desk.account[i, acc.MARK]
        if negligible or is_worth_crossing(
            parent[plan.P_SIDE], spread, desk.usual_spread[i], pressure, gone,
            desk.settings[i, plan.PEG_PATIENCE], desk.settings[i, plan.PEG_URGENCY],
        ):  # fmt: skip
            # No more than stands at the touch: further levels are not what was found cheap.
            lots = min(target, parent[plan.P_FILLED] + (ask_lots if parent[plan.P_SIDE] > 0 else bid_lots))
    return lots


@inline_kernel
def may_be_filled(desk: Desk, i: int, t_ns: int) -> int:
    """Up to how many lots of a parent may be filled before it is looked at again; what is missing rests."""
    parent = desk.parents[i]
    algo, target = parent[plan.P_ALGO], parent[plan.P_TARGET]
    start_ns, end_ns, slice_ns = parent[plan.P_START_NS], parent[plan.P_END_NS], parent[plan.P_SLICE_NS]
    lots = int(target)
    next_slice = slices_over(t_ns, start_ns, slice_ns) + 1
    if t_ns >= end_ns or algo == MARKET:
        lots = 0
    elif algo == TWAP:
        lots = lots_by_slice(target, next_slice, int(desk.settings[i, plan.PARENT_SLICES]))
    elif algo == VWAP:
        session = desk.session
        lots = lots_by_volume(
            desk.volume_curve, target, start_ns + next_slice * slice_ns, start_ns, end_ns,
            session[SESSION_START], session[SESSION_END],
        )  # fmt: skip
    elif algo == POV:
        lots = lots_by_participation(target, volume_seen(desk, i), desk.settings[i, plan.POV_CAP])
    return lots


@inline_kernel
def look_again_ns(desk: Desk, i: int, t_ns: int) -> int:
    """When a working parent is to be looked at again: always later than now."""
    parent = desk.parents[i]
    algo, start_ns, end_ns = parent[plan.P_ALGO], parent[plan.P_START_NS], parent[plan.P_END_NS]
    if t_ns >= end_ns or algo == MARKET:
        return t_ns + AGAIN_NS
    if algo in (POV, PEG):
        next_ns = t_ns + int(desk.settings[i, plan.PARENT_LOOK_NS])
    else:
        slice_ns = parent[plan.P_SLICE_NS]
        next_ns = start_ns + (slices_over(t_ns, start_ns, slice_ns) + 1) * slice_ns
    return int(max(min(next_ns, end_ns), t_ns + 1))


@inline_kernel
def start_parent(desk: Desk, i: int, t_ns: int) -> None:
    """Begin a new parent: how much, by which algorithm, until when, and at what price at the worst."""
    settings, parent = desk.settings[i], desk.parents[i]
    mid, number = desk.account[i, acc.MARK], parent[plan.P_COUNT]
    lasts_ns = duration_ns(number, i, settings[plan.PARENT_SHORTEST_NS], settings[plan.PARENT_LONGEST_NS])
    control = is_control(number, i, settings[plan.PARENT_CONTROL])
    limit = mid * (1.0 + parent[plan.P_SIDE] * settings[plan.PARENT_LIMIT])
    parent[plan.P_TARGET] = plan.lots_for(settings[plan.PARENT_USD], mid, desk.account[i, acc.USD])
    parent[plan.P_FILLED] = parent[plan.P_NOTIONAL] = parent[plan.P_FILLS] = parent[plan.P_ORDERS] = 0
    parent[plan.P_FIRST_NS] = -1
    parent[plan.P_START_NS], parent[plan.P_END_NS] = t_ns, t_ns + max(lasts_ns, 1)
    parent[plan.P_SLICE_NS] = max(-(-lasts_ns // int(settings[plan.PARENT_SLICES])), 1)
    parent[plan.P_ALGO] = algo_of(number, int(settings[plan.PARENT_ALGO]), control)
    parent[plan.P_CONTROL] = 1 if control else 0
    # Whole ticks on the parent's own side of the limit.
    parent[plan.P_LIMIT] = max(int(np.floor(limit)) if parent[plan.P_SIDE] > 0 else int(np.ceil(limit)), 1)
    parent[plan.P_VOLUME] = int(desk.volumes[TRADED_BY_OTHERS, i])
    parent[plan.P_COUNT] += 1
    parent[plan.P_STATE] = plan.WORKING
    desk.arrival[i] = mid
    desk.arrival_spread[i] = desk.spread[i]
    desk.counts[at.PARENTS_STARTED] += 1


@inline_kernel
def finish_parent(desk: Desk, i: int, t_ns: int) -> None:
    """Count a parent as finished with what it has, and plan the next one, on the other side."""
    parent, arrival, usd = desk.parents[i], desk.arrival[i], desk.account[i, acc.USD]
    side, filled, algo = parent[plan.P_SIDE], parent[plan.P_FILLED], parent[plan.P_ALGO]
    impact = side * (desk.account[i, acc.MARK] - arrival) / arrival * 1e4
    desk.counts[at.PARENTS_FINISHED] += 1
    if parent[plan.P_CONTROL] == 0:
        desk.sums[at.PARENT_ORDERED] += parent[plan.P_TARGET] * arrival * usd
        desk.sums[at.PARENT_FILLED] += filled * arrival * usd
        desk.counts[at.IMPACT_PARENTS] += 1
        desk.sums[at.IMPACT] += impact
    desk.counts[at.ALGO_FINISHED + algo] += 1
    desk.sums[at.ALGO_ORDERED + algo] += parent[plan.P_TARGET] * arrival * usd
    desk.sums[at.ALGO_FILLED + algo] += filled * arrival * usd
    desk.sums[at.ALGO_COST + algo] += side * (parent[plan.P_NOTIONAL] - arrival * filled) * usd
    desk.sums[at.ALGO_VALUE + algo] += arrival * filled * usd
    desk.sums[at.ALGO_IMPACT + algo] += impact
    write_finished(desk, i, t_ns)
    parent[plan.P_STATE] = plan.IDLE
    parent[plan.P_SIDE] = -side
    parent[plan.P_NEXT_NS] = max(parent[plan.P_START_NS] + int(desk.settings[i, plan.PARENT_PERIOD_NS]), t_ns + 1)


@inline_kernel
def write_finished(desk: Desk, i: int, t_ns: int) -> None:
    """Write a parent that is over into the ring of finished ones."""
    parent, row = desk.parents[i], desk.finished[desk.finished_written[0] % len(desk.finished)]
    row.start_ns, row.first_fill_ns, row.end_ns = parent[plan.P_START_NS], parent[plan.P_FIRST_NS], t_ns
    row.number = parent[plan.P_COUNT] - 1
    row.target, row.filled, row.notional = parent[plan.P_TARGET], parent[plan.P_FILLED], parent[plan.P_NOTIONAL]
    row.arrival, row.end_mid, row.spread = desk.arrival[i], desk.account[i, acc.MARK], desk.arrival_spread[i]
    row.fills, row.orders = parent[plan.P_FILLS], parent[plan.P_ORDERS]
    row.instrument, row.algo, row.side = i, parent[plan.P_ALGO], parent[plan.P_SIDE]
    row.control = parent[plan.P_CONTROL]
    desk.finished_written[0] += 1


@inline_kernel
def cross(desk: Desk, count: int, i: int, lots: int, opposite: int) -> int:
    """Ask that so much is filled at once, if the parent's limit allows it; returns the number of requests."""
    side, limit = desk.parents[i, plan.P_SIDE], desk.parents[i, plan.P_LIMIT]
    if opposite > 0 and side * (limit - opposite) >= 0:
        worst = plan.crossing_price(side, desk.account[i, acc.MARK], opposite, desk.settings[i, plan.PARENT_REACH])
        count = ask(desk, count, i, CHILD, WITHDRAW, 0, 0, 0)
        count = ask(desk, count, i, CHILD, CROSS, side, within(side, worst, limit), order_lots(desk, i, lots))
        desk.parents[i, plan.P_ORDERS] += 1
    return count


@inline_kernel
def rest(
    desk: Desk, count: int, i: int, touch: int, opposite: int, bid_lots: int, ask_lots: int, t_ns: int
) -> int:  # fmt: skip
    """Ask that a child rests where none does, with what may be filled next; returns the number of requests.

    The peg's child also goes back with a touch that goes back (to pay more than the others do is to be
    filled by those who know better), and rests nowhere while the price is expected to get better.
    """
    side, resting = desk.parents[i, plan.P_SIDE], desk.own[i, CHILD, ID] != 0
    price = 0
    if touch > 0 and opposite > 0 and side * (opposite - touch) > 0:
        price = child_price(desk, i, side, touch, opposite)
    if desk.parents[i, plan.P_ALGO] == PEG:
        pressure = pressure_of(desk.signal[i], bid_lots, ask_lots)
        if is_worth_waiting(side, pressure, desk.settings[i, plan.PEG_HOLD]):
            price = 0
        if resting and (price == 0 or side * (desk.own[i, CHILD, PRICE] - price) > 0):
            count = ask(desk, count, i, CHILD, WITHDRAW, 0, 0, 0)
            resting = False
    lots = may_be_filled(desk, i, t_ns) - desk.parents[i, plan.P_FILLED]
    if price > 0 and lots > 0 and not resting:
        count = ask(desk, count, i, CHILD, REST, side, price, order_lots(desk, i, lots))
        desk.parents[i, plan.P_ORDERS] += 1
    return count


@kernel
def decide_parent(desk: Desk, i: int, touch: int, opposite: int, bid_lots: int, ask_lots: int, t_ns: int) -> int:
    """Move an instrument's parent order on at its timer; returns the number of requests noted.

        IDLE     -> WORKING  a new parent, looked at right away
        WORKING  -> CROSSED  less is filled than must be by now: the resting child is withdrawn, the rest crosses
        WORKING  -> WORKING  a child rests, or is put to rest
        CROSSED  -> WORKING  what is left rests again
        *        -> IDLE     filled, past its end and grace, or trading is restricted: finished

    touch: the others' best price on the parent's side, opposite: the best on the other, 0 for none;
    bid_lots, ask_lots: what others show at the best bid and ask. Each state's next look is later than
    the one before or at once in another state, so time goes on.
    """
    parent = desk.parents[i]
    trading = state_of(desk, i, PARENTS) == _ACTIVE
    open_for_orders = desk.status[i, VENUE_HALTED] == 0
    if parent[plan.P_STATE] == plan.IDLE:
        held = is_held(desk.gates, HOLD_PARENTS)
        if held or not (trading and open_for_orders) or np.isnan(desk.spread[i]):
            parent[plan.P_NEXT_NS] = t_ns + RETRY_NS
            return 0
        if plan.lots_for(desk.settings[i, plan.PARENT_USD], desk.account[i, acc.MARK], desk.account[i, acc.USD]) < 1:
            desk.counts[at.DECISION_FAULTS] += 1
            parent[plan.P_NEXT_NS] = t_ns + RETRY_NS
            return 0
        number = parent[plan.P_COUNT]
        if is_held(desk.gates, HOLD_CONTROL) and is_control(number, i, desk.settings[i, plan.PARENT_CONTROL]):
            parent[plan.P_COUNT] += 1  # it is left out, not put off: the next one is not of the control group
            parent[plan.P_NEXT_NS] = t_ns + int(desk.settings[i, plan.PARENT_PERIOD_NS])
            return 0
        start_parent(desk, i, t_ns)
    count = 0
    missing = parent[plan.P_TARGET] - parent[plan.P_FILLED]
    grace_ns = int(desk.settings[i, plan.PARENT_GRACE_NS])
    over = t_ns >= parent[plan.P_END_NS] + grace_ns and parent[plan.P_STATE] == plan.CROSSED
    too_late = t_ns > parent[plan.P_END_NS] + grace_ns
    if missing <= 0 or over or too_late or not trading:
        count = ask(desk, count, i, CHILD, WITHDRAW, 0, 0, 0)
        finish_parent(desk, i, t_ns)
        return count
    if open_for_orders and parent[plan.P_STATE] == plan.WORKING:
        spread = abs(opposite - touch) if touch > 0 and opposite > 0 else 0
        behind = must_be_filled(desk, i, spread, bid_lots, ask_lots, t_ns) - parent[plan.P_FILLED]
        if behind > 0:
            count = cross(desk, count, i, behind, opposite)
    if count > 0:
        parent[plan.P_STATE], parent[plan.P_NEXT_NS] = plan.CROSSED, t_ns
    else:
        if open_for_orders:
            count = rest(desk, count, i, touch, opposite, bid_lots, ask_lots, t_ns)
        parent[plan.P_STATE], parent[plan.P_NEXT_NS] = plan.WORKING, look_again_ns(desk, i, t_ns)
    return count
