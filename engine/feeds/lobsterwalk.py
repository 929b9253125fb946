"""LOBSTER walk: the kernels that turn a recorded day into order flow for a matching engine.

The day is walked message by message beside the venue's own book: every order is tracked by its id (price,
side, what is left of it), every price level by its total. What the file does not tell is anonymous:
orders older than the recording, and whatever happened to levels while they lay beyond the visible depth.
Anonymous quantity becomes orders of our making ("seeds"), set when a level comes into view and taken
back where it turns out to have gone, so that the engine's book stays the venue's. Executions are gathered
into the aggressors that caused them.
"""

from __future__ import annotations

from typing import Final

from engine import events as ev
from engine.feeds.lobster import (
    ADD,
    DELETE,
    DIRECTION,
    EXECUTION,
    HALT_MESSAGE,
    HIDDEN_EXECUTION,
    PRICE,
    SIZE,
    TIME,
    TYPE,
)
from engine.jit import kernel
from metrics.frame import IntArray

# The walk's state is one array of words, so that kernels pass one reference: a header, two sides, levels,
# orders, and the lists that the sides need. Sides, levels and orders are known by where their words begin.
FREE, NEXT_SEED, WRITTEN, FROM_BOOK, MISMATCHES, FIRST_MISMATCH, BAD, DEPTH, T_NS = range(9)
GROUP_T_NS, GROUP_SIDE, GROUP_PRICE, GROUP_QTY, SIDES, ROOM = range(9, 15)  # GROUP_SIDE 0: no aggressor
HEADER: Final = 16
SIGN, COUNT, HIDDEN, COMPLETE, HORIZON, VIEW, OLD, STACK = range(8)  # of a side; the last three: where its lists begin
SIDE_WORDS: Final = 8
KEY, TOTAL, ANONYMOUS, SEED, HEAD = range(5)  # of a level; KEY is side * price: higher is better on both sides
LEVEL_WORDS: Final = 5
STATE, O_KEY, LEFT, O_ID, NEXT = range(5)  # of an order
ORDER_WORDS: Final = 5
NEW, SEEN, RESTING, GONE = range(4)  # states of an order; SEEN: rests, but how much of it is not known
BEYOND: Final = 1 << 60  # a key beyond every key
COLUMNS = ("t_ns", "order_id", "price", "qty", "kind", "side", "flags")  # of the flow, as kernels write it


# --- the flow -------------------------------------------------------------------------------------


@kernel
def _emit(w: IntArray, out: IntArray, kind: int, sign: int, price: int, qty: int, order_id: int, flags: int) -> None:
    """Append one event; what has no room is only counted."""
    at = w[WRITTEN]
    w[WRITTEN] = at + 1
    if at < len(out):
        out[at, 0], out[at, 1], out[at, 2], out[at, 3] = w[T_NS], order_id, price, qty
        out[at, 4], out[at, 5], out[at, 6] = kind, sign, flags


@kernel
def _gather(w: IntArray, sign: int, price: int, size: int) -> None:
    """One execution more of the aggressor that is being gathered, against side `sign`."""
    if w[GROUP_SIDE] == 0:
        w[GROUP_T_NS], w[GROUP_SIDE], w[GROUP_PRICE], w[GROUP_QTY] = w[T_NS], -sign, price, size
    else:
        worst = w[GROUP_PRICE]
        w[GROUP_PRICE] = min(worst, price) if sign > 0 else max(worst, price)
        w[GROUP_QTY] += size


@kernel
def _close_group(w: IntArray, out: IntArray) -> None:
    """Write the gathered aggressor; levels that entered view meanwhile stand before it, so that it finds them."""
    if w[GROUP_SIDE] != 0:
        now = w[T_NS]
        w[T_NS] = w[GROUP_T_NS]
        _emit(w, out, ev.IOC, w[GROUP_SIDE], w[GROUP_PRICE], w[GROUP_QTY], 0, 0)
        w[T_NS] = now
        w[GROUP_SIDE] = 0


# --- levels ---------------------------------------------------------------------------------------


@kernel
def _settle(w: IntArray, out: IntArray, side: int, level: int, total: int) -> None:
    """A level's total is now what the book file says, all of it anonymous: its orders may have changed unseen."""
    sign = w[side + SIGN]
    price = sign * w[level + KEY]
    order = w[level + HEAD]
    while order != 0:
        if w[order + STATE] == RESTING:
            w[order + STATE] = SEEN
            _emit(w, out, ev.CANCEL, sign, price, 0, w[order + O_ID], 0)
        order = w[order + NEXT]
    if w[level + SEED] != 0:
        _emit(w, out, ev.CANCEL, sign, price, 0, w[level + SEED], 0)
    w[level + HEAD] = w[level + SEED] = 0
    w[level + TOTAL] = w[level + ANONYMOUS] = total
    if total > 0:
        w[level + SEED] = w[NEXT_SEED]
        w[NEXT_SEED] += 1
        _emit(w, out, ev.LIMIT, sign, price, total, w[level + SEED], ev.REST_ONLY)


