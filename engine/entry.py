"""Entry: clients' requests from their rings through the gates into the books, and their answers.

`work` is the one kernel that changes clients' orders on purpose: it serves requests, or cancels what a
client's departure leaves no right to work (halts and ends of sessions are the kill switch's). What a client has written is
read once, checked, and refused with a reason where it makes no sense; nothing in it can stop the engine.
"""

from __future__ import annotations

from typing import Final

from engine import account as acc
from engine import blotter as blot
from engine import counters as at
from engine import mailbox as ask
from engine.book import Books, apply, best_price
from engine.deskarrays import LAST_EVENT_NS, Desk, desk_of
from engine.events import CANCEL, FOK, IOC, LIMIT, MAX_PRICE_TICKS, MAX_QTY_LOTS, POST_ONLY, REDUCE, REPLACE
from engine.gates import CLIENTS, Reason, has_collar, worst_price
from engine.jit import inline_kernel, kernel
from engine.journal import OWN, append
from engine.journal import done as written
from engine.mailbox import (
    MAX_SESSIONS,
    R_ID,
    R_LOTS,
    R_PACKED,
    R_PRICE,
    R_SENT_NS,
    R_TARGET,
    REQUESTS,
    S_ACTIVE,
    S_LAST_ID,
    S_LIVE,
    S_MAX_LIVE,
    S_OWNER,
    S_TAKEN,
    S_TURN,
    SESSION_WORDS,
    VENUE_REASON,
    What,
    Why,
    answer,
    may_be_served,
)
from engine.memory import load
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.orderlog import ACCEPTED, CHANGED, OF_FOK, OF_IOC, OF_LIMIT, OF_POST_ONLY, REJECTED, log_order, time_order
from engine.orders import count_venue_fault, pass_gates
from engine.ordertimes import record_client_order
from engine.ownfills import book_fills, end_client_order
from engine.pretrade import take_back
from engine.recorder import LAST
from engine.ring import arrived, give_back, taken
from engine.working import follow_orders
from metrics.frame import IntArray

SERVE, SWEEP = range(2)  # what `work` is about
NO_CLIENT: Final = -2
BATCH: Final = 256  # requests in one call at most: market data must get their turn
_ACK, _REJECT, _REDUCED, _REPLACED, _REFUSED = (
    int(what) for what in (What.ACK, What.REJECT, What.REDUCED, What.REPLACED, What.REFUSED)
)
_DUPLICATE, _UNKNOWN_INSTRUMENT, _INVALID, _FULL, _TOO_MANY, _TOO_LATE, _UNKNOWN = (
    int(why)
    for why in (
        Why.DUPLICATE_ID, Why.UNKNOWN_INSTRUMENT, Why.INVALID, Why.BLOTTER_FULL, Why.TOO_MANY_ORDERS, Why.TOO_LATE,
        Why.UNKNOWN_ORDER,
    )
)  # fmt: skip
_REQUESTED, _LAPSED, _VENUE, _SESSION_END = (
    int(why) for why in (Why.REQUESTED, Why.LAPSED, Why.VENUE, Why.SESSION_END)
)
_BY_VENUE = int(Reason.VENUE)


@inline_kernel
def data_age_ns(desk: Desk, i: int, engine_ns: int) -> int:
    """How old an instrument's data are, -1 where none ever came."""
    last_ns = desk.status[i, LAST_EVENT_NS]
    return -1 if last_ns < 0 else max(engine_ns - last_ns, 0)


@inline_kernel
def bounded_price(desk: Desk, books: Books, i: int, side: int) -> int:
    """The worst price, in ticks, that the collar allows an order without one; 0 where there is no mid."""
    mid = desk.account[i, acc.MARK]
    if not mid > 0.0:
        return 0
    if not has_collar(desk.gates, i):
        return max(best_price(books, i, -side), 1)
    return max(worst_price(desk.gates, i, side, mid), 1)


@kernel
def refuse(desk: Desk, session: int, what: int, why: int, request_id: int, i: int, side: int) -> None:
    """Refuse a request for a reason of order entry's own, and count it."""
    desk.counts[at.REQUEST_REFUSED + why - _DUPLICATE] += 1
    answer(desk.sessions, session, what, why, request_id, 0, i, side, 0, 0, 0, 0)


@inline_kernel
def is_sound(kind: int, flags: int, side: int, price: int, lots: int) -> bool:
    """Whether a new order's fields are within what its kind allows."""
    if (side != 1 and side != -1) or lots < 1 or lots > MAX_QTY_LOTS or price < 0 or price > MAX_PRICE_TICKS:
        return False
    if kind == ask.NEW:
        return price > 0 and flags in (0, ask.POST_ONLY)
    return flags in (0, ask.FOK)


