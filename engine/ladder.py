"""Ladder: one side of one book, levels in a window with a bitmap, and the far list behind it.

All kernels work on the array of `engine.layout`; `side` is the offset of a side, `slot` of a slot.
"""

from __future__ import annotations

from engine.bits import highest_bit
from engine.jit import inline_kernel, kernel
from engine.layout import (
    BASE,
    BEST,
    BEST_AT,
    BITS,
    FAR_COUNT,
    FAR_HEAD,
    FAR_TAIL,
    HEAD,
    KEY,
    LEVEL_WORDS,
    LEVELS,
    LOW,
    NEXT,
    NO_KEY,
    OWN,
    PREV,
    QTY,
    REBASES,
    SUMMARY,
    TAIL,
    TOTAL,
    WINDOW,
)
from engine.layout import ID as SLOT_ID
from metrics.frame import IntArray


@inline_kernel
def level_at(side: int, index: int) -> int:
    """Offset of a level of the window."""
    return side + LEVELS + index * LEVEL_WORDS


@inline_kernel
def _highest_upto(w: IntArray, side: int, index: int) -> int:
    """The highest occupied window index not above `index`, -1 where there is none."""
    word = index >> 6
    bits = w[side + BITS + word] & ((2 << (index & 63)) - 1)
    if bits == 0:
        summary = w[side + SUMMARY] & ((1 << word) - 1)
        if summary == 0:
            return -1
        word = highest_bit(summary)
        bits = w[side + BITS + word]
    return (word << 6) + highest_bit(bits)


@kernel
def _best_far_below(w: IntArray, side: int, key: int) -> int:
    """The best key of the far list that is worse than `key`, NO_KEY where there is none."""
    best = NO_KEY
    slot = w[side + FAR_HEAD]
    while slot != 0:
        if best < w[slot + KEY] < key:
            best = w[slot + KEY]
        slot = w[slot + NEXT]
    return best


@kernel
def next_key(w: IntArray, side: int, key: int) -> int:
    """The best occupied key worse than `key`, NO_KEY where there is none."""
    index = min(key - w[side + BASE], WINDOW) - 1
    found = -1
    if index >= 0:
        found = _highest_upto(w, side, index)
    if found >= 0:
        return int(w[side + BASE]) + found
    if w[side + FAR_COUNT] == 0:
        return NO_KEY
    return _best_far_below(w, side, key)


@inline_kernel
def first_at(w: IntArray, side: int, key: int) -> int:
    """First slot in the queue of an occupied key of the window; 0 for one behind it (see `next_far`)."""
    index = key - w[side + BASE]
    if index < 0 or index >= WINDOW:
        return 0
    return int(w[level_at(side, index) + HEAD])


@kernel
def next_far(w: IntArray, side: int, slot: int, key: int) -> int:
    """The slot of a key in the far list that follows `slot` (0: the first), 0 where there is none."""
    following = w[side + FAR_HEAD] if slot == 0 else w[slot + NEXT]
    while following != 0 and w[following + KEY] != key:
        following = w[following + NEXT]
    return int(following)


@inline_kernel
def _append_far(w: IntArray, side: int, slot: int) -> None:
    tail = w[side + FAR_TAIL]
    w[slot + PREV] = tail
    w[slot + NEXT] = 0
    if tail == 0:
        w[side + FAR_HEAD] = slot
    else:
        w[tail + NEXT] = slot
    w[side + FAR_TAIL] = slot
    w[side + FAR_COUNT] += 1


@inline_kernel
def _append_level(w: IntArray, side: int, index: int, slot: int) -> None:
    level = level_at(side, index)
    tail = w[level + TAIL]
    w[slot + PREV] = tail
    w[slot + NEXT] = 0
    if tail == 0:
        w[level + HEAD] = slot
        w[side + BITS + (index >> 6)] |= 1 << (index & 63)
        w[side + SUMMARY] |= 1 << (index >> 6)
    else:
        w[tail + NEXT] = slot
    w[level + TAIL] = slot
    w[level + TOTAL] += w[slot + QTY]
    if w[slot + SLOT_ID] < 0:
        w[level + OWN] += w[slot + QTY]


