"""Book flows: the event streams that `app.py bench book` puts through the books, and through the peers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.book import Books, apply, apply_all, make_books, order_qty, reset
from engine.events import CANCEL, IOC, LEVEL, LIMIT, EventArray, empty_events, empty_fills
from engine.feeds.tape import load_tape
from engine.figures import load_market
from engine.jit import kernel
from engine.synthetic import SyntheticMarket
from metrics.frame import IntArray

SYNTHETIC_EVENTS = 500_000
DEEP_ORDERS, DEEP_INSTRUMENTS, DEEP_EVENTS = 1_000_000, 50, 1_000_000
LEVEL_EVENTS = 1_000_000
ADD, WITHDRAW = 0, 1  # operations of a peer's stream


@dataclass(frozen=True, eq=False, slots=True)
class Flow:
    """Events for books of some kind; `prelude` comes before them and is not measured."""

    name: str
    events: EventArray
    instruments: int = 1
    max_orders: int = 1 << 16
    level_book: bool = False
    prelude: EventArray | None = None

    def books(self) -> Books:
        """Books as they are when the events begin."""
        books = make_books(self.instruments, self.max_orders, level_book=self.level_book)
        if self.prelude is not None:
            apply_all(books, self.prelude, empty_fills(1))
        return books


def recorded_orders() -> Flow | None:
    """The recorded order flow in the folder that DESKVIGIL_MARKETDATA names."""
    path = _recording("*.orders.csv*")
    return None if path is None else Flow(f"recorded flow {path.name.split('.')[0]}", load_tape(path).events)


def recorded_levels() -> list[Flow]:
    """The recorded Binance captures, price levels and prints."""
    folder = os.environ.get("DESKVIGIL_MARKETDATA")
    paths = sorted(Path(folder).rglob("*btcusdt*.gz")) if folder else []
    return [
        Flow(f"Binance {path.name.split('_')[0]} capture", load_tape(path).events, level_book=True) for path in paths
    ]


def recorded_day() -> Path | None:
    """The smallest recorded LOBSTER day."""
    return _recording("*LOBSTER*.zip")


def _recording(pattern: str) -> Path | None:
    folder = os.environ.get("DESKVIGIL_MARKETDATA")
    found = sorted(Path(folder).rglob(pattern), key=lambda path: path.stat().st_size) if folder else []
    return found[0] if found else None


def synthetic() -> Flow:
    """The shipped synthetic market."""
    market = SyntheticMarket(load_market(), seed=1)
    events = empty_events(SYNTHETIC_EVENTS)
    written = 0
    while written < len(events):
        written += market.fill(events[written:], np.iinfo(np.int64).max)
    return Flow("synthetic market", events, instruments=len(market.instruments))


def deep() -> Flow:
    """A million resting orders in 50 instruments; then orders arrive near the touch, any old one is cancelled, some trade."""
    random = np.random.default_rng(4)
    prelude, events = empty_events(DEEP_ORDERS), empty_events(DEEP_EVENTS)
    for part, first_id in ((prelude, 1), (events, DEEP_ORDERS + 1)):
        n = len(part)
        part["kind"], part["order_id"] = LIMIT, np.arange(first_id, first_id + n)
        part["instrument"] = part["order_id"] % DEEP_INSTRUMENTS
        part["side"] = random.choice([1, -1], n)
        part["price"] = 100_000 - part["side"] * (1 + np.minimum(random.geometric(0.004, n), 20_000))
        part["qty"] = random.integers(1, 100, n)
    kinds = random.choice([LIMIT, CANCEL, IOC], len(events), p=[0.47, 0.47, 0.06])
    cancelled = np.flatnonzero(kinds == CANCEL)
    events["kind"] = kinds
    events["order_id"][cancelled] = random.permutation(DEEP_ORDERS)[: len(cancelled)] + 1
    events["instrument"][cancelled] = events["order_id"][cancelled] % DEEP_INSTRUMENTS
    events["price"][kinds == IOC] = 0
    name = f"{DEEP_ORDERS:,} resting orders, {DEEP_INSTRUMENTS} instruments"
    return Flow(name, events, DEEP_INSTRUMENTS, max_orders=DEEP_ORDERS + DEEP_EVENTS, prelude=prelude)


def levels() -> Flow:
    """Level updates around a wandering price, three in ten of them deletions."""
    random = np.random.default_rng(2)
    events = empty_events(LEVEL_EVENTS)
    n = len(events)
    events["kind"], events["t_ns"] = LEVEL, np.arange(n)
    events["side"] = random.choice([1, -1], n)
    middle = 100_000 + np.cumsum(random.choice([-1, 0, 0, 0, 1], n))
    events["price"] = middle - events["side"] * (1 + random.geometric(0.1, n))
    events["qty"] = np.where(random.random(n) < 0.3, 0, random.integers(1, 500, n))
    return Flow("generated level updates", events, level_book=True)


@kernel
def _left(books: Books, i: int, order_id: int) -> int:
    return order_qty(books, i, order_id)


def peer_operations(flow: Flow) -> IntArray:
    """What every peer can do of an order flow: rows (ADD or WITHDRAW, id, side, price, qty), int64, shape (n, 5).

    An IOC is an order that is withdrawn at once where something of it is left; a reduction is left out,
    because most peers have none; an order is only withdrawn while it rests.
    """
    books = flow.books()
    reset(books)
    rows: list[tuple[int, int, int, int, int]] = []
    highest = 1 << 40  # ids of the aggressors
    for event in flow.events[np.isin(flow.events["kind"], (LIMIT, IOC, CANCEL))].tolist():
        t_ns, order_id, price, qty, instrument, kind, side, _ = event
        if kind == IOC:
            highest += 1
            order_id = highest
        if kind in (LIMIT, IOC):
            rows.append((ADD, order_id, side, price, qty))
            apply(books, t_ns, order_id, price, qty, instrument, LIMIT, side, 0)
        if kind in (CANCEL, IOC) and _left(books, instrument, order_id) > 0:
            rows.append((WITHDRAW, order_id, side, price, 0))
            apply(books, t_ns, order_id, 0, 0, instrument, CANCEL, side, 0)
    return np.array(rows, dtype=np.int64)


def operation_events(operations: IntArray) -> EventArray:
    """The same stream for our own books."""
    events = empty_events(len(operations))
    events["kind"] = np.where(operations[:, 0] == ADD, LIMIT, CANCEL)
    for column, name in enumerate(("order_id", "side", "price", "qty"), start=1):
        events[name] = operations[:, column]
    return events
