"""Step: the compiled heart of the engine, every due event and timer in the order of engine time.

An event goes into the books, its fills into the account, then the maker looks at its quotes. Timers
(the slices of parent orders) run before the first event that is not earlier than they are, so the
same events give the same trading however the calls to `step` are spaced.
"""

from __future__ import annotations

import numpy as np

from engine import account as acc
from engine import counters as at
from engine import strategy as plan
from engine.algos.parent import decide_parent, finish_parent
from engine.book import apply, best_price, others_price, others_qty
from engine.decide import decide_quotes
from engine.deskarrays import (
    ACTING,
    APPLYING,
    AT_EVENT,
    AT_INSTRUMENT,
    BLINDED,
    CHILD,
    CROSSED_NS,
    DECIDING,
    LAST_EVENT_NS,
    LATEST_NS,
    MAKER_ASK,
    MAKER_BID,
    NEXT_DUE_NS,
    RESTING,
    STAGE,
    VENUE_HALTED,
    WITHDRAW,
    WORST_LAG_NS,
    Desk,
    desk_of,
    word,
)
from engine.events import (
    BLIND,
    BOOK_FULL,
    CLEAR,
    DUPLICATE_ID,
    HALT,
    HIDDEN,
    INVALID,
    REPLACE,
    RESUME,
    EventArray,
)
from engine.jit import inline_kernel, kernel
from engine.journal import MARKET, PARENT, append, done
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.orders import act, ask, watch_market
from engine.ordertimes import record
from engine.ownfills import book_fills
from engine.recorder import LAST
from engine.timeline import due_ns
from metrics.frame import IntArray

BATCH = 4096  # events and timers in one call at most: commands and publications must get their turn
FAR_NS = 1 << 62


@inline_kernel
def next_timer(desk: Desk) -> int:
    """Instrument whose timer is the next."""
    first = 0
    for i in range(1, desk.parents.shape[0]):
        if desk.parents[i, plan.P_NEXT_NS] < desk.parents[first, plan.P_NEXT_NS]:
            first = i
    return first


@inline_kernel
def count_event(desk: Desk, i: int, kind: int, flags: int, t_ns: int, lag_ns: int, late_ns: int) -> None:
    """Count one market event that has just been applied."""
    record(desk, at.LATENCY_MARKET_DATA, lag_ns)
    desk.counts[at.EVENT_OF_KIND + kind] += 1
    if (kind < CLEAR and kind != HIDDEN) or kind == REPLACE:
        desk.counts[at.MARKET_ORDERS] += 1
    elif kind == HALT:
        desk.status[i, VENUE_HALTED] = BLINDED if flags & BLIND != 0 else 1
    elif kind == RESUME:
        desk.status[i, VENUE_HALTED] = 0
    if lag_ns > late_ns:
        desk.counts[at.LATE_EVENTS] += 1
    desk.clockwork[WORST_LAG_NS] = max(desk.clockwork[WORST_LAG_NS], lag_ns)
    desk.clockwork[LATEST_NS] = t_ns
    desk.status[i, LAST_EVENT_NS] = t_ns


@inline_kernel
def mark(desk: Desk, bid: int, ask_price: int, i: int, t_ns: int) -> None:
    """Take the mid of an instrument's book over into the account; a one-sided book leaves the last."""
    if 0 < bid < ask_price:
        desk.account[i, acc.MARK] = 0.5 * (bid + ask_price)
        desk.spread[i] = float(ask_price - bid)
        watch_market(desk, i, t_ns)
        desk.status[i, CROSSED_NS] = 0
    else:
        desk.spread[i] = np.nan
        crossed = 0 < ask_price <= bid and desk.status[i, VENUE_HALTED] == 0
        if not crossed:
            desk.status[i, CROSSED_NS] = 0
        elif desk.status[i, CROSSED_NS] == 0:
            desk.status[i, CROSSED_NS] = t_ns


@inline_kernel
def note_parent(desk: Desk, i: int, t_ns: int) -> None:
    """Write a parent order down as its timer leaves it: the start (when idle, the next one's) in order_id, twice
    the arrival mid in price (a whole number), target in qty, algorithm and control in flags, number in detail."""
    row = desk.parents[i]
    starts_ns = row[plan.P_NEXT_NS] if row[plan.P_STATE] == plan.IDLE else row[plan.P_START_NS]
    append(
        desk.journal, desk.journal_head, PARENT, t_ns, starts_ns, int(2.0 * desk.arrival[i]), row[plan.P_TARGET], i,
        row[plan.P_STATE], row[plan.P_SIDE], row[plan.P_ALGO] | row[plan.P_CONTROL] << 8, row[plan.P_COUNT],
    )  # fmt: skip


