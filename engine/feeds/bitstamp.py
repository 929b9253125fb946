"""Bitstamp: every order's life as events created, changed and deleted, as ob-analytics records them.

`id,timestamp,exchange.timestamp,price,volume,action,direction`: times in ms, volume (what is left) in 1e-8
coins. There is no word for a trade: each shows as one loss of volume on either side, the two in any order
and up to seconds apart, and an aggressor shows as an order created at a price that crosses the book. So:

- An order that crosses the book as it stands is an aggressor and waits outside of it. What it loses meanwhile
  it trades; once it crosses no more, what is left of it rests. The book itself is never crossed.
- Of the two losses of a trade, equal in volume, that of the order in the book is an EXECUTE: own orders that
  stood before it trade first. Where both are in the book, the second is a REDUCE.
- Orders arrive as plain LIMITs: they meet our own orders, and nobody else's.
- What comes of an order after it was deleted (events change places) is left out.
- Where an aggressor still crosses after CROSSED_FOR_NS, the end of some order was lost, which is counted as a
  gap: the aggressor's, where orders have come to rest since that it crosses, else that of those it crosses.
- A change of an order that was never created shows that it was there before the recording began: it rests.
- There is no snapshot, and orders from before the recording are not seen: for BUILT_FOR_NS the book is being built, and
  nobody trades on it. In the first minute the recorded one holds a tenth of what it holds after five.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from engine.events import CANCEL, EXECUTE, HALT, LIMIT, MAX_VENUE_ID, REDUCE, Tape
from engine.feeds.capture import Capture, Envelope, Origin, prove_capture, read_capture
from engine.feeds.decimals import UNIT, Increments, price_units
from engine.feeds.decoder import Check, FeedState, MessageDecoder, Track, Update
from engine.feeds.files import Opening
from engine.feeds.result import Result
from engine.feeds.sortedside import SortedSide

HEADER: Final = b"id,timestamp,exchange.timestamp,price,volume,action,direction"
COLUMNS: Final = 7
CREATED, CHANGED, DELETED = "created", "changed", "deleted"
SIDES: Final = {"bid": 1, "ask": -1}
VOLUME_UNIT: Final = UNIT // 10**8
SYMBOL: Final = "BTCUSD"  # the recording names none
PAIRED_FOR_NS: Final = 5_000_000_000  # the two losses of one trade lie no further apart
CROSSED_FOR_NS: Final = 5_000_000_000
BUILT_FOR_NS: Final = 300_000_000_000
MAX_REMEMBERED: Final = 1 << 16  # ids of deleted orders


class Row(NamedTuple):
    """One line."""

    order_id: int
    price: int
    qty: int
    action: str
    side: int


@dataclass(slots=True)
class _Order:
    """An order; resting: in the book, not an aggressor that waits outside."""

    order_id: int
    side: int
    price: int
    qty: int
    since_ns: int
    resting: bool = False


@dataclass(slots=True)
class _Loss:
    """Volume that an order lost to a trade, until the other side's shows; executed: as an EXECUTE."""

    t_ns: int
    side: int
    qty: int
    executed: bool


