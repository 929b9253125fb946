"""Own orders: sending them through the gates into the books."""

from __future__ import annotations

from engine import account as acc
from engine import counters as at
from engine.book import Books, apply
from engine.deskarrays import (
    BLINDED,
    CHILD,
    CROSS,
    ID,
    LAST_ID,
    LEFT,
    PLACES,
    PRICE,
    R_ACTION,
    R_INSTRUMENT,
    R_LOTS,
    R_PLACE,
    R_SIDE,
    R_TICKS,
    SENT_NS,
    SIDE,
    STATE,
    VENUE_HALTED,
    WITHDRAW,
    Desk,
)
from engine.events import BOOK_FULL, CANCEL, DUPLICATE_ID, INVALID, IOC, LIMIT, MAX_PRICE_TICKS, MAX_QTY_LOTS, POST_ONLY
from engine.gates import (
    HOUSE,
    MAKER,
    PARENTS,
    Reason,
    TradingState,
    blocked_for,
    is_latched,
    spend_probe,
    state_for,
    stopped_by_var,
)
from engine.jit import inline_kernel, kernel
from engine.journal import OWN, append
from engine.mailbox import VENUE_REASON, Why
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.orderlog import ACCEPTED, OF_IOC, OF_POST_ONLY, REJECTED, log_order, time_order
from engine.ordertimes import record, record_order
from engine.ownfills import book_fills, forget, log_cancel
from engine.pretrade import check, see_market, take_back
from engine.recorder import LAST
from engine.strategy import P_COUNT
from engine.working import follow_orders, working_sides

_VENUE = int(Reason.VENUE)
_ACCEPTED = int(Reason.ACCEPTED)
_REDUCE_ONLY = int(Reason.REDUCE_ONLY)
_HALTED = int(TradingState.HALTED)
_REQUESTED = int(Why.REQUESTED)
_LAPSED = int(Why.LAPSED)


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
        if reason > _REDUCE_ONLY and reason not in (
            blocked_for(desk.gates),
            stopped_by_var(desk.gates),
        ):  # who asks while he may not is not at fault
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
