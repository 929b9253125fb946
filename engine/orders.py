"""Own orders: sending them through the gates into the books, and what comes back.

Every instrument has three places for own orders: the maker's bid and ask, and the child of a parent
order. Clients' orders are rows of the blotter. An own order's id is negative and tells its place or
row, so a fill needs no search.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

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
from engine.book import Books, apply
from engine.dropcopy import execution_id, send_drop_copy
from engine.events import (
    BOOK_FULL,
    CANCEL,
    DUPLICATE_ID,
    INVALID,
    IOC,
    LIMIT,
    MAX_PRICE_TICKS,
    MAX_QTY_LOTS,
    POST_ONLY,
    SELF_CANCEL,
    TAKER_CANCEL,
    FillArray,
)
from engine.executions import record_execution
from engine.gates import (
    CLIENTS,
    HOUSE,
    MAKER,
    PARENTS,
    Gates,
    Reason,
    TradingState,
    blocked_for,
    is_latched,
    spend_probe,
    state_for,
)
from engine.jit import inline_kernel, kernel
from engine.journal import OWN, append, digest_fill
from engine.lend import taken_from
from engine.mailbox import S_LIVE, SESSION_WORDS, VENUE_REASON, What, Why, answer
from engine.nanoclock import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_ns
from engine.orderlog import ACCEPTED, FILL, OF_IOC, OF_POST_ONLY, REJECTED, log_order, time_order
from engine.orderlog import CANCELLED as LOG_CANCELLED
from engine.pretrade import check, see_market, see_orders, take_back
from engine.recorder import LAST, note_order, put
from engine.strategy import P_CONTROL, P_COUNT, note_fill
from metrics.frame import FloatArray, IntArray

MAKER_BID, MAKER_ASK, CHILD = 0, 1, 2
PLACES = 3
ID, SIDE, PRICE, LEFT, SENT_NS = range(5)  # ID 0: no order rests here; SENT_NS stays after it is gone
COLUMNS = 5
OWN_FILLED, TRADED_BY_OTHERS = 0, 1  # rows of `volumes`
# Columns of `status`; CROSSED_NS: engine time since which the book has been crossed while it matches, 0 where it is not.
STATE, VENUE_HALTED, LAST_EVENT_NS, CROSSED_NS = range(4)
BLINDED = 2  # VENUE_HALTED where it is our data that cannot be trusted
# `clockwork`. The last three say what was under way should a kernel raise: STAGE, the event's position, the instrument.
LAST_ID, NEXT_DUE_NS, LATEST_NS, WORST_LAG_NS, STAGE, AT_EVENT, AT_INSTRUMENT = range(7)
CLOCKWORK = 7
RESTING, APPLYING, DECIDING, ACTING = range(4)  # STAGE
SESSION_START, SESSION_END = 0, 1  # `session`
# What strategies ask for, int64 (MAX_REQUESTS, 6): cancel what rests at a place, rest an order there, or cross with one.
R_INSTRUMENT, R_PLACE, R_ACTION, R_SIDE, R_TICKS, R_LOTS = range(6)
WITHDRAW, REST, CROSS = range(3)
MAX_REQUESTS = 8
NO_ORDER_NS = -(1 << 62)
word: Any = np.int64  # widens a record's small integers inside kernels
_VENUE = int(Reason.VENUE)
_ACCEPTED = int(Reason.ACCEPTED)
_REDUCE_ONLY = int(Reason.REDUCE_ONLY)
_HALTED = int(TradingState.HALTED)
_FILL, _CANCEL = int(What.FILL), int(What.CANCEL)
_REQUESTED, _SELF_TRADE, _SESSION_END = int(Why.REQUESTED), int(Why.SELF_TRADE), int(Why.SESSION_END)
_LAPSED = int(Why.LAPSED)


class Desk(NamedTuple):
    """The arrays that kernels share; n instruments.

    own int64 (n, PLACES, COLUMNS); parents int64 (n, PARENTS), arrival float64 (n,): their arrival
    mids in ticks; account float64 (n, acc.COLUMNS); maker_lots float64 (n,): the maker's part of
    the position; status int64 (n, 4); spread float64 (n,) in ticks, NaN where a side is empty;
    gates: see gates; settings: see strategy; fees, ledger: see account; units float64 (n, 2):
    tick in USD, lot in units; counts, sums: see counters; latencies int64, latency_sums float64: see
    counters; volumes float64 (2, n) in lots; fills, fills_written: the block's ring; clockwork int64
    (CLOCKWORK,); requests int64 (MAX_REQUESTS, 6); executions, dropcopy int64: the segments under way of our
    own record of fills and of the venue's, see recordfile; stages, slowest int64: see recorder;
    finished, finished_written: the block's ring of parents that are over; arrival_spread float64
    (n,): spread at a parent's arrival, usual_spread float64 (n,): its running mean, both in ticks; signal float64 (n,): a model's view, -1 .. 1, NaN for
    none; volume_curve float64 (bins + 1,): see algos.vwap; session int64 (2,): its first and last ns;
    blotter, working: see blotter; sessions: see mailbox; journal, journal_head: see journal; order_events,
    order_events_written: see orderlog; books: see book.
    """

    own: IntArray
    parents: IntArray
    arrival: FloatArray
    account: FloatArray
    maker_lots: FloatArray
    status: IntArray
    spread: FloatArray
    gates: Gates
    settings: FloatArray
    fees: FloatArray
    units: FloatArray
    counts: IntArray
    sums: FloatArray
    latencies: IntArray
    latency_sums: FloatArray
    volumes: FloatArray
    fills: FillArray
    fills_written: IntArray
    clockwork: IntArray
    requests: IntArray
    ledger: IntArray
    executions: IntArray
    dropcopy: IntArray
    stages: IntArray
    slowest: IntArray
    finished: FillArray
    finished_written: IntArray
    arrival_spread: FloatArray
    usual_spread: FloatArray
    signal: FloatArray
    volume_curve: FloatArray
    session: IntArray
    blotter: IntArray
    working: IntArray
    sessions: IntArray
    journal: IntArray
    journal_head: IntArray
    order_events: IntArray
    order_events_written: IntArray
    books: Books


desk_of = taken_from(Desk)  # what kernels that are called from Python begin with: the desk behind its table


@kernel
def record(desk: Desk, which: int, duration_ns: int) -> None:
    """Count one duration in one of the latency histograms."""
    put(desk.latencies, desk.latency_sums, desk.stages, which, duration_ns)


@inline_kernel
def record_order(desk: Desk, i: int, order_id: int, total_ns: int, filled: int, t_ns: int) -> None:
    """Count an accepted order's time from its intended instant, with the stages that it has just gone through."""
    record(desk, at.LATENCY_ACK, total_ns)
    if filled:
        record(desk, at.LATENCY_FILL, total_ns)
    last = desk.stages[LAST]
    note_order(
        desk.slowest, desk.stages, total_ns, last[at.LATENCY_MARKET_DATA], last[at.LATENCY_DECISION],
        last[at.LATENCY_GATE], t_ns, order_id, i, filled,
    )  # fmt: skip


