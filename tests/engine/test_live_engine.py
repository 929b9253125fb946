"""The engine on a live market, as processes: no order while a book is not LIVE, and either process may die."""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import account as acc
from engine import journal as log
from engine import orders
from engine.book import apply_all, make_books
from engine.commandlog import read_log
from engine.desk import TradingDesk
from engine.events import CANCEL, SELF_CANCEL, TAKER_CANCEL, empty_fills
from engine.executions import OWN_FOLDER
from engine.journalfile import JournalFile, read_from
from engine.journalreplay import replay_journal
from engine.live.feedrunner import run_feed
from engine.live.options import FeedOptions, LiveOptions
from engine.livemarket import LiveMarket
from engine.market import market_key
from engine.options import EngineOptions, GateOptions, MakerOptions, ParentOptions
from engine.publisher import Publisher
from engine.recordtail import RecordTail
from engine.recovery import recover
from engine.runner import run_engine
from engine.telemetry import BlockReader
from metrics.catalogue import series
from metrics.errors import TransientError
from metrics.paths import RuntimePaths
from tests.engine.recordedvenue import RecordedKraken, messages_of
from tests.engine.test_recovery import assert_streams, reference

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
        least = self.acked()

        def sent_one() -> bool:
            nonlocal least
            now = self.acked()
            least = min(least, now)  # a new engine counts from 0; until it does, the block is the dead one's
            return now > least

        wait_for(sent_one, 90.0)
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


def recovered_desk(street: Street, folder: Path, name: str) -> tuple[TradingDesk, Path]:
    """What a new desk makes of a copy of the dead engine's journal, and the executions that it completes; nothing of the
    original is touched."""
    copy = RuntimePaths(folder / name)
    shutil.copytree(street.paths.journal, copy.journal)
    shutil.copytree(street.paths.executions_dir, copy.executions_dir)
    market = LiveMarket(street.live, street.paths, wait_s=5.0)
    desk = TradingDesk(
        street.options, market, Publisher(folder / f"{name}.block", market.instruments, {}), copy.executions_dir
    )
    file = JournalFile(copy.journal, street.options.journal)
    file.open()
    found = recover(desk, file, market_key(market, street.options.seed))
    file.close()
    market.close()
    assert found.goes_on
    return desk, copy.executions_dir


def assert_is_the_journals(street: Street, desk: TradingDesk, executions_dir: Path) -> None:
    """Own orders, positions and both streams of executions are what the records add up to, one by one; nothing is twice."""
    records = np.concatenate(list(read_from(street.paths.journal, 1)))
    books = make_books(len(street.live.symbols), level_book=True)
    _, resting, positions = reference(records, books)
    own = desk.arrays[0].own
    known = {
        (i, int(row[orders.ID])): int(row[orders.LEFT])
        for i in range(len(own))
        for row in own[i]
        if row[orders.ID] != 0
    }
    assert known == resting
    np.testing.assert_array_equal(desk.arrays[0].account[:, acc.POSITION], positions)
    sent = records[(records["what"] == log.OWN) & (records["kind"] != CANCEL)]
    assert len(np.unique(sent["order_id"])) == len(sent) > 0
    assert_streams(executions_dir, desk.arrays[0].ledger)
    replayed = replay_journal(street.paths.journal)
    assert (replayed.mismatches, replayed.damaged, replayed.gaps) == (0, 0, 0)
    assert replayed.fills().row.tolist() == [
        int(record["sequence"])
        for record, trades in one_by_one(records, len(street.live.symbols))
        for _ in range(trades)
    ]


def one_by_one(records: log.JournalArray, instruments: int) -> Iterator[tuple[Any, int]]:
    """Each record of an event and how many trades it gave."""
    books = make_books(instruments, level_book=True)
    chosen = records[records["what"] <= log.OWN]
    for record, event in zip(chosen, log.as_events(chosen), strict=True):
        fills = empty_fills(64)
        count = apply_all(books, np.array([event]), fills)
        yield record, int(np.count_nonzero(fills["flags"][:count] & (SELF_CANCEL | TAKER_CANCEL) == 0))


def executions(street: Street) -> int:
    return len(RecordTail(street.paths.executions_dir / OWN_FOLDER).read(0, limit=1_000_000).records)


def test_an_engine_killed_on_a_live_market_comes_back_with_its_orders_and_account_and_doubles_nothing(
    street: Street, tmp_path: Path
) -> None:
    # Values are in the quote currency, bitcoins for one pair: small orders. The recording ends and the market stands still then.
    street.options = replace(
        street.options,
        maker=MakerOptions(order_usd=1.0, requote_s=0.0),
        parents=ParentOptions(order_usd=1.0, shortest_s=1.0, longest_s=2.0, period_s=3.0),
        gates=GateOptions(stale_after_s=3600.0),
    )
    street.start_feed()
    before = 0
    for life in range(3):
        engine = street.start_engine()
        assert street.trades()
        wait_for(lambda before=before: executions(street) > before + 3, 90.0)
        engine.kill()
        engine.join(10)
        before = executions(street)
        assert_is_the_journals(street, *recovered_desk(street, tmp_path, f"life{life}"))
