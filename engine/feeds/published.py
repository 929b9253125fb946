"""Published: a tape of orders as the venue itself would tell it, for the writers of other formats.

A tape says what was sent; a venue says what became of it. An aggressor is told as the executions of the orders that it
met, and what is left of it as a new order. Applied to empty books, both leave the same.
"""

from __future__ import annotations

from typing import Final

from engine.book import Books, apply_event, make_books, order_qty
from engine.events import (
    CANCEL,
    EXECUTE,
    HALT,
    HIDDEN,
    LIMIT,
    REDUCE,
    REST_ONLY,
    RESUME,
    EventArray,
    Tape,
    empty_events,
)
from engine.feeds.parsewords import write_event
from engine.jit import inline_kernel, kernel
from metrics.errors import DeskvigilError

MAX_ORDERS: Final = 1 << 20


@inline_kernel
def _tell(
    out: EventArray, at: int, t_ns: int, order_id: int, price: int, qty: int, i: int, kind: int, side: int, flags: int
) -> int:
    """Write one event where there is room for it; returns how many there are then."""
    if at < len(out):
        write_event(out, at, t_ns, order_id, price, qty, i, kind, side, flags)
    return at + 1


@kernel
def _publish(books: Books, events: EventArray, out: EventArray) -> int:
    """Apply events and write what the venue tells; returns how many events that is. What the books refuse is not told."""
    written = 0
    for k in range(len(events)):
        event = events[k]
        i, kind, side, order_id, t_ns = event.instrument, event.kind, event.side, event.order_id, event.t_ns
        before = order_qty(books, i, order_id)
        count = apply_event(books, event)
        if count < 0:
            continue
        if kind in (CANCEL, REDUCE, EXECUTE, HIDDEN, HALT, RESUME):
            qty = before if kind == CANCEL else event.qty
            written = _tell(out, written, t_ns, order_id, event.price, qty, i, kind, side, event.flags)
            if kind in (EXECUTE, HIDDEN):
                continue
        for j in range(count):
            fill = books.fills[j]
            written = _tell(out, written, t_ns, fill.maker_id, fill.price, fill.qty, i, EXECUTE, -fill.side, 0)
        left = order_qty(books, i, order_id) if kind == LIMIT else 0
        if left > 0:
            written = _tell(out, written, t_ns, order_id, event.price, left, i, LIMIT, side, REST_ONLY)
    return written


def published(tape: Tape) -> EventArray:
    """LIMIT, REDUCE, CANCEL, EXECUTE, HIDDEN, HALT and RESUME, dtype EVENT; DeskvigilError for a tape of levels."""
    if tape.level_book:
        raise DeskvigilError(f"{tape.source}: a tape of price levels does not say what became of any order")
    n = len(tape.instruments)
    out = empty_events(_publish(make_books(n, max_orders=MAX_ORDERS), tape.events, empty_events(0)))
    _publish(make_books(n, max_orders=MAX_ORDERS), tape.events, out)
    return out