@inline_kernel
def record_client_order(desk: Desk, i: int, order_id: int, total_ns: int, t_ns: int) -> None:
    """Count the time from when a client sent an order to its acceptance: no event caused it, no strategy decided it."""
    record(desk, at.LATENCY_CLIENT_ACK, total_ns)
    note_order(desk.slowest, desk.stages, total_ns, 0, 0, desk.stages[LAST, at.LATENCY_GATE], t_ns, order_id, i, 0)


@inline_kernel
def working_sides(desk: Desk, i: int) -> tuple[int, int]:
    """Own quantity in the book of an instrument: lots that buy, lots that sell."""
    buying, selling = int(desk.working[i, 0]), int(desk.working[i, 1])
    for place in range(PLACES):
        lots = desk.own[i, place, LEFT] if desk.own[i, place, ID] != 0 else 0
        buys = desk.own[i, place, SIDE] > 0
        buying += lots if buys else 0
        selling += 0 if buys else lots
    return buying, selling


@inline_kernel
def working_lots(desk: Desk, i: int, side: int) -> int:
    """Own quantity in the book on one side of an instrument."""
    buying, selling = working_sides(desk, i)
    return buying if side > 0 else selling


@inline_kernel
def follow_orders(desk: Desk, i: int) -> None:
    """Let the gates' exposures follow what has just become of an own order: a cancel frees its room at once."""
    mid = desk.account[i, acc.MARK]
    if mid > 0.0:
        buying, selling = working_sides(desk, i)
        see_orders(desk.gates, i, mid, desk.account[i, acc.POSITION], buying, selling, desk.account[i, acc.USD])


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
def ask(desk: Desk, count: int, i: int, place: int, action: int, side: int, ticks: int, lots: int) -> int:
    """Note a request; returns how many there are now. One for an order that no book could take (what a price or a
    quantity that is not finite comes to) is counted as a fault of its strategy and left out."""
    sound = action == WITHDRAW or (0 < ticks <= MAX_PRICE_TICKS and 0 < lots <= MAX_QTY_LOTS)
    if sound:
        row = desk.requests[count]
        row[R_INSTRUMENT], row[R_PLACE], row[R_ACTION] = i, place, action
        row[R_SIDE], row[R_TICKS], row[R_LOTS] = side, ticks, lots
        count += 1
    if action != WITHDRAW:
        desk.counts[at.DECISIONS if sound else at.DECISION_FAULTS] += 1
        spend_probe(desk.gates)
    return count