@inline_kernel
def log_client_order(
    desk: Desk, t_ns: int, order_id: int, what: int, i: int, side: int, ticks: int, lots: int, left: int, kind: int,
    flags: int, owner: int, reason: int,
) -> None:  # fmt: skip
    """Log what became of a client's order; kind and flags as the client asked."""
    log_kind = OF_POST_ONLY if flags & ask.POST_ONLY else OF_LIMIT
    if kind == ask.IOC:
        log_kind = OF_FOK if flags & ask.FOK else OF_IOC
    log_order(
        desk.order_events, desk.order_events_written, t_ns, order_id, what, i, side, ticks, lots, left, log_kind, CLIENTS,
        owner, reason, 0,
    )  # fmt: skip


@kernel
def enter(
    desk: Desk, books: Books, session: int, request_id: int, kind: int, flags: int, i: int, side: int, price: int,
    lots: int, sent_ns: int, t_ns: int, engine_ns: int,
) -> int:  # fmt: skip
    """Check a new order and open its row; returns the row, 0 where it was rejected (and the client told)."""
    s, why = desk.sessions, 0
    base = session * SESSION_WORDS
    if i < 0 or i >= desk.own.shape[0]:
        why = _UNKNOWN_INSTRUMENT
    elif not is_sound(kind, flags, side, price, lots):
        why = _INVALID
    elif s[base + S_LIVE] >= s[base + S_MAX_LIVE]:
        why = _TOO_MANY
    elif desk.blotter[blot.FREE_HEAD] == 0:
        why = _FULL
    if why != 0:
        refuse(desk, session, _REJECT, why, request_id, i, side)
        return 0
    desk.counts[at.SUBMITTED_CLIENT] += 1
    ticks = price if price > 0 else bounded_price(desk, books, i, side)
    intent = (session + 1) << 48 ^ request_id
    owner = s[base + S_OWNER]
    reason = pass_gates(desk, i, side, ticks, lots, CLIENTS, owner, intent, t_ns, data_age_ns(desk, i, engine_ns))
    if reason != 0:
        log_client_order(desk, t_ns, 0, REJECTED, i, side, ticks, lots, 0, kind, flags, owner, reason)
        answer(desk.sessions, session, _REJECT, reason, request_id, 0, i, side, price, lots, lots, 0)
        return 0
    s[base + S_LIVE] += 1
    now_ns = clock_ns(CLOCK_MONOTONIC)
    intended_ns = sent_ns if 0 < sent_ns <= now_ns else now_ns
    return blot.open_order(
        desk.blotter, desk.working, i, side, ticks, lots, kind, flags, session, request_id, intended_ns, owner
    )


@kernel
def may_replace(desk: Desk, session: int, row: int, price: int, lots: int, t_ns: int, engine_ns: int) -> bool:
    """Ask the gates about an order in the place of one that works; the client is told where they refuse."""
    w = desk.blotter
    i, side, left = w[row + blot.INSTRUMENT], w[row + blot.SIDE], w[row + blot.LEFT]
    column = 0 if side > 0 else 1
    desk.working[i, column] -= left  # what it replaces does not count against it
    intent = (session + 1) << 48 ^ w[row + blot.CLIENT_ID]
    owner = blot.owner_of(w, row)
    reason = pass_gates(desk, i, side, price, lots, CLIENTS, owner, intent, t_ns, data_age_ns(desk, i, engine_ns))
    desk.working[i, column] += left
    if reason != 0:
        follow_orders(desk, i)  # the gates have seen the exposure without the old order, which stays
        answer(
            desk.sessions, session, _REFUSED, reason, w[row + blot.CLIENT_ID], w[row + blot.ID], i, side, price, lots,
            left, 0,
        )  # fmt: skip
    return bool(reason == 0)


@inline_kernel
def is_less(w: IntArray, row: int, price: int, lots: int) -> bool:
    """Whether a replacement keeps its order's place and risks no more: the gates need not be asked."""
    return bool(price == w[row + blot.PRICE] and lots <= w[row + blot.LEFT])


@inline_kernel
def next_session(s: IntArray, after: int) -> int:
    """The next session in turn whose request waits and whose answers have room; -1 where none does."""
    for k in range(1, MAX_SESSIONS + 1):
        session = (after + k) % MAX_SESSIONS
        base = session * SESSION_WORDS
        if s[base + S_ACTIVE] != 0 and may_be_served(s, base):
            return session
    return -1


