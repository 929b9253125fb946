"""Dispatch: what each kind of event does to the books, or why it is refused."""

from __future__ import annotations

from engine import ladder
from engine.events import (
    BOOK_FULL,
    CANCEL,
    CLEAR,
    DUPLICATE_ID,
    EVERYTHING,
    EXECUTE,
    FOK,
    HALT,
    HIDDEN,
    INVALID,
    IOC,
    LEVEL,
    LIMIT,
    MAX_PRICE_TICKS,
    MAX_QTY_LOTS,
    MAX_VENUE_ID,
    POST_ONLY,
    REDUCE,
    REPLACE,
    REST_ONLY,
    STP_BOTH,
    STP_TAKER,
    TRADE,
    UNFILLABLE,
    UNKNOWN_ORDER,
    VENUE_HALTED,
    WOULD_MATCH,
    FillArray,
)
from engine.jit import inline_kernel, kernel
from engine.layout import (
    BEST,
    FAR_HEAD,
    FILL_COUNT,
    FREE,
    HALTED,
    ID,
    KEY,
    LEVEL_BOOK,
    N_INSTRUMENTS,
    NEXT,
    NO_KEY,
    OWN_ORDERS,
    QTY,
    REFUSED,
    SEQUENCE,
    TAG,
)
from engine.levels import meet_all, print_trade, set_level, visible_at
from engine.matching import drop, emit, execute, fillable, following, leading, match, take_off, uncross
from engine.pool import find, instrument_at, side_at, take_slot
from metrics.frame import IntArray


@inline_kernel
def _is_sound(w: IntArray, order_id: int, price: int, qty: int, i: int, kind: int, side: int, flags: int) -> bool:
    """Whether an event's fields are within what its kind allows."""
    if i < 0 or i >= w[N_INSTRUMENTS] or kind < LIMIT or kind > REPLACE or (side != 1 and side != -1 and kind < CLEAR):
        return False
    if order_id > MAX_VENUE_ID or order_id < -MAX_VENUE_ID or qty < 0 or qty > MAX_QTY_LOTS:
        return False
    if price < 0 or price > MAX_PRICE_TICKS:
        return False
    # Two orders at once, or one that would come to rest although it must not.
    if flags & (STP_TAKER | STP_BOTH) == STP_TAKER | STP_BOTH or (flags & FOK != 0 and kind != IOC):
        return False
    in_levels = bool(w[instrument_at(w, i) + LEVEL_BOOK] != 0)
    if kind == LIMIT:
        return price > 0 and qty > 0 and order_id != 0 and (order_id < 0 or not in_levels)
    if kind == IOC:
        return qty > 0 and (order_id < 0 or not in_levels)
    if kind == REPLACE:
        return price > 0 and qty > 0
    if kind == LEVEL:
        return in_levels and price > 0
    if kind == TRADE:
        return in_levels and price > 0 and qty > 0
    if kind in (REDUCE, EXECUTE):
        return qty > 0
    return True


@inline_kernel
def _crosses(w: IntArray, i: int, side: int, price: int) -> bool:
    best = w[side_at(w, i, -side) + BEST]
    return bool(best != NO_KEY and best >= -side * price)


@inline_kernel
def _order(
    w: IntArray, fills: FillArray, t_ns: int, order_id: int, price: int, qty: int, i: int, kind: int, side: int,
    flags: int,
) -> int:  # fmt: skip
    """LIMIT and REPLACE: match what crosses, rest with what is left; returns 0 or a refusal."""
    old = find(w, i, order_id)
    if kind == REPLACE:
        if old == 0:
            return UNKNOWN_ORDER
        side = 1 - 2 * (w[old + TAG] & 1)
        if w[old + KEY] == side * price and w[old + QTY] >= qty:
            ladder.change(w, side_at(w, i, side), old, qty - w[old + QTY])
            return 0
    elif w[FREE] == 0:
        return BOOK_FULL
    elif old != 0:
        return DUPLICATE_ID
    at = instrument_at(w, i)
    matches = bool(flags & REST_ONLY == 0 and w[at + HALTED] == 0 and _crosses(w, i, side, price))
    if matches and flags & POST_ONLY != 0:
        return WOULD_MATCH
    if kind == REPLACE:  # nothing can refuse it any more, and it leaves a slot to come back to
        drop(w, side_at(w, i, side), old)
    left = qty
    if matches:
        left = match(w, fills, t_ns, i, side, -side * price, qty, order_id, flags)
    if left > 0:
        # In a level book: what is ahead. In an order book: when it came.
        extra = visible_at(w, i, side, price) if w[at + LEVEL_BOOK] != 0 else w[SEQUENCE]
        slot = take_slot(w, i, order_id, side, price, left, extra)
        ladder.insert(w, side_at(w, i, side), slot)
    return 0


