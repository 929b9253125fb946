"""Own orders: sending them through the gates into the books, and what comes back.

Every instrument has three places for own orders: the maker's bid and ask, and the child of a parent
order. An own order's id is negative and tells its place, so a fill needs no search.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine import account as acc
from engine import counters as at
from engine.book import Books, apply
from engine.buckets import bucket_of
from engine.events import CANCEL, IOC, LIMIT, POST_ONLY, SELF_CANCEL, FillArray
from engine.gates import Reason, check_order
from engine.jit import inline_kernel, kernel
from engine.journal import OWN, append, digest_fill
from engine.nanoclock import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_ns
from engine.strategy import P_FILLED, P_NEXT_NS, P_STATE, P_TARGET, WORKING
from metrics.frame import FloatArray, IntArray

MAKER_BID, MAKER_ASK, CHILD = 0, 1, 2
PLACES = 3
ID, SIDE, PRICE, LEFT, SENT_NS = range(5)  # ID 0: no order rests here; SENT_NS stays after it is gone
COLUMNS = 5
OWN_FILLED, TRADED_BY_OTHERS = 0, 1  # rows of `volumes`
STATE, VENUE_HALTED, LAST_EVENT_NS = range(3)  # columns of `status`
LAST_ID, NEXT_DUE_NS, LATEST_NS, WORST_LAG_NS = range(4)  # `clockwork`
MAKER_FEE, TAKER_FEE = 0, 1
# What strategies ask for, int64 (MAX_REQUESTS, 6): cancel what rests at a place, rest an order there, or cross with one.
R_INSTRUMENT, R_PLACE, R_ACTION, R_SIDE, R_TICKS, R_LOTS = range(6)
WITHDRAW, REST, CROSS = range(3)
MAX_REQUESTS = 8
NO_ORDER_NS = -(1 << 62)
word: Any = np.int64  # widens a record's small integers inside kernels
_VENUE = int(Reason.VENUE)
_ACCEPTED = int(Reason.ACCEPTED)


class Desk(NamedTuple):
    """The arrays that kernels share; n instruments.

    own int64 (n, PLACES, COLUMNS); parents int64 (n, PARENTS), arrival float64 (n,): their arrival
    mids in ticks; account float64 (n, acc.COLUMNS); maker_lots float64 (n,): the maker's part of
    the position; status int64 (n, 3); spread float64 (n,) in ticks, NaN where a side is empty;
    limits, bucket: see gates; settings: see strategy; fees float64 (2,) in bps; units float64 (n, 2):
    tick in USD, lot in units; counts, sums: see counters; latencies int64, latency_sums float64: see
    counters; volumes float64 (2, n) in lots; fills, fills_written: the block's ring; clockwork int64
    (4,); requests int64 (MAX_REQUESTS, 6); journal, journal_head: see journal.
    """

    own: IntArray
    parents: IntArray
    arrival: FloatArray
    account: FloatArray
    maker_lots: FloatArray
    status: IntArray
    spread: FloatArray
    limits: FloatArray
    bucket: FloatArray
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
    journal: IntArray
    journal_head: IntArray


@kernel
def record(desk: Desk, which: int, duration_ns: int) -> None:
    """Count one duration in one of the latency histograms."""
    duration = max(duration_ns, 0)
    desk.latencies[which, bucket_of(duration)] += 1
    desk.latency_sums[which] += duration


@inline_kernel
def working_lots(desk: Desk, i: int, side: int) -> int:
    """Own quantity in the book on one side of an instrument."""
    lots = 0
    for place in range(PLACES):
        if desk.own[i, place, ID] != 0 and desk.own[i, place, SIDE] == side:
            lots += desk.own[i, place, LEFT]
    return lots


@inline_kernel
def book_own_fill(desk: Desk, i: int, side: int, order_id: int, lots: int, ticks: int, taker: int, t_ns: int) -> None:
    """Put one own fill where it belongs: order, parent, account, counters, ring."""
    place = (-order_id) & 3
    if desk.own[i, place, ID] == order_id:
        desk.own[i, place, LEFT] -= lots
        if desk.own[i, place, LEFT] <= 0:
            desk.own[i, place, ID] = 0
            desk.counts[at.FILLED] += 1
    usd = desk.account[i, acc.USD]
    acc.book_fill(desk.account, i, side, float(lots), float(ticks), desk.fees[TAKER_FEE if taker else MAKER_FEE])
    desk.counts[at.FILLS_TAKER if taker else at.FILLS_MAKER] += 1
    desk.sums[at.TRADED_VALUE] += lots * ticks * usd
    desk.volumes[OWN_FILLED, i] += lots
    if place == CHILD:
        desk.parents[i, P_FILLED] += lots
        desk.sums[at.SLIPPAGE_COST] += side * (ticks - desk.arrival[i]) * lots * usd
        desk.sums[at.SLIPPAGE_VALUE] += desk.arrival[i] * lots * usd
        if desk.parents[i, P_STATE] == WORKING and desk.parents[i, P_FILLED] >= desk.parents[i, P_TARGET]:
            desk.parents[i, P_NEXT_NS] = t_ns  # nothing left to wait for
    else:
        desk.maker_lots[i] += side * lots
    out = desk.fills[desk.fills_written[0] % len(desk.fills)]
    out.t_ns = clock_ns(CLOCK_REALTIME)
    out.engine_ns = t_ns
    out.order_id = order_id
    out.price_usd = ticks * desk.units[i, 0]
    out.qty = lots * desk.units[i, 1]
    out.instrument = i
    out.side = side
    out.taker = taker
    out.strategy = 1 if place == CHILD else 0
    desk.fills_written[0] += 1


@kernel
def book_fills(desk: Desk, fills: FillArray, count: int, t_ns: int) -> int:
    """Go through the fills of one event; returns how many were our own aggressor's."""
    taken = 0
    for k in range(count):
        fill = fills[k]
        i, side = word(fill.instrument), word(fill.side)
        digest_fill(desk.journal_head, fill.t_ns, fill.maker_id, fill.taker_id, fill.price, fill.qty, i)
        if fill.flags & SELF_CANCEL:
            place = (-fill.maker_id) & 3
            if desk.own[i, place, ID] == fill.maker_id:
                desk.own[i, place, LEFT] -= fill.qty
                if desk.own[i, place, LEFT] <= 0:
                    desk.own[i, place, ID] = 0
                    desk.counts[at.CANCELLED] += 1
        elif fill.taker_id < 0 or fill.maker_id < 0:
            taker = 1 if fill.taker_id < 0 else 0
            taken += taker
            own_id, own_side = (fill.taker_id, side) if taker else (fill.maker_id, -side)
            book_own_fill(desk, i, own_side, own_id, fill.qty, fill.price, taker, t_ns)
        else:
            desk.volumes[TRADED_BY_OTHERS, i] += fill.qty
    return taken


