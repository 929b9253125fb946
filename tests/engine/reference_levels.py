"""A slow, obvious level book: what `engine.levels` says, order by order over plain lists."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.events import (
    CANCEL,
    CLEAR,
    DUPLICATE_ID,
    EVERYTHING,
    FOK,
    HALT,
    IOC,
    LEVEL,
    LIMIT,
    POST_ONLY,
    REDUCE,
    REPLACE,
    REST_ONLY,
    RESUME,
    SELF_CANCEL,
    STP_BOTH,
    STP_TAKER,
    TAKER_CANCEL,
    TRADE,
    UNFILLABLE,
    UNKNOWN_ORDER,
    VENUE_HALTED,
    WOULD_MATCH,
)
from tests.engine.reference_book import Fill


@dataclass
class Entry:
    """A recorded level (id 0; `mark` is what of it has been used up) or our own order (`mark`: lots ahead)."""

    order_id: int
    side: int
    price: int
    qty: int
    mark: int
    came: int

    @property
    def visible(self) -> int:
        return self.qty - self.mark


@dataclass
class ReferenceLevels:
    """One instrument."""

    entries: list[Entry] = field(default_factory=list)
    halted: bool = False
    clock: int = 0

    def queue(self, side: int) -> list[Entry]:
        """A side, best price first and within a price in the order of arrival."""
        return sorted((e for e in self.entries if e.side == side), key=lambda e: (-side * e.price, e.came))

    def own(self, side: int) -> list[Entry]:
        return [entry for entry in self.queue(side) if entry.order_id < 0]

    def level(self, side: int, price: int) -> Entry | None:
        found = [e for e in self.entries if (e.order_id, e.side, e.price) == (0, side, price)]
        return found[0] if found else None

    def apply(self, kind: int, order_id: int, side: int, price: int, qty: int, flags: int) -> int | list[Fill]:
        """The fills of one sound event, or the refusal."""
        self.clock += 1
        found = next((e for e in self.entries if e.order_id == order_id < 0), None)
        if kind == LEVEL:
            return self._set(side, price, qty)
        if kind == TRADE:
            return self._print(side, price, qty)
        if kind == LIMIT:
            return DUPLICATE_ID if found else self._arrive(order_id, side, price, qty, flags)
        if kind == IOC:
            return self._aggress(order_id, side, price, qty, flags)
        if kind in (CANCEL, REDUCE, REPLACE):
            if found is None:
                return UNKNOWN_ORDER
            if kind == REPLACE:
                return self._replace(found, price, qty, flags)
            self._take(found, qty if kind == REDUCE else found.qty)
        elif kind == CLEAR:
            self.entries = [] if flags & EVERYTHING else [e for e in self.entries if e.order_id < 0]
        elif kind == HALT:
            self.halted = True
        elif kind == RESUME:
            self.halted = False
            return self._resume()
        return []

    def _take(self, entry: Entry, qty: int) -> int:
        taken = min(qty, entry.qty)
        entry.qty -= taken
        if entry.qty == 0:
            self.entries.remove(entry)
        return taken

    def _set(self, side: int, price: int, qty: int) -> list[Fill]:
        level = self.level(side, price)
        if level is None and qty == 0:
            return []
        if level is None:
            level = Entry(0, side, price, qty, 0, self.clock)
            self.entries.append(level)
        else:
            before, cancelled = max(level.visible, 1), max(level.visible - qty, 0)
            for order in self.own(side):
                if order.price == price:  # a share of what was cancelled stood ahead of us
                    order.mark = min(order.mark - order.mark * cancelled // before, qty)
            level.qty, level.mark = qty, 0
            if qty == 0:
                self.entries.remove(level)
        return [] if qty == 0 or self.halted else self._meet(level)

    def _meet(self, level: Entry) -> list[Fill]:
        fills: list[Fill] = []
        for order in self.own(-level.side):
            if level.side * (level.price - order.price) >= 0 and level.visible > 0:
                taken = min(order.qty, level.visible)
                level.mark += taken
                fills.append((order.order_id, 0, order.price, self._take(order, taken), level.side, 0))
        return fills

    def _print(self, side: int, price: int, qty: int) -> list[Fill]:
        fills: list[Fill] = [(0, 0, price, qty, side, 0)]
        level = self.level(-side, price)
        if level is not None:
            level.mark = min(level.mark + qty, level.qty)
        given = 0
        for order in self.own(-side):
            better = side * (price - order.price)
            if better < 0:
                break
            ahead = order.mark if better == 0 else 0
            if better == 0:
                order.mark = max(ahead - qty, 0)
            if qty - given - ahead > 0:
                taken = self._take(order, qty - given - ahead)
                given += taken
                fills.append((order.order_id, 0, order.price, taken, side, 0))
        return fills

    def _arrive(self, order_id: int, side: int, price: int, qty: int, flags: int) -> int | list[Fill]:
        fills: list[Fill] = []
        others = self.queue(-side)
        if not flags & REST_ONLY and not self.halted and others and side * (price - others[0].price) >= 0:
            if flags & POST_ONLY:
                return WOULD_MATCH
            fills, qty = self._match(order_id, side, price, qty, flags)
        if qty:
            level = self.level(side, price)
            self.entries.append(Entry(order_id, side, price, qty, level.visible if level else 0, self.clock))
        return fills

    def _replace(self, old: Entry, price: int, qty: int, flags: int) -> int | list[Fill]:
        if price == old.price and qty <= old.qty:
            old.qty = qty
            return []
        self.entries.remove(old)
        outcome = self._arrive(old.order_id, old.side, price, qty, flags)
        if isinstance(outcome, int):
            self.entries.append(old)
        return outcome

    def _aggress(self, order_id: int, side: int, price: int, qty: int, flags: int) -> int | list[Fill]:
        if self.halted:
            return VENUE_HALTED
        before = [Entry(e.order_id, e.side, e.price, e.qty, e.mark, e.came) for e in self.entries]
        fills, _ = self._match(order_id, side, price, qty, flags)
        if flags & FOK and sum(fill[3] for fill in fills if fill[5] == 0) < qty:
            self.entries = before
            return UNFILLABLE
        return fills

    def _match(self, order_id: int, side: int, price: int, qty: int, flags: int) -> tuple[list[Fill], int]:
        fills: list[Fill] = []
        for entry in self.queue(-side):
            if qty == 0 or (price and side * (price - entry.price) < 0):
                break
            if entry.order_id == 0:
                taken = min(qty, entry.visible)
                entry.mark += taken
                qty -= taken
                fills += [(0, order_id, entry.price, taken, side, 0)] if taken else []
                continue
            if not flags & STP_TAKER:
                fills.append((entry.order_id, order_id, entry.price, entry.qty, side, SELF_CANCEL))
                self.entries.remove(entry)
            if flags & (STP_TAKER | STP_BOTH):
                fills.append((entry.order_id, order_id, entry.price, qty, side, TAKER_CANCEL))
                qty = 0
        return fills, qty

    def _resume(self) -> list[Fill]:
        fills: list[Fill] = []
        for side in (1, -1):
            for level in self.queue(side):
                if level.order_id == 0:
                    fills += self._meet(level)
        while (bids := self.own(1)) and (asks := self.own(-1)) and bids[0].price >= asks[0].price:
            older, younger = sorted((bids[0], asks[0]), key=lambda e: -e.order_id)
            fills.append((older.order_id, younger.order_id, older.price, older.qty, younger.side, SELF_CANCEL))
            self.entries.remove(older)
        return fills