@kernel
def read_request(desk: Desk, books: Books, session: int, t_ns: int, engine_ns: int) -> tuple[int, int, int, int]:
    """Take one request off its ring and check it; returns row, book's kind, price, lots.

    Row 0: the request has been answered already, nothing is to be done.
    """
    s, w = desk.sessions, desk.blotter
    base = session * SESSION_WORDS
    slot = arrived(s, base + REQUESTS)
    request_id, target = load(slot + 8 * R_ID), load(slot + 8 * R_TARGET)
    price, lots = load(slot + 8 * R_PRICE), load(slot + 8 * R_LOTS)
    sent_ns, packed = load(slot + 8 * R_SENT_NS), load(slot + 8 * R_PACKED)
    taken(s, base + REQUESTS)
    s[base + S_TAKEN] += 1
    desk.counts[at.CLIENT_REQUESTS] += 1
    i = packed & 0xFFFFFFFF
    kind, flags = (packed >> 32) & 0xFF, (packed >> 48) & 0xFFFF
    side = 1 if (packed >> 40) & 0xFF == 1 else -1 if (packed >> 40) & 0xFF == 0xFF else 0
    is_new = kind in (ask.NEW, ask.IOC)
    if request_id <= s[base + S_LAST_ID]:
        refuse(desk, session, _REJECT if is_new else _REFUSED, _DUPLICATE, request_id if is_new else target, i, side)
        return 0, 0, 0, 0
    s[base + S_LAST_ID] = request_id
    if is_new:
        row = enter(desk, books, session, request_id, kind, flags, i, side, price, lots, sent_ns, t_ns, engine_ns)
        if row == 0:
            return 0, 0, 0, 0
        return row, LIMIT if kind == ask.NEW else IOC, w[row + blot.PRICE], lots
    if kind < ask.CANCEL or kind > ask.REPLACE:
        refuse(desk, session, _REJECT, _INVALID, request_id, i, side)
        return 0, 0, 0, 0
    row = blot.find_order(w, session, target)
    if row == 0:
        why = _TOO_LATE if 0 < target < request_id else _UNKNOWN
        refuse(desk, session, _REFUSED, why, target, i, side)
        return 0, 0, 0, 0
    if kind == ask.CANCEL:
        return row, CANCEL, 0, 0
    if lots < 1 or lots > MAX_QTY_LOTS or (kind == ask.REPLACE and not 0 < price <= MAX_PRICE_TICKS):
        refuse(desk, session, _REFUSED, _INVALID, target, i, side)
        return 0, 0, 0, 0
    if kind == ask.REDUCE:
        return row, REDUCE, 0, lots
    if not (is_less(w, row, price, lots) or may_replace(desk, session, row, price, lots, t_ns, engine_ns)):
        return 0, 0, 0, 0
    return row, REPLACE, price, lots


@kernel
def conclude(
    desk: Desk, books: Books, count: int, row: int, kind: int, price: int, lots: int, why: int, t_ns: int
) -> None:
    """What the book's answer (a count of fills, or a refusal) means for an order, and what its client is told."""
    w = desk.blotter
    order_id, client_id, session = w[row + blot.ID], w[row + blot.CLIENT_ID], w[row + blot.CLIENT]
    i, side = w[row + blot.INSTRUMENT], w[row + blot.SIDE]
    if kind == CANCEL:
        if count < 0:
            w[blot.FAULTS] += 1
        state = blot.EXPIRED if why == _SESSION_END else blot.CANCELLED
        end_client_order(desk, row, state, _VENUE if count < 0 else why)
    elif kind == REDUCE:
        if count < 0 or lots >= w[row + blot.LEFT]:
            end_client_order(desk, row, blot.CANCELLED, _VENUE if count < 0 else _REQUESTED)
        else:
            blot.take_lots(w, desk.working, row, lots)
            follow_orders(desk, i)
            price, left = w[row + blot.PRICE], w[row + blot.LEFT]
            log_client_order(
                desk, t_ns, order_id, CHANGED, i, side, price, left, left, w[row + blot.KIND], w[row + blot.FLAGS] & 0xFFFF,
                blot.owner_of(w, row), 0,
            )  # fmt: skip
            answer(desk.sessions, session, _REDUCED, 0, client_id, order_id, i, side, price, lots, left, 0)
    elif count < 0:
        what, left, reason = _REJECT, lots, VENUE_REASON - count
        desk.counts[at.REJECTED_FOR + _BY_VENUE] += 1
        count_venue_fault(desk, count)
        if kind == REPLACE:  # the order stays as it was
            what, left = _REFUSED, w[row + blot.LEFT]
        else:
            blot.close_order(w, desk.working, row, blot.REJECTED)
            log_client_order(
                desk, t_ns, order_id, REJECTED, i, side, w[row + blot.PRICE], lots, 0, w[row + blot.KIND],
                w[row + blot.FLAGS] & 0xFFFF, blot.owner_of(w, row), VENUE_REASON - count,
            )  # fmt: skip
            desk.sessions[session * SESSION_WORDS + S_LIVE] -= 1
        if kind != REPLACE or not is_less(w, row, price, lots):  # the gates have counted it
            take_back(desk.gates, i, price, lots, desk.account[i, acc.USD])
            follow_orders(desk, i)
        answer(desk.sessions, session, what, reason, client_id, order_id, i, side, price, lots, left, 0)
    else:
        log_client_order(
            desk, t_ns, order_id, CHANGED if kind == REPLACE else ACCEPTED, i, side, price, lots, lots,
            w[row + blot.KIND], w[row + blot.FLAGS] & 0xFFFF, blot.owner_of(w, row), 0,
        )  # fmt: skip
        if kind == REPLACE:
            blot.change_order(w, desk.working, row, price, lots)
            follow_orders(desk, i)
            answer(desk.sessions, session, _REPLACED, 0, client_id, order_id, i, side, price, lots, lots, 0)
        else:
            blot.move(w, row, blot.WORKING)
            desk.counts[at.ACKED] += 1
            total_ns = clock_ns(CLOCK_MONOTONIC) - w[row + blot.SENT_NS]
            gate_ns = desk.stages[LAST, at.LATENCY_GATE]
            time_order(desk.order_events, desk.order_events_written, total_ns, 0, 0, gate_ns)
            record_client_order(desk, i, order_id, total_ns, t_ns)
            answer(desk.sessions, session, _ACK, 0, client_id, order_id, i, side, w[row + blot.PRICE], lots, lots, 0)
        book_fills(desk, books.fills, count, t_ns)
        if kind == IOC and blot.row_of(w, order_id) != 0:
            end_client_order(desk, row, blot.CANCELLED, _LAPSED)