@inline_kernel
def _aggressor(
    w: IntArray, fills: FillArray, t_ns: int, order_id: int, price: int, qty: int, i: int, side: int, flags: int
) -> int:
    """IOC: match what crosses; returns 0 or a refusal."""
    worst = -side * price if price > 0 else NO_KEY
    if w[instrument_at(w, i) + HALTED] != 0:
        return VENUE_HALTED
    if flags & FOK != 0 and not fillable(w, i, side, worst, qty, order_id, flags):
        return UNFILLABLE
    match(w, fills, t_ns, i, side, worst, qty, order_id, flags)
    return 0


@inline_kernel
def _by_id(w: IntArray, fills: FillArray, t_ns: int, order_id: int, qty: int, i: int, kind: int) -> int:
    """REDUCE, CANCEL and EXECUTE; returns 0 or a refusal."""
    slot = find(w, i, order_id)
    if slot == 0:
        return UNKNOWN_ORDER
    side = 1 - 2 * (w[slot + TAG] & 1)
    if kind == CANCEL:
        drop(w, side_at(w, i, side), slot)
    elif kind == REDUCE:
        take_off(w, side_at(w, i, side), slot, qty)
    else:
        execute(w, fills, t_ns, i, slot, side, qty)
    return 0


@inline_kernel
def _clear(w: IntArray, i: int, everything: bool) -> None:
    """Remove the venue's orders of an instrument, or everybody's."""
    for side in (1, -1):
        ladder_side = side_at(w, i, side)
        slot = w[ladder_side + FAR_HEAD]  # before the window: that one would come to fetch them
        while slot != 0:
            after = w[slot + NEXT]
            if everything or w[slot + ID] > 0:
                drop(w, ladder_side, slot)
            slot = after
        key = w[ladder_side + BEST]
        while key != NO_KEY:
            below = ladder.next_key(w, ladder_side, key)
            slot = leading(w, ladder_side, key)
            while slot != 0:
                after = following(w, ladder_side, slot, key)
                if everything or w[slot + ID] > 0:
                    drop(w, ladder_side, slot)
                slot = after
            key = below


@kernel
def _rarely(w: IntArray, fills: FillArray, t_ns: int, i: int, kind: int, flags: int) -> None:
    """CLEAR, HALT and RESUME."""
    at = instrument_at(w, i)
    if kind == CLEAR:
        _clear(w, i, flags & EVERYTHING != 0)
    elif kind == HALT:
        w[at + HALTED] = 1
    else:
        w[at + HALTED] = 0
        if w[at + LEVEL_BOOK] == 0:
            uncross(w, fills, t_ns, i)
        elif w[at + OWN_ORDERS] > 0:
            meet_all(w, fills, t_ns, i)


@inline_kernel
def dispatch(
    w: IntArray, fills: FillArray, t_ns: int, order_id: int, price: int, qty: int, i: int, kind: int, side: int,
    flags: int,
) -> int:  # fmt: skip
    """Apply one event; returns the number of its fills in `fills`, or a refusal (negative), which is counted."""
    w[SEQUENCE] += 1
    w[FILL_COUNT] = 0
    refusal = 0
    if not _is_sound(w, order_id, price, qty, i, kind, side, flags):
        refusal = INVALID
    elif kind in (LIMIT, REPLACE):
        refusal = _order(w, fills, t_ns, order_id, price, qty, i, kind, side, flags)
    elif kind in (CANCEL, REDUCE, EXECUTE):
        refusal = _by_id(w, fills, t_ns, order_id, qty, i, kind)
    elif kind == IOC:
        refusal = _aggressor(w, fills, t_ns, order_id, price, qty, i, side, flags)
    elif kind == LEVEL:
        if set_level(w, fills, t_ns, i, side, price, qty) != 0:
            refusal = BOOK_FULL
    elif kind == TRADE:
        print_trade(w, fills, t_ns, i, side, price, qty)
    elif kind == HIDDEN:
        if qty > 0:
            emit(w, fills, t_ns, i, -side, price, qty, 0, 0, 0)
    else:
        _rarely(w, fills, t_ns, i, kind, flags)
    if refusal != 0:
        w[REFUSED - refusal] += 1
        return refusal
    return int(w[FILL_COUNT])
