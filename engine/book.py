"""Book: the order books of all instruments, and the one kernel through which everything enters them.

An order book matches in strict price-time priority. A level book (`level_book=True`) is known by
price levels and prints only; see `engine.levels` for how our own orders trade in it. Own orders have
negative ids and stand in the same queues as everybody else's.

From Python: `books = make_books(3)`, then `apply(books, ...)` or `apply_all(books, events)`. From a
kernel: the same functions; `Books` is passed as one argument. The same events give the same fills.

    count = apply(books, t_ns, order_id, price, qty, instrument, kind, side, flags)

returns how many fills the event gave, `books.fills[:count]` (overwritten by the next event), or one
of the negative codes below: the event was refused, counted, and changed nothing.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from engine import ladder
from engine.events import (
    CANCEL,
    CLEAR,
    EVERYTHING,
    EXECUTE,
    HALT,
    HIDDEN,
    IOC,
    LEVEL,
    LIMIT,
    MAX_PRICE_TICKS,
    MAX_QTY_LOTS,
    MAX_VENUE_ID,
    POST_ONLY,
    REDUCE,
    REST_ONLY,
    RESUME,
    TRADE,
    EventArray,
    FillArray,
    empty_fills,
)
from engine.jit import inline_kernel, kernel
from engine.layout import (
    BEST,
    CAPACITY,
    EXTRA,
    FILL_COUNT,
    FREE,
    HALTED,
    HASH_MASK,
    HEADER_WORDS,
    HEADS,
    ID,
    INSTRUMENT_WORDS,
    INSTRUMENTS,
    KEY,
    LAST_PRICE,
    LEVEL_BOOK,
    LOST_FILLS,
    N_INSTRUMENTS,
    NEXT,
    NO_KEY,
    OWN_ORDERS,
    QTY,
    REBASES,
    REFUSED,
    RESTING,
    RESTING_PEAK,
    SEQUENCE,
    SIDE_WORDS,
    SIDES,
    SLOT_WORDS,
    SLOTS,
    TAG,
    TRADED,
)
from engine.levels import print_trade, set_level, visible_at
from engine.matching import drop, emit, execute, following, leading, match, take_off, uncross
from engine.pool import find, instrument_at, side_at, take_slot
from metrics.frame import IntArray

UNKNOWN_ORDER: Final = -1
DUPLICATE_ID: Final = -2
BOOK_FULL: Final = -3
INVALID: Final = -4
WOULD_MATCH: Final = -5
VENUE_HALTED: Final = -6
REFUSAL_NAMES: Final = ("unknown_order", "duplicate_id", "book_full", "invalid", "would_match", "venue_halted")


class Books(NamedTuple):
    """The books: words is the array of `engine.layout`, fills (dtype FILL) the fills of the last event."""

    words: IntArray
    fills: FillArray


def make_books(
    n_instruments: int, max_orders: int = 1 << 16, max_fills: int = 1 << 12, level_book: bool = False
) -> Books:
    """Allocate empty books.

    max_orders: how many orders (in level books: price levels) may rest at a time over all
    instruments; one more is refused with BOOK_FULL. max_fills: fills that one event may give; more are
    counted in `counters(books)["lost_fills"]`.
    """
    if not (n_instruments >= 1 and 1 <= max_orders <= 1 << 28 and max_fills >= 1):
        raise ValueError("books need at least one instrument, one order and one fill of room")
    heads = 1 << max(4, (2 * max_orders - 1).bit_length())
    instruments = HEADER_WORDS
    sides = instruments + -(-n_instruments * INSTRUMENT_WORDS // 8) * 8
    first_head = sides + 2 * n_instruments * SIDE_WORDS
    slots = -(-(first_head + heads) // SLOT_WORDS) * SLOT_WORDS
    size = slots + max_orders * SLOT_WORDS
    room = np.zeros(size + 8, dtype=np.int64)
    shift = (-room.ctypes.data % 64) // 8  # a slot is one cache line
    words = room[shift : shift + size]
    words[N_INSTRUMENTS], words[CAPACITY], words[HASH_MASK] = n_instruments, max_orders, heads - 1
    words[INSTRUMENTS], words[SIDES], words[HEADS], words[SLOTS] = instruments, sides, first_head, slots
    words[instruments + LEVEL_BOOK : sides : INSTRUMENT_WORDS] = int(level_book)
    books = Books(words, empty_fills(max_fills))
    reset(books)
    return books


def reset(books: Books) -> None:
    """Empty the books and set every counter to 0; which of them are level books stays."""
    words = books.words
    n, capacity = int(words[N_INSTRUMENTS]), int(words[CAPACITY])
    instruments, sides, slots = int(words[INSTRUMENTS]), int(words[SIDES]), int(words[SLOTS])
    kept = words[instruments + LEVEL_BOOK : sides : INSTRUMENT_WORDS].copy()
    words[SEQUENCE:HEADER_WORDS] = 0
    words[instruments:] = 0
    words[instruments + LEVEL_BOOK : sides : INSTRUMENT_WORDS] = kept
    words[sides + BEST : sides + 2 * n * SIDE_WORDS : SIDE_WORDS] = NO_KEY
    order = slots + np.arange(capacity, dtype=np.int64) * SLOT_WORDS
    words[order[:-1] + NEXT] = order[1:]
    words[FREE] = slots


@inline_kernel
def _refuse(w: IntArray, reason: int) -> int:
    w[REFUSED - reason] += 1
    return reason


@inline_kernel
def _is_sound(w: IntArray, order_id: int, price: int, qty: int, i: int, kind: int, side: int) -> bool:
    """Whether an event's fields are within what its kind allows."""
    if i < 0 or i >= w[N_INSTRUMENTS] or kind < LIMIT or kind > RESUME or (side != 1 and side != -1 and kind < CLEAR):
        return False
    if order_id > MAX_VENUE_ID or order_id < -MAX_VENUE_ID or qty < 0 or qty > MAX_QTY_LOTS:
        return False
    if price < 0 or price > MAX_PRICE_TICKS:
        return False
    in_levels = bool(w[instrument_at(w, i) + LEVEL_BOOK] != 0)
    if kind == LIMIT:
        return price > 0 and qty > 0 and order_id != 0 and (order_id < 0 or not in_levels)
    if kind == IOC:
        return qty > 0 and (order_id < 0 or not in_levels)
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
def _limit(
    w: IntArray, fills: FillArray, t_ns: int, order_id: int, price: int, qty: int, i: int, side: int, flags: int
) -> int:
    """Match what crosses, rest with what is left; returns 0 or a refusal."""
    if w[FREE] == 0:
        return BOOK_FULL
    if find(w, i, order_id) != 0:
        return DUPLICATE_ID
    at = instrument_at(w, i)
    left = qty
    if flags & REST_ONLY == 0 and w[at + HALTED] == 0 and _crosses(w, i, side, price):
        if flags & POST_ONLY != 0:
            return WOULD_MATCH
        left = match(w, fills, t_ns, i, side, -side * price, qty, order_id)
    if left > 0:
        # In a level book: what is ahead. In an order book: when it came.
        extra = visible_at(w, i, side, price) if w[at + LEVEL_BOOK] != 0 else w[SEQUENCE]
        slot = take_slot(w, i, order_id, side, price, left, extra)
        ladder.insert(w, side_at(w, i, side), slot)
    return 0


