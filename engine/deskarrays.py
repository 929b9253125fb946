"""Desk arrays: what the kernels of a desk share, and what stands where in it.

Every instrument has three places for own orders: the maker's bid and ask, and the child of a parent
order. Clients' orders are rows of the blotter. An own order's id is negative and tells its place or
row, so a fill needs no search.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.book import Books
from engine.events import FillArray
from engine.gates import Gates
from engine.lend import taken_from
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
