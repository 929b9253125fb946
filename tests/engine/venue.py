"""A small venue that keeps strict price-time order and publishes what it does as LOBSTER files."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

ADD, PARTIAL, DELETE, EXECUTION, HIDDEN, HALT = 1, 2, 3, 4, 5, 7
NAME = "TEST_2020-01-02_34200000_57600000"
TICK = 100
Order = list[int]  # id, qty


class Venue:
    """Two sides of price -> orders in the order of arrival; `messages` and `rows` are what it published.

    Only what touches the `levels` best prices is published, and nothing before `recording` is set.
    """

    def __init__(self, levels: int, seed: int) -> None:
        self.levels = levels
        self.sides: dict[int, dict[int, list[Order]]] = {1: {}, -1: {}}
        self.messages: list[tuple[str, int, int, int, int, int]] = []
        self.rows: list[list[int]] = []
        self.recording = False
        self._random = random.Random(seed)
        self._ns = 34_200_000_000_000
        self._last_id = 1000

    def step(self) -> None:
        """Something happens: an order comes, changes or goes."""
        self._ns += self._random.randrange(1, 1_000_000)
        side = self._random.choice((1, -1))
        action = self._random.random()
        if action < 0.45:
            self._enter(side, 1000 - side * self._random.randrange(-2, 9), self._random.randrange(1, 6) * 10)
        elif action < 0.5:
            best = self._best(1)[:1] or self._best(-1)[:1] or [1000]
            self._publish(HIDDEN, 0, 7, best[0], side)  # hidden interest trades within the spread
        else:
            resting = [(price, order) for price, queue in self.sides[side].items() for order in queue]
            if resting:
                price, order = self._random.choice(resting)
                part = self._random.randrange(1, order[1] + 1)
                self._change(PARTIAL if part < order[1] else DELETE, side, price, order, part)

    def write(self, folder: Path) -> Path:
        """The two files in a zip."""
        path = folder / "venue.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for what, rows in (("message", self.messages), ("orderbook", self.rows)):
                text = "".join(",".join(map(str, row)) + "\n" for row in rows)
                archive.writestr(f"{NAME}_{what}_{self.levels}.csv", text)
        return path

    def _best(self, side: int) -> list[int]:
        return sorted(self.sides[side], reverse=side > 0)

    def _enter(self, side: int, price: int, qty: int) -> None:
        while qty and self.sides[-side]:
            best = self._best(-side)[0]
            if side * (price - best) < 0:
                break
            order = self.sides[-side][best][0]
            traded = min(qty, order[1])
            self._change(EXECUTION, -side, best, order, traded)
            qty -= traded
        if qty:
            self._last_id += 1
            visible = self._in_view(side, price)
            self.sides[side].setdefault(price, []).append([self._last_id, qty])
            if visible or self._in_view(side, price):
                self._publish(ADD, self._last_id, qty, price, side)

    def _change(self, kind: int, side: int, price: int, order: Order, qty: int) -> None:
        visible = self._in_view(side, price)
        order[1] -= qty
        queue = self.sides[side][price]
        if order[1] == 0:
            queue.remove(order)
            if not queue:
                del self.sides[side][price]
        if visible:
            self._publish(kind, order[0], qty, price, side)

    def _in_view(self, side: int, price: int) -> bool:
        return price in self._best(side)[: self.levels]

    def _publish(self, kind: int, order_id: int, qty: int, price: int, side: int) -> None:
        if not self.recording:
            return
        time = f"{self._ns // 10**9}.{self._ns % 10**9:09d}"
        self.messages.append((time, kind, order_id, qty, price * TICK, side))
        row = []
        asks, bids = self._best(-1), self._best(1)
        for k in range(self.levels):
            for side_prices, of, empty in ((asks, -1, 9_999_999_999), (bids, 1, -9_999_999_999)):
                if k < len(side_prices):
                    best = side_prices[k]
                    row += [best * TICK, sum(qty for _, qty in self.sides[of][best])]
                else:
                    row += [empty, 0]
        self.rows.append(row)


def recorded(levels: int, seed: int, before: int = 30, during: int = 300) -> Venue:
    """A venue after `before` unpublished and `during` published steps, and one message at least."""
    venue = Venue(levels, seed)
    for _ in range(before):
        venue.step()
    venue.recording = True
    while during > 0 or not venue.messages:
        venue.step()
        during -= 1
    return venue
