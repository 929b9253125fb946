"""Blotter: own orders, put together again from the events that the engine tells, without any file or thread.

What an event does to its order:

    accepted   working                        fill       partial, or filled where nothing is left
    rejected   rejected, with the reason      cancelled  cancelled where nothing is left, else as before
    changed    another price and quantity left

An order whose end was missed (events overwritten, another engine) and that works no longer is `unseen`.
Orders are numbered by the place in the log of the first event seen of each: a blotter made again from
the same log is the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy.typing as npt

from engine.orderlog import Happened

ORDERS_KEPT: Final = 5_000
EVENTS_OF_ORDER: Final = 200
WORKING, PARTIAL, FILLED, CANCELLED, REJECTED, UNSEEN = (
    "working", "partial", "filled", "cancelled", "rejected", "unseen",
)  # fmt: skip
STATES: Final = (WORKING, PARTIAL, FILLED, CANCELLED, REJECTED, UNSEEN)
LIVE: Final = frozenset((WORKING, PARTIAL))


@dataclass(slots=True)
class Order:
    """One own order. price in ticks, qty, filled and left in lots; qty None where its beginning was not seen."""

    number: int  # place of its first event in the engine's log, from 1: what the page asks for it by
    order_id: int
    wall_ns: int
    instrument: int
    side: int
    kind: int
    strategy: int
    client: int
    intent: int
    price: int
    qty: int | None
    left: int
    filled: int = 0
    notional: int = 0  # tick-lots of its fills
    state: str = WORKING
    reason: int = 0
    events: list[Any] = field(default_factory=list)
    events_dropped: int = 0


class Blotter:
    """The last ORDERS_KEPT orders, newest last; not locked."""

    def __init__(self, kept: int = ORDERS_KEPT) -> None:
        self._kept = kept
        self._orders: OrderedDict[int, Order] = OrderedDict()  # by number
        self._by_id: dict[int, Order] = {}
        self._last = self._place = 0

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def newest(self) -> int:
        """Number of the newest order, 0 before the first."""
        return self._last

    def get(self, number: int) -> Order | None:
        return self._orders.get(number)

    def newest_first(self) -> Iterator[Order]:
        return reversed(self._orders.values())

    def take(self, events: npt.NDArray[Any], first: int) -> None:
        """Take in events (dtype ORDER_EVENT), in their order; first: the place in the log of the first, from 0."""
        names = events.dtype.names or ()
        for self._place, row in enumerate(events.tolist(), first + 1):
            self._take_one(dict(zip(names, row, strict=True)))

    def settle(self, working: Collection[int]) -> None:
        """After a gap in the events: what still seems to work but is not among these ids has ended unseen."""
        for order in self._by_id.values():
            if order.state in LIVE and order.order_id not in working:
                order.state, order.left = UNSEEN, 0

    def _take_one(self, event: dict[str, int]) -> None:
        what = event["what"]
        order = self._by_id.get(event["order_id"]) if event["order_id"] else None
        if order is None or what == Happened.ACCEPTED:  # a fresh engine gives out its ids from the beginning
            if order is not None and order.state in LIVE:
                order.state, order.left = UNSEEN, 0
            order = self._begin(event)
        if len(order.events) < EVENTS_OF_ORDER:
            order.events.append(event)
        else:
            order.events_dropped += 1
        if what == Happened.REJECTED:
            order.state, order.reason, order.left = REJECTED, event["reason"], 0
        elif what == Happened.FILL:
            order.filled += event["qty"]
            order.notional += event["qty"] * event["price"]
            order.left = event["left"]
            order.state = PARTIAL if order.left > 0 else FILLED
        elif what == Happened.CANCELLED:
            order.left, order.reason = event["left"], event["reason"]
            if order.left == 0:
                order.state = CANCELLED
        elif what == Happened.CHANGED:
            order.price, order.left = event["price"], event["left"]
            order.qty = order.filled + order.left

    def _begin(self, event: dict[str, int]) -> Order:
        self._last = self._place
        whole = event["what"] in (Happened.ACCEPTED, Happened.REJECTED)
        order = Order(
            number=self._last,
            order_id=event["order_id"],
            wall_ns=event["wall_ns"],
            instrument=event["instrument"],
            side=event["side"],
            kind=event["kind"],
            strategy=event["strategy"],
            client=event["client"],
            intent=event["intent"],
            price=event["price"],
            qty=event["qty"] if whole else None,
            left=event["left"],
        )
        self._orders[order.number] = order
        if order.order_id:
            self._by_id[order.order_id] = order
        while len(self._orders) > self._kept:
            _, oldest = self._orders.popitem(last=False)
            if self._by_id.get(oldest.order_id) is oldest:
                del self._by_id[oldest.order_id]
        return order