@inline_kernel
def ask(desk: Desk, count: int, i: int, place: int, action: int, side: int, ticks: int, lots: int) -> int:
    """Note a request; returns how many there are now."""
    row = desk.requests[count]
    row[R_INSTRUMENT], row[R_PLACE], row[R_ACTION] = i, place, action
    row[R_SIDE], row[R_TICKS], row[R_LOTS] = side, ticks, lots
    return count + 1


@inline_kernel
def may_send(desk: Desk, i: int, place: int, side: int, ticks: int, lots: int, t_ns: int, age_ns: int) -> int:
    """Ask the gates about one order, and count it; returns their reason."""
    desk.counts[at.SUBMITTED_PARENT if place == CHILD else at.SUBMITTED_MAKER] += 1
    started = clock_ns(CLOCK_MONOTONIC)
    reason = check_order(
        desk.limits, desk.bucket, i, side, ticks, lots, desk.account[i, acc.MARK], desk.account[i, acc.USD],
        desk.account[i, acc.POSITION], working_lots(desk, i, 1), working_lots(desk, i, -1),
        age_ns, desk.status[i, STATE], t_ns,
    )  # fmt: skip
    record(desk, at.LATENCY_GATE, clock_ns(CLOCK_MONOTONIC) - started)
    return reason


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
            desk.own[i, place, ID] = 0
            desk.counts[at.CANCELLED] += 1
            cancelled += 1
        else:
            reason = may_send(desk, i, place, side, ticks, lots, t_ns, age_ns)
            if reason != _ACCEPTED:
                desk.counts[at.REJECTED_FOR + reason] += 1
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
            desk.own[i, place, ID] = 0
            continue
        desk.counts[at.ACKED] += 1
        record(desk, at.LATENCY_ACK, latency_ns)
        if book_fills(desk, books.fills, count, t_ns) > 0 and action == CROSS:
            record(desk, at.LATENCY_FILL, latency_ns)
        if action == CROSS and desk.own[i, place, ID] == order_id:  # what did not fill at once has lapsed
            desk.own[i, place, ID] = 0
            desk.counts[at.CANCELLED] += 1
    return cancelled