@inline_kernel
def count_venue_fault(desk: Desk, refusal: int) -> None:
    """Count a book's refusal where it is no answer to the order's own terms: no room, an id used twice, nonsense."""
    if refusal in (BOOK_FULL, DUPLICATE_ID, INVALID):
        desk.counts[at.VENUE_FAULTS] += 1


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


@inline_kernel
def state_of(desk: Desk, i: int, strategy: int) -> int:
    """The trading state in force for a strategy of the house in an instrument; one that is latched off is HALTED."""
    state = state_for(desk.gates, desk.status[i, STATE], strategy, HOUSE)
    return _HALTED if is_latched(desk.gates, strategy, HOUSE) else state


@inline_kernel
def watch_market(desk: Desk, i: int, t_ns: int) -> None:
    """Let the gates see an instrument's new mid: the collar's period and the exposures follow each event."""
    buying, selling = working_sides(desk, i)
    see_market(
        desk.gates, i, desk.account[i, acc.MARK], desk.account[i, acc.POSITION], buying, selling, desk.account[i, acc.USD],
        t_ns,
    )  # fmt: skip


@inline_kernel
def pass_gates(
    desk: Desk, i: int, side: int, ticks: int, lots: int, strategy: int, client: int, intent: int, t_ns: int, age_ns: int
) -> int:  # fmt: skip
    """The one door: ask the gates about one order, count what they say, return the reason (0: accepted).

    strategy: index in gates.STRATEGIES; client: index of a client, HOUSE for our own; intent: the parent
    or client order behind it, any number that tells it from the others of its strategy; age_ns: how old
    the instrument's data are, negative where there never were any. An accepted order counts at once:
    book it (so that `working_lots` has it) before the next call, and `take_back` what the venue refuses.
    """
    started = clock_ns(CLOCK_MONOTONIC)
    if desk.status[i, VENUE_HALTED] == BLINDED:
        age_ns = -1
    buying, selling = working_sides(desk, i)
    reason = check(
        desk.gates, i, side, ticks, lots, strategy, client, intent, desk.account[i, acc.MARK], desk.account[i, acc.USD],
        desk.account[i, acc.POSITION], buying, selling, age_ns, desk.status[i, STATE], t_ns,
    )  # fmt: skip
    desk.counts[at.MESSAGES_OF + strategy] += 1
    if reason != _ACCEPTED:
        desk.counts[at.REJECTED_FOR + reason] += 1
        if reason > _REDUCE_ONLY and reason != blocked_for(desk.gates):  # who asks while he may not is not at fault
            desk.counts[at.REJECTED_OF + strategy] += 1
    record(desk, at.LATENCY_GATE, clock_ns(CLOCK_MONOTONIC) - started)
    return reason


@inline_kernel
def may_send(desk: Desk, i: int, place: int, side: int, ticks: int, lots: int, t_ns: int, age_ns: int) -> int:
    """Ask the gates about one order of the house, and count it; returns their reason."""
    desk.counts[at.SUBMITTED_PARENT if place == CHILD else at.SUBMITTED_MAKER] += 1
    # A quote's intent is its place in its instrument, a child's the parent that it works for.
    strategy = PARENTS if place == CHILD else MAKER
    intent = desk.parents[i, P_COUNT] * desk.own.shape[0] + i if place == CHILD else i * PLACES + place
    return pass_gates(desk, i, side, ticks, lots, strategy, HOUSE, intent, t_ns, age_ns)