@inline_kernel
def book_flags(w: IntArray, row: int, kind: int) -> int:
    """The book's flags of an order."""
    flags = w[row + blot.FLAGS]
    if kind in (LIMIT, REPLACE):
        return POST_ONLY if flags & ask.POST_ONLY else 0
    return FOK if kind == IOC and flags & ask.FOK else 0


@kernel
def work(table: IntArray, task: int, client: int, why: int, t_ns: int, engine_ns: int, limit: int) -> int:
    """Serve at most `limit` requests (SERVE), or cancel a client's orders for the reason `why` (SWEEP); returns how many.

    table: the lent desk; t_ns: engine time for the books; engine_ns: now, for the age of data. One long loop on purpose: each
    kernel that reaches the books is compiled with all of them in it, so both have one call site.
    """
    desk = desk_of(table)
    books = desk.books
    w, s = desk.blotter, desk.sessions
    done, session = 0, s[S_TURN]
    instrument, following = -1, 0
    row, kind, price, lots = 0, 0, 0, 0
    while True:
        if task == SERVE:
            served = next_session(s, session) if done < limit else -1
            if served < 0:
                break
            session = served
            row, kind, price, lots = read_request(desk, books, session, t_ns, engine_ns)
            done += 1
        else:
            while following == 0 and instrument + 1 < desk.own.shape[0]:
                instrument += 1
                following = w[w[blot.CHAINS] + instrument]
            if following == 0:
                break
            row, kind = following, CANCEL
            following = w[row + blot.NEXT]
            if w[row + blot.CLIENT] != client:
                continue
            done += 1
        if row == 0:
            continue
        order_id, i = w[row + blot.ID], w[row + blot.INSTRUMENT]
        side, flags = w[row + blot.SIDE], book_flags(w, row, kind)
        append(desk.journal, desk.journal_head, OWN, t_ns, order_id, price, lots, i, kind, side, flags, 0)
        count = apply(books, t_ns, order_id, price, lots, i, kind, side, flags)
        conclude(desk, books, count, row, kind, price, lots, why, t_ns)
    written(desk.journal_head)
    if task == SERVE:
        s[S_TURN] = max(session, 0)
        for k in range(MAX_SESSIONS):
            if s[k * SESSION_WORDS + S_ACTIVE] != 0:
                give_back(s, k * SESSION_WORDS + REQUESTS)
    return done


@kernel
def disown_orders(w: IntArray, client: int) -> int:
    """Let a departed client's orders go on working for nobody; returns how many there were."""
    count = 0
    for k in range(w[blot.CAPACITY]):
        row = w[blot.ROWS] + k * blot.ROW_WORDS
        if w[row + blot.CLIENT] == client and blot.is_live(w, row):
            blot.disown(w, row)
            count += 1
    return count
