"""LiveMarket and the desk on it, with the feed process's part played by the test: blind means no order at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import counters as at
from engine.desk import TradingDesk
from engine.deskarrays import desk_of
from engine.events import BLIND, CLEAR, HALT, LEVEL, RESUME, empty_events
from engine.gates import CLIENTS, HOUSE, MAKER, PARENTS, Reason
from engine.jit import kernel
from engine.lend import lend
from engine.live.eventring import EventProducer, Grid
from engine.live.options import LiveOptions
from engine.livemarket import DAY_NS, LiveMarket
from engine.options import EngineOptions, MakerOptions, ParentOptions
from engine.orders import pass_gates
from engine.publisher import Publisher
from metrics.errors import TransientError
from metrics.frame import IntArray
from metrics.paths import RuntimePaths

LIVE = LiveOptions(venue="kraken", symbols=("BTC/USD",))
TICK, LOT = 10**17, 10**10  # 0.1 dollars, 1e-8 coins
BID, ASK = 600_000, 600_010


@kernel
def ask_gates(
    table: IntArray, strategy: int, side: int, ticks: int, lots: int, intent: int, t_ns: int, age_ns: int
) -> int:
    return pass_gates(desk_of(table), 0, side, ticks, lots, strategy, HOUSE, intent, t_ns, age_ns)


class Feed:
    """What a feed process writes."""

    def __init__(self, paths: RuntimePaths) -> None:
        paths.block_dir.mkdir(parents=True, exist_ok=True)
        self.grid = Grid("kraken", ("BTC/USD",), ((TICK, LOT),), 2000, time.time_ns(), time.monotonic_ns())
        self.ring = EventProducer(paths.feed_ring, paths.feed_bell)
        self.grid.write(paths.feed_grid)
        self.beat()

    def beat(self, age_ns: int = 0) -> None:
        self.ring.beat(time.monotonic_ns() - age_ns, 0, 0, 0)

    def write(self, *rows: tuple[int, int, int, int, int], handover: int | None = None) -> None:
        events = empty_events(len(rows))
        events["t_ns"] = self.grid.now_ns(time.monotonic_ns())
        for event, row in zip(events, rows, strict=True):
            event["kind"], event["side"], event["price"], event["qty"], event["flags"] = row
        self.ring.write(events, self.ring.requested if handover is None else handover)

    def book(self) -> None:
        self.write((HALT, 0, 0, 0, BLIND), (CLEAR, 0, 0, 0, 0), (LEVEL, 1, BID, 10**8, 0), (LEVEL, -1, ASK, 10**8, 0),
                   (RESUME, 0, 0, 0, 0))  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[RuntimePaths]:
    paths = RuntimePaths(tmp_path)
    yield paths
    for file in paths.block_dir.glob("*"):
        file.unlink()
    paths.block_dir.rmdir()


def desk_on(market: LiveMarket, paths: RuntimePaths) -> TradingDesk:
    options = EngineOptions(
        live=LIVE,
        maker=MakerOptions(requote_s=0.0),
        parents=ParentOptions(shortest_s=0.5, longest_s=1.0, first_after_s=0.01),
    )
    desk = TradingDesk(options, market, Publisher(paths.engine_block, market.instruments, {}))
    desk.start_session(time.monotonic_ns(), 0)
    return desk


def step_until(desk: TradingDesk, condition: Any, feed: Feed) -> None:
    until = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        feed.beat()
        desk.step(time.monotonic_ns())


def reasons(desk: TradingDesk) -> set[int]:
    """What the gates say to every strategy, on either side, now."""
    arrays, _ = desk.arrays
    table = lend(arrays)
    now_ns = desk.engine_ns(time.monotonic_ns())
    return {
        int(ask_gates(table, strategy, side, BID if side > 0 else ASK, 1000, 7_000 + strategy, now_ns, 0))
        for strategy in (MAKER, PARENTS, CLIENTS)
        for side in (1, -1)
    }


def test_no_strategy_and_no_client_sends_an_order_while_the_book_is_blind(paths: RuntimePaths) -> None:
    feed = Feed(paths)
    market = LiveMarket(LIVE, paths, wait_s=0.0)
    desk = desk_on(market, paths)
    blind = {int(Reason.STALE_DATA)}
    desk.step(time.monotonic_ns())
    assert reasons(desk) == blind  # before anything came
    feed.book()
    step_until(desk, lambda: desk.working_orders() >= 2, feed)
    assert blind.isdisjoint(reasons(desk))
    feed.write((HALT, 0, 0, 0, BLIND))
    step_until(desk, lambda: desk.working_orders() == 0, feed)
    assert reasons(desk) == blind
    acked = int(desk.counts[at.ACKED])
    feed.write((CLEAR, 0, 0, 0, 0), *((LEVEL, 1, BID - k, 10**8, 0) for k in range(50)), (LEVEL, -1, ASK, 10**8, 0))
    step_until(desk, lambda: not market.take(0).size, feed)
    assert reasons(desk) == blind  # a book is there, but nobody said that it is the venue's
    assert int(desk.counts[at.ACKED]) == acked
    feed.write((RESUME, 0, 0, 0, 0))
    step_until(desk, lambda: desk.working_orders() >= 2, feed)
    market.close()


def test_without_a_sign_of_life_of_the_feed_process_the_engine_is_blind_and_asks_for_its_books(
    paths: RuntimePaths,
) -> None:
    feed = Feed(paths)
    market = LiveMarket(LIVE, paths, wait_s=0.0)
    desk = desk_on(market, paths)
    feed.book()
    step_until(desk, lambda: desk.working_orders() >= 2, feed)
    asked = feed.ring.requested
    feed.beat(age_ns=2 * 10**9)
    desk.step(time.monotonic_ns())
    assert desk.working_orders() == 0
    assert reasons(desk) == {int(Reason.STALE_DATA)}
    assert feed.ring.requested == asked + 1
    feed.write((RESUME, 0, 0, 0, 0), handover=asked)  # said before it died
    feed.beat()
    desk.step(time.monotonic_ns())
    assert reasons(desk) == {int(Reason.STALE_DATA)}
    feed.book()
    step_until(desk, lambda: desk.working_orders() >= 2, feed)
    market.close()


def test_a_ring_that_was_replaced_ends_the_engine_so_that_it_begins_anew(paths: RuntimePaths) -> None:
    feed = Feed(paths)
    market = LiveMarket(LIVE, paths, wait_s=0.0)
    paths.feed_ring.unlink()
    feed.beat(age_ns=2 * 10**9)
    with pytest.raises(TransientError, match="begin anew"):
        market.take(0)
    market.close()


def test_a_session_ends_at_midnight_or_never(paths: RuntimePaths) -> None:
    Feed(paths)
    market = LiveMarket(LIVE, paths, wait_s=0.0)
    assert market.end_ns % DAY_NS == 0
    assert 0 < market.end_ns - market.start_ns <= DAY_NS
    to_midnight_ns = market.end_ns - market.start_ns
    market.begin(time.monotonic_ns() + to_midnight_ns)
    assert market.end_ns - market.start_ns <= DAY_NS
    assert market.end_ns % DAY_NS == 0
    market.close()
    forever = LiveMarket(LiveOptions(venue="kraken", symbols=("BTC/USD",), session="open"), paths, wait_s=0.0)
    assert forever.end_ns - forever.start_ns > 300 * DAY_NS
    forever.close()


def test_without_a_grid_there_is_nothing_to_trade_yet(paths: RuntimePaths) -> None:
    paths.block_dir.mkdir(parents=True, exist_ok=True)
    with pytest.raises(TransientError, match="not told yet"):
        LiveMarket(LIVE, paths, wait_s=0.0)


def test_late_events_never_turn_the_books_time_back(paths: RuntimePaths) -> None:
    feed = Feed(paths)
    market = LiveMarket(LIVE, paths, wait_s=0.0)
    desk = desk_on(market, paths)
    feed.book()
    step_until(desk, lambda: desk.working_orders() >= 2, feed)
    latest = desk._latest_ns
    feed.grid = Grid("kraken", ("BTC/USD",), ((TICK, LOT),), 2000, feed.grid.wall_ns - 10**9, feed.grid.monotonic_ns)
    feed.write((LEVEL, 1, BID, 2 * 10**8, 0))
    desk.step(time.monotonic_ns())
    assert desk._latest_ns >= latest
    market.close()
