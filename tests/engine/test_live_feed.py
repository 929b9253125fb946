"""Live feeds against a venue on this machine that plays recorded messages and misbehaves as venues do."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.book import apply_all, best_price, is_halted, make_books
from engine.events import empty_fills
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
    "backoff_least_s": 0.01, "backoff_most_s": 0.05, "repair_after_s": 30.0, "switch_after_s": 0.1, "return_after_s": 0.3,
    "stale_after_s": 60.0, "reconnect_after_s": 120.0,
}  # fmt: skip
KRAKEN_LISTING = "kraken_l2/KRAKEN.0.xz"
KRAKEN = "kraken_l2/KRAKEN.ws.50.0.xz"
COINBASE = "coinbase_l2/COINBASE.ws.28.0.xz"
BINANCE = "binance/spot_btcusdt_20240808.gz"


async def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Let the loop go on until something is so."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.002)


@pytest.fixture(autouse=True)
def one_loop_is_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feed and engine share this test's loop: where the machine is busy a pause of both is no death of one."""
    monkeypatch.setattr("engine.livemarket.DEAD_AFTER_NS", 60 * 10**9)


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
            for event in events:
                if event["instrument"] == 0 and event["kind"] in (10, 11):
                    self.opened.append(bool(event["kind"] == 11))
            apply_all(self.books, events, self._fills)
            count += len(events)
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
    return LiveOptions(
        venue="kraken", symbols=("ADA/BTC", "XMR/USD"), url=venue.url, rest_url=venue.rest_url, **{**QUICK, **more}
    )


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
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue, repair_after_s=0.3)) as desk:
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
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue, stale_after_s=1.5)) as desk:
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
        async with (
            kraken(marketdata) as venue,
            desk_on(paths, kraken_options(venue, max_message_bytes=1 << 18)) as desk,
        ):
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
            price = max(venue.books["ADA/XBT"][0], key=float)
            trade = [price, "1.00000000", "1618678132.100000", "b", "m", ""]
            for _ in range(20):  # nobody takes these
                await venue.send(json.dumps([0, [trade] * 500, "trade", "ADA/XBT"]))
            await until(lambda: desk.value("events_lost_total") > 0)
            await venue.play(100)
            await until(lambda: desk.shows(venue, "ADA/XBT", 0) and desk.shows(venue, "XMR/USD", 1))
            assert desk.value("handovers_total") >= 2

    run(scenario())


def test_a_message_in_slow_pieces_is_one_message(marketdata: Path, paths: RuntimePaths) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue)) as desk:
            await until(lambda: desk.is_open(0) and desk.is_open(1))
            before = desk.value("messages_total", feed="kraken")

            async def pieces(text: str) -> AsyncIterator[str]:
                for start in range(0, len(text), 16):
                    yield text[start : start + 16]
                    await asyncio.sleep(0.06)  # each piece comes after the feed has given up waiting once

            message = venue.messages[venue.at]
            venue.at += 1
            venue.apply(json.loads(message))
            for socket in list(venue.sockets):
                await socket.send(pieces(message.decode()))
            await until(lambda: desk.value("messages_total", feed="kraken") == before + 1)
            await venue.play(100)
            await until(lambda: desk.shows(venue, "ADA/XBT", 0) and desk.shows(venue, "XMR/USD", 1))
            assert desk.value("connections_total", feed="kraken") == 1

    run(scenario())


@asynccontextmanager
async def binance(marketdata: Path) -> AsyncIterator[RecordedBinance]:
    venue = RecordedBinance(marketdata / BINANCE, "BTCUSDT")
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "stepSize": "0.00001000"},
    ]
    venue.listing = json.dumps({"symbols": [{"symbol": "BTCUSDT", "filters": filters}]}).encode()
    await venue.open()
    try:
        yield venue
    finally:
        await venue.close()


def binance_options(venue: RecordedVenue, **more: Any) -> LiveOptions:
    return LiveOptions(
        venue="binance",
        symbols=("BTC/USDT",),
        url=venue.url,
        rest_url=venue.rest_url,
        **{**QUICK, "repair_after_s": 0.3, **more},
    )


