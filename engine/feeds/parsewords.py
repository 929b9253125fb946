"""Parse words: what the compiled parsers of binary feeds have alike: the header of their words, skipped messages, events written.

Everything but the bytes and the events lies in one int64 array, `w`, as in `engine.layout` and for its reason. It begins alike:

    header | counts of messages by type | position and reason of the first skipped ones | what is the parser's own ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from engine.events import EventArray
from engine.jit import inline_kernel, kernel
from metrics.frame import IntArray

# Header; the words before are the order table's, those not named here the parser's own.
AT: Final = 3  # position of the next message
LATEST_NS: Final = 4  # time of the last event
WRITTEN: Final = 5  # events of the last call
LATE: Final = 7  # messages with a time before the one above
SKIPPED_AT: Final = 12  # rows of `skips` in use
COUNTS: Final = 32
SKIPS: Final = COUNTS + 256
SKIPS_KEPT: Final = 64
PARSER: Final = SKIPS + 2 * SKIPS_KEPT  # where the parser's own words begin

DONE, OUT_FULL, TABLE_FULL = 0, 1, 2  # how a parse ends


@kernel
def skip(w: IntArray, at: int, reason: int) -> None:
    """Count a skipped message in word `reason` and keep its position; rare, so a call."""
    w[reason] += 1
    if w[SKIPPED_AT] < SKIPS_KEPT:
        to = SKIPS + 2 * w[SKIPPED_AT]
        w[to], w[to + 1] = at, reason
        w[SKIPPED_AT] += 1


def skipped(w: IntArray, names: Mapping[int, str], position: Callable[[int], str]) -> tuple[str, ...]:
    """The first skipped messages in words; names: of the reasons; position: where a byte lies in the file."""
    rows = w[SKIPS : SKIPS + 2 * int(w[SKIPPED_AT])].reshape(-1, 2)
    return tuple(f"{position(int(at))}: {names[int(why)]}" for at, why in rows)


@inline_kernel
def write_event(
    out: EventArray, at: int, t_ns: int, order_id: int, price: int, qty: int, i: int, kind: int, side: int, flags: int
) -> None:
    """Set one record of dtype EVENT."""
    event = out[at]
    event.t_ns, event.order_id, event.price, event.qty = t_ns, order_id, price, qty
    event.instrument, event.kind, event.side, event.flags = i, kind, side, flags
