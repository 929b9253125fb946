"""Ledger: keeps account of every order from outside the books, and says where something was lost or made."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.book import Books, best_price, is_halted, order_qty, traded_lots
from engine.events import (
    CANCEL,
    CLEAR,
    EVERYTHING,
    IOC,
    LIMIT,
    REDUCE,
    REPLACE,
    REST_ONLY,
    SELF_CANCEL,
    TAKER_CANCEL,
)
from tests.engine.reference_book import Fill


@dataclass
class Line:
    """One order: lots that came in, traded, and were cancelled or lapsed; cash is what it received."""

    side: int
    limit: int
    entered: int
    filled: int = 0
    cancelled: int = 0
    cash: int = 0

    @property
    def left(self) -> int:
        return self.entered - self.filled - self.cancelled

    def trade(self, side: int, price: int, qty: int) -> None:
        assert side == self.side
        assert side * (self.limit - price) >= 0, "nobody trades at a price worse than the limit"
        self.filled += qty
        self.cash -= side * price * qty


@dataclass
class Ledger:
    """The orders of one instrument; cash is that of the market (who trades without an order) and of orders gone."""

    books: Books
    instrument: int
    lines: dict[int, Line] = field(default_factory=dict)
    cash: int = 0
    bought: int = 0
    may_cross: bool = False

    def follow(self, kind: int, order_id: int, side: int, price: int, qty: int, flags: int, outcome: int | list[Fill]):
        """Take over one event and what the books answered, then check all there is to check."""
        if not isinstance(outcome, int):
            aggressor = self._enter(kind, order_id, side, price, qty, flags)
            for fill in outcome:
                self._fill(fill, aggressor)
            if kind == IOC and aggressor is not None:
                aggressor.cancelled += aggressor.left  # what did not trade has lapsed
                self.cash += aggressor.cash
            if flags & REST_ONLY and kind in (LIMIT, REPLACE):
                self.may_cross = True
        self._check()

    def _enter(self, kind: int, order_id: int, side: int, price: int, qty: int, flags: int) -> Line | None:
        if kind in (LIMIT, IOC):
            line = Line(side, price if price else side << 60, qty)
            if kind == LIMIT:
                assert order_id not in self.lines
                self.lines[order_id] = line
            return line
        if kind == CLEAR:
            for number, line in self.lines.items():
                if number > 0 or flags & EVERYTHING:
                    line.cancelled += line.left
        if kind in (CANCEL, REDUCE, REPLACE):
            line = self.lines[order_id]
            if kind == REPLACE:
                line.entered += max(qty - line.left, 0)
                line.limit = price
            line.cancelled += {CANCEL: line.left, REDUCE: min(qty, line.left), REPLACE: max(line.left - qty, 0)}[kind]
            return line
        return None

    def _fill(self, fill: Fill, aggressor: Line | None) -> None:
        maker_id, taker_id, price, qty, side, flags = fill
        assert qty > 0
        assert flags == 0 or max(maker_id, taker_id) < 0, "only our own orders are kept from each other"
        maker, taker = self.lines[maker_id], aggressor or self.lines.get(taker_id)
        if flags == 0:
            assert price == maker.limit
            maker.trade(-side, price, qty)
            if taker is not None:
                taker.trade(side, price, qty)
            else:
                self.cash -= side * price * qty
            self.bought += qty
        elif flags == SELF_CANCEL:
            maker.cancelled += qty
        else:
            assert flags == TAKER_CANCEL
            assert taker is not None
            taker.cancelled += qty

    def _check(self) -> None:
        for order_id, line in self.lines.items():
            assert line.left >= 0
            assert order_qty(self.books, self.instrument, order_id) == line.left, "in = filled + cancelled + resting"
        assert self.cash + sum(line.cash for line in self.lines.values()) == 0, "what buyers paid sellers got"
        self.cash += sum(line.cash for line in self.lines.values() if line.left == 0)
        self.lines = {order_id: line for order_id, line in self.lines.items() if line.left > 0}
        assert traded_lots(self.books, self.instrument) == self.bought
        bid, ask = best_price(self.books, self.instrument, 1), best_price(self.books, self.instrument, -1)
        crossed = 0 < ask <= bid
        self.may_cross = crossed and (self.may_cross or is_halted(self.books, self.instrument))
        assert not crossed or self.may_cross, "a crossed book that nothing explains"
