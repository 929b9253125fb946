"""Mailbox: what clients and the engine write to each other, and the engine's table of sessions.

A client has two rings (`engine.ring`): its requests to the engine, the engine's answers to it. Prices
are ticks, quantities lots, times monotonic nanoseconds. Words of a request after its sequence: see R_*;
of an answer: A_*. Every request is answered once, every change of an order is told:

    send     ACK, or REJECT with a reason                then FILL ..., until FILL or CANCEL leaves nothing
    cancel   CANCEL, or REFUSED (too_late, unknown_order)
    reduce   REDUCED (CANCEL where nothing is left), or REFUSED
    replace  REPLACED, or REFUSED (a gate's reason, the book's); the order stays as it was

`sessions`, int64 (MAX_SESSIONS, SESSION_WORDS), is private to the engine: both ports, then S_*.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np

from engine.events import REFUSAL_NAMES
from engine.gates import Reason
from engine.jit import inline_kernel, kernel
from engine.memory import store
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.ring import (
    MASK,
    PORT_WORDS,
    arrived,
    arrived_count,
    doze,
    must_wake,
    publish,
    room,
    room_for,
    rouse,
    unread,
)
from metrics.frame import IntArray

# A request. R_PACKED: instrument (32 bits), kind (8), side (8, signed), flags (16).
R_ID, R_TARGET, R_PRICE, R_LOTS, R_SENT_NS, R_PACKED = range(1, 7)
# R_ID: rises from request to request. R_TARGET: the R_ID of the order that a cancel, reduce or replace is about.
NEW, IOC, CANCEL, REDUCE, REPLACE = range(1, 6)  # NEW rests with what does not match at once
POST_ONLY: Final = 1  # flags of NEW: rejected where it would match
FOK: Final = 2  # of IOC: all of it or nothing

# An answer. A_PACKED: instrument (32 bits), what (8), side (8, signed), reason (8), taker (8).
A_ID, A_ORDER, A_PRICE, A_LOTS, A_LEFT, A_TIME_NS, A_PACKED = range(1, 8)


class What(IntEnum):
    """What an answer tells."""

    ACK = 1
    REJECT = 2
    FILL = 3
    CANCEL = 4
    REDUCED = 5
    REPLACED = 6
    REFUSED = 7


class Why(IntEnum):
    """Reasons of order entry itself; below 32 lie those of the gates, from 32 on the book's refusals."""

    DUPLICATE_ID = 64  # the client's ids must rise
    UNKNOWN_INSTRUMENT = 65
    INVALID = 66
    BLOTTER_FULL = 67
    TOO_MANY_ORDERS = 68
    TOO_LATE = 69  # the order has ended already
    UNKNOWN_ORDER = 70
    # Why an order was cancelled.
    REQUESTED = 96
    LAPSED = 97  # what an IOC could not match
    SELF_TRADE = 98
    TRADING_STATE = 99  # a halt, or reducing
    SESSION_END = 100
    SHUTDOWN = 101
    DISCONNECTED = 102
    VENUE = 103  # the book did not know the order
    OPERATOR = 104  # a person cancelled this one order


REFUSALS: Final = tuple(why for why in Why if why < Why.REQUESTED)
VENUE_REASON: Final = 32  # a refusal of the book, -k, is VENUE_REASON + k


def reason_name(code: int) -> str:
    """An answer's reason in words; empty where there is none."""
    if code == 0:
        return ""
    if code < VENUE_REASON:
        return Reason(code).label if code in Reason._value2member_map_ else f"gate_{code}"
    if code < Why.DUPLICATE_ID:
        k = code - VENUE_REASON - 1
        return REFUSAL_NAMES[k] if k < len(REFUSAL_NAMES) else f"venue_{k + 1}"
    return Why(code).name.lower() if code in Why._value2member_map_ else f"reason_{code}"


MAX_SESSIONS: Final = 16
REQUESTS: Final = 0  # offsets of the ports in a session's row
ANSWERS: Final = PORT_WORDS
(
    S_ACTIVE, S_LAST_ID, S_LIVE, S_MAX_LIVE, S_LOST, S_TOLD, S_TAKEN, S_TURN, S_OWNER,
) = range(2 * PORT_WORDS, 2 * PORT_WORDS + 9)  # fmt: skip
SESSION_WORDS: Final = 32
# S_LAST_ID: highest id taken. S_LIVE, S_MAX_LIVE: live orders and their limit. S_LOST: answers that had no room.
# S_TOLD: answers since the client was last looked after. S_TAKEN: requests. S_TURN: of the first row, who was
# served last. S_OWNER: the client's index for gates and kill switch. A session's offset is s * SESSION_WORDS.
RESERVE: Final = 64  # answers for which there must be room before a request is taken