def test_binance_joins_snapshot_and_changes_and_a_gap_is_mended_over_rest(
    marketdata: Path, paths: RuntimePaths
) -> None:
    async def scenario() -> None:
        async with binance(marketdata) as venue, desk_on(paths, binance_options(venue)) as desk:
            await until(lambda: bool(venue.sockets))
            while not desk.is_open():  # the first changes come before the snapshot is asked for
                await venue.play(1)
                await asyncio.sleep(0.002)
            await venue.play(200)
            await until(lambda: desk.shows(venue, "BTCUSDT"))
            assert desk.changes() == ["syncing", "live"]
            asked = len(venue.rest_calls)
            lost = [0]

            def drop_one_depth(message: bytes) -> list[bytes | str]:
                lost[0] += b"depthUpdate" in message
                return [] if lost[0] == 1 and b"depthUpdate" in message else [message]

            while desk.value("gaps_total", feed="binance") == 0:
                await venue.play(5, drop_one_depth)
                await asyncio.sleep(0.002)
            while not desk.shows(venue, "BTCUSDT"):
                await venue.play(5)
                await asyncio.sleep(0.002)
            assert desk.changes()[:4] == ["syncing", "live", "gap", "live"]
            assert any("depth" in path for path in venue.rest_calls[asked:])
            await venue.play(300, lambda message: [message, message])  # everything twice
            await until(lambda: desk.shows(venue, "BTCUSDT"))
            assert desk.value("duplicates_total", feed="binance") > 50
            assert desk.market is not None
            assert desk.market.instruments[0].tick_size_usd == 0.01

    run(scenario())


@asynccontextmanager
async def coinbase(marketdata: Path) -> AsyncIterator[RecordedCoinbase]:
    venue = RecordedCoinbase(marketdata / COINBASE, ("NMR-EUR", "DASH-BTC"))
    listing = [
        {"id": "NMR-EUR", "quote_increment": "0.0001", "base_increment": "0.001"},
        {"id": "DASH-BTC", "quote_increment": "0.00000001", "base_increment": "0.001"},
    ]
    venue.listing = json.dumps(listing).encode()
    await venue.open()
    try:
        yield venue
    finally:
        await venue.close()


def test_coinbase_follows_the_recorded_book_and_a_hole_in_the_trades_makes_it_void(
    marketdata: Path, paths: RuntimePaths
) -> None:
    async def scenario() -> None:
        async with coinbase(marketdata) as venue:
            options = LiveOptions(
                venue="coinbase", symbols=("NMR/EUR", "DASH/BTC"), url=venue.url, rest_url=venue.rest_url, **QUICK
            )
            async with desk_on(paths, options) as desk:
                await until(lambda: desk.is_open(0) and desk.is_open(1))
                await venue.play(500)
                await until(lambda: desk.shows(venue, "NMR-EUR", 0) and desk.shows(venue, "DASH-BTC", 1))
                price = str(venue.best("NMR-EUR")[0])
                match = {"type": "match", "product_id": "NMR-EUR", "side": "buy", "price": price, "size": "1.0"}
                seen = len(desk.changes())
                for trade_id in (900_000_001, 900_000_003):
                    await venue.send(json.dumps({**match, "trade_id": trade_id}))
                await until(lambda: desk.changes()[seen : seen + 2] == ["gap", "live"])
                await until(lambda: desk.shows(venue, "NMR-EUR", 0))

    run(scenario())


def test_the_backup_takes_over_and_gives_back_and_no_book_is_open_in_between(
    marketdata: Path, paths: RuntimePaths
) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as first, kraken(marketdata) as second:
            second.at = 0
            backup = FeedOptions(venue="kraken", url=second.url, rest_url=second.rest_url)
            async with desk_on(paths, kraken_options(first, backup=backup)) as desk:
                await until(lambda: desk.is_open(0) and desk.is_open(1))
                await second.play(300)  # the two books differ, so it is seen which one is shown
                await until(lambda: desk.shows(first, "ADA/XBT", 0))
                assert first.best("ADA/XBT") != second.best("ADA/XBT")
                await until(lambda: desk.value("active", feed="kraken") == 1.0)
                assert desk.market is not None
                desk.market.news()
                switches = desk.value("switches_total")
                desk.opened.clear()
                first.refuses = True
                await first.disconnect()
                await until(lambda: desk.shows(second, "ADA/XBT", 0) and desk.shows(second, "XMR/USD", 1))
                assert desk.opened[0] is False  # closed before anything of the backup was there
                assert desk.opened[-1] is True
                assert desk.value("active", feed="kraken-backup") == 1.0
                (words, detail), *more = desk.market.news()
                assert "kraken-backup" in words
                # A venue that lets one in and closes at once is either, by the instant.
                assert words.endswith(("kraken is disconnected", "kraken is syncing"))
                assert detail["switches"] == switches + 1
                assert not more
                assert desk.market.news() == []
                desk.opened.clear()
                first.refuses = False
                await until(lambda: desk.value("active", feed="kraken") == 1.0)
                await until(lambda: desk.shows(first, "ADA/XBT", 0) and desk.shows(first, "XMR/USD", 1))
                assert desk.opened == [False, True]
                assert desk.value("switches_total") == switches + 2

    run(scenario())


