"""Matching: strict price-time priority over the ladders, and what an event does to an order book."""

from __future__ import annotations

from engine import ladder
from engine.events import SELF_CANCEL, STP_BOTH, STP_TAKER, TAKER_CANCEL, FillArray
from engine.jit import inline_kernel, kernel
from engine.layout import (
    BASE,
    BEST,
    EXTRA,
    FILL_COUNT,
    ID,
    KEY,
    LAST_PRICE,
    LAST_QTY,
    LEVEL_BOOK,
    LEVEL_ID,
    LOST_FILLS,
    NEXT,
    NO_KEY,
    OWN_ORDERS,
    QTY,
    SEQUENCE,
    TRADED,
)
from engine.pool import give_slot, instrument_at, side_at
from metrics.frame import IntArray


@inline_kernel
def emit(
    w: IntArray, fills: FillArray, t_ns: int, i: int, side: int, price: int, qty: int, maker_id: int, taker_id: int,
    flags: int,
) -> None:  # fmt: skip
    """Append a fill; one that has no room is counted as lost."""
    if w[FILL_COUNT] < len(fills):
        fill = fills[w[FILL_COUNT]]
        fill.t_ns = t_ns
        fill.sequence = w[SEQUENCE]
        fill.maker_id = maker_id
        fill.taker_id = taker_id
        fill.price = price
        fill.qty = qty
        fill.instrument = i
        fill.side = side
        fill.flags = flags
        w[FILL_COUNT] += 1
    else:
        w[LOST_FILLS] += 1
    if flags == 0:
        at = instrument_at(w, i)
        w[at + LAST_PRICE] = price
        w[at + LAST_QTY] = qty
        w[at + TRADED] += qty


@inline_kernel
def drop(w: IntArray, ladder_side: int, slot: int) -> None:
    """Remove an order from its queue and from the pool."""
    ladder.remove(w, ladder_side, slot)
    give_slot(w, slot)


@inline_kernel
def take_off(w: IntArray, ladder_side: int, slot: int, qty: int) -> None:
    """Reduce an order; one with nothing left goes."""
    if qty >= w[slot + QTY]:
        drop(w, ladder_side, slot)
    else:
        ladder.change(w, ladder_side, slot, -qty)


@inline_kernel
def following(w: IntArray, ladder_side: int, slot: int, key: int) -> int:
    """The next order of the same key, 0 where `slot` is the last."""
    if key >= w[ladder_side + BASE]:
        return int(w[slot + NEXT])
    return ladder.next_far(w, ladder_side, slot, key)


@inline_kernel
def leading(w: IntArray, ladder_side: int, key: int) -> int:
    """The first order of an occupied key."""
    if key >= w[ladder_side + BASE]:
        return ladder.first_at(w, ladder_side, key)
    return ladder.next_far(w, ladder_side, 0, key)


@kernel
def match(
    w: IntArray, fills: FillArray, t_ns: int, i: int, side: int, worst: int, qty: int, taker_id: int, flags: int,
) -> int:  # fmt: skip
    """Trade an aggressor against the other side, best price first, oldest order first; returns the lots left.

    worst: the lowest key of the other side that it accepts (-limit for a buy, +limit for a sell, as
    `-side * limit`). A recorded level gives what is visible and stays: the recording does not react.
    Our own aggressor does not trade with our own order: one of them or both are cancelled, as flags say.
    """
    opposite = side_at(w, i, -side)
    in_levels = w[instrument_at(w, i) + LEVEL_BOOK] != 0
    left = qty
    key = w[opposite + BEST]
    while left > 0 and key != NO_KEY and key >= worst:
        price = -side * key
        slot = leading(w, opposite, key)
        while left > 0 and slot != 0:
            after = following(w, opposite, slot, key)
            maker_id = w[slot + ID]
            if maker_id >= LEVEL_ID:
                taken = min(left, w[slot + QTY] - w[slot + EXTRA])
                if taken > 0:
                    w[slot + EXTRA] += taken
                    left -= taken
                    emit(w, fills, t_ns, i, side, price, taken, 0, taker_id, 0)
            elif maker_id < 0 and taker_id < 0:
                if flags & STP_TAKER == 0:
                    emit(w, fills, t_ns, i, side, price, w[slot + QTY], maker_id, taker_id, SELF_CANCEL)
                    drop(w, opposite, slot)
                if flags & (STP_TAKER | STP_BOTH) != 0:
                    emit(w, fills, t_ns, i, side, price, left, maker_id, taker_id, TAKER_CANCEL)
                    left = 0
            else:
                taken = min(left, w[slot + QTY])
                left -= taken
                emit(w, fills, t_ns, i, side, price, taken, maker_id, taker_id, 0)
                take_off(w, opposite, slot, taken)
            slot = after
        key = ladder.next_key(w, opposite, key) if in_levels else w[opposite + BEST]
    return left


