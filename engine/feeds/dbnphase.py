"""DBN phase: whether a venue matches an instrument's orders, from its status records; where it has none, from what it does."""

from __future__ import annotations

from typing import Final

from engine.events import HALT, RESUME, EventArray
from engine.feeds.dbnwords import INSTRUMENT_WORDS, INSTRUMENTS, PHASE, TOLD, TRADED, le2
from engine.feeds.parsewords import write_event
from engine.feeds.scan import ByteArray
from engine.jit import kernel
from metrics.frame import IntArray

UNTOLD, PRE_OPEN, OPEN = 0, 1, 2
TRADING_STATUS: Final = 7
# Pre-open to rotation, halt, pause, suspension, close, post-close, not available.
STATUS_STOPS: Final = (1, 2, 3, 4, 5, 8, 9, 10, 12, 13, 15)


@kernel
def turn(w: IntArray, out: EventArray, written: int, t_ns: int, i: int, phase: int) -> int:
    """Change an instrument's phase; returns how many events are written then."""
    at = INSTRUMENTS + i * INSTRUMENT_WORDS
    if w[at + PHASE] != phase:
        if phase == PRE_OPEN or w[at + PHASE] == PRE_OPEN:
            write_event(out, written, t_ns, 0, 0, 0, i, HALT if phase == PRE_OPEN else RESUME, 0, 0)
            written += 1
        w[at + PHASE] = phase
    if phase == PRE_OPEN:
        w[at + TRADED] = 0
    return written


@kernel
def tell_status(data: ByteArray, at: int, w: IntArray, out: EventArray, written: int, t_ns: int, i: int) -> int:
    """What the venue says of its phase; returns how many events are written then."""
    action = le2(data, at + 24)
    if action == TRADING_STATUS or action in STATUS_STOPS:
        w[INSTRUMENTS + i * INSTRUMENT_WORDS + TOLD] = 1
    if action == TRADING_STATUS:
        return turn(w, out, written, t_ns, i, OPEN)
    if action in STATUS_STOPS:
        return turn(w, out, written, t_ns, i, PRE_OPEN)
    return written