@inline_kernel
def _clear(w: IntArray, i: int, everything: bool) -> None:
    """Remove the venue's orders of an instrument, or everybody's."""
    for side in (1, -1):
        ladder_side = side_at(w, i, side)
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
def _dispatch(
    w: IntArray, fills: FillArray, t_ns: int, order_id: int, price: int, qty: int, i: int, kind: int, side: int,
    flags: int,
) -> int:  # fmt: skip
    w[SEQUENCE] += 1
    w[FILL_COUNT] = 0
    refusal = 0
    if not _is_sound(w, order_id, price, qty, i, kind, side):
        refusal = INVALID
    elif kind == LIMIT:
        refusal = _limit(w, fills, t_ns, order_id, price, qty, i, side, flags)
    elif kind in (CANCEL, REDUCE, EXECUTE):
        refusal = _by_id(w, fills, t_ns, order_id, qty, i, kind)
    elif kind == IOC:
        if w[instrument_at(w, i) + HALTED] != 0:
            refusal = VENUE_HALTED
        else:
            worst = -side * price if price > 0 else NO_KEY
            match(w, fills, t_ns, i, side, worst, qty, order_id)
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
        return _refuse(w, refusal)
    return int(w[FILL_COUNT])


@kernel
def apply(
    books: Books, t_ns: int, order_id: int, price: int, qty: int, instrument: int, kind: int, side: int, flags: int
) -> int:
    """Apply one event; returns the number of its fills in `books.fills`, or a refusal (negative).

    Fields as in `engine.events.EVENT`. An own LIMIT rests with qty minus its fills as taker.
    """
    return _dispatch(books.words, books.fills, t_ns, order_id, price, qty, instrument, kind, side, flags)


@inline_kernel
def apply_event(books: Books, event: Any) -> int:
    """Apply one record of dtype EVENT; returns as `apply` does."""
    return apply(  # + 0: all int64, or the whole book would be compiled once more for the record's narrow types
        books, event.t_ns, event.order_id, event.price, event.qty, event.instrument + 0, event.kind + 0,
        event.side + 0, event.flags + 0,
    )  # fmt: skip


@kernel
def apply_all(books: Books, events: EventArray, fills: FillArray) -> int:
    """Apply many events; returns how many fills they gave. Those beyond len(fills) are not written."""
    written = 0
    for k in range(len(events)):
        count = apply_event(books, events[k])
        for j in range(max(count, 0)):
            if written < len(fills):
                fills[written] = books.fills[j]
            written += 1
    return written


