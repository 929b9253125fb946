"""A slow, obvious order book: what the compiled one must agree with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from engine.events import (
    CANCEL,
    CLEAR,
    DUPLICATE_ID,
    EVERYTHING,
    EXECUTE,
    FOK,
    HALT,
    IOC,
    LIMIT,
    POST_ONLY,
    REDUCE,
    REFUSAL_NAMES,
    REPLACE,
    REST_ONLY,
    RESUME,
    SELF_CANCEL,
    STP_BOTH,
    STP_TAKER,
    TAKER_CANCEL,
    UNFILLABLE,
    UNKNOWN_ORDER,
    VENUE_HALTED,
    WOULD_MATCH,
)

Fill = tuple[int, int, int, int, int, int]  # maker, taker, price, qty, aggressor's side, flags


@dataclass
class Order:
    order_id: int
    side: int
    price: int
    qty: int
    came: int


@dataclass
class ReferenceBook:
    """One instrument."""

    orders: list[Order] = field(default_factory=list)
    halted: bool = False
    clock: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    traded: int = 0
    last_price: int = 0

    def queue(self, side: int) -> list[Order]:
        """Orders of a side, the first to trade first."""
        return sorted((o for o in self.orders if o.side == side), key=lambda o: (-side * o.price, o.came))

    def depth(self, side: int) -> list[tuple[int, int]]:
        totals: dict[int, int] = {}
        for order in self.queue(side):
            totals[order.price] = totals.get(order.price, 0) + order.qty
        return list(totals.items())

    def apply(self, kind: int, order_id: int, side: int, price: int, qty: int, flags: int) -> int | list[Fill]:
        """The fills of one sound event, or the refusal."""
        self.clock += 1
        outcome = self._apply(kind, order_id, side, price, qty, flags)
        if isinstance(outcome, int):
            self.refused[REFUSAL_NAMES[-outcome - 1]] += 1
            return outcome
        for _, _, at, traded, _, what in outcome:
            if what == 0:
                self.traded += traded
                self.last_price = at
        return outcome

    def _apply(self, kind: int, order_id: int, side: int, price: int, qty: int, flags: int) -> int | list[Fill]:
        found = next((o for o in self.orders if o.order_id == order_id), None)
        if kind == LIMIT:
            return DUPLICATE_ID if found else self._arrive(order_id, side, price, qty, flags)
        if kind == IOC:
            return self._aggress(order_id, side, price, qty, flags)
        if kind in (CANCEL, REDUCE, EXECUTE, REPLACE):
            if found is None:
                return UNKNOWN_ORDER
            if kind == EXECUTE:
                return self._execute(found, qty)
            if kind == REPLACE:
                return self._replace(found, price, qty, flags)
            self._take(found, qty if kind == REDUCE else found.qty)
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

    def _arrive(self, order_id: int, side: int, price: int, qty: int, flags: int) -> int | list[Fill]:
        fills: list[Fill] = []
        others = self.queue(-side)
        crosses = bool(others) and side * (price - others[0].price) >= 0
        if not flags & REST_ONLY and not self.halted and crosses:
            if flags & POST_ONLY:
                return WOULD_MATCH
            fills, qty = self._match(order_id, side, price, qty, flags)
        if qty:
            self.orders.append(Order(order_id, side, price, qty, self.clock))
        return fills

    def _replace(self, old: Order, price: int, qty: int, flags: int) -> int | list[Fill]:
        if price == old.price and qty <= old.qty:
            old.qty = qty
            return []
        self.orders.remove(old)
        outcome = self._arrive(old.order_id, old.side, price, qty, flags)
        if isinstance(outcome, int):
            self.orders.append(old)  # `came` has kept its place
        return outcome

    def _aggress(self, order_id: int, side: int, price: int, qty: int, flags: int) -> int | list[Fill]:
        if self.halted:
            return VENUE_HALTED
        before = [Order(o.order_id, o.side, o.price, o.qty, o.came) for o in self.orders]
        fills, _ = self._match(order_id, side, price, qty, flags)
        if flags & FOK and sum(fill[3] for fill in fills if fill[5] == 0) < qty:
            self.orders = before
            return UNFILLABLE
        return fills

    def _match(self, order_id: int, side: int, price: int, qty: int, flags: int) -> tuple[list[Fill], int]:
        fills: list[Fill] = []
        for maker in self.queue(-side):
            if qty == 0 or (price and side * (price - maker.price) < 0):
                break
            if maker.order_id < 0 and order_id < 0:
                if not flags & STP_TAKER:
                    fills.append((maker.order_id, order_id, maker.price, maker.qty, side, SELF_CANCEL))
                    self.orders.remove(maker)
                if flags & STP_TAKER or flags & STP_BOTH:
                    fills.append((maker.order_id, order_id, maker.price, qty, side, TAKER_CANCEL))
                    qty = 0
                continue
            taken = self._take(maker, qty)
            qty -= taken
            fills.append((maker.order_id, order_id, maker.price, taken, side, 0))
        return fills, qty

    def _execute(self, target: Order, qty: int) -> list[Fill]:
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

    def _uncross(self) -> list[Fill]:
        fills: list[Fill] = []
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