@kernel
def _new_level(w: IntArray, key: int) -> int:
    level = w[FREE]
    w[FREE] = w[level + KEY]
    w[level + KEY] = key
    w[level + TOTAL] = w[level + ANONYMOUS] = w[level + SEED] = w[level + HEAD] = 0
    return int(level)


@kernel
def _drop_level(w: IntArray, out: IntArray, side: int, level: int) -> None:
    _settle(w, out, side, level, 0)
    w[level + KEY] = w[FREE]
    w[FREE] = level


@kernel
def _place(w: IntArray, side: int, key: int) -> int:
    """Where in view a key is or belongs."""
    k = 0
    while k < w[side + COUNT] and w[w[w[side + VIEW] + k] + KEY] > key:
        k += 1
    return k


# --- messages -------------------------------------------------------------------------------------


@kernel
def _add(w: IntArray, out: IntArray, side: int, order: int, key: int, size: int) -> bool:
    """A new order; False where it contradicts what is known."""
    view, count, sign = w[side + VIEW], w[side + COUNT], w[side + SIGN]
    k = _place(w, side, key)
    known = k < count and w[w[view + k] + KEY] == key
    # Beyond a full view it could not have been seen.
    if w[order + STATE] != NEW or (not known and k == count and w[side + COMPLETE] == 0):
        return False
    if not known:
        for j in range(count, k, -1):
            w[view + j] = w[view + j - 1]
        w[view + k] = _new_level(w, key)
        w[side + COUNT] = count + 1
    level = w[view + k]
    w[level + TOTAL] += size
    w[order + STATE], w[order + O_KEY], w[order + LEFT], w[order + NEXT] = RESTING, key, size, w[level + HEAD]
    w[level + HEAD] = order
    _emit(w, out, ev.LIMIT, sign, sign * key, size, w[order + O_ID], 0)
    return True


@kernel
def _less(w: IntArray, out: IntArray, side: int, order: int, kind: int, key: int, size: int) -> bool:
    """A resting order shrinks or goes; False where that contradicts what is known."""
    k = _place(w, side, key)
    if k == w[side + COUNT] or w[order + STATE] == GONE or (w[order + STATE] != NEW and w[order + O_KEY] != key):
        return False
    level, sign = w[w[side + VIEW] + k], w[side + SIGN]
    known = w[order + STATE] == RESTING
    if w[level + KEY] != key or size > (w[order + LEFT] if known else w[level + ANONYMOUS]):
        return False
    w[level + TOTAL] -= size
    w[order + O_KEY] = key
    if known:
        w[order + LEFT] -= size
        taken_from, left = w[order + O_ID], w[order + LEFT]
        w[order + STATE] = GONE if left == 0 else RESTING
    else:
        w[level + ANONYMOUS] -= size
        taken_from, left = w[level + SEED], w[level + ANONYMOUS]
        w[order + STATE] = GONE if kind == DELETE else SEEN
        w[level + SEED] = 0 if left == 0 else taken_from
    if kind == EXECUTION:
        _gather(w, sign, sign * key, size)
    else:
        _emit(w, out, ev.CANCEL if left == 0 else ev.REDUCE, sign, sign * key, size, taken_from, 0)
    if w[level + TOTAL] == 0:
        for j in range(k, w[side + COUNT] - 1):
            w[w[side + VIEW] + j] = w[w[side + VIEW] + j + 1]
        w[side + COUNT] -= 1
        _drop_level(w, out, side, level)
    return True


@kernel
def _message(w: IntArray, out: IntArray, message: IntArray, order: int) -> bool:
    """Apply one message; False where it contradicts what is known."""
    kind, size, price, sign = message[TYPE], message[SIZE], message[PRICE], message[DIRECTION]
    side = w[SIDES] + (0 if sign > 0 else SIDE_WORDS)
    good = True
    if kind == ADD:
        good = _add(w, out, side, order, sign * price, size)
    elif kind <= EXECUTION:
        good = _less(w, out, side, order, kind, sign * price, size)
    elif kind != HALT_MESSAGE:
        _emit(w, out, ev.HIDDEN, sign, price, size, 0, 0)
    elif price != 0:  # 0: quoting resumes, trading does not yet
        _emit(w, out, ev.HALT if price < 0 else ev.RESUME, 0, 0, 0, 0, 0)
    return good


# --- the venue's book row -------------------------------------------------------------------------


@kernel
def _from_stack(w: IntArray, out: IntArray, side: int, key: int) -> int:
    """The level out of view at a key, 0 where none is remembered; nearer ones turn out to have gone."""
    while w[side + HIDDEN] > 0:
        level = w[w[side + STACK] + w[side + HIDDEN] - 1]
        if w[level + KEY] < key:
            break
        w[side + HIDDEN] -= 1
        if w[level + KEY] == key:
            return int(level)
        w[FROM_BOOK] += 1
        _drop_level(w, out, side, level)
    return 0


