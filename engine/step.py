"""Step: the compiled heart of the engine, every due event and timer in the order of engine time.

An event goes into the books; its fills into the account; then the maker looks at its quotes. Timers
(the slices of parent orders) run before the first event that is not earlier than they are, so the
same events give the same trading however the calls to `step` are spaced.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine import account as acc
from engine import counters as at
from engine import strategy as plan
from engine.book import Books, apply, best_price, others_price
from engine.events import CLEAR, HALT, HIDDEN, RESUME, EventArray
from engine.gates import TradingState
from engine.jit import inline_kernel, kernel
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.orders import (
    CHILD,
    ID,
    LAST_EVENT_NS,
    LATEST_NS,
    LEFT,
    MAKER_ASK,
    MAKER_BID,
    NEXT_DUE_NS,
    PLACES,
    PRICE,
    SENT_NS,
    SIDE,
    STATE,
    VENUE_HALTED,
    WORST_LAG_NS,
    Desk,
    book_fills,
    cancel,
    record,
    send,
    working_lots,
)
from engine.timeline import due_ns, engine_ns_at
from metrics.frame import IntArray

BATCH = 4096  # events in one call at most: commands and publications must get their turn
RETRY_NS = 1_000_000_000  # a parent that cannot start now tries again then
FAR_NS = 1 << 62
_ACTIVE, _REDUCING = int(TradingState.ACTIVE), int(TradingState.REDUCING)


@kernel
def mark(desk: Desk, books: Books, i: int) -> None:
    """Take the mid of an instrument's book over into the account; a one-sided book leaves the last."""
    bid, ask = best_price(books, i, 1), best_price(books, i, -1)
    if bid > 0 and ask > bid:
        desk.account[i, acc.MARK] = 0.5 * (bid + ask)
        desk.spread[i] = float(ask - bid)
    else:
        desk.spread[i] = np.nan


@inline_kernel
def data_age(desk: Desk, i: int, t_ns: int, lag_ns: int) -> int:
    """How old an instrument's newest event is at t_ns, in engine time, counting what we lag behind; -1: none yet."""
    last = desk.status[i, LAST_EVENT_NS]
    return -1 if last < 0 else t_ns - last + lag_ns


@kernel
def make(desk: Desk, books: Books, i: int, t_ns: int, intended_ns: int, lag_ns: int, applied_ns: int) -> None:
    """Look at the maker's two quotes of one instrument and move, place or withdraw them."""
    settings = desk.settings[i]
    state = desk.status[i, STATE]
    bid, ask = others_price(books, i, 1), others_price(books, i, -1)
    quoting = settings[plan.MAKER_ON] != 0.0 and state <= _REDUCING and desk.status[i, VENUE_HALTED] == 0
    quoting = quoting and 0 < bid < ask
    usd, held = desk.account[i, acc.USD], desk.account[i, acc.POSITION]
    mid = 0.5 * (bid + ask)
    inventory = desk.maker_lots[i] * mid * usd / settings[plan.MAKER_MAX_USD]
    want_bid = want_ask = 0
    if quoting:
        skew, edge = settings[plan.MAKER_SKEW], int(settings[plan.MAKER_EDGE])
        if state == _ACTIVE or held < 0.0:
            want_bid = plan.quote_price(1, bid, ask, inventory, skew, edge)
        if state == _ACTIVE or held > 0.0:
            want_ask = plan.quote_price(-1, bid, ask, inventory, skew, edge)
    record(desk, at.LATENCY_DECISION, clock_ns(CLOCK_MONOTONIC) - applied_ns)
    for place in (MAKER_BID, MAKER_ASK):
        side = 1 if place == MAKER_BID else -1
        want = want_bid if place == MAKER_BID else want_ask
        row = desk.own[i, place]
        rested = t_ns - row[SENT_NS] >= settings[plan.MAKER_REQUOTE_NS]
        if row[ID] != 0 and (want == 0 or (rested and plan.is_worth_moving(row[PRICE], want, bid, ask))):
            cancel(desk, books, i, place, t_ns)
        if row[ID] == 0 and want != 0 and rested:
            lots = plan.lots_for(settings[plan.MAKER_USD], mid, usd)
            if state == _REDUCING:
                lots = min(lots, int(abs(held)) - working_lots(desk, i, side))
            if lots > 0:
                send(desk, books, i, place, side, want, lots, 0, t_ns, intended_ns, data_age(desk, i, t_ns, lag_ns))