def make_sessions() -> IntArray:
    """The table with no session in it; flat, so that kernels address ports by their offset."""
    return np.zeros(MAX_SESSIONS * SESSION_WORDS, dtype=np.int64)


@inline_kernel
def answer(
    s: IntArray, session: int, what: int, reason: int, client_id: int, order_id: int, i: int, side: int, price: int,
    lots: int, left: int, taker: int,
) -> None:  # fmt: skip
    """Tell a client something; one that does not read its answers loses them, which is counted. Nobody's: nothing."""
    at = session * SESSION_WORDS
    if session < 0 or s[at + S_ACTIVE] == 0:
        return
    slot = room(s, at + ANSWERS)
    if slot == 0:
        s[at + S_LOST] += 1
        return
    store(slot + 8 * A_ID, client_id)
    store(slot + 8 * A_ORDER, order_id)
    store(slot + 8 * A_PRICE, price)
    store(slot + 8 * A_LOTS, lots)
    store(slot + 8 * A_LEFT, left)
    store(slot + 8 * A_TIME_NS, clock_ns(CLOCK_MONOTONIC))
    store(
        slot + 8 * A_PACKED, (i & 0xFFFFFFFF) | what << 32 | (side & 0xFF) << 40 | reason << 48 | (taker & 0x7F) << 56
    )
    publish(s, at + ANSWERS, slot)
    s[at + S_TOLD] += 1


@inline_kernel
def may_be_served(s: IntArray, at: int) -> bool:
    """Whether a session's request waits and what it may bring has room; one that reads nothing has to wait."""
    if arrived(s, at + REQUESTS) == 0:
        return False
    return room_for(s, at + ANSWERS, min(RESERVE, s[at + ANSWERS + MASK] + 1))


@kernel
def waiting(s: IntArray, until_ns: int) -> bool:
    """Whether a request waits; looks until then (monotonic), spinning."""
    while True:
        for session in range(MAX_SESSIONS):
            at = session * SESSION_WORDS
            if s[at + S_ACTIVE] != 0 and may_be_served(s, at):
                return True
        if clock_ns(CLOCK_MONOTONIC) >= until_ns:
            return False


@kernel
def to_wake(s: IntArray) -> int:
    """Clients that have been told something and sleep, as bits; each is reported once."""
    mask = 0
    for session in range(MAX_SESSIONS):
        at = session * SESSION_WORDS
        if s[at + S_ACTIVE] != 0 and s[at + S_TOLD] != 0:
            s[at + S_TOLD] = 0
            if must_wake(s, at + ANSWERS):
                mask |= 1 << session
    return mask


@kernel
def overrun(s: IntArray) -> int:
    """Clients that have lost answers, as bits."""
    mask = 0
    for session in range(MAX_SESSIONS):
        at = session * SESSION_WORDS
        if s[at + S_ACTIVE] != 0 and s[at + S_LOST] != 0:
            mask |= 1 << session
    return mask


@kernel
def depths(s: IntArray) -> tuple[int, int]:
    """Requests that wait to be taken, answers that wait to be read, of all clients together."""
    requests, answers = 0, 0
    for session in range(MAX_SESSIONS):
        at = session * SESSION_WORDS
        if s[at + S_ACTIVE] != 0:
            requests += arrived_count(s, at + REQUESTS)
            answers += unread(s, at + ANSWERS)
    return requests, answers


@kernel
def unpark(s: IntArray) -> None:
    """Tell every client that the engine is awake."""
    for session in range(MAX_SESSIONS):
        at = session * SESSION_WORDS
        if s[at + S_ACTIVE] != 0:
            rouse(s, at + REQUESTS)


@kernel
def park(s: IntArray) -> bool:
    """Tell every client that the engine goes to sleep; False where a request has come and it must not."""
    for session in range(MAX_SESSIONS):
        at = session * SESSION_WORDS
        if s[at + S_ACTIVE] != 0 and not doze(s, at + REQUESTS) and may_be_served(s, at):
            unpark(s)
            return False
    return True
