"""Order log: what happens to own orders, as a ring of events that kernels write and the console reads.

It is for the eye (the Orders page): executions are complete in `engine.executions`, everything that
reached the books in the journal. A refused order has no id; its event tells what was asked. The ring
lies in a file of its own (`engine.orderlogfile`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np

from engine.jit import kernel
from engine.nanoclock import CLOCK_REALTIME, clock_ns
from metrics.frame import IntArray

EVENTS_KEPT: Final = 1 << 14  # the 5,000 orders of the console's blotter have two to three events each
# All int64, so that kernels see words. Prices in ticks, quantities in lots, times in ns.
ORDER_EVENT: Final = np.dtype(
    [
        ("wall_ns", np.int64),
        ("engine_ns", np.int64),
        ("order_id", np.int64),  # 0: refused by the gates
        ("what", np.int64),  # see Happened
        ("instrument", np.int64),
        ("side", np.int64),
        ("price", np.int64),  # of the order; of a fill: what it traded at
        ("qty", np.int64),  # of the order, of the fill, or what was cancelled
        ("left", np.int64),  # what still works after it
        ("kind", np.int64),  # see Kind
        ("strategy", np.int64),  # index in gates.STRATEGIES
        ("client", np.int64),
        ("reason", np.int64),  # see mailbox.reason_name; of a fill: 1 where we were the aggressor
        ("intent", np.int64),  # of a child: its parent's number (from 0); else 0
        ("total_ns", np.int64),  # ACCEPTED: from the intended time to here, and what of it went where
        ("market_data_ns", np.int64),
        ("decision_ns", np.int64),
        ("gate_ns", np.int64),
    ]
)
WORDS: Final = len(ORDER_EVENT.names or ())


class Happened(IntEnum):
    """What an event tells of its order."""

    REJECTED = 1
    ACCEPTED = 2
    FILL = 3
    CANCELLED = 4
    CHANGED = 5  # another price or quantity


class Kind(IntEnum):
    """How an order wants to trade."""

    UNKNOWN = 0
    LIMIT = 1
    POST_ONLY = 2
    IOC = 3
    FOK = 4


REJECTED, ACCEPTED, FILL, CANCELLED, CHANGED = (int(what) for what in Happened)
OF_LIMIT, OF_POST_ONLY, OF_IOC, OF_FOK = (int(kind) for kind in Kind if kind)


@kernel
def log_order(
    events: IntArray, written: IntArray, t_ns: int, order_id: int, what: int, i: int, side: int, price: int, lots: int,
    left: int, kind: int, strategy: int, client: int, reason: int, intent: int,
) -> None:  # fmt: skip
    """Append one event: events int64 (EVENTS_KEPT, WORDS), written int64 (1,)."""
    row = events[written[0] % len(events)]
    row[0], row[1], row[2], row[3], row[4], row[5] = clock_ns(CLOCK_REALTIME), t_ns, order_id, what, i, side
    row[6], row[7], row[8], row[9], row[10], row[11] = price, lots, left, kind, strategy, client
    row[12], row[13] = reason, intent
    row[14] = row[15] = row[16] = row[17] = 0
    written[0] += 1


@kernel
def time_order(
    events: IntArray, written: IntArray, total_ns: int, market_data_ns: int, decision_ns: int, gate_ns: int
) -> None:
    """Write into the newest event how long its order took, in all and by stage."""
    row = events[(written[0] - 1) % len(events)]
    row[14], row[15], row[16], row[17] = total_ns, market_data_ns, decision_ns, gate_ns
