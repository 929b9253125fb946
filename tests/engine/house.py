"""A desk with a gateway and a still book, driven by hand: for tests of order entry."""

from __future__ import annotations

import multiprocessing
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine import account as acc
from engine import blotter as blot
from engine import entry, mailbox
from engine.book import order_qty
from engine.control import OPERATOR, Cause, TradingControl, key_of
from engine.desk import TradingDesk
from engine.events import LEVEL, LIMIT, Instrument, Tape, empty_events
from engine.gates import TradingState
from engine.gateway import Gateway
from engine.killswitch import Cancelled
from engine.mailbox import Why
from engine.market import TapeMarket
from engine.options import EngineOptions, EntryOptions, GateOptions, MakerOptions, ParentOptions
from engine.publisher import Publisher
from engine.session import OrderSession
from metrics.paths import RuntimePaths

ORIGIN_NS = 1 << 60  # monotonic time that the machine's clock never reaches: nothing is ever late
SECOND = 1_000_000_000
FORK = multiprocessing.get_context("fork")
LEVELS, LEVEL_LOTS = 20, 100
BID, ASK = 9_999, 10_001  # ticks of a cent: 99.99 and 100.01 USD
OPTIONS = EngineOptions(
    maker=MakerOptions(enabled=False),
    parents=ParentOptions(enabled=False),
    gates=GateOptions(max_messages_per_s=1e6, message_burst=100_000, max_loss_usd=1e12),
    entry=EntryOptions(max_orders=1024, max_orders_per_client=1024),
)


def still_tape(symbols: tuple[str, ...], levels: bool = False) -> Tape:
    """Each instrument gets LEVELS prices of LEVEL_LOTS lots on both sides at its first instant, then nothing."""
    events = empty_events(2 * LEVELS * len(symbols))
    k = 0
    for i in range(len(symbols)):
        for level in range(LEVELS):
            for side, price in ((1, BID - level), (-1, ASK + level)):
                events[k] = (1, 0 if levels else k + 1, price, LEVEL_LOTS, i, LEVEL if levels else LIMIT, side, 0)
                k += 1
    instruments = tuple(Instrument(symbol, 0.01) for symbol in symbols)
    return Tape(instruments, events, True, "still", 0, 3600 * SECOND, levels)


