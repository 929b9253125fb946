"""Books: price-time priority for many instruments in plain arrays, compiled.

Every resting order is a row of one pool; the orders of one price form a linked list in the order of
their arrival; the prices near the market lie in a window of ticks per instrument, with a bitmap a side
that finds the next best price in a few instructions. Orders outside the window stay in the pool
("far"), and the window moves to them when the best price does. Own orders have negative ids and live
in the same lists as everybody's.

Price-level feeds (LEVEL, TRADE) use the same book: a level is one anonymous order whose size is set.
An own order there remembers how much was ahead of it on arrival. Prints at its price shorten that;
any other reduction is taken to come from behind it for as long as it can (the cautious choice). An
own aggressor takes what a level shows, and the level is as recorded again with its next update.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine import events as ev
from engine.events import FillArray
from engine.jit import inline_kernel, kernel
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

WINDOW: Final = 16_384  # ticks an instrument and side
WORDS: Final = WINDOW // 64
OWN_PLACES: Final = 16  # own orders that one instrument may have in its book
NO_PRICE: Final = 0  # prices are positive: this is "no such side"
ANONYMOUS: Final = 1 << 61  # ids from here on are levels of price-level feeds

ID, PRICE, QTY, SIDE, INSTRUMENT, PREV, NEXT, SEQUENCE, AHEAD = range(9)  # columns of `orders`
HEAD, TAIL, LEVEL_QTY = range(3)  # columns of `levels`
# Columns of `status`; the last three take two each, bid and ask: best tick of the window (-1: none), and
# how many far orders lie beyond the window on the market's side, and away from it.
BASE, HALTED, BEST, FAR_BETTER, FAR_WORSE = 0, 1, 2, 4, 6
STATUS_COLUMNS: Final = 8
FAR: Final = -2  # PREV of an order outside the window
FREE, LIVE, SEQUENCES, LOST, UNKNOWN, REBASES = range(6)  # `counters`
COUNTERS: Final = 6


class Books(NamedTuple):
    """The arrays of n books; made by `make_books`, changed only by the kernels below.

    orders int64 (capacity, 9); table int64 (2 ** k,): slot + 1 by hashed id; levels int64
    (n, 2, WINDOW, 3): head and tail slot (-1: none) and quantity of each tick; bits uint64
    (n, 2, WORDS): which ticks hold orders; status int64 (n, 8); own int64 (n, OWN_PLACES): slots of own
    orders, -1 where free; counters int64 (6,).
    """

    orders: IntArray
    table: IntArray
    levels: IntArray
    bits: npt.NDArray[np.uint64]
    status: IntArray
    own: IntArray
    counters: IntArray


def make_books(instruments: int, capacity: int = 1 << 17) -> Books:
    """Empty books. capacity: resting orders over all instruments; what comes on top is refused and counted."""
    if instruments < 1 or not 16 <= capacity <= 1 << 26:
        raise DeskvigilError(f"books for {instruments} instruments and {capacity} orders cannot be made")
    orders = np.zeros((capacity, 9), dtype=np.int64)
    orders[:, NEXT] = np.arange(1, capacity + 1)  # the free list runs through NEXT
    orders[-1, NEXT] = -1
    levels = np.zeros((instruments, 2, WINDOW, 3), dtype=np.int64)
    levels[:, :, :, :2] = -1
    status = np.zeros((instruments, STATUS_COLUMNS), dtype=np.int64)
    status[:, BEST : BEST + 2] = -1
    return Books(
        orders,
        np.zeros(1 << int(np.ceil(np.log2(capacity * 2))), dtype=np.int64),
        levels,
        np.zeros((instruments, 2, WORDS), dtype=np.uint64),
        status,
        np.full((instruments, OWN_PLACES), -1, dtype=np.int64),
        np.zeros(COUNTERS, dtype=np.int64),
    )


# --- the table from id to slot: open addressing, deletion by shifting back ------------------------


@inline_kernel
def _hash(order_id: int, mask: int) -> int:
    h = np.uint64(order_id) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((h >> np.uint64(20)) & np.uint64(mask))


@inline_kernel
def find(books: Books, order_id: int) -> int:
    """Slot of a resting order, -1 where there is none."""
    mask = books.table.shape[0] - 1
    at = _hash(order_id, mask)
    found = -1
    while books.table[at] != 0:
        slot = books.table[at] - 1
        if books.orders[slot, ID] == order_id:
            found = slot
            break
        at = (at + 1) & mask
    return found


@inline_kernel
def _remember(books: Books, order_id: int, slot: int) -> None:
    mask = books.table.shape[0] - 1
    at = _hash(order_id, mask)
    while books.table[at] != 0:
        at = (at + 1) & mask
    books.table[at] = slot + 1


@kernel
def _forget(books: Books, order_id: int) -> None:
    mask = books.table.shape[0] - 1
    at = _hash(order_id, mask)
    while books.table[at] != 0 and books.orders[books.table[at] - 1, ID] != order_id:
        at = (at + 1) & mask
    if books.table[at] == 0:
        return
    hole = at
    at = (at + 1) & mask
    while books.table[at] != 0:
        home = _hash(books.orders[books.table[at] - 1, ID], mask)
        # An entry may move back into the hole unless its home lies between hole and entry.
        if ((at - home) & mask) >= ((at - hole) & mask):
            books.table[hole] = books.table[at]
            hole = at
        at = (at + 1) & mask
    books.table[hole] = 0


# --- bitmaps -------------------------------------------------------------------------------------


@inline_kernel
def _lowest_bit(word: np.uint64) -> int:
    """Index of the lowest set bit of a word that is not zero."""
    lowest = word & (~word + np.uint64(1))
    index = 0
    for shift in (32, 16, 8, 4, 2, 1):
        if lowest >> np.uint64(shift):
            lowest >>= np.uint64(shift)
            index += shift
    return index


@inline_kernel
def _highest_bit(word: np.uint64) -> int:
    """Index of the highest set bit of a word that is not zero."""
    rest = word
    index = 0
    for shift in (32, 16, 8, 4, 2, 1):
        if rest >> np.uint64(shift):
            rest >>= np.uint64(shift)
            index += shift
    return index


@inline_kernel
def _next_best(books: Books, i: int, s: int, start: int) -> int:
    """Best tick index of a side from `start` on away from the market, -1 where the window holds none. s: 0 bid, 1 ask."""
    bits = books.bits[i, s]
    best = -1
    w = start >> 6
    if s == 0:
        word = bits[w] & (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(63 - (start & 63)))
        while word == 0 and w > 0:
            w -= 1
            word = bits[w]
        if word != 0:
            best = w * 64 + _highest_bit(word)
    else:
        word = bits[w] & (np.uint64(0xFFFFFFFFFFFFFFFF) << np.uint64(start & 63))
        while word == 0 and w < WORDS - 1:
            w += 1
            word = bits[w]
        if word != 0:
            best = w * 64 + _lowest_bit(word)
    return best


# --- lists of one price --------------------------------------------------------------------------


@inline_kernel
def _link(books: Books, slot: int) -> None:
    """Put an order at the end of its price's list, or among the far ones."""
    order = books.orders[slot]
    i, s, price = order[INSTRUMENT], 0 if order[SIDE] > 0 else 1, order[PRICE]
    index = price - books.status[i, BASE]
    order[NEXT] = -1
    if 0 <= index < WINDOW:
        level = books.levels[i, s, index]
        order[PREV] = level[TAIL]
        if level[TAIL] >= 0:
            books.orders[level[TAIL], NEXT] = slot
        else:
            level[HEAD] = slot
            books.bits[i, s, index >> 6] |= np.uint64(1) << np.uint64(index & 63)
            best = books.status[i, BEST + s]
            if best < 0 or (index > best if s == 0 else index < best):
                books.status[i, BEST + s] = index
        level[TAIL] = slot
        level[LEVEL_QTY] += order[QTY]
    else:
        order[PREV] = FAR
        books.status[i, (FAR_BETTER if (index >= WINDOW) == (s == 0) else FAR_WORSE) + s] += 1


