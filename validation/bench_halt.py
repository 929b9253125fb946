"""How long the kill switch takes: ten thousand own orders that rest in the books of fifty instruments."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import blotter as blot
from engine import mailbox
from engine.book import apply
from engine.control import OPERATOR, Cause, TradingControl
from engine.desk import TradingDesk
from engine.events import LIMIT, EventArray, Instrument, empty_events
from engine.gates import TradingState
from engine.options import EngineOptions, EntryOptions, MakerOptions, ParentOptions
from engine.publisher import Publisher
from validation.figure import Figure

NAME = "halt"
INSTRUMENTS = 50
ORDERS = 10_000
VENUE_ORDERS = 200  # of each instrument: the walk has to go past them
ROUNDS = 15
CLIENTS = 8
LIMIT_MS = 10.0
SECOND = 1_000_000_000
OPTIONS = EngineOptions(
    maker=MakerOptions(enabled=False),
    parents=ParentOptions(enabled=False),
    entry=EntryOptions(max_orders=ORDERS, max_orders_per_client=ORDERS),
)


class StillMarket:
    """Fifty instruments whose books are filled with the venue's orders by a session's first events, then stand still."""

    source = "bench"
    name: str | None = None
    simulated = True
    level_book = False
    max_orders = 1 << 16
    starts_empty = True
    start_ns = 0
    end_ns = 1 << 60
    faults = 0

    def __init__(self) -> None:
        self.instruments = tuple(Instrument(f"I{i:02d}", 0.01) for i in range(INSTRUMENTS))
        self._events = _resting_orders()
        self._taken = False

    def take(self, until_ns: int) -> EventArray:
        """All events at once, then none."""
        events, self._taken = self._events[len(self._events) if self._taken else 0 :], True
        return events

    def restart(self) -> None:
        """Begin again."""
        self._taken = False

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Nothing: no journal is kept here."""
        return {}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> EventArray:
        """Never asked for."""
        raise ValueError("this market keeps no state")


def _resting_orders() -> EventArray:
    """The venue's orders, at many prices on both sides of every book."""
    events = empty_events(INSTRUMENTS * VENUE_ORDERS)
    count = np.arange(len(events))
    turn = count // INSTRUMENTS
    events["t_ns"], events["kind"], events["qty"] = 1, LIMIT, 10
    events["instrument"] = count % INSTRUMENTS
    events["side"] = np.where(turn % 2, -1, 1)
    events["price"] = 10_000 - events["side"] * (1 + turn % 97)
    events["order_id"] = count + 1
    return events


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Halt the desk again and again, its books filled anew each time; the slowest round is reported too."""
    say(f"halt: {ORDERS:,} own orders in {INSTRUMENTS} books, {ROUNDS} rounds ...")
    market = StillMarket()
    with tempfile.TemporaryDirectory() as folder:
        publisher = Publisher(Path(folder) / "bench.block", market.instruments, {})
        desk = TradingDesk(OPTIONS, market, publisher)
        symbols = tuple(row.symbol for row in market.instruments)
        kernel_s, whole_s, left, cancelled, unnamed = [], [], 0, [], 0
        desk.cancel_all()  # compiles
        for round_ in range(ROUNDS):
            _fill(desk, market)
            began = time.perf_counter()
            desk.cancel_all()
            kernel_s.append(time.perf_counter() - began)

            _fill(desk, market)
            control = TradingControl(Path(folder) / f"state_{round_}.json", symbols)
            began = time.perf_counter()
            control.restrict(OPERATOR, Cause(TradingState.HALTED, "bench", "measured", round_))
            done = desk.apply(control)
            control.keep()
            whole_s.append(time.perf_counter() - began)
            cancelled.append(sum(done.by_instrument.values()))
            named = {f"client-{k}": ORDERS // CLIENTS for k in range(CLIENTS)}
            unnamed += done.unattributed + (0 if done.by_client == named else ORDERS)
            left += desk.resting_orders("all")
            control.resume()
            desk.apply(control)
    return [
        _ms("orders cancelled in the books, median", float(np.median(kernel_s)), None),
        _ms("orders cancelled in the books, slowest", max(kernel_s), None),
        _ms("halt: cancelled, attributed, state on disk, median", float(np.median(whole_s)), LIMIT_MS),
        _ms("halt: cancelled, attributed, state on disk, slowest", max(whole_s), None),
        Figure(benchmark=NAME, what="own orders cancelled by one halt", value=min(cancelled), unit="orders", decimals=0, limit=ORDERS, at_most=False),
        Figure(benchmark=NAME, what="own orders left in the books", value=left, unit="orders", decimals=0, limit=0),
        Figure(benchmark=NAME, what="of all rounds, orders not put down to the client that sent them", value=unnamed, unit="orders", decimals=0, limit=0),
    ]  # fmt: skip


def _ms(what: str, seconds: float, limit: float | None) -> Figure:
    return Figure(benchmark=NAME, what=what, value=seconds * 1e3, unit="ms", limit=limit)


def _fill(desk: TradingDesk, market: StillMarket) -> None:
    """Begin a session whose first events fill every book, then rest the clients' orders there."""
    market.restart()
    desk.start_session(0, 0)
    for _ in range(100):
        desk.step(SECOND)
    _rest_orders(desk)
    resting = desk.resting_orders("all")
    if resting != ORDERS or desk.working_orders() != ORDERS:
        raise RuntimeError(f"only {resting} of {ORDERS} own orders rest")


def _rest_orders(desk: TradingDesk) -> None:
    """Enter orders of eight clients into blotter and books, past the gates: those would not take so many at once."""
    arrays, books = desk.arrays
    owners = [desk.client(f"client-{k}") for k in range(CLIENTS)]
    for k in range(ORDERS):
        i, turn = k % INSTRUMENTS, k // INSTRUMENTS
        side = -1 if turn % 2 else 1
        price = 10_000 - side * (1 + turn % 97)
        row = blot.open_order(
            arrays.blotter, arrays.working, i, side, price, 10, mailbox.NEW, 0, 0, k + 1, 1, owners[k % CLIENTS]
        )  # fmt: skip
        apply(books, SECOND, int(arrays.blotter[row + blot.ID]), price, 10, i, LIMIT, side, 0)
        blot.move(arrays.blotter, row, blot.WORKING)
        blot.disown(arrays.blotter, row)  # nobody is attached who could be told
