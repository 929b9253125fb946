"""LOBSTER flow: a recorded day as a tape of orders, with a walk's words laid out and its fields checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from engine import events as ev
from engine.events import EventArray, Tape, empty_events
from engine.feeds.lobster import (
    ADD,
    EXECUTION,
    HALT_MESSAGE,
    ID,
    LobsterDay,
)
from engine.feeds.lobsterwalk import (
    BEYOND,
    COLUMNS,
    COMPLETE,
    DEPTH,
    FIRST_MISMATCH,
    FREE,
    FROM_BOOK,
    HEADER,
    HORIZON,
    KEY,
    LEVEL_WORDS,
    MISMATCHES,
    NEXT_SEED,
    O_ID,
    OLD,
    ORDER_WORDS,
    ROOM,
    SIDE_WORDS,
    SIDES,
    SIGN,
    STACK,
    VIEW,
    WRITTEN,
    walk,
)
from engine.feeds.times import in_order
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Flow:
    """What a walk gave: events, dtype EVENT; levels_from_book: levels whose size had to be taken from the book file;
    mismatches: messages that contradict it, the first in 0-based row `first_mismatch` (-1: none)."""

    events: EventArray
    levels_from_book: int
    mismatches: int
    first_mismatch: int


def _make_words(day: LobsterDay, ids: IntArray) -> IntArray:
    """The words of a fresh walk. ids: the distinct order ids."""
    # A message pushes at most one level out of view.
    view, stack = day.levels + 2, len(day.messages) + day.levels
    n_levels = 2 * (stack + 2 * view)
    levels = HEADER + 2 * SIDE_WORDS
    orders = levels + n_levels * LEVEL_WORDS
    lists = orders + len(ids) * ORDER_WORDS
    w = np.zeros(lists + 2 * (2 * view + stack), dtype=np.int64)
    w[NEXT_SEED], w[FIRST_MISMATCH], w[DEPTH] = max(int(ids.max()), 0) + 1, -1, day.levels
    w[SIDES], w[ROOM], w[FREE] = HEADER, stack, levels
    at = np.arange(levels, orders, LEVEL_WORDS)
    w[at[:-1] + KEY] = at[1:]
    w[orders + O_ID : lists : ORDER_WORDS] = ids
    for s in range(2):
        side, first = HEADER + s * SIDE_WORDS, lists + s * (2 * view + stack)
        w[side + SIGN], w[side + COMPLETE], w[side + HORIZON] = 1 - 2 * s, 1, BEYOND
        w[side + VIEW], w[side + OLD], w[side + STACK] = first, first + view, first + 2 * view
    return w


def _meaningful(day: LobsterDay) -> LobsterDay:
    """The day without messages that no venue could have sent; how many there were is logged."""
    time, kind, order_id, size, price, side = day.messages.T
    on_book, traded = kind <= EXECUTION, kind < HALT_MESSAGE
    sound = (kind >= ADD) & (kind <= HALT_MESSAGE)
    sound &= ~on_book | ((order_id > 0) & (order_id <= ev.MAX_VENUE_ID // 2))
    sound &= ~on_book | ((price > 0) & (price <= ev.MAX_PRICE_TICKS))
    sound &= ~traded | ((size > 0) & (size <= ev.MAX_QTY_LOTS))
    sound &= ~traded | (np.abs(side) == 1)
    rows = np.flatnonzero(sound)
    sound[rows[~in_order(time[rows])]] = False
    if sound.all():
        return day
    left_out = np.flatnonzero(~sound)
    log.warning("%s: %d messages mean nothing, the first is number %d", day.source, len(left_out), left_out[0] + 1)
    if not sound.any():
        raise DeskvigilError(f"{day.source}: no message of the file means anything")
    return replace(day, messages=day.messages[sound], book=day.book[sound], skipped=day.skipped + len(left_out))


def walk_day(day: LobsterDay) -> Flow:
    """Walk through a day. DeskvigilError where no message means anything."""
    day = _meaningful(day)
    ids, order_of = np.unique(day.messages[:, ID], return_inverse=True)
    room = 2 * len(day.messages) + 4 * day.levels + 64
    while True:
        w = _make_words(day, ids)
        orders = len(w) - 2 * (2 * (day.levels + 2) + int(w[ROOM])) - len(ids) * ORDER_WORDS
        out = np.empty((room, len(COLUMNS)), dtype=np.int64)
        walk(day.messages, day.book, orders + order_of * ORDER_WORDS, w, out)
        if w[WRITTEN] <= room:
            break
        room = int(w[WRITTEN])
    events = empty_events(int(w[WRITTEN]))
    for column, name in enumerate(COLUMNS):
        events[name] = out[: len(events), column]
    return Flow(events, int(w[FROM_BOOK]), int(w[MISMATCHES]), int(w[FIRST_MISMATCH]))


def flow_tape(day: LobsterDay) -> Tape:
    """The day as a tape of orders; messages that contradict the book file are left out and logged."""
    flow = walk_day(day)
    if flow.mismatches:
        log.warning(
            "%s: %d messages contradict the venue's book, the first one in line %d",
            day.source, flow.mismatches, flow.first_mismatch + 1,
        )  # fmt: skip
    t_ns = flow.events["t_ns"]
    return Tape(
        instruments=(day.instrument,), events=flow.events, simulated_market=False, source="lobster",
        start_ns=min(day.start_ns, int(t_ns[0])), end_ns=max(day.end_ns, int(t_ns[-1])),
    )  # fmt: skip
