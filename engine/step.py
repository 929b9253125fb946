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
from engine.algos.parent import decide_parent
from engine.book import Books, apply, best_price, others_price, others_qty
from engine.decide import decide_quotes
from engine.events import BLIND, CLEAR, HALT, HIDDEN, REPLACE, RESUME, EventArray
from engine.jit import inline_kernel, kernel
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.orders import (
    BLINDED,
    LAST_EVENT_NS,
    LATEST_NS,
    NEXT_DUE_NS,
    VENUE_HALTED,
    WORST_LAG_NS,
    Desk,
    act,
    book_fills,
    record,
    watch_market,
    word,
)
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
    else:
        desk.spread[i] = np.nan


@kernel
def step(
    desk: Desk, books: Books, events: EventArray, cursor: int, timeline: IntArray, speed: float, late_ns: int, until_ns: int,
) -> int:  # fmt: skip
    """Apply what lies before or at `until_ns` (engine time), at most BATCH events and timers; returns the new cursor.

    All events up to until_ns must be there. clockwork[NEXT_DUE_NS] is set to when (monotonic) the
    next event or timer is due, in the past where BATCH was not enough.
    One long loop on purpose: each kernel that reaches the books is compiled with all of them in it.
    """
    started_ns = clock_ns(CLOCK_MONOTONIC)
    for _ in range(BATCH):
        i = next_timer(desk)
        t_ns = desk.parents[i, plan.P_NEXT_NS]
        is_event = cursor < len(events) and events[cursor].t_ns < t_ns
        if is_event:
            t_ns = events[cursor].t_ns
        if t_ns > until_ns:
            break
        intended_ns = due_ns(timeline, speed, t_ns)
        kind = flags = 0
        if is_event:
            event = events[cursor]
            # Whole words from here on: narrower types would compile the books a second time.
            i, kind, side, flags = word(event.instrument), word(event.kind), word(event.side), word(event.flags)
            fills = apply(books, t_ns, event.order_id, event.price, event.qty, i, kind, side, flags)
            book_fills(desk, books.fills, fills, t_ns)
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
        record(desk, at.LATENCY_DECISION, clock_ns(CLOCK_MONOTONIC) - done_ns)
        if requests > 0:
            last_ns = desk.status[i, LAST_EVENT_NS]
            age_ns = -1 if last_ns < 0 else t_ns - last_ns + int(max(lag_ns, 0) * speed)
            act(desk, books, requests, t_ns, intended_ns, age_ns)
    next_ns = desk.parents[next_timer(desk), plan.P_NEXT_NS]
    if cursor < len(events):
        next_ns = min(next_ns, events[cursor].t_ns)
    desk.clockwork[NEXT_DUE_NS] = due_ns(timeline, speed, next_ns)
    record(desk, at.LATENCY_STEP, clock_ns(CLOCK_MONOTONIC) - started_ns)
    return cursor
