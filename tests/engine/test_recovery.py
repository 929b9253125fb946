"""Recovery: an engine that was killed comes back with the books, orders and positions that its journal says it had."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.comparison import COPY, OWN, Comparison, executions_of
from engine import account as acc
from engine import blotter, deskarrays, strategy
from engine import journal as log
from engine.book import Books, apply_all, make_books, order_qty
from engine.desk import TradingDesk
from engine.events import CANCEL, IOC, empty_fills
from engine.executions import DROP_COPY_FOLDER, OWN_FOLDER
from engine.figures import load_market
from engine.journalfile import RECORD_BYTES, SNAPSHOT_SUFFIX, JournalFile, read_from, segment_paths
from engine.journalkeeper import JournalKeeper
from engine.journalreplay import replay_journal
from engine.layout import N_INSTRUMENTS
from engine.market import SyntheticFeed, market_key
from engine.options import EngineOptions, JournalOptions, ParentOptions
from engine.publisher import Publisher
from engine.recordtail import RecordTail
from engine.recovery import between, recover, survey
from engine.runner import run_engine
from engine.session import OrderSession
from engine.settlement import read_settlements
from engine.snapshot import newest_snapshots, read_snapshot
from engine.synthetic import SyntheticMarket
from metrics.paths import RuntimePaths
from resources.standby import Standby
from resources.supervisor import process_state
from tests.engine.test_runner import TINY_TAPE, Probe, running, wait_for

ORIGIN_NS = 1 << 60
MOST_OF_CLIENT = 6  # orders that a client sends in one life of the engine
SECOND = 1_000_000_000
JOURNAL = JournalOptions(segment_mb=1, retain_mb=64, min_free_mb=0, snapshot_s=3600.0)
OPTIONS = EngineOptions(parents=ParentOptions(shortest_s=1.0, longest_s=3.0, period_s=5.0), journal=JOURNAL)


@dataclass
class Trading:
    """A desk with its journal, without the loop around it."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        place = self.folder / self.name
        place.mkdir()
        self.market = SyntheticFeed(SyntheticMarket(load_market(), seed=5))
        block = Publisher(place / "block", self.market.instruments, {})
        self.desk = TradingDesk(OPTIONS, self.market, block, self.folder / "executions")
        self.keeper = JournalKeeper(self.folder / "journal", JOURNAL, self.desk, self.market, 5)
        self.goes_on = False

    def start(self) -> Trading:
        self.goes_on = self.keeper.start(ORIGIN_NS, 0)
        if not self.goes_on:
            self.desk.start_session(ORIGIN_NS, 0)
        return self

    def play(self, from_s: float, to_s: float) -> None:
        for now_ns in range(ORIGIN_NS + round(from_s * SECOND), ORIGIN_NS + round(to_s * SECOND) + 1, SECOND // 10):
            self.desk.step(now_ns)

    def snapshot(self) -> None:
        self.keeper._next_snapshot_ns = 0
        self.keeper.look(1, 0)
        wait_for(lambda: not self.keeper._file.is_busy)


def recovered(folder: Path, name: str) -> tuple[Trading, object]:
    """What a new desk makes of a journal, before it goes on."""
    trading = Trading(folder, name)
    file = JournalFile(folder / "journal", JOURNAL)
    file.open()
    found = recover(trading.desk, file, market_key(trading.market, 5))
    file.close()
    return trading, found


def assert_same(left: TradingDesk, right: TradingDesk) -> None:
    """Books, own orders, account, ledger, the venue's totals and parents, bit for bit."""
    np.testing.assert_array_equal(left._books.words, right._books.words)
    ids = left._desk.own[:, :, deskarrays.ID]
    np.testing.assert_array_equal(ids, right._desk.own[:, :, deskarrays.ID])
    np.testing.assert_array_equal(left._desk.own[ids != 0], right._desk.own[ids != 0])
    for name in ("account", "maker_lots", "arrival", "spread"):
        np.testing.assert_array_equal(getattr(left._desk, name), getattr(right._desk, name), err_msg=name)
    np.testing.assert_array_equal(left._account.ledger, right._account.ledger)
    np.testing.assert_array_equal(left.executions.copy.totals(), right.executions.copy.totals())
    np.testing.assert_array_equal(left.executions.copy.totals()[:, :3], left._account.ledger)
    columns = [strategy.P_STATE, strategy.P_SIDE, strategy.P_TARGET, strategy.P_FILLED, strategy.P_NOTIONAL]
    columns += [strategy.P_FILLS, strategy.P_COUNT]
    np.testing.assert_array_equal(left._desk.parents[:, columns], right._desk.parents[:, columns])
    assert left._desk.clockwork[deskarrays.LAST_ID] == right._desk.clockwork[deskarrays.LAST_ID]
    assert left._desk.blotter[blotter.TAKEN] == right._desk.blotter[blotter.TAKEN]
    assert (left.sessions, left._settled_usd) == (right.sessions, right._settled_usd)
    assert left._desk.journal_head[log.FILLS] == right._desk.journal_head[log.FILLS]


def assert_streams(folder: Path, ledger: np.ndarray) -> Comparison:
    """Both streams of executions are one run without gap, duplicate or break, and the account's ledger is their sum."""
    comparison = Comparison(grace_ns=0)
    for name, stream in ((OWN, OWN_FOLDER), (COPY, DROP_COPY_FOLDER)):
        reading = RecordTail(folder / stream).read(0, limit=1_000_000)
        assert reading.damaged == []
        assert reading.missing == 0
        assert len(np.unique(reading.records["run"])) <= 1
        np.testing.assert_array_equal(reading.records["sequence"], np.arange(1, len(reading.records) + 1))
        comparison.take(name, executions_of(reading), 0)
        session = reading.records[reading.records["session"] == reading.records["session"].max(initial=0)]
        for i in range(len(ledger)):
            mine = session[session["instrument"] == i]
            cash = -int((mine["side"] * mine["qty"] * mine["price"]).sum())
            assert (mine["side"] * mine["qty"]).sum() == ledger[i, acc.HELD]
            assert cash == int(ledger[i, acc.CASH_HIGH]) * (1 << acc.LIMB_BITS) + int(ledger[i, acc.CASH_LOW])
    comparison.expire(1)
    assert comparison.found() == []
    assert comparison.waiting == 0
    return comparison


def drop(trading: Trading) -> None:
    """Let go of the journal as a killed process does: no end is written."""
    trading.keeper._file.close()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trading]:
    """Forty seconds of trading with a snapshot in the middle."""
    folder = tmp_path_factory.mktemp("played")
    trading = Trading(folder, "first").start()
    trading.play(0, 20)
    trading.snapshot()
    trading.play(20, 40)
    drop(trading)
    return folder, trading


