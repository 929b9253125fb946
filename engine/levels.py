"""Levels: books known by price level only, and where our own orders stand in their queues.

A recorded level is one slot holding the level's size; our own orders join the same queue. What is
not known is estimated:

- On arrival an own order stands behind all that is visible at its price.
- A print at its price takes from what is ahead of it; what goes beyond fills it. A print at a worse
  price fills it too: the aggressor would have met it first.
- Where a level shrinks by more than was printed there since its last update, somebody cancelled: in
  proportion, ahead of us and behind us alike (rounded against us). What is added stands behind us.
- A recorded level of the other side that appears at or beyond our price would have met our order:
  it fills it, up to its size.
- After a halt our own orders meet the recorded levels that they cross by then; where our own bid and
  ask cross each other the older one (ids of ours fall) is cancelled.
- Our own aggressors take visible size level by level. The recording does not react, but what they
  took (and what was printed) is not there again before the level's next update.
"""

from __future__ import annotations

from engine import ladder
from engine.events import SELF_CANCEL, FillArray
from engine.jit import inline_kernel, kernel
from engine.layout import (
    BASE,
    BEST,
    EXTRA,
    FAR_COUNT,
    FREE,
    HALTED,
    HEAD,
    ID,
    KEY,
    LEVEL_ID,
    NEXT,
    NO_KEY,
    OWN_ORDERS,
    QTY,
    WINDOW,
)
from engine.matching import drop, emit, following, leading, take_off
from engine.pool import find, instrument_at, side_at, take_slot
from metrics.frame import IntArray


@inline_kernel
def level_id(side: int, price: int) -> int:
    """Id under which a recorded level is found."""
    return LEVEL_ID + 2 * price + (1 - side) // 2


@inline_kernel
def recorded(w: IntArray, i: int, side: int, price: int) -> int:
    """Slot of a recorded level, 0 where there is none. In the window it is seen without asking the hash."""
    ladder_side = side_at(w, i, side)
    index = side * price - w[ladder_side + BASE]
    slot = 0
    if 0 <= index < WINDOW:
        slot = w[ladder.level_at(ladder_side, index) + HEAD]
        while slot != 0 and w[slot + ID] < 0:
            slot = w[slot + NEXT]
    elif w[ladder_side + FAR_COUNT] > 0:
        slot = find(w, i, level_id(side, price))
    return int(slot)


@inline_kernel
def visible_at(w: IntArray, i: int, side: int, price: int) -> int:
    """Lots of a recorded level that prints and our own aggressors have left."""
    slot = recorded(w, i, side, price)
    if slot == 0:
        return 0
    return int(w[slot + QTY] - w[slot + EXTRA])


@inline_kernel
def _requeue(w: IntArray, ladder_side: int, key: int, before: int, cancelled: int, size: int) -> None:
    """Move our own orders of a level up: of `before` lots `cancelled` went, `size` are there now."""
    slot = leading(w, ladder_side, key)
    while slot != 0:
        if w[slot + ID] < 0:
            ahead = w[slot + EXTRA]
            if cancelled > 0:
                ahead -= int(float(ahead) * float(cancelled) / float(before))
            w[slot + EXTRA] = min(ahead, size)
        slot = following(w, ladder_side, slot, key)


@inline_kernel
def _meet(w: IntArray, fills: FillArray, t_ns: int, i: int, side: int, price: int, level: int) -> None:
    """A recorded level that crosses our own resting orders fills them."""
    opposite = side_at(w, i, -side)
    key = w[opposite + BEST]
    while key != NO_KEY and key >= -side * price:
        below = ladder.next_key(w, opposite, key)
        slot = leading(w, opposite, key) if ladder.level_own(w, opposite, key) > 0 else 0
        while slot != 0:
            after = following(w, opposite, slot, key)
            taken = min(w[slot + QTY], w[level + QTY] - w[level + EXTRA])
            if w[slot + ID] < 0 and taken > 0:
                w[level + EXTRA] += taken
                emit(w, fills, t_ns, i, side, -side * key, taken, w[slot + ID], 0, 0)
                take_off(w, opposite, slot, taken)
            slot = after
        key = below