@kernel
def begin_slice(desk: Desk, books: Books, i: int, t_ns: int, intended_ns: int, lag_ns: int) -> None:
    """Rest the next slice of a parent at the touch of its own side."""
    parent, settings = desk.parents[i], desk.settings[i]
    side = parent[plan.P_SIDE]
    touch = others_price(books, i, side)
    opposite = best_price(books, i, -side)
    lots = plan.lots_by_slice(parent[plan.P_TARGET], parent[plan.P_SLICE] + 1, int(settings[plan.PARENT_SLICES]))
    lots -= parent[plan.P_FILLED]
    if lots > 0 and touch > 0 and opposite > 0 and side * (opposite - touch) > 0:
        send(desk, books, i, CHILD, side, touch, lots, 0, t_ns, intended_ns, data_age(desk, i, t_ns, lag_ns))
    parent[plan.P_NEXT_NS] = t_ns + int(settings[plan.PARENT_SLICE_NS])


@kernel
def cross(desk: Desk, books: Books, i: int, t_ns: int, intended_ns: int, lag_ns: int) -> None:
    """Fill at once what a parent is behind its plan at the end of a slice."""
    parent, settings = desk.parents[i], desk.settings[i]
    side = parent[plan.P_SIDE]
    lots = plan.lots_by_slice(parent[plan.P_TARGET], parent[plan.P_SLICE] + 1, int(settings[plan.PARENT_SLICES]))
    lots -= parent[plan.P_FILLED]
    opposite = best_price(books, i, -side)
    if lots > 0 and opposite > 0:
        worst = plan.crossing_price(side, desk.account[i, acc.MARK], opposite, settings[plan.PARENT_REACH])
        send(desk, books, i, CHILD, side, worst, lots, 1, t_ns, intended_ns, data_age(desk, i, t_ns, lag_ns))
        mark(desk, books, i)


@inline_kernel
def start_parent(desk: Desk, books: Books, i: int, t_ns: int, intended_ns: int, lag_ns: int) -> None:
    """Begin an instrument's next parent order, or try again later where trading or data do not allow it."""
    parent, settings = desk.parents[i], desk.settings[i]
    mid = desk.account[i, acc.MARK]
    able = desk.status[i, STATE] == _ACTIVE and desk.status[i, VENUE_HALTED] == 0 and not np.isnan(desk.spread[i])
    if able:
        parent[plan.P_STATE] = plan.WORKING
        parent[plan.P_TARGET] = plan.lots_for(settings[plan.PARENT_USD], mid, desk.account[i, acc.USD])
        parent[plan.P_FILLED] = parent[plan.P_SLICE] = 0
        parent[plan.P_START_NS] = t_ns
        parent[plan.P_COUNT] += 1
        desk.arrival[i] = mid
        desk.counts[at.PARENTS_STARTED] += 1
        begin_slice(desk, books, i, t_ns, intended_ns, lag_ns)
    else:
        parent[plan.P_NEXT_NS] = t_ns + RETRY_NS


@inline_kernel
def finish_parent(desk: Desk, i: int, t_ns: int) -> None:
    """Count a parent as finished with what it has, and plan the next one, on the other side."""
    parent = desk.parents[i]
    arrival, usd = desk.arrival[i], desk.account[i, acc.USD]
    desk.counts[at.PARENTS_FINISHED] += 1
    desk.sums[at.PARENT_ORDERED] += parent[plan.P_TARGET] * arrival * usd
    desk.sums[at.PARENT_FILLED] += parent[plan.P_FILLED] * arrival * usd
    desk.counts[at.IMPACT_PARENTS] += 1
    desk.sums[at.IMPACT] += parent[plan.P_SIDE] * (desk.account[i, acc.MARK] - arrival) / arrival * 1e4
    parent[plan.P_STATE] = plan.IDLE
    parent[plan.P_SIDE] = -parent[plan.P_SIDE]
    parent[plan.P_NEXT_NS] = max(parent[plan.P_START_NS] + int(desk.settings[i, plan.PARENT_PERIOD_NS]), t_ns + 1)


@inline_kernel
def run_timer(desk: Desk, books: Books, i: int, t_ns: int, intended_ns: int, lag_ns: int) -> None:
    """An instrument's parent order at the end of a slice, or its next one's start."""
    parent = desk.parents[i]
    if parent[plan.P_STATE] == plan.IDLE:
        start_parent(desk, books, i, t_ns, intended_ns, lag_ns)
        return
    cancel(desk, books, i, CHILD, t_ns)
    allowed = desk.status[i, STATE] == _ACTIVE
    if allowed and desk.status[i, VENUE_HALTED] == 0:
        cross(desk, books, i, t_ns, intended_ns, lag_ns)
    parent[plan.P_SLICE] += 1
    over = parent[plan.P_SLICE] >= int(desk.settings[i, plan.PARENT_SLICES])
    if over or not allowed or parent[plan.P_FILLED] >= parent[plan.P_TARGET]:
        finish_parent(desk, i, t_ns)
    else:
        begin_slice(desk, books, i, t_ns, intended_ns, lag_ns)


@inline_kernel
def next_timer(desk: Desk) -> int:
    """Instrument whose timer is the next."""
    first = 0
    for i in range(1, desk.parents.shape[0]):
        if desk.parents[i, plan.P_NEXT_NS] < desk.parents[first, plan.P_NEXT_NS]:
            first = i
    return first