@kernel
def _entering(w: IntArray, out: IntArray, side: int, key: int, total: int) -> int:
    """A level that the book file shows and we do not have in view."""
    if w[side + COMPLETE] or key >= w[side + HORIZON]:
        w[BAD] = 1
    level = _from_stack(w, out, side, key)
    if level == 0:
        level = _new_level(w, key)
    w[FROM_BOOK] += w[level + TOTAL] != total
    _settle(w, out, side, level, total)
    return level


@kernel
def _leave_view(w: IntArray, out: IntArray, side: int, first: int, count: int) -> None:
    """What is left of the old view once a row is full lies beyond it now, the nearest on top of the stack."""
    for k in range(count - 1, first - 1, -1):
        level = w[w[side + OLD] + k]
        if w[side + HIDDEN] == w[ROOM]:  # only where the file contradicts itself again and again
            _drop_level(w, out, side, level)
            continue
        w[w[side + STACK] + w[side + HIDDEN]] = level
        w[side + HIDDEN] += 1
    w[side + COMPLETE] = 0
    w[side + HORIZON] = w[w[w[side + VIEW] + w[DEPTH] - 1] + KEY]


@kernel
def _follow(w: IntArray, out: IntArray, side: int, row: IntArray) -> None:
    """Compare one side with the book file's row, and take over what that shows."""
    view, old, sign, count = w[side + VIEW], w[side + OLD], w[side + SIGN], w[side + COUNT]
    for k in range(count):
        w[old + k] = w[view + k]
    at, shown, before = 0, 0, BEYOND
    for j in range(0 if sign < 0 else 2, 4 * w[DEPTH], 4):
        key, total = sign * row[j], row[j + 1]
        if total <= 0 or key >= before:
            w[BAD] |= total > 0
            break
        before = key
        while at < count and w[w[old + at] + KEY] > key:
            w[BAD] = 1
            _drop_level(w, out, side, w[old + at])
            at += 1
        if at < count and w[w[old + at] + KEY] == key:
            level = w[old + at]
            at += 1
            if w[level + TOTAL] != total:
                w[BAD] = 1
                _settle(w, out, side, level, total)
        else:
            level = _entering(w, out, side, key, total)
        w[view + shown] = level
        shown += 1
    w[side + COUNT] = shown
    if shown == w[DEPTH]:
        _leave_view(w, out, side, at, count)
    else:  # the venue shows all that it has
        for k in range(at, count):
            w[BAD] = 1
            _drop_level(w, out, side, w[old + k])
        _from_stack(w, out, side, -BEYOND)
        w[side + COMPLETE] = 1


@kernel
def _open(w: IntArray, out: IntArray, message: IntArray, order: int, row: IntArray) -> None:
    """The book before the first message: the first row's, less what the message added."""
    added = message[DIRECTION] * message[PRICE] if message[TYPE] == ADD else 0
    for s in range(2):
        side = w[SIDES] + s * SIDE_WORDS
        for j in range(2 - 2 * s, 4 * w[DEPTH], 4):
            key = w[side + SIGN] * row[j]
            total = row[j + 1] - (message[SIZE] if key == added else 0)
            if total > 0 and (w[side + COUNT] == 0 or key < w[w[w[side + VIEW] + w[side + COUNT] - 1] + KEY]):
                w[w[side + VIEW] + w[side + COUNT]] = _new_level(w, key)
                w[side + COUNT] += 1
                _settle(w, out, side, w[w[side + VIEW] + w[side + COUNT] - 1], total)
    if message[TYPE] == ADD or message[TYPE] > EXECUTION:
        w[BAD] = not _message(w, out, message, order)


@kernel
def walk(messages: IntArray, book: IntArray, order_of: IntArray, w: IntArray, out: IntArray) -> None:
    """Walk through a day; `w` as `make_words` makes it, order_of int64 (n,): the order of each message in `w`."""
    for row in range(len(messages)):
        message = messages[row]
        same_side = message[TYPE] == HIDDEN_EXECUTION or message[DIRECTION] == -w[GROUP_SIDE]
        if not (same_side and message[TIME] == w[T_NS] and EXECUTION <= message[TYPE] <= HIDDEN_EXECUTION):
            _close_group(w, out)
        w[T_NS] = message[TIME]
        w[BAD] = 0
        if row == 0:
            _open(w, out, message, order_of[0], book[0])
        else:
            w[BAD] = not _message(w, out, message, order_of[row])
        _follow(w, out, w[SIDES], book[row])
        _follow(w, out, w[SIDES] + SIDE_WORDS, book[row])
        if w[BAD]:
            w[MISMATCHES] += 1
            if w[FIRST_MISMATCH] < 0:
                w[FIRST_MISMATCH] = row
    _close_group(w, out)
