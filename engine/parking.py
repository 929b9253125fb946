"""Parking: how the engine and its clients sleep until the other has written, each in one compiled call.

Who sleeps says so in its ring (`engine.ring.doze`), looks once more, and sleeps on its eventfd and on
whatever else may want it; who has written and finds the word rings. Nothing of it runs in Python between
a waking and the first look at what has come.
"""

from __future__ import annotations

from typing import Final

from engine import mailbox
from engine.descriptors import has_come, hush, ring_bell, sleep_until
from engine.jit import kernel
from engine.ring import FULL, WAKE, doze, pull, push, rouse
from metrics.frame import IntArray

BELL: Final = 0  # of the descriptors that a sleeper sleeps on, the first is its eventfd

# Why the engine woke. WOKEN: for requests too, and who sent one slept when it was answered (`engine.attendance`).
DUE, REQUESTS, OTHERS, WOKEN = range(4)


@kernel
def sleep_for_requests(sessions: IntArray, files: IntArray, until_ns: int, linger_ns: int) -> int:
    """The engine's sleep: look for requests until linger_ns, spinning, then sleep until until_ns (both monotonic).

    files: descriptors of `engine.descriptors.readable`, the engine's eventfd first. Returns REQUESTS (some
    wait, or a client has rung), OTHERS (another descriptor wants to be heard; requests may wait as well), or DUE.
    """
    if mailbox.waiting(sessions, linger_ns) or not mailbox.park(sessions):
        return REQUESTS
    woken = sleep_until(files, until_ns)
    mailbox.unpark(sessions)
    if not woken:
        return DUE
    if has_come(files, BELL):
        hush(files[BELL] & 0xFFFFFFFF)
    for k in range(BELL + 1, len(files)):
        if has_come(files, k):
            return OTHERS
    return REQUESTS


@kernel
def ring_clients(sessions: IntArray, bells: IntArray) -> bool:
    """Wake the clients that have been told something and sleep; bells: their eventfds by session. Whether there were any."""
    mask = mailbox.to_wake(sessions)
    for session in range(mailbox.MAX_SESSIONS):
        if mask >> session & 1:
            ring_bell(bells[session])
    return mask != 0


@kernel
def send(port: IntArray, record: IntArray, bell: int) -> bool:
    """Write one record and wake the engine where it sleeps; False where its ring is full."""
    outcome = push(port, record)
    if outcome == WAKE:
        ring_bell(bell)
    return outcome != FULL


# What a client's wait ended with, where no record has come.
NOTHING, HUNG_UP = 0, -1


@kernel
def receive(port: IntArray, records: IntArray, files: IntArray, spin_ns: int, until_ns: int) -> int:
    """A client's wait: look for records for spin_ns, spinning, then sleep until until_ns (monotonic).

    records: int64 (n, RECORD_WORDS), written. files: its eventfd, then its connection. Returns how many
    records came; NOTHING (the time is over, a signal came, or a ring for what was read before); HUNG_UP:
    the engine has ended the connection, and nothing is left to be read.
    """
    count = pull(port, records, spin_ns)
    if count > 0:
        return count
    woken = doze(port, 0) and sleep_until(files, until_ns)
    rouse(port, 0)
    if woken and has_come(files, BELL):
        hush(files[BELL] & 0xFFFFFFFF)
    gone = woken and has_come(files, BELL + 1)
    count = pull(port, records, 0)
    return HUNG_UP if gone and count == 0 else count