@inline_kernel
def best_price(books: Books, i: int, side: int) -> int:
    """Best price of a side in ticks, our own orders included; 0 where the side is empty."""
    key = books.words[side_at(books.words, i, side) + BEST]
    return 0 if key == NO_KEY else int(side * key)


@inline_kernel
def others_price(books: Books, i: int, side: int) -> int:
    """Best price of a side at which somebody else's order rests, in ticks; 0 where there is none."""
    w = books.words
    ladder_side = side_at(w, i, side)
    key = w[ladder_side + BEST]
    if w[instrument_at(w, i) + OWN_ORDERS] > 0:
        while key != NO_KEY and ladder.level_own(w, ladder_side, key) == ladder.level_total(w, ladder_side, key):
            key = ladder.next_key(w, ladder_side, key)
    return 0 if key == NO_KEY else int(side * key)


@inline_kernel
def next_price(books: Books, i: int, side: int, price: int) -> int:
    """The best occupied price worse than `price`, in ticks; 0 where there is none."""
    key = ladder.next_key(books.words, side_at(books.words, i, side), side * price)
    return 0 if key == NO_KEY else int(side * key)


@inline_kernel
def level_qty(books: Books, i: int, side: int, price: int) -> int:
    """Lots resting at a price, our own included."""
    return ladder.level_total(books.words, side_at(books.words, i, side), side * price)


@inline_kernel
def best_qty(books: Books, i: int, side: int) -> int:
    """Lots resting at the best price, 0 where the side is empty."""
    price = best_price(books, i, side)
    return level_qty(books, i, side, price) if price > 0 else 0


@inline_kernel
def others_qty(books: Books, i: int, side: int) -> int:
    """Lots that others show at their best price of a side, 0 where there is none."""
    price = others_price(books, i, side)
    if price == 0:
        return 0
    w = books.words
    ladder_side = side_at(w, i, side)
    return ladder.level_total(w, ladder_side, side * price) - ladder.level_own(w, ladder_side, side * price)


@kernel
def depth(books: Books, i: int, side: int, prices: IntArray, quantities: IntArray) -> int:
    """Write the best len(prices) levels of a side (ticks, lots), best first; returns how many there are."""
    count = 0
    price = best_price(books, i, side)
    while price > 0 and count < len(prices):
        prices[count] = price
        quantities[count] = level_qty(books, i, side, price)
        price = next_price(books, i, side, price)
        count += 1
    return count


@inline_kernel
def order_qty(books: Books, i: int, order_id: int) -> int:
    """Lots of an order that rest, 0 where none does under that id."""
    slot = find(books.words, i, order_id)
    return 0 if slot == 0 else int(books.words[slot + QTY])


@inline_kernel
def qty_ahead(books: Books, i: int, order_id: int) -> int:
    """Lots that trade before a resting order at its price: estimated in a level book, exact in an order book."""
    w = books.words
    slot = find(w, i, order_id)
    if slot == 0:
        return 0
    if w[instrument_at(w, i) + LEVEL_BOOK] != 0:
        return int(w[slot + EXTRA])
    ladder_side, key = side_at(w, i, 1 - 2 * (w[slot + TAG] & 1)), w[slot + KEY]
    ahead, other = 0, leading(w, ladder_side, key)
    while other != slot:
        ahead += w[other + QTY]
        other = following(w, ladder_side, other, key)
    return ahead


@inline_kernel
def traded_lots(books: Books, i: int) -> int:
    """Lots traded in an instrument since `reset`."""
    return int(books.words[instrument_at(books.words, i) + TRADED])


@inline_kernel
def last_trade_price(books: Books, i: int) -> int:
    """Ticks of the last trade, 0 before the first."""
    return int(books.words[instrument_at(books.words, i) + LAST_PRICE])


@inline_kernel
def own_orders(books: Books, i: int) -> int:
    """How many of our own orders rest in an instrument."""
    return int(books.words[instrument_at(books.words, i) + OWN_ORDERS])


@inline_kernel
def is_halted(books: Books, i: int) -> bool:
    """Whether the venue has halted matching in an instrument."""
    return bool(books.words[instrument_at(books.words, i) + HALTED] != 0)


def counters(books: Books) -> dict[str, int]:
    """What the books have counted since `reset`: events, resting orders, moved windows, refusals by reason."""
    words = books.words
    counted = {
        "events": int(words[SEQUENCE]),
        "resting": int(words[RESTING]),
        "resting_peak": int(words[RESTING_PEAK]),
        "rebases": int(words[REBASES]),
        "lost_fills": int(words[LOST_FILLS]),
    }
    return counted | {f"refused_{name}": int(words[REFUSED + 1 + k]) for k, name in enumerate(REFUSAL_NAMES)}