class BitstampDecoder(MessageDecoder):
    """One instrument's order events; lines of the CSV are its messages."""

    level_book = False

    def __init__(self) -> None:
        super().__init__()
        self._orders: dict[int, _Order] = {}
        self._aggressors: dict[int, _Order] = {}
        self._levels = {1: SortedSide[int](1), -1: SortedSide[int](-1)}  # lots resting at a price
        self._losses: deque[_Loss] = deque()
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._begun_ns = -1  # when the book began to be built

    def _parse(self, line: bytes) -> Row:
        """A line's columns; ValueError where they mean nothing."""
        cells = line.decode("ascii").split(",")
        if len(cells) != COLUMNS or cells[5] not in (CREATED, CHANGED, DELETED):
            raise ValueError("expected 7 columns and an action")
        order_id, received_ms, made_ms, volume = (int(cells[k]) for k in (0, 1, 2, 4))
        if not (0 < order_id <= MAX_VENUE_ID and received_ms >= 0 and made_ms >= 0 and volume >= 0):
            raise ValueError("a number below 0")
        return Row(order_id, price_units(cells[3]), volume * VOLUME_UNIT, cells[5], SIDES[cells[6]])

    def _take(self, row: Row, t_ns: int) -> bool:
        track = self._track(SYMBOL)
        if self._begun_ns < 0:
            self._begin_book(track, t_ns)
        elif track.state is FeedState.SYNCING and t_ns - self._begun_ns >= BUILT_FOR_NS:
            self._go_live(track, t_ns)
        order = self._orders.get(row.order_id)
        if row.order_id in self._gone:
            self.counters.duplicates += 1
        elif row.action == DELETED:
            self._delete(track, row, order, t_ns)
        elif order is None:
            self._create(track, row, t_ns)
        elif row.action == CREATED:
            self.counters.duplicates += 1
        else:
            self._change(track, row, order, t_ns)
        self._let_in(track, t_ns)
        bids, asks = (tuple(self._levels[side].top(1)) for side in (1, -1))
        self.checks.append(Check(len(self._out), track.index, bids, asks))
        return True

    def _begin_book(self, track: Track, t_ns: int) -> None:
        """From nothing: halted until it has been built."""
        self._begun_ns = t_ns
        self._move(track, FeedState.SYNCING, "the book is being built: there is no snapshot", t_ns)
        if not track.halted:
            self._out.append(Update(t_ns, track.index, HALT))
            track.halted = True

    def _create(self, track: Track, row: Row, t_ns: int) -> None:
        if row.qty:
            order = self._orders[row.order_id] = _Order(row.order_id, row.side, row.price, row.qty, t_ns)
            self._place(track, order, t_ns)

    def _change(self, track: Track, row: Row, order: _Order, t_ns: int) -> None:
        """Less volume is a trade; more, or another price, makes it a new order at the end of the queue."""
        if row.qty < order.qty:
            self._lose(track, order, order.qty - row.qty, t_ns)
        if row.qty and (row.price != order.price or row.qty > order.qty):
            self._remove(track, order, t_ns)
            self._orders[order.order_id] = order
            order.price, order.qty = row.price, row.qty
            self._place(track, order, t_ns)

    def _delete(self, track: Track, row: Row, order: _Order | None, t_ns: int) -> None:
        """With volume left it was cancelled, with none it has traded."""
        self._gone[row.order_id] = None
        if len(self._gone) > MAX_REMEMBERED:
            self._gone.popitem(last=False)
        if order is None:
            return
        if row.qty < order.qty:
            self._lose(track, order, order.qty - row.qty, t_ns)
        if order.qty:
            self._remove(track, order, t_ns)

    def _crosses(self, order: _Order) -> bool:
        best = self._levels[-order.side].best()
        return best > 0 and order.side * (order.price - best) >= 0

    def _place(self, track: Track, order: _Order, t_ns: int) -> None:
        """Into the book, or aside where it crosses it."""
        order.resting = not self._crosses(order)
        if order.resting:
            self._add(order, order.qty)
            self._out.append(Update(t_ns, track.index, LIMIT, order.side, order.price, order.qty, order.order_id))
        else:
            order.since_ns = t_ns
            self._aggressors[order.order_id] = order

    def _lose(self, track: Track, order: _Order, qty: int, t_ns: int) -> None:
        """An order lost volume to a trade."""
        other = self._other_loss(order.side, qty, t_ns)
        executes = order.resting and not (other is not None and other.executed)
        if other is None:
            self._losses.append(_Loss(t_ns, order.side, qty, executes))
        if order.resting:
            kind = EXECUTE if executes else REDUCE
            self._out.append(Update(t_ns, track.index, kind, order.side, 0, qty, order.order_id))
            self._add(order, -qty)
        order.qty -= qty
        if order.qty == 0:
            self._drop(order)

    def _other_loss(self, side: int, qty: int, t_ns: int) -> _Loss | None:
        """The loss on the other side that this one is the counterpart of, taken out of those that wait."""
        while self._losses and t_ns - self._losses[0].t_ns > PAIRED_FOR_NS:
            self._losses.popleft()
        for loss in self._losses:
            if loss.side == -side and loss.qty == qty:
                self._losses.remove(loss)
                return loss
        return None

    def _remove(self, track: Track, order: _Order, t_ns: int) -> None:
        if order.resting:
            self._out.append(Update(t_ns, track.index, CANCEL, order.side, 0, 0, order.order_id))
            self._add(order, -order.qty)
        self._drop(order)

    def _drop(self, order: _Order) -> None:
        del self._orders[order.order_id]
        self._aggressors.pop(order.order_id, None)

    def _add(self, order: _Order, qty: int) -> None:
        """Add volume to an order's level, or take it off."""
        side = self._levels[order.side]
        left = side.get(order.price, 0) + qty
        if left:
            side.set(order.price, left)
        else:
            side.remove(order.price)

    def _let_in(self, track: Track, t_ns: int) -> None:
        """Aggressors that cross no more come to rest."""
        for order in list(self._aggressors.values()):
            if self._crosses(order) and t_ns - order.since_ns > CROSSED_FOR_NS:
                self._end_the_dead(track, order, t_ns)
            if order.order_id in self._aggressors and not self._crosses(order):
                del self._aggressors[order.order_id]
                self._place(track, order, t_ns)

    def _end_the_dead(self, track: Track, order: _Order, t_ns: int) -> None:
        """Of an aggressor and the orders it crosses one side is not there any more."""
        self.counters.gaps += 1
        crossed = [
            other
            for other in self._orders.values()
            if other.resting and other.side == -order.side and order.side * (order.price - other.price) >= 0
        ]
        dead = [order] if any(other.since_ns > order.since_ns for other in crossed) else crossed
        for other in dead:
            self._remove(track, other, t_ns)
            self._gone[other.order_id] = None

    def _forget(self, track: Track) -> None:
        """All orders are void: nothing of them is known on a new connection."""
        self._orders.clear()
        self._aggressors.clear()
        self._losses.clear()
        self._gone.clear()
        self._begun_ns = -1
        self._levels = {side: SortedSide[int](side) for side in (1, -1)}

    def _increments_in(self, listing: object) -> dict[str, Increments]:
        return {}


def csv_line(line: bytes) -> Envelope:
    """A line of the CSV; ValueError where it has no time."""
    if line == HEADER:
        return Envelope(Origin.OURS, 0, line)
    _, _, rest = line.partition(b",")
    stamp, _, _ = rest.partition(b",")
    if not (stamp.isdigit() and len(stamp) <= 13):
        raise ValueError("expected a time in ms in the second column")
    return Envelope(Origin.RECEIVED, int(stamp) * 1_000_000, line)


def is_recording(opening: Opening) -> bool:
    """Whether it begins with the header."""
    return opening.line == HEADER


def read(path: Path) -> Capture:
    """Read a recording; see `read_capture`."""
    return read_capture(path, "bitstamp", csv_line, BitstampDecoder())


def load(path: Path) -> Tape:
    """A recording as a tape of orders."""
    return read(path).tape()


def prove(path: Path, _: Path | None) -> Result:
    """Replay a recording; after every line the compiled book's best levels are compared with the decoder's."""
    return prove_capture(read(path))