@inline_kernel
def _best_own(w: IntArray, ladder_side: int) -> int:
    """Slot of the first of our own orders on a side, 0 where there is none."""
    key = w[ladder_side + BEST]
    while key != NO_KEY and ladder.level_own(w, ladder_side, key) == 0:
        key = ladder.next_key(w, ladder_side, key)
    slot = leading(w, ladder_side, key) if key != NO_KEY else 0
    while slot != 0 and w[slot + ID] > 0:
        slot = following(w, ladder_side, slot, key)
    return int(slot)


@kernel
def meet_all(w: IntArray, fills: FillArray, t_ns: int, i: int) -> None:
    """What crossed while matching was halted: recorded levels fill our orders, best first."""
    for side in (1, -1):
        ladder_side, opposite = side_at(w, i, side), side_at(w, i, -side)
        key = w[ladder_side + BEST]
        while key != NO_KEY and w[opposite + BEST] != NO_KEY and key + w[opposite + BEST] >= 0:
            slot = recorded(w, i, side, side * key)
            if slot != 0:
                _meet(w, fills, t_ns, i, side, side * key, slot)
            key = ladder.next_key(w, ladder_side, key)
    bid, ask = side_at(w, i, 1), side_at(w, i, -1)
    buy, sell = _best_own(w, bid), _best_own(w, ask)
    while buy != 0 and sell != 0 and w[buy + KEY] + w[sell + KEY] >= 0:
        older, younger = (buy, sell) if w[buy + ID] > w[sell + ID] else (sell, buy)
        ladder_side, side = (bid, -1) if older == buy else (ask, 1)
        emit(w, fills, t_ns, i, side, abs(w[older + KEY]), w[older + QTY], w[older + ID], w[younger + ID], SELF_CANCEL)
        drop(w, ladder_side, older)
        buy, sell = _best_own(w, bid), _best_own(w, ask)


@kernel
def set_level(w: IntArray, fills: FillArray, t_ns: int, i: int, side: int, price: int, qty: int) -> int:
    """The recorded size at a price is now qty (0: none). Returns 0, or -1 where no slot is free."""
    at, ladder_side = instrument_at(w, i), side_at(w, i, side)
    slot = recorded(w, i, side, price)
    if slot == 0 and qty == 0:
        return 0
    if slot == 0:
        if w[FREE] == 0:
            return -1
        slot = take_slot(w, i, level_id(side, price), side, price, qty, 0)
        ladder.insert(w, ladder_side, slot)
    else:
        size, used = w[slot + QTY], w[slot + EXTRA]
        if w[at + OWN_ORDERS] > 0 and ladder.level_own(w, ladder_side, side * price) > 0:
            _requeue(w, ladder_side, side * price, max(size - used, 1), max(size - used - qty, 0), qty)
        if qty == 0:
            drop(w, ladder_side, slot)
        else:
            ladder.change(w, ladder_side, slot, qty - size)
            w[slot + EXTRA] = 0
    if qty > 0 and w[at + OWN_ORDERS] > 0 and w[at + HALTED] == 0:
        _meet(w, fills, t_ns, i, side, price, slot)
    return 0


@kernel
def print_trade(w: IntArray, fills: FillArray, t_ns: int, i: int, side: int, price: int, qty: int) -> None:
    """A recorded print: the market's own fill, and what it would have filled of our resting orders."""
    resting = side_at(w, i, -side)
    emit(w, fills, t_ns, i, side, price, qty, 0, 0, 0)
    slot = recorded(w, i, -side, price)
    if slot != 0:
        w[slot + EXTRA] = min(w[slot + EXTRA] + qty, w[slot + QTY])
    if w[instrument_at(w, i) + OWN_ORDERS] == 0:
        return
    printed, given = -side * price, 0
    key = w[resting + BEST]
    while key != NO_KEY and key >= printed:
        below = ladder.next_key(w, resting, key)
        slot = leading(w, resting, key) if ladder.level_own(w, resting, key) > 0 else 0
        while slot != 0:
            after = following(w, resting, slot, key)
            if w[slot + ID] < 0:
                ahead = w[slot + EXTRA] if key == printed else 0
                taken = min(w[slot + QTY], qty - given - ahead)
                if key == printed:
                    w[slot + EXTRA] = max(ahead - qty, 0)
                if taken > 0:
                    given += taken
                    emit(w, fills, t_ns, i, side, -side * key, taken, w[slot + ID], 0, 0)
                    take_off(w, resting, slot, taken)
            slot = after
        key = below