@kernel
def move_window(w: IntArray, side: int, best: int) -> None:
    """Move a side's window so that `best`, its best key, lies at BEST_AT. Queues keep their order."""
    w[REBASES] += 1
    index = _highest_upto(w, side, WINDOW - 1)
    while index >= 0:
        level = level_at(side, index)
        slot = w[level + HEAD]
        while slot != 0:
            following = w[slot + NEXT]
            _append_far(w, side, slot)
            slot = following
        w[level : level + LEVEL_WORDS] = 0
        index = _highest_upto(w, side, index - 1) if index > 0 else -1
    w[side + BITS : side + LEVELS] = 0
    w[side + SUMMARY] = 0
    w[side + BASE] = best - BEST_AT
    slot = w[side + FAR_HEAD]
    w[side + FAR_HEAD] = w[side + FAR_TAIL] = w[side + FAR_COUNT] = 0
    while slot != 0:
        following = w[slot + NEXT]
        index = w[slot + KEY] - w[side + BASE]
        if index >= 0:
            _append_level(w, side, index, slot)
        else:
            _append_far(w, side, slot)
        slot = following


@inline_kernel
def insert(w: IntArray, side: int, slot: int) -> None:
    """Let a slot (ID, KEY and QTY set) join the end of its price's queue."""
    key = w[slot + KEY]
    best = w[side + BEST]
    if best == NO_KEY:
        w[side + BASE] = key - BEST_AT
    index = key - w[side + BASE]
    if index >= WINDOW or (index < 0 and best - w[side + BASE] < LOW):
        move_window(w, side, max(key, best))
        index = key - w[side + BASE]
    if index >= 0:
        _append_level(w, side, index, slot)
    else:
        _append_far(w, side, slot)
    if key > best:
        w[side + BEST] = key


@inline_kernel
def change(w: IntArray, side: int, slot: int, by: int) -> None:
    """Change a slot's quantity, which stays positive; it keeps its place in the queue."""
    w[slot + QTY] += by
    index = w[slot + KEY] - w[side + BASE]
    if index >= 0:
        level = level_at(side, index)
        w[level + TOTAL] += by
        if w[slot + SLOT_ID] < 0:
            w[level + OWN] += by


@inline_kernel
def remove(w: IntArray, side: int, slot: int) -> None:
    """Take a slot out of its queue; the best key and the window follow."""
    key = w[slot + KEY]
    following, before = w[slot + NEXT], w[slot + PREV]
    if following != 0:
        w[following + PREV] = before
    if before != 0:
        w[before + NEXT] = following
    index = key - w[side + BASE]
    if index < 0:
        if before == 0:
            w[side + FAR_HEAD] = following
        if following == 0:
            w[side + FAR_TAIL] = before
        w[side + FAR_COUNT] -= 1
    else:
        level = level_at(side, index)
        w[level + TOTAL] -= w[slot + QTY]
        if w[slot + SLOT_ID] < 0:
            w[level + OWN] -= w[slot + QTY]
        if before == 0:
            w[level + HEAD] = following
        if following == 0:
            w[level + TAIL] = before
        if before == 0 and following == 0:
            _vacate(w, side, index, key)


@inline_kernel
def _vacate(w: IntArray, side: int, index: int, key: int) -> None:
    """An emptied level leaves the bitmap; where it was the best one the next takes its place."""
    bits = w[side + BITS + (index >> 6)] & ~(1 << (index & 63))
    w[side + BITS + (index >> 6)] = bits
    if bits == 0:
        w[side + SUMMARY] &= ~(1 << (index >> 6))
    if w[side + BEST] == key:
        best = next_key(w, side, key)
        w[side + BEST] = best
        if best != NO_KEY and best < w[side + BASE]:
            move_window(w, side, best)


@kernel
def level_total(w: IntArray, side: int, key: int) -> int:
    """Lots resting at a key."""
    index = key - w[side + BASE]
    total = 0
    if 0 <= index < WINDOW:
        total = w[level_at(side, index) + TOTAL]
    elif w[side + FAR_COUNT] > 0:
        slot = next_far(w, side, 0, key)
        while slot != 0:
            total += w[slot + QTY]
            slot = next_far(w, side, slot, key)
    return int(total)


@kernel
def level_own(w: IntArray, side: int, key: int) -> int:
    """Lots of our own orders at a key."""
    index = key - w[side + BASE]
    own = 0
    if 0 <= index < WINDOW:
        own = w[level_at(side, index) + OWN]
    elif w[side + FAR_COUNT] > 0:
        slot = next_far(w, side, 0, key)
        while slot != 0:
            if w[slot + SLOT_ID] < 0:
                own += w[slot + QTY]
            slot = next_far(w, side, slot, key)
    return int(own)
