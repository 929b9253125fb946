"""Replayed: synthetic events of one instrument put through a slow, obvious order book.

The result has the form of a recorded day, so that every measure taken of recordings can be taken
of the synthetic market too. The book here is independent of the generator's own and of the
engine's; it is also what tests hold both against.
"""

from __future__ import annotations

from bisect import insort

import numpy as np

from engine.events import CANCEL, IOC, LIMIT, REDUCE, EventArray
from metrics.frame import IntArray
from validation.calibration.recordings import ADD, DELETE, VISIBLE, OrderDay
from validation.calibration.recordings import REDUCE as RECORDED_REDUCE


class PlainBook:
    """Price-time priority with dictionaries: one {order id: quantity} per price, in order of arrival."""

    def __init__(self) -> None:
        self.queues: tuple[dict[int, dict[int, int]], dict[int, dict[int, int]]] = ({}, {})
        self.prices: tuple[list[int], list[int]] = ([], [])  # sorted; the best is last for bids, first for asks
        self.where: dict[int, tuple[int, int]] = {}

    def best(self, s: int) -> int | None:
        prices = self.prices[s]
        return None if not prices else prices[-1 if s == 0 else 0]

    def levels(self, s: int, count: int) -> list[tuple[int, int]]:
        """The best prices and the quantities there."""
        prices = self.prices[s][::-1] if s == 0 else self.prices[s]
        return [(price, sum(self.queues[s][price].values())) for price in prices[:count]]

    def add(self, s: int, price: int, key: int, qty: int) -> None:
        if price not in self.queues[s]:
            self.queues[s][price] = {}
            insort(self.prices[s], price)
        self.queues[s][price][key] = qty
        self.where[key] = (s, price)

    def take_off(self, key: int, qty: int) -> None:
        """Take quantity off a resting order, and the order with it when nothing is left."""
        s, price = self.where[key]
        queue = self.queues[s][price]
        queue[key] -= qty
        if queue[key] <= 0:
            del queue[key], self.where[key]
            if not queue:
                del self.queues[s][price]
                self.prices[s].remove(price)

    def match(self, s: int, limit: int, qty: int) -> list[tuple[int, int, int]]:
        """Trade against side s up to a limit price: (order id, price, quantity) of each fill."""
        fills = []
        while qty > 0 and (price := self.best(s)) is not None and (price <= limit if s == 1 else price >= limit):
            key, resting = next(iter(self.queues[s][price].items()))
            taken = min(qty, resting)
            self.take_off(key, taken)
            fills.append((key, price, taken))
            qty -= taken
        return fills


def replayed_day(events: EventArray, session_ns: int, levels: int = 5) -> OrderDay:
    """Replay one instrument's events from the opening on and return the day as a recording would show it."""
    book = PlainBook()
    rows: list[tuple[int, ...]] = []
    shown: list[list[IntArray]] = []
    for t_ns, key, price, qty, kind, side in zip(
        *(events[name].tolist() for name in ("t_ns", "order_id", "price", "qty", "kind", "side")), strict=True
    ):
        s = 0 if side > 0 else 1
        if kind == LIMIT:
            for maker, at, taken in book.match(1 - s, price, qty):
                rows.append((t_ns, VISIBLE, maker, taken, at, -side))
                qty -= taken
            if qty > 0:
                book.add(s, price, key, qty)
                rows.append((t_ns, ADD, key, qty, price, side))
        elif kind == IOC:
            rows += [(t_ns, VISIBLE, maker, taken, at, -side) for maker, at, taken in book.match(1 - s, price, qty)]
        elif kind in (CANCEL, REDUCE) and key in book.where:
            resting = book.queues[book.where[key][0]][book.where[key][1]][key]
            gone = resting if kind == CANCEL else min(qty, resting)
            book.take_off(key, gone)
            rows.append((t_ns, DELETE if gone == resting else RECORDED_REDUCE, key, gone, price, side))
        sides: list[IntArray] = [np.array((book.levels(s, levels) + [(0, 0)] * levels)[:levels]) for s in (0, 1)]
        shown += [sides] * (len(rows) - len(shown))
    return _as_day(np.array(rows, dtype=np.int64), shown, session_ns)


def _as_day(rows: IntArray, shown: list[list[IntArray]], session_ns: int) -> OrderDay:
    bids, asks = np.stack([pair[0] for pair in shown]), np.stack([pair[1] for pair in shown])
    two_sided = (bids[:, 0, 1] > 0) & (asks[:, 0, 1] > 0)
    rows, bids, asks = rows[two_sided], bids[two_sided], asks[two_sided]
    return OrderDay(
        time_s=rows[:, 0] / 1e9, kind=rows[:, 1], order_id=rows[:, 2], qty=rows[:, 3], price=rows[:, 4], side=rows[:, 5],
        ask_price=asks[:, :, 0], ask_qty=asks[:, :, 1], bid_price=bids[:, :, 0], bid_qty=bids[:, :, 1],
        open_s=0.0, close_s=session_ns / 1e9,
    )  # fmt: skip