@inline_kernel
def log_house_order(
    desk: Desk, t_ns: int, order_id: int, what: int, i: int, place: int, action: int, side: int, ticks: int, lots: int,
    reason: int,
) -> None:  # fmt: skip
    """Log what became of an order of the house when it was sent."""
    log_order(
        desk.order_events, desk.order_events_written, t_ns, order_id, what, i, side, ticks, lots,
        lots if what == ACCEPTED else 0, OF_IOC if action == CROSS else OF_POST_ONLY,
        PARENTS if place == CHILD else MAKER, HOUSE, reason, desk.parents[i, P_COUNT] - 1 if place == CHILD else 0,
    )  # fmt: skip


@kernel
def act(desk: Desk, books: Books, requests: int, t_ns: int, intended_ns: int, age_ns: int) -> int:
    """Carry out the first `requests` requests in order: cancels at once, orders through the gates.

    t_ns is engine time; intended_ns (monotonic) is when what caused them was due: latencies run from
    there, so that being late is not left out. age_ns: how old the instrument's data are. Returns how
    many orders were cancelled. One loop with one call into the books for both, because every call
    site of the books is compiled again.
    """
    cancelled = 0
    for k in range(requests):
        i, place, action = desk.requests[k, R_INSTRUMENT], desk.requests[k, R_PLACE], desk.requests[k, R_ACTION]
        side, ticks, lots = desk.requests[k, R_SIDE], desk.requests[k, R_TICKS], desk.requests[k, R_LOTS]
        order_id, kind, flags = desk.own[i, place, ID], CANCEL, 0
        if action == WITHDRAW:
            if order_id == 0:
                continue
            side, ticks, lots = desk.own[i, place, SIDE], 0, 0
            forget(desk, i, order_id, _REQUESTED)
            cancelled += 1
        else:
            reason = may_send(desk, i, place, side, ticks, lots, t_ns, age_ns)
            if reason != _ACCEPTED:
                log_house_order(desk, t_ns, 0, REJECTED, i, place, action, side, ticks, lots, reason)
                desk.own[i, place, SENT_NS] = t_ns  # a refused strategy waits as long as one that was accepted
                continue
            desk.clockwork[LAST_ID] += 1
            order_id = -(desk.clockwork[LAST_ID] * 4 + place)
            desk.own[i, place, ID], desk.own[i, place, SIDE], desk.own[i, place, PRICE] = order_id, side, ticks
            desk.own[i, place, LEFT], desk.own[i, place, SENT_NS] = lots, t_ns
            kind, flags = (IOC, 0) if action == CROSS else (LIMIT, POST_ONLY)
        append(desk.journal, desk.journal_head, OWN, t_ns, order_id, ticks, lots, i, kind, side, flags, 0)
        count = apply(books, t_ns, order_id, ticks, lots, i, kind, side, flags)
        if action == WITHDRAW:
            continue
        latency_ns = clock_ns(CLOCK_MONOTONIC) - intended_ns
        if count < 0:
            desk.counts[at.REJECTED_FOR + _VENUE] += 1
            count_venue_fault(desk, count)
            desk.own[i, place, ID] = 0
            log_house_order(desk, t_ns, order_id, REJECTED, i, place, action, side, ticks, lots, VENUE_REASON - count)
            take_back(desk.gates, i, ticks, lots, desk.account[i, acc.USD])
            follow_orders(desk, i)
            continue
        desk.counts[at.ACKED] += 1
        log_house_order(desk, t_ns, order_id, ACCEPTED, i, place, action, side, ticks, lots, 0)
        last = desk.stages[LAST]
        time_order(
            desk.order_events, desk.order_events_written, latency_ns, last[at.LATENCY_MARKET_DATA],
            last[at.LATENCY_DECISION], last[at.LATENCY_GATE],
        )  # fmt: skip
        filled = book_fills(desk, books.fills, count, t_ns) > 0 and action == CROSS
        record_order(desk, i, order_id, latency_ns, 1 if filled else 0, t_ns)
        if action == CROSS and desk.own[i, place, ID] == order_id:  # what did not fill at once has lapsed
            log_cancel(desk, i, place, order_id, desk.own[i, place, LEFT], 0, _LAPSED)
            desk.own[i, place, ID] = 0
            desk.counts[at.CANCELLED] += 1
            follow_orders(desk, i)
    return cancelled
