"""Live feeds against a venue on this machine that plays recorded messages and misbehaves as venues do."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.book import apply_all, best_price, depth, is_halted, make_books
from engine.events import empty_fills
from engine.feeds.decoder import FeedState
from engine.live.feedrunner import FeedRunner
from engine.live.feedstatus import STATES
from engine.live.options import FeedOptions, LiveOptions
from engine.livemarket import LiveMarket
from engine.telemetry import BlockReader
from metrics.catalogue import series
from metrics.errors import TransientError
from metrics.paths import RuntimePaths
from tests.engine.recordedvenue import RecordedBinance, RecordedCoinbase, RecordedKraken, RecordedVenue, messages_of

QUICK: dict[str, Any] = {
    "backoff_least_s": 0.01, "backoff_most_s": 0.05, "repair_after_s": 0.2, "switch_after_s": 0.1, "return_after_s": 0.3,
    "stale_after_s": 60.0, "reconnect_after_s": 120.0,
}  # fmt: skip
KRAKEN_LISTING = "kraken_l2/KRAKEN.0.xz"
KRAKEN = "kraken_l2/KRAKEN.ws.50.0.xz"
COINBASE = "coinbase_l2/COINBASE.ws.28.0.xz"
BINANCE = "binance/spot_btcusdt_20240808.gz"


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Let the loop go on until something is so."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.002)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[RuntimePaths]:
    paths = RuntimePaths(tmp_path)
    yield paths
    for file in paths.block_dir.glob("*"):
        file.unlink()
    paths.block_dir.rmdir()


class Desk:
    """The feed process in this loop, and at the other end of its ring the books that an engine would have."""

    def __init__(self, options: LiveOptions, paths: RuntimePaths) -> None:
        self.options, self.paths = options, paths
        self.runner = FeedRunner(options, paths)
        self.market: LiveMarket | None = None
        self.opened: list[bool] = []  # RESUME and HALT of instrument 0 as they came
        self._fills = empty_fills(0)

    def attach(self) -> None:
        """An engine begins: it has no book."""
        if self.market is not None:
            self.market.close()
        self.market = LiveMarket(self.options, self.paths, wait_s=0.0)
        self.books = make_books(len(self.market.instruments), max_orders=1 << 16, level_book=True)

    def has_attached(self) -> bool:
        if self.market is None:
            try:
                self.attach()
            except TransientError:
                return False
        return True

    def drain(self) -> int:
        assert self.market is not None
        count = 0
        while len(events := self.market.take(self.market.now_ns(time.monotonic_ns()))):
            was = [is_halted(self.books, i) for i in range(len(self.market.instruments))]
            for event in events:
                if event["instrument"] == 0 and event["kind"] in (10, 11):
                    self.opened.append(bool(event["kind"] == 11))
            apply_all(self.books, events, self._fills)
            count += len(events)
            assert len(was)
        return count

    def is_open(self, i: int = 0) -> bool:
        self.drain()
        return not is_halted(self.books, i) and best_price(self.books, i, 1) > 0

    def touch(self, i: int = 0) -> tuple[float, float]:
        assert self.market is not None
        tick = self.market.instruments[i].tick_size_usd
        return best_price(self.books, i, 1) * tick, best_price(self.books, i, -1) * tick

    def shows(self, venue: RecordedVenue, native: str, i: int = 0) -> bool:
        return self.is_open(i) and self.touch(i) == pytest.approx(venue.best(native), rel=1e-12)

    def value(self, name: str, **labels: str) -> float:
        self.runner.publish()
        return BlockReader(self.paths.feed_block).read().scalar(series(f"deskvigil_feed_{name}", **labels))

    def changes(self, feed: int = 0, instrument: int = 0) -> list[str]:
        self.runner.publish()
        rows = BlockReader(self.paths.feed_block).read().tables["changes"]
        rows = rows[(rows["feed"] == feed) & (rows["instrument"] == instrument)]
        return [STATES[state].value for state in rows["state"]]


@asynccontextmanager
async def desk_on(paths: RuntimePaths, options: LiveOptions) -> AsyncIterator[Desk]:
    desk = Desk(options, paths)
    task = asyncio.create_task(desk.runner.run())
    try:
        await until(desk.has_attached)
        yield desk
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        desk.runner.close()
        if desk.market is not None:
            desk.market.close()


def kraken_options(venue: RecordedVenue, **more: Any) -> LiveOptions:
    return LiveOptions(venue="kraken", symbols=("ADA/BTC", "XMR/USD"), url=venue.url, rest_url=venue.rest_url, **{**QUICK, **more})


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


@asynccontextmanager
async def kraken(marketdata: Path) -> AsyncIterator[RecordedKraken]:
    venue = RecordedKraken(marketdata / KRAKEN, ("ADA/XBT", "XMR/USD"))
    venue.listing = messages_of(marketdata / KRAKEN_LISTING)[0]
    await venue.open()
    try:
        yield venue
    finally:
        await venue.close()


def test_the_engines_books_are_the_venues_after_recorded_messages(marketdata: Path, paths: RuntimePaths) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue)) as desk:
            await until(lambda: desk.is_open(0) and desk.is_open(1))
            await venue.play(400)
            await until(lambda: desk.shows(venue, "ADA/XBT", 0) and desk.shows(venue, "XMR/USD", 1))
            assert desk.changes() == ["syncing", "live"]
            assert desk.opened == [False, False, True]  # the engine's own beginning, the handover, open
            assert desk.value("checksums_total", feed="kraken", result="ok") > 100
            assert desk.value("checksums_total", feed="kraken", result="bad") == 0
            assert desk.value("state", feed="kraken", state="live") == 1.0

    run(scenario())


def test_a_lost_message_is_a_bad_checksum_and_the_book_is_void_until_a_new_subscription(
    marketdata: Path, paths: RuntimePaths
) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue)) as desk:
            await until(lambda: desk.is_open(0) and desk.is_open(1))
            before = venue.subscriptions
            lost = [0]

            def drop_some(message: bytes) -> list[bytes | str]:
                is_book = json.loads(message)[-1] == "ADA/XBT" and json.loads(message)[-2] != "trade"
                lost[0] += is_book
                return [] if is_book and lost[0] <= 3 else [message]

            venue.silent = True  # no snapshot yet: the void must be seen
            while "bad_checksum" not in desk.changes():
                assert await venue.play(20, drop_some) or venue.at < len(venue.messages)
                await asyncio.sleep(0.01)
            await until(lambda: not desk.is_open(0))
            assert best_price(desk.books, 0, 1) == 0
            assert desk.is_open(1)  # the other instrument is sound
            venue.silent = False
            await until(lambda: desk.shows(venue, "ADA/XBT", 0))
            assert venue.subscriptions >= before + 2
            assert desk.changes() == ["syncing", "live", "bad_checksum", "live"]
            assert desk.opened == [False, False, True, False, True]
            await venue.play(200)
            await until(lambda: desk.shows(venue, "ADA/XBT", 0) and desk.shows(venue, "XMR/USD", 1))

    run(scenario())


def test_a_lost_connection_voids_every_book_and_comes_back(marketdata: Path, paths: RuntimePaths) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue)) as desk:
            await until(lambda: desk.is_open(0) and desk.is_open(1))
            venue.refuses = True
            await venue.disconnect()
            await until(lambda: not desk.is_open(0) and not desk.is_open(1))
            await until(lambda: desk.value("failures_total", feed="kraken") >= 3)  # it goes on trying
            assert best_price(desk.books, 0, 1) == best_price(desk.books, 1, 1) == 0
            await venue.play(100)  # the market goes on meanwhile
            venue.refuses = False
            await until(lambda: desk.shows(venue, "ADA/XBT", 0) and desk.shows(venue, "XMR/USD", 1))
            seen = desk.changes()
            assert seen[:3] == ["syncing", "live", "disconnected"]
            assert seen[-2:] == ["syncing", "live"]

    run(scenario())


def test_silence_is_stale_halts_and_any_message_ends_it(marketdata: Path, paths: RuntimePaths) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue, stale_after_s=0.3)) as desk:
            await until(lambda: desk.is_open(0) and desk.is_open(1))
            await until(lambda: not desk.is_open(0))
            assert desk.changes()[-1] == "stale"
            assert best_price(desk.books, 0, 1) > 0  # the book stays, trading does not
            await venue.send('{"event":"heartbeat"}')
            await until(lambda: "live" in desk.changes()[3:])
            assert desk.changes()[:4] == ["syncing", "live", "stale", "live"]

    run(scenario())


def test_garbage_is_counted_and_harms_nothing(marketdata: Path, paths: RuntimePaths) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue)) as desk:
            await until(lambda: desk.is_open(0) and desk.is_open(1))
            garbage: list[bytes | str] = [
                "", "null", "[]", "{", '{"event":[]}', "[1,2,3,4]", '[1,{"a":[["x","y"]]},"book-1000","ADA/XBT"]', "\x00" * 50,
                '[1,{"as":[["1e999","1"]],"bs":[]},"book-1000","ADA/XBT"]', "[" * 5000, '[1,{"b":[["-1","1"]]},"book-10","ADA/XBT"]',
            ]  # fmt: skip
            await venue.play(50, lambda message: [*garbage, message])
            await until(lambda: desk.value("skipped_total", feed="kraken") == 50 * len(garbage))
            await until(lambda: desk.shows(venue, "ADA/XBT", 0) and desk.shows(venue, "XMR/USD", 1))
            assert desk.changes() == ["syncing", "live"]

    run(scenario())


def test_a_message_beyond_the_limit_ends_the_connection_and_nothing_else(marketdata: Path, paths: RuntimePaths) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as venue:
            async with desk_on(paths, kraken_options(venue, max_message_bytes=1 << 18)) as desk:
                await until(lambda: desk.is_open(0) and desk.is_open(1))
                await venue.send("x" * (1 << 19))
                await until(lambda: desk.value("failures_total", feed="kraken") == 1)
                await until(lambda: desk.shows(venue, "ADA/XBT", 0) and desk.shows(venue, "XMR/USD", 1))
                assert desk.changes() == ["syncing", "live", "disconnected", "syncing", "live"]

    run(scenario())


def test_an_engine_that_begins_anew_gets_every_book_from_the_mirror(marketdata: Path, paths: RuntimePaths) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue)) as desk:
            await until(lambda: desk.is_open(0) and desk.is_open(1))
            await venue.play(200)
            subscriptions = venue.subscriptions
            desk.attach()
            assert not desk.is_open(0)
            await until(lambda: desk.shows(venue, "ADA/XBT", 0) and desk.shows(venue, "XMR/USD", 1))
            assert venue.subscriptions == subscriptions  # the venue was not asked
            assert desk.value("connections_total", feed="kraken") == 1

    run(scenario())


def test_an_engine_that_stands_still_loses_events_and_then_gets_whole_books(
    marketdata: Path, paths: RuntimePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.live.eventring.CAPACITY", 8192)
    monkeypatch.setattr("engine.live.feedrunner.CAPACITY", 8192)

    async def scenario() -> None:
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue)) as desk:
            await until(lambda: desk.is_open(0) and desk.is_open(1))
            while desk.value("events_lost_total") == 0 and venue.at < len(venue.messages):
                await venue.play(200)  # nobody drains
                if venue.at >= len(venue.messages):
                    venue.at = len(venue.messages) - 200
                await asyncio.sleep(0.01)
            assert desk.value("events_lost_total") > 0
            await until(lambda: desk.shows(venue, "ADA/XBT", 0) and desk.shows(venue, "XMR/USD", 1))
            assert desk.value("handovers_total") >= 2

    run(scenario())