@inline_kernel
def _unlink(books: Books, slot: int) -> None:
    """Take an order out of its list; its quantity leaves the level with it."""
    order = books.orders[slot]
    i, s, price = order[INSTRUMENT], 0 if order[SIDE] > 0 else 1, order[PRICE]
    index = price - books.status[i, BASE]
    if order[PREV] == FAR:
        books.status[i, (FAR_BETTER if (index >= WINDOW) == (s == 0) else FAR_WORSE) + s] -= 1
    else:
        level = books.levels[i, s, index]
        if order[PREV] >= 0:
            books.orders[order[PREV], NEXT] = order[NEXT]
        else:
            level[HEAD] = order[NEXT]
        if order[NEXT] >= 0:
            books.orders[order[NEXT], PREV] = order[PREV]
        else:
            level[TAIL] = order[PREV]
        level[LEVEL_QTY] -= order[QTY]
        if level[HEAD] < 0:
            books.bits[i, s, index >> 6] &= ~(np.uint64(1) << np.uint64(index & 63))
            if books.status[i, BEST + s] == index:
                books.status[i, BEST + s] = _next_best(books, i, s, index)


@kernel
def _rebase(books: Books, i: int, price: int) -> None:
    """Move an instrument's window so that `price` lies in its middle; every list keeps its order."""
    status = books.status[i]
    slots = np.empty(books.counters[LIVE], dtype=np.int64)
    count = 0
    for slot in range(books.orders.shape[0]):
        order = books.orders[slot]
        if order[ID] != 0 and order[INSTRUMENT] == i:
            slots[count] = slot
            count += 1
    by_age = slots[:count][np.argsort(books.orders[slots[:count], SEQUENCE])]
    books.levels[i, :, :, :2] = -1
    books.levels[i, :, :, LEVEL_QTY] = 0
    books.bits[i] = 0
    status[BEST] = status[BEST + 1] = -1
    status[FAR_BETTER : FAR_BETTER + 4] = 0
    status[BASE] = max(price - WINDOW // 2, 1)
    books.counters[REBASES] += 1
    for k in range(count):
        _link(books, by_age[k])


@kernel
def _far_best(books: Books, i: int, s: int) -> int:
    """Best price among the far orders of a side, NO_PRICE where there are none."""
    side = 1 if s == 0 else -1
    best = NO_PRICE
    for slot in range(books.orders.shape[0]):
        order = books.orders[slot]
        if order[ID] != 0 and order[INSTRUMENT] == i and order[SIDE] == side and order[PREV] == FAR:
            if best == NO_PRICE or side * (order[PRICE] - best) > 0:
                best = order[PRICE]
    return best


@inline_kernel
def best_price(books: Books, i: int, side: int) -> int:
    """Best price of a side (+1 bid, -1 ask) in ticks, NO_PRICE where it is empty."""
    s = 0 if side > 0 else 1
    status = books.status[i]
    price = NO_PRICE
    if status[FAR_BETTER + s] > 0:
        price = _far_best(books, i, s)
    elif status[BEST + s] >= 0:
        price = status[BASE] + status[BEST + s]
    elif status[FAR_WORSE + s] > 0:
        price = _far_best(books, i, s)
    return price


@inline_kernel
def level_qty(books: Books, i: int, side: int, price: int) -> int:
    """Quantity resting at a price, in lots; a price outside the window is looked up order by order."""
    index = price - books.status[i, BASE]
    qty = 0
    if 0 <= index < WINDOW:
        qty = books.levels[i, 0 if side > 0 else 1, index, LEVEL_QTY]
    elif price > 0:
        qty = _far_qty(books, i, side, price)
    return qty


@kernel
def _far_qty(books: Books, i: int, side: int, price: int) -> int:
    qty = 0
    for slot in range(books.orders.shape[0]):
        order = books.orders[slot]
        if order[ID] != 0 and order[INSTRUMENT] == i and order[SIDE] == side and order[PRICE] == price:
            qty += order[QTY]
    return qty


@kernel
def next_price(books: Books, i: int, side: int, price: int) -> int:
    """The next occupied price behind `price` on a side, inside the window; NO_PRICE where there is none."""
    s = 0 if side > 0 else 1
    index = price - books.status[i, BASE] - side
    if not 0 <= index < WINDOW:
        return NO_PRICE
    found = _next_best(books, i, s, index)
    return NO_PRICE if found < 0 else books.status[i, BASE] + found


# --- orders come and go --------------------------------------------------------------------------


@inline_kernel
def _rest(books: Books, i: int, side: int, price: int, qty: int, order_id: int) -> int:
    """Put a new order to rest; returns its slot, -1 where the pool is full (counted) or the id is taken."""
    counters = books.counters
    slot = counters[FREE]
    if slot < 0 or find(books, order_id) >= 0:
        counters[LOST] += 1
        return -1
    own = -1
    if order_id < 0:
        for k in range(OWN_PLACES):
            if books.own[i, k] < 0:
                own = k
                break
        if own < 0:
            counters[LOST] += 1
            return -1
        books.own[i, own] = slot
    order = books.orders[slot]
    counters[FREE] = order[NEXT]
    counters[LIVE] += 1
    counters[SEQUENCES] += 1
    order[ID], order[PRICE], order[QTY], order[SIDE] = order_id, price, qty, side
    order[INSTRUMENT], order[SEQUENCE] = i, counters[SEQUENCES]
    status = books.status[i]
    if status[BASE] == 0:
        status[BASE] = max(price - WINDOW // 2, 1)
    index = price - status[BASE]
    order[AHEAD] = books.levels[i, 0 if side > 0 else 1, index, LEVEL_QTY] if 0 <= index < WINDOW else 0
    _remember(books, order_id, slot)
    _link(books, slot)
    if order[PREV] == FAR and (index >= WINDOW) == (side > 0):
        _rebase(books, i, price)
    return slot


@inline_kernel
def _remove(books: Books, slot: int) -> None:
    """Take a resting order away."""
    order = books.orders[slot]
    _forget(books, order[ID])
    _unlink(books, slot)
    if order[ID] < 0:
        i = order[INSTRUMENT]
        for k in range(OWN_PLACES):
            if books.own[i, k] == slot:
                books.own[i, k] = -1
    order[ID] = 0
    order[NEXT] = books.counters[FREE]
    books.counters[FREE] = slot
    books.counters[LIVE] -= 1


@inline_kernel
def _take(books: Books, slot: int, qty: int) -> None:
    """Take quantity off a resting order that keeps its place; it goes when nothing is left."""
    order = books.orders[slot]
    if qty >= order[QTY]:
        _remove(books, slot)
    else:
        order[QTY] -= qty
        if order[PREV] != FAR:
            s = 0 if order[SIDE] > 0 else 1
            books.levels[order[INSTRUMENT], s, order[PRICE] - books.status[order[INSTRUMENT], BASE], LEVEL_QTY] -= qty


@inline_kernel
def cancel(books: Books, order_id: int) -> int:
    """Cancel a resting order; returns the quantity that was left, 0 where it does not rest here."""
    slot = find(books, order_id)
    qty = 0
    if slot >= 0:
        qty = books.orders[slot, QTY]
        _remove(books, slot)
    return qty


@inline_kernel
def resting_qty(books: Books, order_id: int) -> int:
    """Quantity of an order that still rests, 0 where it does not."""
    slot = find(books, order_id)
    return books.orders[slot, QTY] if slot >= 0 else 0


@inline_kernel
def _fill(
    fills: FillArray, at: int, t_ns: int, sequence: int, maker: int, taker: int, price: int, qty: int, i: int, side: int,
    flags: int,
) -> int:  # fmt: skip
    """Write one fill; returns the next free place. The last place is reused rather than overrun."""
    out = fills[min(at, len(fills) - 1)]
    out.t_ns, out.sequence, out.maker_id, out.taker_id = t_ns, sequence, maker, taker
    out.price, out.qty, out.instrument, out.side, out.flags = price, qty, i, side, flags
    return at + 1


@kernel
def _match(
    books: Books, i: int, side: int, limit: int, qty: int, taker: int, t_ns: int, fills: FillArray, at: int
) -> tuple[int, int]:
    """Trade an aggressor against the other side up to its limit (0: any); returns what is left and the fills' end."""
    status = books.status[i]
    s = 1 if side > 0 else 0
    while qty > 0:
        if status[FAR_BETTER + s] > 0 or (status[BEST + s] < 0 and status[FAR_WORSE + s] > 0):
            _rebase(books, i, _far_best(books, i, s))
        if status[BEST + s] < 0:
            break
        price = status[BASE] + status[BEST + s]
        if limit != 0 and side * (price - limit) > 0:
            break
        slot = books.levels[i, s, status[BEST + s], HEAD]
        maker, resting = books.orders[slot, ID], books.orders[slot, QTY]
        if taker < 0 and maker < 0:
            at = _fill(
                fills, at, t_ns, books.counters[SEQUENCES], maker, taker, price, resting, i, side, ev.SELF_CANCEL
            )
            _remove(books, slot)
            continue
        traded = min(qty, resting)
        at = _fill(
            fills,
            at,
            t_ns,
            books.counters[SEQUENCES],
            0 if maker >= ANONYMOUS else maker,
            taker,
            price,
            traded,
            i,
            side,
            0,
        )
        _take(books, slot, traded)
        qty -= traded
    return qty, at


@kernel
def submit(
    books: Books,
    i: int,
    side: int,
    price: int,
    qty: int,
    order_id: int,
    kind: int,
    flags: int,
    t_ns: int,
    fills: FillArray,
) -> int:
    """Enter a LIMIT or IOC order, anybody's; returns the number of fills written, -1 where it is refused.

    Refused: no quantity or a price that is none, POST_ONLY that would match, the pool is full, the id
    rests already. While the instrument is halted a LIMIT only rests and an IOC lapses.
    """
    if qty <= 0 or price < 0 or price > ev.MAX_PRICE_TICKS or (kind == ev.LIMIT and price == 0):
        return -1
    halted = books.status[i, HALTED] != 0
    opposite = best_price(books, i, -side)
    crosses = opposite != NO_PRICE and (price == 0 or side * (price - opposite) >= 0)
    if flags & ev.POST_ONLY and crosses and not halted:
        return -1
    at = 0
    left = qty
    if crosses and not halted and not flags & ev.REST_ONLY:
        left, at = _match(books, i, side, price, qty, order_id, t_ns, fills, 0)
    if kind == ev.LIMIT and left > 0 and _rest(books, i, side, price, left, order_id) < 0 and at == 0:
        return -1
    return at


# --- price-level feeds ---------------------------------------------------------------------------


@inline_kernel
def _level_id(i: int, side: int, price: int) -> int:
    return ANONYMOUS + ((i * 2 + (1 if side > 0 else 0)) << 48) + price


@kernel
def _set_level(books: Books, i: int, side: int, price: int, qty: int, t_ns: int, fills: FillArray) -> int:
    """A level's recorded size is now qty; own orders it has run over are filled at their price."""
    if price <= 0:
        return 0
    order_id = _level_id(i, side, price)
    slot = find(books, order_id)
    if slot >= 0 and qty > 0:
        change = qty - books.orders[slot, QTY]
        books.orders[slot, QTY] = qty
        if books.orders[slot, PREV] != FAR:
            books.levels[i, 0 if side > 0 else 1, price - books.status[i, BASE], LEVEL_QTY] += change
    elif slot >= 0:
        _remove(books, slot)
    elif qty > 0:
        _rest(books, i, side, price, qty, order_id)
    at = 0
    left = qty
    for k in range(OWN_PLACES):
        own = books.own[i, k]
        if own < 0:
            continue
        order = books.orders[own]
        if order[SIDE] == side and order[PRICE] == price:
            order[AHEAD] = min(order[AHEAD], qty)
        elif order[SIDE] == -side and side * (price - order[PRICE]) >= 0 and left > 0:
            traded = min(left, order[QTY])
            left -= traded
            at = _fill(fills, at, t_ns, books.counters[SEQUENCES], order[ID], 0, order[PRICE], traded, i, side, 0)
            _take(books, own, traded)
    return at


@kernel
def _print(books: Books, i: int, side: int, price: int, qty: int, t_ns: int, fills: FillArray) -> int:
    """A recorded trade: own orders better than its price are filled, at its price once what was ahead has traded."""
    at = 0
    left = qty
    for k in range(OWN_PLACES):
        own = books.own[i, k]
        if own < 0 or left <= 0:
            continue
        order = books.orders[own]
        if order[SIDE] != -side or side * (price - order[PRICE]) < 0:
            continue
        available = left
        if order[PRICE] == price:
            available = left - order[AHEAD]
            order[AHEAD] = max(order[AHEAD] - left, 0)
        if available > 0:
            traded = min(available, order[QTY])
            left -= traded
            at = _fill(fills, at, t_ns, books.counters[SEQUENCES], order[ID], 0, order[PRICE], traded, i, side, 0)
            _take(books, own, traded)
    return at


# --- events --------------------------------------------------------------------------------------


@kernel
def _clear(books: Books, i: int, everything: bool) -> None:
    for slot in range(books.orders.shape[0]):
        order = books.orders[slot]
        if order[ID] != 0 and order[INSTRUMENT] == i and (everything or order[ID] > 0):
            _remove(books, slot)


@kernel
def _uncross(books: Books, i: int, t_ns: int, fills: FillArray) -> int:
    """After a halt: what crosses trades, best first, at the older order's price."""
    at = 0
    while True:
        bid, ask = best_price(books, i, 1), best_price(books, i, -1)
        if bid == NO_PRICE or ask == NO_PRICE or bid < ask:
            break
        _rebase_if_far(books, i, bid)
        b = books.levels[i, 0, bid - books.status[i, BASE], HEAD]
        _rebase_if_far(books, i, ask)
        index = ask - books.status[i, BASE]
        a = books.levels[i, 1, index, HEAD]
        if books.orders[b, SEQUENCE] > books.orders[a, SEQUENCE]:
            young, old, side = b, a, 1
        else:
            young, old, side = a, b, -1
        taker, qty = books.orders[young, ID], books.orders[young, QTY]
        maker, price = books.orders[old, ID], books.orders[old, PRICE]
        traded = min(qty, books.orders[old, QTY])
        flags = ev.SELF_CANCEL if maker < 0 and taker < 0 else 0
        at = _fill(fills, at, t_ns, books.counters[SEQUENCES], maker, taker, price, traded, i, side, flags)
        _take(books, old, traded)
        if flags == 0:
            _take(books, young, traded)
    return at


@inline_kernel
def _rebase_if_far(books: Books, i: int, price: int) -> None:
    if not 0 <= price - books.status[i, BASE] < WINDOW:
        _rebase(books, i, price)


@kernel
def apply(
    books: Books,
    kind: int,
    i: int,
    side: int,
    price: int,
    qty: int,
    order_id: int,
    flags: int,
    t_ns: int,
    fills: FillArray,
) -> int:
    """Apply one event of the market; returns the number of fills written into `fills`.

    A REDUCE, CANCEL or EXECUTE of an order that does not rest here changes nothing and is counted
    (UNKNOWN): own orders may have taken it, or it came before the recording.
    """
    count = 0
    if kind == ev.LIMIT or kind == ev.IOC:
        count = max(submit(books, i, side, price, qty, order_id, kind, flags, t_ns, fills), 0)
    elif kind == ev.REDUCE or kind == ev.CANCEL or kind == ev.EXECUTE:
        slot = find(books, order_id)
        if slot < 0:
            books.counters[UNKNOWN] += 1
        elif kind == ev.CANCEL:
            _remove(books, slot)
        else:
            _take(books, slot, max(qty, 0))
    elif kind == ev.LEVEL:
        count = _set_level(books, i, side, price, qty, t_ns, fills)
    elif kind == ev.TRADE:
        count = _print(books, i, side, price, qty, t_ns, fills)
    elif kind == ev.CLEAR:
        _clear(books, i, (flags & ev.EVERYTHING) != 0)
    elif kind == ev.HALT:
        books.status[i, HALTED] = 1
    elif kind == ev.RESUME:
        books.status[i, HALTED] = 0
        count = _uncross(books, i, t_ns, fills)
    return count


@kernel
def run(books: Books, events: ev.EventArray, fills: FillArray) -> int:
    """Apply many events in order; returns the number of fills. fills must have room for all of them."""
    count = 0
    for k in range(len(events)):
        e = events[k]
        count += apply(books, e.kind, e.instrument, e.side, e.price, e.qty, e.order_id, e.flags, e.t_ns, fills[count:])
    return count