@kernel
def close_parent(table: IntArray, i: int, t_ns: int) -> None:
    """Withdraw an instrument's child order and finish its parent with what it has, as after a restart."""
    desk = desk_of(table)
    act(desk, desk.books, ask(desk, 0, i, CHILD, WITHDRAW, 0, 0, 0), t_ns, 0, 0)
    finish_parent(desk, i, t_ns)
    note_parent(desk, i, t_ns)
    done(desk.journal_head)


@kernel
def withdraw_quotes(table: IntArray, t_ns: int) -> int:
    """Cancel the maker's quotes; returns how many there were."""
    desk = desk_of(table)
    withdrawn = 0
    for i in range(desk.own.shape[0]):
        for place in range(MAKER_BID, MAKER_ASK + 1):
            withdrawn += act(desk, desk.books, ask(desk, 0, i, place, WITHDRAW, 0, 0, 0), t_ns, 0, 0)
    done(desk.journal_head)
    return withdrawn


@kernel
def step(
    table: IntArray, events: EventArray, cursor: int, timeline: IntArray, speed: float, late_ns: int, until_ns: int,
) -> int:  # fmt: skip
    """Apply what lies before or at `until_ns` (engine time), at most BATCH events and timers; returns the new cursor.

    All events up to until_ns must be there. clockwork[NEXT_DUE_NS] is set to when (monotonic) the
    next event or timer is due, in the past where BATCH was not enough.
    table: the lent desk. One long loop on purpose: each kernel that reaches the books is compiled with
    all of them in it.
    """
    desk = desk_of(table)
    books = desk.books
    started_ns = clock_ns(CLOCK_MONOTONIC)
    for _ in range(BATCH):
        i = next_timer(desk)
        t_ns = desk.parents[i, plan.P_NEXT_NS]
        is_event = cursor < len(events) and events[cursor].t_ns < t_ns
        if is_event:
            t_ns = events[cursor].t_ns
        if t_ns > until_ns:
            break
        desk.clockwork[AT_EVENT], desk.clockwork[AT_INSTRUMENT] = cursor if is_event else -1, i
        desk.clockwork[STAGE] = APPLYING
        intended_ns = due_ns(timeline, speed, t_ns)
        kind = flags = 0
        if is_event:
            event = events[cursor]
            # Whole words from here on: narrower types would compile the books a second time.
            i, kind, side, flags = word(event.instrument), word(event.kind), word(event.side), word(event.flags)
            desk.clockwork[AT_INSTRUMENT] = i
            order_id, price, qty = event.order_id, event.price, event.qty
            append(desk.journal, desk.journal_head, MARKET, t_ns, order_id, price, qty, i, kind, side, flags, 0)
            fills = apply(books, t_ns, order_id, price, qty, i, kind, side, flags)
            if fills > 0:  # handing the desk over costs more than the rest
                book_fills(desk, books.fills, fills, t_ns)
            elif fills in (BOOK_FULL, DUPLICATE_ID, INVALID):  # an order that is gone already is no fault
                desk.counts[at.EVENTS_REFUSED] += 1
        desk.clockwork[STAGE] = DECIDING
        done_ns = clock_ns(CLOCK_MONOTONIC)
        lag_ns = done_ns - intended_ns
        if is_event:
            count_event(desk, i, kind, flags, t_ns, lag_ns, late_ns)
            cursor += 1
            mark(desk, best_price(books, i, 1), best_price(books, i, -1), i, t_ns)
            requests = decide_quotes(desk, i, others_price(books, i, 1), others_price(books, i, -1), t_ns)
        else:
            desk.stages[LAST, at.LATENCY_MARKET_DATA] = max(lag_ns, 0)  # a timer's lateness, for its orders' account
            mark(desk, best_price(books, i, 1), best_price(books, i, -1), i, t_ns)
            side = desk.parents[i, plan.P_SIDE]
            touch, opposite = others_price(books, i, side), best_price(books, i, -side)
            requests = decide_parent(desk, i, touch, opposite, others_qty(books, i, 1), others_qty(books, i, -1), t_ns)
            note_parent(desk, i, t_ns)
        record(desk, at.LATENCY_DECISION, clock_ns(CLOCK_MONOTONIC) - done_ns)
        if requests > 0:
            desk.clockwork[STAGE] = ACTING
            last_ns = desk.status[i, LAST_EVENT_NS]
            age_ns = -1 if last_ns < 0 else t_ns - last_ns + int(max(lag_ns, 0) * speed)
            act(desk, books, requests, t_ns, intended_ns, age_ns)
    desk.clockwork[STAGE] = RESTING
    done(desk.journal_head)
    next_ns = desk.parents[next_timer(desk), plan.P_NEXT_NS]
    if cursor < len(events):
        next_ns = min(next_ns, events[cursor].t_ns)
    desk.clockwork[NEXT_DUE_NS] = due_ns(timeline, speed, next_ns)
    record(desk, at.LATENCY_STEP, clock_ns(CLOCK_MONOTONIC) - started_ns)
    return cursor
