"""A slow, obvious order book: what the compiled one must agree with."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.book import DUPLICATE_ID, UNKNOWN_ORDER, VENUE_HALTED, WOULD_MATCH
from engine.events import (
    CANCEL,
    CLEAR,
    EVERYTHING,
    EXECUTE,
    HALT,
    IOC,
    LIMIT,
    POST_ONLY,
    REDUCE,
    REST_ONLY,
    RESUME,
    SELF_CANCEL,
)


@dataclass
class Order:
    order_id: int
    side: int
    price: int
    qty: int
    came: int


@dataclass
class ReferenceBook:
    """One instrument; fills are (maker, taker, price, qty, aggressor's side, flags)."""

    orders: list[Order] = field(default_factory=list)
    halted: bool = False
    clock: int = 0

    def queue(self, side: int) -> list[Order]:
        """Orders of a side, the first to trade first."""
        return sorted((o for o in self.orders if o.side == side), key=lambda o: (-side * o.price, o.came))

    def depth(self, side: int) -> list[tuple[int, int]]:
        totals: dict[int, int] = {}
        for order in self.queue(side):
            totals[order.price] = totals.get(order.price, 0) + order.qty
        return list(totals.items())

    def apply(self, kind: int, order_id: int, side: int, price: int, qty: int, flags: int) -> int | list[tuple]:
        self.clock += 1
        found = next((o for o in self.orders if o.order_id == order_id), None)
        if kind in (CANCEL, REDUCE, EXECUTE) and found is None:
            return UNKNOWN_ORDER
        if kind == LIMIT:
            return self._limit(order_id, side, price, qty, flags, found is not None)
        if kind == IOC:
            return VENUE_HALTED if self.halted else self._match(order_id, side, price, qty)[0]
        if kind == CANCEL:
            self.orders.remove(found)
        elif kind == REDUCE:
            self._take(found, qty)
        elif kind == EXECUTE:
            return self._execute(found, qty)
        elif kind == CLEAR:
            self.orders = [] if flags & EVERYTHING else [o for o in self.orders if o.order_id < 0]
        elif kind == HALT:
            self.halted = True
        elif kind == RESUME:
            self.halted = False
            return self._uncross()
        return []

    def _take(self, order: Order, qty: int) -> int:
        taken = min(qty, order.qty)
        order.qty -= taken
        if order.qty == 0:
            self.orders.remove(order)
        return taken

    def _limit(self, order_id: int, side: int, price: int, qty: int, flags: int, known: bool) -> int | list[tuple]:
        if known:
            return DUPLICATE_ID
        fills: list[tuple] = []
        others = self.queue(-side)
        crosses = bool(others) and side * (price - others[0].price) >= 0
        if not flags & REST_ONLY and not self.halted and crosses:
            if flags & POST_ONLY:
                return WOULD_MATCH
            fills, qty = self._match(order_id, side, price, qty)
        if qty:
            self.orders.append(Order(order_id, side, price, qty, self.clock))
        return fills

    def _match(self, order_id: int, side: int, price: int, qty: int) -> tuple[list[tuple], int]:
        fills = []
        for maker in self.queue(-side):
            if qty == 0 or (price and side * (price - maker.price) < 0):
                break
            if maker.order_id < 0 and order_id < 0:
                fills.append((maker.order_id, order_id, maker.price, maker.qty, side, SELF_CANCEL))
                self.orders.remove(maker)
                continue
            taken = self._take(maker, qty)
            qty -= taken
            fills.append((maker.order_id, order_id, maker.price, taken, side, 0))
        return fills, qty

    def _execute(self, target: Order, qty: int) -> list[tuple]:
        fills, left = [], qty
        for order in self.queue(target.side):
            if order is target or left == 0:
                break
            if order.order_id < 0:
                taken = self._take(order, left)
                left -= taken
                fills.append((order.order_id, 0, order.price, taken, -target.side, 0))
        fills.append((target.order_id, 0, target.price, self._take(target, qty), -target.side, 0))
        return fills

    def _uncross(self) -> list[tuple]:
        fills = []
        while True:
            bids, asks = self.queue(1), self.queue(-1)
            if not bids or not asks or bids[0].price < asks[0].price:
                return fills
            maker, taker = sorted((bids[0], asks[0]), key=lambda o: o.came)
            if maker.order_id < 0 and taker.order_id < 0:
                fills.append((maker.order_id, taker.order_id, maker.price, maker.qty, taker.side, SELF_CANCEL))
                self.orders.remove(maker)
                continue
            traded = min(maker.qty, taker.qty)
            fills.append((maker.order_id, taker.order_id, maker.price, traded, taker.side, 0))
            self._take(maker, traded)
            self._take(taker, traded)
