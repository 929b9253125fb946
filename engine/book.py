"""Book: the order books of all instruments, and the one kernel through which everything enters them.

An order book matches in strict price-time priority. A level book (`level_book=True`) is known by
price levels and prints only; see `engine.levels` for how our own orders trade in it. Own orders have
negative ids and stand in the same queues as everybody else's.

From Python: `books = make_books(3)`, then `apply(books, ...)` or `apply_all(books, events)`. From a
kernel: the same functions; `Books` is passed as one argument. The same events give the same fills.

    count = apply(books, t_ns, order_id, price, qty, instrument, kind, side, flags)

returns how many fills the event gave, `books.fills[:count]` (overwritten by the next event), or one
of the negative codes of `engine.events`: the event was refused, counted, and changed nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine import ladder
from engine.borrow import borrowed
from engine.dispatch import dispatch
from engine.events import BOOK_FULL as BOOK_FULL
from engine.events import DUPLICATE_ID as DUPLICATE_ID
from engine.events import INVALID as INVALID
from engine.events import REFUSAL_NAMES, EventArray, FillArray, empty_fills
from engine.events import UNFILLABLE as UNFILLABLE
from engine.events import UNKNOWN_ORDER as UNKNOWN_ORDER
from engine.events import VENUE_HALTED as VENUE_HALTED
from engine.events import WOULD_MATCH as WOULD_MATCH
from engine.jit import inline_kernel, kernel
from engine.layout import (
    BEST,
    CAPACITY,
    EXTRA,
    FREE,
    HALTED,
    HASH_MASK,
    HEADER_WORDS,
    HEADS,
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
from engine.matching import following, leading
from engine.pool import find, instrument_at, side_at
from metrics.frame import IntArray


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


@kernel
def apply(
    books: Books, t_ns: int, order_id: int, price: int, qty: int, instrument: int, kind: int, side: int, flags: int
) -> int:
    """Apply one event; returns the number of its fills in `books.fills`, or a refusal (negative).

    Fields as in `engine.events.EVENT`. A LIMIT or REPLACE rests with qty minus its fills as taker and
    minus what self-trade prevention cancelled of it.
    """
    return dispatch(
        borrowed(books.words), borrowed(books.fills), t_ns, order_id, price, qty, instrument, kind, side, flags
    )


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
    # Not by `apply`: a call that hands over two arrays costs a fifth of an event.
    w, made = borrowed(books.words), borrowed(books.fills)
    written = 0
    for k in range(len(events)):
        event = events[k]
        count = dispatch(
            w, made, event.t_ns, event.order_id, event.price, event.qty, event.instrument + 0, event.kind + 0,
            event.side + 0, event.flags + 0,
        )  # fmt: skip
        for j in range(max(count, 0)):
            if written < len(fills):
                fills[written] = made[j]
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