@kernel
def run_timers(desk: Desk, books: Books, timeline: IntArray, speed: float, until_ns: int, now_ns: int) -> int:
    """Run the timers up to an engine time, the earliest first; returns when the next one is."""
    while True:
        i = next_timer(desk)
        t_ns = desk.parents[i, plan.P_NEXT_NS]
        if t_ns > until_ns:
            return t_ns
        intended_ns = due_ns(timeline, speed, t_ns)
        run_timer(desk, books, i, t_ns, intended_ns, int((now_ns - intended_ns) * speed))


@kernel
def take_event(desk: Desk, books: Books, event: Any, timeline: IntArray, speed: float, late_ns: int) -> None:
    """Put one market event into the books and let its fills and the maker follow."""
    # Whole words from here on: a narrower type would compile everything below a second time.
    i, kind, t_ns = np.int64(event.instrument), np.int64(event.kind), event.t_ns
    side, flags = np.int64(event.side), np.int64(event.flags)
    intended_ns = due_ns(timeline, speed, t_ns)
    count = apply(books, t_ns, event.order_id, event.price, event.qty, i, kind, side, flags)
    applied_ns = clock_ns(CLOCK_MONOTONIC)
    lag_ns = applied_ns - intended_ns
    record(desk, at.LATENCY_MARKET_DATA, lag_ns)
    desk.counts[at.EVENT_OF_KIND + kind] += 1
    if kind < CLEAR and kind != HIDDEN:
        desk.counts[at.MARKET_ORDERS] += 1
    elif kind == HALT:
        desk.status[i, VENUE_HALTED] = 1
    elif kind == RESUME:
        desk.status[i, VENUE_HALTED] = 0
    if lag_ns > late_ns:
        desk.counts[at.LATE_EVENTS] += 1
    desk.clockwork[WORST_LAG_NS] = max(desk.clockwork[WORST_LAG_NS], lag_ns)
    desk.clockwork[LATEST_NS] = t_ns
    desk.status[i, LAST_EVENT_NS] = t_ns
    book_fills(desk, books.fills, count, t_ns)
    mark(desk, books, i)
    make(desk, books, i, t_ns, intended_ns, int(lag_ns * speed), applied_ns)


@kernel
def step(
    desk: Desk, books: Books, events: EventArray, cursor: int, timeline: IntArray, speed: float, late_ns: int, now_ns: int,
) -> int:  # fmt: skip
    """Apply the events from `cursor` on that are due at `now_ns` (monotonic), at most BATCH; returns the new cursor.

    clockwork[NEXT_DUE_NS] is set to when the next event or timer is due; FAR_NS where neither is known.
    """
    started = clock_ns(CLOCK_MONOTONIC)
    end = min(cursor + BATCH, len(events))
    next_event_ns = FAR_NS
    while cursor < end:
        due = due_ns(timeline, speed, events[cursor].t_ns)
        if due > now_ns:
            next_event_ns = due
            break
        run_timers(desk, books, timeline, speed, events[cursor].t_ns, now_ns)
        take_event(desk, books, events[cursor], timeline, speed, late_ns)
        cursor += 1
    if cursor == end and cursor < len(events):
        desk.clockwork[NEXT_DUE_NS] = now_ns  # more is due: the next call goes on
        return cursor
    next_timer_ns = run_timers(desk, books, timeline, speed, engine_ns_at(timeline, speed, now_ns), now_ns)
    desk.clockwork[NEXT_DUE_NS] = min(next_event_ns, due_ns(timeline, speed, next_timer_ns))
    record(desk, at.LATENCY_STEP, clock_ns(CLOCK_MONOTONIC) - started)
    return cursor


@kernel
def cancel_where_not_allowed(desk: Desk, books: Books, t_ns: int) -> int:
    """Cancel the own orders that the trading state does not allow (any more); returns how many.

    HALTED: all of an instrument. REDUCING: those that add to its position, and what goes beyond it.
    """
    cancelled = 0
    for i in range(desk.own.shape[0]):
        state = desk.status[i, STATE]
        left = abs(desk.account[i, acc.POSITION])
        for place in range(PLACES):
            row = desk.own[i, place]
            adds = row[SIDE] * desk.account[i, acc.POSITION] >= 0.0 or row[LEFT] > left
            if state > _REDUCING or (state == _REDUCING and adds):
                cancelled += cancel(desk, books, i, place, t_ns)
            elif row[ID] != 0:
                left -= row[LEFT]
    return cancelled


@kernel
def cancel_everything(desk: Desk, books: Books, t_ns: int) -> int:
    """Cancel all own orders; returns how many."""
    cancelled = 0
    for i in range(desk.own.shape[0]):
        for place in range(PLACES):
            cancelled += cancel(desk, books, i, place, t_ns)
    return cancelled