@kernel
def fillable(w: IntArray, i: int, side: int, worst: int, qty: int, taker_id: int, flags: int) -> bool:
    """Whether `match` with these arguments would trade all of qty.

    It walks the way `match` walks. Own orders that self-trade prevention would cancel do not count,
    and what stands behind one that would stop our aggressor does not either.
    """
    opposite = side_at(w, i, -side)
    left = qty
    key = w[opposite + BEST]
    while left > 0 and key != NO_KEY and key >= worst:
        slot = leading(w, opposite, key)
        while left > 0 and slot != 0:
            maker_id = w[slot + ID]
            if maker_id >= LEVEL_ID:
                left -= w[slot + QTY] - w[slot + EXTRA]
            elif maker_id >= 0 or taker_id >= 0:
                left -= w[slot + QTY]
            elif flags & (STP_TAKER | STP_BOTH) != 0:
                return False
            slot = following(w, opposite, slot, key)
        key = ladder.next_key(w, opposite, key)
    return bool(left <= 0)


@kernel
def uncross(w: IntArray, fills: FillArray, t_ns: int, i: int) -> None:
    """Trade what crossed while matching was halted: the older order of each pair makes the price."""
    bid, ask = side_at(w, i, 1), side_at(w, i, -1)
    while w[bid + BEST] != NO_KEY and w[ask + BEST] != NO_KEY and w[bid + BEST] + w[ask + BEST] >= 0:
        buy, sell = leading(w, bid, w[bid + BEST]), leading(w, ask, w[ask + BEST])
        taken = min(w[buy + QTY], w[sell + QTY])
        if w[buy + ID] < 0 and w[sell + ID] < 0:
            maker, maker_side = (buy, bid) if w[buy + EXTRA] < w[sell + EXTRA] else (sell, ask)
            taker = sell if maker == buy else buy
            side = -1 if maker == buy else 1
            emit(
                w, fills, t_ns, i, side, abs(w[maker + KEY]), w[maker + QTY], w[maker + ID], w[taker + ID], SELF_CANCEL
            )
            drop(w, maker_side, maker)
        elif w[buy + EXTRA] < w[sell + EXTRA]:
            emit(w, fills, t_ns, i, -1, w[buy + KEY], taken, w[buy + ID], w[sell + ID], 0)
            take_off(w, bid, buy, taken)
            take_off(w, ask, sell, taken)
        else:
            emit(w, fills, t_ns, i, 1, -w[sell + KEY], taken, w[sell + ID], w[buy + ID], 0)
            take_off(w, ask, sell, taken)
            take_off(w, bid, buy, taken)


@kernel
def execute(w: IntArray, fills: FillArray, t_ns: int, i: int, slot: int, side: int, qty: int) -> None:
    """The venue executed qty of a resting order; our own orders that stood before it trade first, up to qty.

    The recorded order loses all of qty: the recording does not react to us.
    """
    ladder_side = side_at(w, i, side)
    target = w[slot + KEY]
    order_id = w[slot + ID]
    if w[instrument_at(w, i) + OWN_ORDERS] > 0:
        left = qty
        key = w[ladder_side + BEST]
        while left > 0 and key >= target:
            other = leading(w, ladder_side, key)
            below = ladder.next_key(w, ladder_side, key)
            while left > 0 and other != 0 and other != slot:
                after = following(w, ladder_side, other, key)
                if w[other + ID] < 0:
                    taken = min(left, w[other + QTY])
                    left -= taken
                    emit(w, fills, t_ns, i, -side, side * key, taken, w[other + ID], 0, 0)
                    take_off(w, ladder_side, other, taken)
                other = after
            key = below
    taken = min(qty, w[slot + QTY])
    emit(w, fills, t_ns, i, -side, side * target, taken, order_id, 0, 0)
    take_off(w, ladder_side, slot, taken)
