"""The engine on a live market, as processes: no order while a book is not LIVE, and either process may die."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.commandlog import read_log
from engine.live.feedrunner import run_feed
from engine.live.options import FeedOptions, LiveOptions
from engine.options import EngineOptions, MakerOptions, ParentOptions
from engine.runner import run_engine
from engine.telemetry import BlockReader
from metrics.catalogue import series
from metrics.errors import TransientError
from metrics.paths import RuntimePaths
from tests.engine.recordedvenue import RecordedKraken, messages_of

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["engine.preload"])
KRAKEN_LISTING = "kraken_l2/KRAKEN.0.xz"
KRAKEN = "kraken_l2/KRAKEN.ws.50.0.xz"


def wait_for(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Look until something is so; it happens in other processes."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


class Street:
    """Venues in a loop of their own, and the two processes."""

    def __init__(self, marketdata: Path, paths: RuntimePaths) -> None:
        self.paths = paths
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.venues = []
        for _ in range(2):
            venue = RecordedKraken(marketdata / KRAKEN, ("ADA/XBT", "XMR/USD"))
            venue.listing = messages_of(marketdata / KRAKEN_LISTING)[0]
            self.do(venue.open())
            self.venues.append(venue)
        first, second = self.venues
        self.live = LiveOptions(
            venue="kraken", symbols=("ADA/BTC", "XMR/USD"), url=first.url, rest_url=first.rest_url,
            backup=FeedOptions(venue="kraken", url=second.url, rest_url=second.rest_url),
            backoff_least_s=0.05, backoff_most_s=0.2, switch_after_s=0.5, return_after_s=1.0, stale_after_s=60.0,
            reconnect_after_s=600.0,
        )  # fmt: skip
        self.options = EngineOptions(
            live=self.live,
            maker=MakerOptions(requote_s=0.0),
            parents=ParentOptions(shortest_s=1.0, longest_s=2.0, period_s=3.0),
        )
        self.processes: list[Any] = []
        self._engine, self._feed = BlockReader(paths.engine_block), BlockReader(paths.feed_block)
        self._playing = True
        self._player = asyncio.run_coroutine_threadsafe(self._play(), self.loop)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def _play(self) -> None:
        """The market goes on for as long as the test: recorded messages, a hundred a second, then heartbeats."""
        while self._playing:
            for venue in self.venues:
                if venue.at < len(venue.messages):
                    await venue.play(1)
                else:
                    await venue.send('{"event":"heartbeat"}')
            await asyncio.sleep(0.02)

    def start(self, target: Callable[..., None], *args: Any) -> Any:
        process = FORKSERVER.Process(target=target, args=(*args, self.paths))
        process.start()
        self.processes.append(process)
        return process

    def start_feed(self) -> Any:
        return self.start(run_feed, self.live)

    def start_engine(self) -> Any:
        return self.start(run_engine, self.options)

    def engine(self, name: str, **labels: str) -> float:
        try:
            return self._engine.read().scalar(series(f"deskvigil_engine_{name}", **labels))
        except TransientError:
            return float("nan")

    def acked(self) -> float:
        return self.engine("orders_acked_total")

    def feed(self, name: str, **labels: str) -> float:
        try:
            return self._feed.read().scalar(series(f"deskvigil_feed_{name}", **labels))
        except TransientError:
            return float("nan")

    def trades(self) -> bool:
        """Whether orders are sent now."""
        wait_for(lambda: self.acked() >= 0.0, 90.0)
        before = self.acked()
        wait_for(lambda: self.acked() > before, 90.0)
        return True

    async def cut(self, *venues: RecordedKraken) -> None:
        for venue in venues:
            venue.refuses = True
            await venue.disconnect()

    def close(self) -> None:
        self._playing = False
        for process in self.processes:
            process.kill()
            process.join(60)
        self._player.result(30)
        for venue in self.venues:
            self.do(venue.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(60)
        self.loop.close()


@contextmanager
def street_at(marketdata: Path, folder: Path) -> Iterator[Street]:
    paths = RuntimePaths(folder)
    street = Street(marketdata, paths)
    try:
        yield street
    finally:
        street.close()
        for file in paths.block_dir.glob("*"):
            file.unlink()
        paths.block_dir.rmdir()


@pytest.fixture
def street(marketdata: Path, tmp_path: Path) -> Iterator[Street]:
    with street_at(marketdata, tmp_path) as street:
        yield street


def no_order_is_sent(street: Street) -> None:
    """Nothing works, and over ten publications of the engine not one order is accepted."""
    wait_for(lambda: street.engine("working_orders") == 0.0)
    before, wakeups = street.acked(), street.engine("loop_wakeups_total")
    wait_for(lambda: street.engine("loop_wakeups_total") > wakeups + 10)
    assert street.acked() == before
    assert street.engine("working_orders") == 0.0


def test_it_trades_while_a_feed_is_live_and_sends_nothing_while_none_is(street: Street) -> None:
    street.start_feed()
    street.start_engine()
    assert street.trades()
    street.do(street.cut(*street.venues))
    wait_for(
        lambda: (
            street.feed("instruments_live", feed="kraken")
            == street.feed("instruments_live", feed="kraken-backup")
            == 0.0
        )
    )
    no_order_is_sent(street)
    for venue in street.venues:
        venue.refuses = False
    assert street.trades()


def test_the_backup_takes_over_and_the_engine_goes_on_and_the_audit_has_it(street: Street) -> None:
    street.start_feed()
    street.start_engine()
    assert street.trades()
    wait_for(lambda: street.feed("instruments_live", feed="kraken-backup") == 2.0)
    wait_for(lambda: street.feed("active", feed="kraken") == 1.0)
    street.do(street.cut(street.venues[0]))
    wait_for(lambda: street.feed("active", feed="kraken-backup") == 1.0)
    assert street.trades()
    street.venues[0].refuses = False
    wait_for(lambda: street.feed("active", feed="kraken") == 1.0)
    assert street.trades()

    def noted() -> list[str]:
        found = read_log(street.paths.command_log, "", 0)
        return [] if found is None else [entry.reason for entry in found.entries if entry.command == "feed"]

    wait_for(lambda: len(noted()) >= 2 and "live again" in noted()[-1])
    there, back = noted()[-2:]
    # A venue that lets one in and closes at once is either, by the instant.
    assert there.startswith("market data now from kraken-backup: kraken is ")
    assert there.endswith(("disconnected", "syncing"))
    assert back == "market data now from kraken: it is live again"


def test_a_dead_feed_process_is_a_blind_engine_and_either_may_begin_anew(street: Street) -> None:
    feed = street.start_feed()
    engine = street.start_engine()
    assert street.trades()
    feed.kill()
    feed.join(60)
    no_order_is_sent(street)
    assert engine.is_alive()
    street.start_feed()
    assert street.trades()
    wait_for(lambda: street.feed("connections_total", feed="kraken") == 1.0)
    engine.kill()
    engine.join(60)
    street.start_engine()
    assert street.trades()
    assert street.feed("connections_total", feed="kraken") == 1.0  # the venue did not notice