def copy_of(played: tuple[Path, Trading], folder: Path) -> None:
    for name in ("journal", "executions"):
        shutil.copytree(played[0] / name, folder / name)


def test_snapshot_and_journal_give_the_same_desk(played: tuple[Path, Trading], tmp_path: Path) -> None:
    copy_of(played, tmp_path)
    again, found = recovered(tmp_path, "again")
    assert found.goes_on
    assert 0 < found.records < found.sequence
    assert (again.desk._desk.account[:, acc.POSITION] != 0.0).any()
    assert_same(again.desk, played[1].desk)


def test_without_a_snapshot_the_journal_alone_does(played: tuple[Path, Trading], tmp_path: Path) -> None:
    copy_of(played, tmp_path)
    for path in newest_snapshots(tmp_path / "journal"):
        path.unlink()
    again, found = recovered(tmp_path, "again")
    assert found.records == found.sequence
    assert_same(again.desk, played[1].desk)


def test_a_damaged_snapshot_is_passed_over(played: tuple[Path, Trading], tmp_path: Path) -> None:
    copy_of(played, tmp_path)
    path = newest_snapshots(tmp_path / "journal")[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again, found = recovered(tmp_path, "again")
    assert found.records == found.sequence
    assert_same(again.desk, played[1].desk)


def reference(
    records: log.JournalArray, books: Books | None = None
) -> tuple[np.ndarray, dict[tuple[int, int], int], np.ndarray]:
    """Books' words, own resting orders (instrument, id) -> lots, and positions, the slow and obvious way; books: empty ones."""
    books, fills = books or make_books(10), empty_fills(1 << 18)
    events = log.as_events(records)
    count = apply_all(books, events, fills)
    positions = np.zeros(int(books.words[N_INSTRUMENTS]))
    for fill in fills[:count]:
        if fill["flags"] == 0 and fill["taker_id"] < 0:
            positions[fill["instrument"]] += int(fill["side"]) * int(fill["qty"])
        elif fill["flags"] == 0 and fill["maker_id"] < 0:
            positions[fill["instrument"]] -= int(fill["side"]) * int(fill["qty"])
    own = {(int(row["instrument"]), int(row["order_id"])) for row in records[records["what"] == log.OWN]}
    resting = {(i, order_id): int(order_qty(books, i, order_id)) for i, order_id in own}
    return books.words, {key: lots for key, lots in resting.items() if lots}, positions


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_however_the_journal_is_cut_or_damaged_the_state_is_that_of_its_last_sound_record(
    data: st.DataObject, played: tuple[Path, Trading], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    copy_of(played, folder)
    if data.draw(st.booleans()):
        for path in newest_snapshots(folder / "journal"):
            path.unlink()
    snapshots = newest_snapshots(folder / "journal")
    first_byte = (int(snapshots[0].stem) - 1) * RECORD_BYTES if snapshots else 3 * RECORD_BYTES
    last = played[1].keeper._file.sequence
    at = data.draw(st.integers(first_byte, last * RECORD_BYTES - 1))
    path = segment_paths(folder / "journal")[0][1]
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        content = content[:at]
    path.write_bytes(content)
    again, found = recovered(folder, "again")
    assert found.sequence == at // RECORD_BYTES
    records = np.concatenate(list(read_from(played[0] / "journal", 1)))[: found.sequence]
    words, resting, positions = reference(records)
    np.testing.assert_array_equal(again.desk._books.words, words)
    np.testing.assert_array_equal(again.desk._desk.account[:, acc.POSITION], positions)
    own = again.desk._desk.own
    known = {
        (i, int(row[deskarrays.ID])): int(row[deskarrays.LEFT])
        for i in range(10)
        for row in own[i]
        if row[deskarrays.ID] != 0
    }
    assert known == resting


def test_a_recovered_desk_goes_on_with_the_same_market_and_closes_interrupted_parents(
    played: tuple[Path, Trading], tmp_path: Path
) -> None:
    copy_of(played, tmp_path)
    again = Trading(tmp_path, "again")
    interrupted = np.count_nonzero(played[1].desk._desk.parents[:, strategy.P_STATE] != strategy.IDLE)
    again.start()
    assert again.goes_on
    assert again.keeper.parents_closed == interrupted > 0
    assert (again.desk._desk.parents[:, strategy.P_STATE] == strategy.IDLE).all()
    again.play(0, 5)
    assert again.desk.working_orders() > 0
    drop(again)
    compared = assert_streams(tmp_path / "executions", again.desk._account.ledger)
    assert compared.equal > len(RecordTail(played[0] / "executions" / OWN_FOLDER).read(0).records) > 0
    records = np.concatenate(list(read_from(tmp_path / "journal", 1)))
    market = records[records["what"] == log.MARKET]
    whole = SyntheticFeed(SyntheticMarket(load_market(), seed=5)).take(60 * SECOND)
    np.testing.assert_array_equal(market["order_id"], whole["order_id"][: len(market)])  # none left out, none twice
    np.testing.assert_array_equal(market["t_ns"], whole["t_ns"][: len(market)])
    found = replay_journal(tmp_path / "journal")
    assert (found.mismatches, found.damaged) == (0, 0)
    assert found.books_checked >= 1


def test_sessions_settle_again_as_they_did(tmp_path: Path) -> None:
    trading = Trading(tmp_path, "first").start()
    trading.play(0, 10)
    trading.desk.end_session()
    trading.market.restart()
    trading.market.start_ns = trading.market.end_ns = trading.desk.engine_ns(ORIGIN_NS + 10 * SECOND)
    drop(trading)
    again, found = recovered(tmp_path, "again")
    assert found.goes_on
    assert again.desk._settled_usd == trading.desk._settled_usd != 0.0
    assert again.desk.is_settled  # the next session has not begun: the runner begins it, and settles nothing again
    assert again.desk.settled_again == trading.desk.settlements != []
    assert not again.desk._desk.account[:, acc.POSITION].any()
    assert again.desk.working_orders() == 0


def test_a_clean_stop_is_followed_by_a_fresh_session(tmp_path: Path) -> None:
    trading = Trading(tmp_path, "first").start()
    trading.play(0, 5)
    trading.desk.cancel_all()
    trading.keeper.end()
    trading.keeper.close()
    again = Trading(tmp_path, "again").start()
    assert not again.goes_on
    assert again.desk.sessions == 1
    drop(again)


def test_a_fresh_start_may_be_asked_for_once(tmp_path: Path) -> None:
    trading = Trading(tmp_path, "first").start()
    trading.play(0, 5)
    drop(trading)
    (tmp_path / "journal" / "fresh").touch()
    again = Trading(tmp_path, "again").start()
    assert not again.goes_on
    again.play(0, 1)
    drop(again)
    assert Trading(tmp_path, "third").start().goes_on


def test_a_record_that_killed_the_engine_twice_is_left_out_from_then_on(tmp_path: Path) -> None:
    trading = Trading(tmp_path, "first").start()
    trading.play(0, 5)
    poison = trading.keeper._file.sequence
    for name in ("second", "third"):
        trading.keeper._file.head[log.BUSY] = poison  # it died carrying this out
        drop(trading)
        trading = Trading(tmp_path, name)
        trading.keeper.start(ORIGIN_NS, 0)
        assert trading.keeper.recovered.poison == (poison if name == "third" else 0)
        if name == "second":
            break_off(tmp_path, poison)
    drop(trading)
    records = np.concatenate(list(read_from(tmp_path / "journal", 1)))
    assert records["order_id"][records["what"] == log.SKIP].tolist() == [poison]
    found = replay_journal(tmp_path / "journal")
    assert found.skipped == 1
    again, _ = recovered(tmp_path, "fourth")
    words, _, _ = reference(records[records["sequence"] != poison])
    np.testing.assert_array_equal(again.desk._books.words, words)


def break_off(folder: Path, sequence: int) -> None:
    """Make the journal end at a record, as if the start after it had died before writing anything."""
    path = segment_paths(folder / "journal")[0][1]
    content = path.read_bytes()
    path.write_bytes(content[: sequence * RECORD_BYTES] + bytes(len(content) - sequence * RECORD_BYTES))


def test_another_market_begins_afresh(tmp_path: Path) -> None:
    trading = Trading(tmp_path, "first").start()
    trading.play(0, 2)
    drop(trading)
    again = Trading(tmp_path, "again")
    again.keeper._market_key += 1
    assert not again.start().goes_on
    drop(again)


def test_the_minutes_before_an_alert_can_be_found_by_the_wall_clock(tmp_path: Path) -> None:
    trading = Trading(tmp_path, "first").start()
    for second in range(10):
        trading.play(second, second + 1)
        trading.desk.note_clock((second + 1) * SECOND)
    drop(trading)
    records = np.concatenate(list(between(tmp_path / "journal", 3 * SECOND, 5 * SECOND)))
    clocks = records[records["what"] == log.CLOCK]
    assert clocks["t_ns"].tolist() == [3 * SECOND, 4 * SECOND, 5 * SECOND]
    market = records[records["what"] == log.MARKET]
    assert market["t_ns"][0] > 2.5 * SECOND
    assert market["t_ns"][-1] <= 5 * SECOND


def test_a_snapshot_holds_books_that_differ_in_their_last_words(tmp_path: Path) -> None:
    from engine.snapshot import Snapshot, write_snapshot

    empty = np.arange(1000, dtype=np.int64)
    words = empty.copy()
    words[[3, 999]] = -1
    write_snapshot(tmp_path, Snapshot(7, 1, {"books": words, "x": np.array([1.5])}), empty)
    found = read_snapshot(tmp_path / f"{8:020d}{SNAPSHOT_SUFFIX}", empty)
    assert found is not None
    np.testing.assert_array_equal(found.arrays["books"], words)


@given(
    st.lists(st.sampled_from([log.MARKET, log.OWN, log.PARENT, log.CLOCK, log.SESSION, log.GAP]), max_size=40),
    st.integers(0, 45), st.integers(0, 50),
)  # fmt: skip
@settings(deadline=None)
def test_one_pass_finds_what_is_sound_and_where_the_controls_are(whats: list[int], first: int, damaged: int) -> None:
    words, head = np.zeros((len(whats) + 3, log.WORDS), dtype=np.int64), log.no_journal()[1]
    for number, what in enumerate(whats):
        log.note(words, head, what, number, 0, 0, 0, 0, 0, -number)  # detail shares its word with what
    if damaged < len(words):
        words[damaged, log.W_QTY] ^= 1
    first, places = min(first, len(words)), np.full(len(words), -1, dtype=np.int64)
    sound, found = survey(words, first, first + 1, places)
    end = damaged if first <= damaged < len(whats) else len(whats)
    assert sound == max(end - first, 0) == log.sound_records(words, first, first + 1)
    assert places[:found].tolist() == [k for k in range(first, end) if whats[k] > log.PARENT]


# --- a real process, really killed ----------------------------------------------------------------


def kill_at_random_moments(paths: RuntimePaths, kills: int) -> None:
    options = EngineOptions(
        speed=4.0, parents=ParentOptions(shortest_s=1.0, longest_s=2.0, period_s=4.0),
        journal=JournalOptions(min_free_mb=0, snapshot_s=1.0),
    )  # fmt: skip
    rng = random.Random(1)
    seen: set[int] = set()
    for number in range(kills):
        with running(options, paths) as (probe, process):
            first = probe.value("session_total")
            assert first == 1.0  # the same session goes on
            assert (probe.value("recovered_records") > 0) == (number > 0)
            with OrderSession.open(paths, "desk-a") as client:
                send_some(client, probe, rng)
                time.sleep(rng.uniform(0.05, 0.5))  # the moment is the test
                os.kill(process.pid, signal.SIGKILL)
                process.join(60)
            seen |= published_fills(probe)
    assert_sound(paths, seen)


def send_some(client: OrderSession, probe: Probe, rng: random.Random) -> None:
    """A client's orders: one that rests, one that takes what there is, and some that may be on their way at the kill."""
    for number in range(rng.randint(2, MOST_OF_CLIENT)):
        row = rng.choice(client.instruments)
        mid_usd = probe.value("mid_usd", symbol=row.symbol)
        if np.isnan(mid_usd):
            continue
        side = rng.choice(["buy", "sell"])
        away = 0.98 if side == "buy" else 1.02
        price = round(round(mid_usd * away / row.tick_size_usd) * row.tick_size_usd, 8)
        client.send(row.symbol, side, 3, *([price] if number % 2 == 0 else [None, "market"]))


def published_fills(probe: Probe) -> set[int]:
    snapshot = probe.snapshot()
    return set() if snapshot is None else {int(row["order_id"]) for row in snapshot.tables["fills"]}


def assert_sound(paths: RuntimePaths, published: set[int]) -> None:
    """Snapshot and tail, and the whole journal, and the slow reference agree; no order was lost or doubled."""
    desks = []
    records = np.concatenate(list(read_from(paths.journal, 1)))
    for name, snapshots in (("tail", True), ("whole", False)):
        folder = paths.data_dir.parent / name
        shutil.copytree(paths.journal, folder / "journal")
        shutil.copytree(paths.executions_dir, folder / "executions")
        if not snapshots:
            for path in newest_snapshots(folder / "journal"):
                path.unlink()
        market = SyntheticFeed(SyntheticMarket(load_market(), seed=1))
        block = Publisher(folder / "block", market.instruments, {})
        desk = TradingDesk(EngineOptions(), market, block, folder / "executions")
        file = JournalFile(folder / "journal", JOURNAL)
        file.open()
        assert recover(desk, file, market_key(market, 1)).goes_on
        file.close()
        desks.append(desk)
        assert_streams(folder / "executions", desk._account.ledger)
    assert_same(*desks)
    words, resting, positions = reference(records)
    np.testing.assert_array_equal(desks[0]._books.words, words)
    np.testing.assert_array_equal(desks[0]._desk.account[:, acc.POSITION], positions)
    of_clients = {order_id for _, order_id in resting if (-order_id) & 3 == blotter.BLOTTER}
    assert len(resting) - len(of_clients) == desks[0].working_orders()
    assert len(of_clients) <= MOST_OF_CLIENT  # those of the last life: each start has cancelled those before it
    assert desks[0].resting_orders("strategy:clients") == len(of_clients)
    desks[0].go_on(0)
    assert desks[0].resting_orders("strategy:clients") == 0
    own = records[(records["what"] == log.OWN) & (records["kind"] != CANCEL)]
    assert len(np.unique(own["order_id"])) == len(own)
    assert published <= set(own["order_id"].tolist())
    found = replay_journal(paths.journal)
    assert (found.mismatches, found.damaged, found.gaps) == (0, 0, 0)
    assert (own["kind"] == IOC).any()
    assert ((-own["order_id"]) & 3 == blotter.BLOTTER).sum() >= 10


def _spare(options: EngineOptions, paths: RuntimePaths, wait: Callable[[], None]) -> None:
    run_engine(options, paths, wait)


def test_a_spare_with_everything_made_disturbs_nothing_until_its_turn(tmp_path: Path) -> None:
    options, paths = EngineOptions(speed=4.0, journal=JOURNAL), RuntimePaths(tmp_path / "data")
    spare = Standby(partial(_spare, options, paths), "engine")
    with running(options, paths) as (probe, process):
        waiting = spare.make()
        hidden = paths.engine_block.with_name(f"{paths.engine_block.name}.{waiting.pid}.new")
        wait_for(lambda: hidden.exists() and process_state(waiting.pid)[0] == "S", 150.0)
        before = probe.total("events_total")
        wait_for(lambda: probe.total("events_total") > before + 100)
        assert probe.reader.read().pid == process.pid
        assert probe.client.send({"command": "status"})["state"] == "ACTIVE"
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)
        waiting.start()
        try:
            wait_for(lambda: probe.reader.read().pid == waiting.pid)
            assert probe.value("recovered_records") > 0
            assert probe.value("session_total") == 1.0
            assert not hidden.exists()
            assert probe.client.send({"command": "status"})["state"] == "ACTIVE"
        finally:
            waiting.kill()
            waiting.join(10)


def test_an_engine_killed_at_random_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    kill_at_random_moments(RuntimePaths(tmp_path / "data"), 20)


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_a_hundred_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    kill_at_random_moments(RuntimePaths(tmp_path / "data"), 100)


def test_an_engine_whose_journal_has_no_room_follows_the_market_and_sends_nothing(tmp_path: Path) -> None:
    options = EngineOptions(speed=4.0, journal=JournalOptions(min_free_mb=1 << 20))  # no disk has that much
    with running(options, RuntimePaths(tmp_path / "data")) as (probe, _):
        wait_for(lambda: probe.value("trading_state") == 2.0)
        seen = probe.total("events_total")
        wait_for(lambda: probe.total("events_total") > seen + 500)
        assert probe.value("journal_full") == 1.0
        assert probe.value("journal_lost_records_total") > 0
        assert probe.value("working_orders") == 0.0
        cause = probe.client.send({"command": "status"})["causes"]["journal"]
        assert "MB are free" in cause["reason"]


def test_an_engine_killed_around_the_end_of_a_session_settles_each_one_once(tmp_path: Path) -> None:
    tape = tmp_path / "tiny.csv"
    tape.write_bytes(TINY_TAPE)
    paths = RuntimePaths(tmp_path / "data")
    options = EngineOptions(
        tape=tape, speed=4.0, journal=JournalOptions(min_free_mb=0, snapshot_s=1.0),
        parents=ParentOptions(algo="market", shortest_s=0.1, longest_s=0.2, period_s=0.4, first_after_s=0.1),
    )  # fmt: skip
    rng = random.Random(2)
    for number in range(10):
        with running(options, paths) as (probe, process):
            assert process.is_alive(), f"life {number} ended with {process.exitcode} before it served"
            session = probe.value("session_total")
            wait_for(lambda: probe.value("session_total") > session or not process.is_alive())  # noqa: B023
            assert process.is_alive(), f"life {number} ended with {process.exitcode} in session {session}"
            time.sleep(rng.uniform(0.0, 0.3))  # the moment is the test: a session lasts 0.2 s
            os.kill(process.pid, signal.SIGKILL)
            process.join(60)
        records, malformed, _ = read_settlements(paths.settlements)
        assert len(malformed) <= number + 1  # a line cut off by a kill
    sessions = [record.session for record in records]
    assert sessions == list(range(1, len(sessions) + 1))  # one instrument: each session once, none left out
    assert len({record.run_ns for record in records}) == 1
    assert all((row.position, row.cash) == (row.venue_position, row.venue_cash) for row in records)
    assert sum(record.executions for record in records) > 0