class House:
    """The engine's loop without a clock: `serve` is one turn of it."""

    def __init__(
        self,
        folder: Path,
        options: EngineOptions = OPTIONS,
        symbols: tuple[str, ...] = ("AAA", "BBB"),
        levels: bool = False,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.paths = RuntimePaths(folder)
        market = TapeMarket(still_tape(symbols, levels), "still")
        self.market = market
        self.desk = TradingDesk(options, market, Publisher(folder / "engine.block", market.instruments, {}))
        self.gateway = Gateway(
            self.paths.order_socket, market.instruments, self.desk, options.entry.max_orders_per_client
        )
        self.control = TradingControl(folder / "state.json", symbols)
        self.now_ns = ORIGIN_NS
        self.desk.start_session(self.now_ns, 0)
        self.now_ns += SECOND
        self.desk.step(self.now_ns)
        self.gateway.start()

    def restart(self) -> None:
        """A new session with a fresh book."""
        self.desk.end_session()
        self.market.restart()
        self.desk.start_session(self.now_ns, 0)
        self.now_ns += SECOND
        self.desk.step(self.now_ns)

    def close(self) -> None:
        self.gateway.stop()

    def serve(self) -> None:
        self.gateway.serve(self.now_ns)

    def serve_one(self) -> int:
        """One request, so that a test can look between any two."""
        table = self.desk._table
        t_ns = self.desk.engine_ns(self.now_ns)
        return int(entry.work(table, entry.SERVE, entry.NO_CLIENT, int(Why.REQUESTED), t_ns, t_ns, 1))

    def while_serving(self, action: Callable[[], Any]) -> Any:
        """Let somebody talk to the gateway from a thread while it is polled here."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(action)
            while not future.done():
                select.select(self.gateway.files, [], [], 0.01)
                self.gateway.poll()
            return future.result()

    def attach(self, client: str = "desk-a", **options: Any) -> OrderSession:
        return self.while_serving(lambda: OrderSession.open(self.paths, client, **options))

    def until(self, condition: Callable[[], object], turns: int = 2000) -> None:
        """Poll until something is so; another process takes its time."""
        for _ in range(turns):
            if condition():
                return
            select.select(self.gateway.files, [], [], 0.01)
            self.gateway.poll()
        raise AssertionError("it did not happen in time")

    def set_state(self, state: TradingState) -> int:
        return self.desk.set_states([state] * len(self.desk._desk.account))

    def halt(self, scope: str) -> Cancelled:
        self.control.restrict(key_of(OPERATOR, scope), Cause(TradingState.HALTED, "anna", "drill", 1))
        return self.desk.apply(self.control)

    def exposure(self) -> list[float]:
        """What the gates count: working and worst-case USD of the desk, then lots and USD sent by instrument."""
        gates = self.desk._desk.gates
        return [*gates.total_exposure, *gates.volumes.ravel()]

    def position(self, i: int = 0) -> int:
        return int(self.desk._desk.account[i, acc.POSITION])

    def check(self) -> None:
        """What must be so after any request: blotter, books, working lots, the gates' sums and sessions tell the same."""
        desk, books = self.desk._desk, self.desk._books
        w = desk.blotter
        rows = blot.rows_of(w)
        live = rows[(rows[:, blot.STATE] >= blot.PENDING) & (rows[:, blot.STATE] <= blot.PARTIAL)]
        assert w[blot.FAULTS] == 0
        assert w[blot.LIVE] == len(live)
        assert not (live[:, blot.STATE] == blot.PENDING).any()
        working = np.zeros_like(desk.working)
        for row in live:
            assert order_qty(books, int(row[blot.INSTRUMENT]), int(row[blot.ID])) == row[blot.LEFT] > 0
            working[row[blot.INSTRUMENT], 0 if row[blot.SIDE] > 0 else 1] += row[blot.LEFT]
        np.testing.assert_array_equal(desk.working, working)
        held, lot_usd = desk.account[:, acc.POSITION], desk.account[:, acc.MARK] * desk.account[:, acc.USD]
        worst = np.maximum(np.abs(held + working[:, 0]), np.abs(held - working[:, 1]))
        sums = [np.nansum(working.sum(axis=1) * lot_usd), np.nansum(worst * lot_usd)]
        np.testing.assert_allclose(desk.gates.total_exposure, sums, rtol=1e-9, atol=1e-6)
        chained = []
        for i in range(len(desk.account)):
            at = w[w[blot.CHAINS] + i]
            while at:
                assert w[at + blot.INSTRUMENT] == i
                chained.append(w[at + blot.ID])
                at = w[at + blot.NEXT]
        assert sorted(chained) == sorted(live[:, blot.ID].tolist())
        free, at = 0, w[blot.FREE_HEAD]
        while at:
            free, at = free + 1, w[at + blot.NEXT]
        assert free + len(live) == w[blot.CAPACITY]
        table = desk.sessions.reshape(mailbox.MAX_SESSIONS, mailbox.SESSION_WORDS)
        for session in range(mailbox.MAX_SESSIONS):
            mine = live[live[:, blot.CLIENT] == session]
            assert table[session, mailbox.S_LIVE] == len(mine)
            for row in mine:
                found = blot.find_order(w, session, int(row[blot.CLIENT_ID]))
                assert w[found + blot.ID] == row[blot.ID]


def with_gates(**limits: Any) -> EngineOptions:
    return replace(OPTIONS, gates=replace(OPTIONS.gates, **limits))


def with_entry(**limits: Any) -> EngineOptions:
    return replace(OPTIONS, entry=replace(OPTIONS.entry, **limits))