def test_a_backup_that_is_not_live_either_leaves_the_book_closed(marketdata: Path, paths: RuntimePaths) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as first, kraken(marketdata) as second:
            backup = FeedOptions(venue="kraken", url=second.url, rest_url=second.rest_url)
            async with desk_on(paths, kraken_options(first, backup=backup)) as desk:
                await until(lambda: desk.is_open(0) and desk.is_open(1))
                switches = desk.value("switches_total")
                for venue in (first, second):
                    venue.refuses = True
                    await venue.disconnect()
                await until(lambda: not desk.is_open(0) and not desk.is_open(1))
                await until(lambda: desk.value("failures_total", feed="kraken-backup") >= 5)
                assert (
                    desk.value("switches_total") <= switches + 1
                )  # in the instant in which the backup was still there
                assert not desk.is_open(0)
                first.refuses = False
                await until(lambda: desk.shows(first, "ADA/XBT", 0))

    run(scenario())


def make_certificates(folder: Path) -> Path:
    """A test CA and a certificate of localhost signed by it; returns the folder's CA file."""
    script = """
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Test CA' -keyout ca.key -out ca.pem -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign'
openssl req -newkey rsa:2048 -nodes -subj '/CN=localhost' -keyout key.pem -out request.pem
printf 'subjectAltName=DNS:localhost\\nextendedKeyUsage=serverAuth\\n' > san.txt
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san.txt -out cert.pem
"""
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make test certificates with")
def test_a_venues_certificate_is_verified(marketdata: Path, paths: RuntimePaths, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("certificates")
    authority = make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    async def scenario() -> None:
        venue = RecordedKraken(marketdata / KRAKEN, ("ADA/XBT", "XMR/USD"))
        venue.listing = messages_of(marketdata / KRAKEN_LISTING)[0]
        await venue.open(context)
        try:
            async with desk_on(paths, kraken_options(venue, ca_file=str(authority))) as desk:
                await until(lambda: desk.shows(venue, "ADA/XBT", 0))
            for file in paths.block_dir.glob("*"):
                file.unlink()
            stranger = FeedRunner(
                kraken_options(venue), paths
            )  # trusts the system's authorities, which do not know ours
            task = asyncio.create_task(stranger.run())
            reader = BlockReader(paths.feed_block)

            def failures() -> float:
                stranger.publish()
                return reader.read().scalar(series("deskvigil_feed_failures_total", feed="kraken"))

            await until(lambda: failures() >= 2)
            assert reader.read().scalar(series("deskvigil_feed_connections_total", feed="kraken")) == 0
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            stranger.close()
        finally:
            await venue.close()

    run(scenario())


def test_prices_off_the_grid_take_their_instrument_out(marketdata: Path, paths: RuntimePaths) -> None:
    async def scenario() -> None:
        async with kraken(marketdata) as venue, desk_on(paths, kraken_options(venue)) as desk:
            await until(lambda: desk.is_open(0) and desk.is_open(1))
            await venue.send('[1,{"b":[["0.000000001","5.0","1618678132.000001"]]},"book-1000","ADA/XBT"]')
            await until(lambda: desk.value("off_grid_total", feed="kraken") == 1)
            await until(lambda: not desk.is_open(0))
            assert desk.is_open(1)

    run(scenario())


def test_a_symbol_that_no_venue_knows_is_named_in_the_log(
    marketdata: Path, paths: RuntimePaths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("engine.live.feedrunner.GRID_WAIT_NS", 0)

    async def scenario() -> None:
        async with kraken(marketdata) as venue:
            options = LiveOptions(
                venue="kraken", symbols=("ADA/BTC", "NO/SUCH"), url=venue.url, rest_url=venue.rest_url, **QUICK
            )
            runner = FeedRunner(options, paths)
            task = asyncio.create_task(runner.run())
            await until(lambda: "no feed knows NO/SUCH" in caplog.text)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            runner.close()
            assert not paths.feed_grid.exists()

    run(scenario())
