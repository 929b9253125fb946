"""Attendance: the engine's sleep and the serving of what wakes it, in one compiled call.

Between a client's order and its acknowledgement runs no Python: the kernel that sleeps takes the
requests that wake it, and rings the clients that wait for an answer.
"""

from __future__ import annotations

from typing import Final

from engine import entry
from engine.deskarrays import NEXT_DUE_NS, desk_of
from engine.jit import kernel
from engine.mailbox import Why, waiting
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.parking import DUE, REQUESTS, WOKEN, ring_clients, sleep_for_requests
from engine.timeline import ORIGIN_ENGINE, ORIGIN_MONOTONIC
from metrics.frame import IntArray

_REQUESTED: Final = int(Why.REQUESTED)


@kernel
def attend(
    table: IntArray, timeline: IntArray, speed: float, stamp: IntArray, files: IntArray, bells: IntArray,
    until_ns: int, linger_ns: int,
) -> int:  # fmt: skip
    """As `sleep_for_requests`, and what has come by then is served, entry.BATCH requests at most.

    Returns WOKEN rather than REQUESTS where a client that sleeps had to be woken for its answer.
    table, timeline, speed: of the desk. stamp: engine time of the newest event that the books have seen or request
    that was served, int64 (1,), written. bells: the clients' eventfds by session.
    """
    desk = desk_of(table)
    woken = sleep_for_requests(desk.sessions, files, until_ns, linger_ns)
    if woken == DUE or not waiting(desk.sessions, 0):
        return woken
    now_ns = clock_ns(CLOCK_MONOTONIC)
    engine_ns = timeline[ORIGIN_ENGINE] + int((now_ns - timeline[ORIGIN_MONOTONIC]) * speed)
    # Behind time: an order joins the events where they stand, so that the books' time never falls.
    if desk.clockwork[NEXT_DUE_NS] > now_ns:
        stamp[0] = engine_ns
    entry.work(table, entry.SERVE, entry.NO_CLIENT, _REQUESTED, stamp[0], engine_ns, entry.BATCH)
    rung = ring_clients(desk.sessions, bells)
    return WOKEN if rung and woken == REQUESTS else woken
