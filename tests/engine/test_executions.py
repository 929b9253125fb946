"""Both streams of executions: written by the engine, read by a tail, equal to the account, safe over restarts."""

from __future__ import annotations

import multiprocessing
import random
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from engine import account as acc
from engine import counters as at
from engine import recordfile
from engine.desk import TradingDesk
from engine.dropcopy import send_drop_copy
from engine.events import SELF_CANCEL, TAKER_CANCEL, Instrument, empty_fills
from engine.executions import DROP_COPY_FOLDER, OWN_FOLDER
from engine.figures import load_market
from engine.jit import kernel
from engine.journal import SETTLE
from engine.journalfile import JournalFile
from engine.market import SyntheticFeed
from engine.options import EngineOptions, JournalOptions, ParentOptions
from engine.publisher import Publisher
from engine.recordfile import (
    CAPACITY,
    DURABLE,
    LOST,
    RECORD,
    RECORD_WORDS,
    RECORDS_AT,
    WRITTEN,
    RecordFile,
    checksums,
    segments_of,
)
from engine.recordtail import RecordTail
from engine.settlement import SettlementFile, read_settlements
from engine.synthetic import SyntheticMarket
from tests.engine.test_settlement import RECORD as SETTLED

FORKSERVER = multiprocessing.get_context("forkserver")
ORIGIN_NS = 1 << 60
SECOND = 1_000_000_000
OPTIONS = EngineOptions(parents=ParentOptions(shortest_s=1.0, longest_s=3.0, period_s=5.0))
INSTRUMENTS = (Instrument("AAA", 0.01), Instrument("BBB", 0.25, 0.1))
FIELDS = [name for name in RECORD.names or () if name not in ("wall_ns", "checksum")]


def make_desk(folder: Path, run_ns: int = 7) -> TradingDesk:
    market = SyntheticFeed(SyntheticMarket(load_market(), seed=5))
    desk = TradingDesk(OPTIONS, market, Publisher(folder / "engine.block", market.instruments, {}), folder)
    desk.begin_run(run_ns)
    desk.start_session(ORIGIN_NS, 0)
    return desk


def play(desk: TradingDesk, to_s: float) -> None:
    for elapsed_ns in range(0, round(to_s * SECOND) + 1, SECOND // 10):
        desk.step(ORIGIN_NS + elapsed_ns)


@kernel
def report(w, fills, count):
    send_drop_copy(w, fills, count)


def trade(file: RecordFile, sequence: int, qty: int = 5, price: int = 100, taker: bool = True, i: int = 0) -> None:
    fills = empty_fills(1)
    fills[0] = (
        (sequence * 10, sequence, 3, -6, price, qty, i, 1, 0) if taker else (1, sequence, -4, 9, price, qty, i, 1, 0)
    )
    report(file.words, fills, 1)


def test_both_streams_of_a_trading_desk_agree_and_add_up_to_its_account(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    play(desk, 20)
    own, copy = (RecordTail(tmp_path / name).read(0) for name in (OWN_FOLDER, DROP_COPY_FOLDER))
    assert len(own.records) == desk._desk.counts[[at.FILLS_MAKER, at.FILLS_TAKER]].sum() > 10
    np.testing.assert_array_equal(own.records[FIELDS], copy.records[FIELDS])
    assert own.damaged == copy.damaged == []
    assert own.missing == copy.missing == 0
    assert own.instruments == tuple(desk._market.instruments)
    np.testing.assert_array_equal(own.records["sequence"], np.arange(1, len(own.records) + 1))
    for i in range(len(own.instruments)):
        mine = copy.records[copy.records["instrument"] == i]
        assert (mine["side"] * mine["qty"]).sum() == desk._account.ledger[i, acc.HELD]
        assert -(mine["side"] * mine["qty"] * mine["price"]).sum() == desk._account.cash(i)
    # The venue's totals are its own; the account's error is rounding.
    np.testing.assert_array_equal(desk.executions.copy.totals()[:, :3], desk._account.ledger)
    assert desk._account.error_usd() < 1e-6
    desk.executions.close()


@dataclass
class Slow:
    """What the venue's totals must be, in Python's whole numbers."""

    position: int = 0
    cash: int = 0


def test_totals_hold_any_quantity_and_price_exactly(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, INSTRUMENTS, 1)
    file.begin_session(1)
    slow = Slow()
    rng = np.random.default_rng(3)
    for sequence in range(1, 200):
        bits = int(rng.integers(1, 48))
        qty, price = (int(rng.integers(1, 1 << bits)) for _ in range(2))
        taker = bool(rng.integers(0, 2))
        trade(file, sequence, qty, price, taker)
        side = 1 if taker else -1
        slow.position += side * qty
        slow.cash -= side * qty * price
        position, high, low, count = file.totals()[0].tolist()
        assert (position, high * (1 << 48) + low, count) == (slow.position, slow.cash, sequence)
        assert 0 <= low < 1 << 48


def test_what_traded_with_nobody_of_ours_or_was_only_cancelled_is_not_in_the_drop_copy(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, INSTRUMENTS, 1)
    file.begin_session(1)
    fills = empty_fills(3)
    fills[0] = (1, 1, 3, 4, 100, 5, 0, 1, 0)
    fills[1] = (1, 1, -4, -8, 100, 5, 0, 1, SELF_CANCEL)
    fills[2] = (1, 1, -4, -8, 100, 5, 0, 1, TAKER_CANCEL)
    report(file.words, fills, 3)
    assert file.words[WRITTEN] == 0
    assert not file.totals().any()


@pytest.mark.parametrize("done", [0, 2])  # executions before the snapshot that the recovery begins with
def test_a_run_that_goes_on_leaves_out_what_is_there_already(tmp_path: Path, done: int) -> None:
    file = RecordFile(tmp_path, INSTRUMENTS, 7)
    file.begin_session(1)
    totals = file.totals()
    for sequence in (1, 2, 3):
        trade(file, sequence)
        if sequence == done:
            totals = file.totals()
    file.close()
    again = RecordFile(tmp_path, INSTRUMENTS, 7)
    again.begin_session(1)
    again.put_totals(totals)
    for sequence in range(done + 1, 5):  # a recovery does everything once more
        trade(again, sequence)
    again.close()
    reading = RecordTail(tmp_path).read(0)
    assert [int(e) >> 21 for e in reading.records["execution"]] == [1, 2, 3, 4]
    assert reading.records["position"].tolist() == [5, 10, 15, 20]
    assert again.totals()[0, [0, 3]].tolist() == [20, 4]
    assert len(segments_of(tmp_path)) == 1


def test_a_session_that_is_gone_through_again_leaves_the_next_ones_executions_alone(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, INSTRUMENTS, 7)
    for session, sequences in ((1, (1, 2, 3)), (2, (1, 2))):  # the venue counts anew in each
        file.begin_session(session)
        for sequence in sequences:
            trade(file, sequence)
    file.close()
    again = RecordFile(tmp_path, INSTRUMENTS, 7)
    for session, sequences in ((1, (1, 2, 3)), (2, (1, 2, 3))):
        again.begin_session(session)
        for sequence in sequences:
            trade(again, sequence)
        assert again.totals()[0, 0] == 15
    again.close()
    records = RecordTail(tmp_path).read(0).records
    assert [(int(r["session"]), int(r["execution"]) >> 21) for r in records] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
        (2, 3),
    ]
    assert records["position"].tolist() == [5, 10, 15, 5, 10, 15]


def test_another_run_numbers_on_and_begins_with_nothing(tmp_path: Path) -> None:
    for run in (7, 8):
        file = RecordFile(tmp_path, INSTRUMENTS, run)
        file.begin_session(1)
        trade(file, 1)
        trade(file, 2)
        file.close()
    reading = RecordTail(tmp_path).read(0)
    assert reading.records["run"].tolist() == [7, 7, 8, 8]
    assert reading.records["sequence"].tolist() == [1, 2, 3, 4]
    assert reading.records["position"].tolist() == [5, 10, 5, 10]
    first, second = (path.stat().st_size for _, path in segments_of(tmp_path))
    assert first < second  # the room that was not used is given back
    assert RecordTail(tmp_path).end() == 4


def test_a_full_segment_is_followed_by_the_next_and_the_oldest_goes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recordfile, "SEGMENT_RECORDS", 8)
    monkeypatch.setattr(recordfile, "ROOM", 4)
    monkeypatch.setattr(recordfile, "KEPT_SEGMENTS", 3)
    file = RecordFile(tmp_path, INSTRUMENTS, 7)
    file.begin_session(1)
    for sequence in range(1, 31):
        trade(file, sequence)
        file.roll()
    assert len(segments_of(tmp_path)) == 3
    reading = RecordTail(tmp_path).read(0)
    assert reading.missing == segments_of(tmp_path)[0][0] - 1 > 0
    assert reading.places == list(range(reading.missing + 1, 31))
    assert reading.records["position"].tolist() == [5 * place for place in reading.places]
    some = RecordTail(tmp_path).read(20, limit=7)
    assert some.places == list(range(21, 28))
    assert some.upto == 27


def test_records_without_room_are_counted_and_hurt_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recordfile, "SEGMENT_RECORDS", 4)
    file = RecordFile(tmp_path, INSTRUMENTS, 7)
    file.begin_session(1)
    for sequence in range(1, 10):
        trade(file, sequence)
    assert file.words[WRITTEN] == file.words[CAPACITY] == 4
    assert file.lost == file.words[LOST] == 5
    folder = tmp_path / "a file"
    folder.write_text("where the folder should be")
    nowhere = RecordFile(folder, INSTRUMENTS, 7)
    nowhere.begin_session(1)
    trade(nowhere, 1)
    assert nowhere.lost == 1


def test_a_damaged_record_is_found_and_the_others_are_read(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, INSTRUMENTS, 7)
    file.begin_session(1)
    for sequence in range(1, 6):
        trade(file, sequence)
    file.words[int(file.words[RECORDS_AT]) + 2 * 16 + 8] ^= 1
    reading = RecordTail(tmp_path).read(0)
    assert reading.damaged == [(3, 7)]
    assert reading.places == [1, 2, 4, 5]
    assert reading.upto == 5


def test_the_newest_record_is_doubted_once_before_it_counts_as_damaged(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, INSTRUMENTS, 7)
    file.begin_session(1)
    trade(file, 1)
    trade(file, 2)
    file.words[int(file.words[RECORDS_AT]) + 16 + 8] ^= 1
    tail = RecordTail(tmp_path)
    assert (tail.read(0).damaged, tail.read(0).damaged) == ([], [(2, 7)])


def test_a_file_that_is_no_segment_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / f"{1:020}.seg").write_bytes(b"\0" * 4096)
    file = RecordFile(tmp_path, INSTRUMENTS, 7)
    file.begin_session(1)
    trade(file, 1)
    assert [path.suffix[:9] for path in tmp_path.iterdir() if not path.name.endswith(".seg")] == [".damaged-"]
    assert RecordTail(tmp_path).read(0).missing == recordfile.SEGMENT_RECORDS


@pytest.mark.parametrize("position", range(15))
def test_the_checksum_covers_every_word(position: int) -> None:
    record = np.zeros(1, dtype=RECORD)
    before = checksums(record)[0]
    record.view(np.int64)[position] = 1
    assert checksums(record)[0] != before


def test_a_sync_says_how_far_the_disk_has_it_over_segments_and_restarts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recordfile, "SEGMENT_RECORDS", 8)
    monkeypatch.setattr(recordfile, "ROOM", 4)
    file = RecordFile(tmp_path, INSTRUMENTS, 7)
    file.begin_session(1)
    trade(file, 1)
    assert file.words[DURABLE] == 0
    file.sync()
    assert file.words[DURABLE] == 1
    for sequence in range(2, 13):  # the first segment is left with records that no sync has seen
        trade(file, sequence)
        file.roll()
    assert len(file._retired) == len(segments_of(tmp_path)) - 1 > 0
    file.sync()
    assert file._retired == []
    assert file.words[DURABLE] == file.words[WRITTEN] > 0
    file.close()
    assert RecordFile(tmp_path, INSTRUMENTS, 7).words[DURABLE] == file.words[WRITTEN]


@pytest.mark.parametrize("durable", [0, 2, 4])
@pytest.mark.parametrize("torn", [(1,), (3, 5), (5,)])  # executions of which the disk got a part
def test_what_a_power_failure_tore_is_written_again_and_nothing_twice(
    tmp_path: Path, durable: int, torn: tuple[int, ...], monkeypatch
) -> None:
    monkeypatch.setattr(recordfile, "SEGMENT_RECORDS", 16)
    monkeypatch.setattr(recordfile, "ROOM", 8)
    file = RecordFile(tmp_path, INSTRUMENTS, 7)
    file.begin_session(1)
    for sequence in range(1, 10):
        trade(file, sequence)
    assert file.roll()
    file.sync()
    for sequence in range(10, 10 + durable):
        trade(file, sequence)
    file.sync()
    for sequence in range(10 + durable, 16):
        trade(file, sequence)
    for place in torn:
        file.words[int(file.words[RECORDS_AT]) + place * RECORD_WORDS + 8] ^= 1
    again = RecordFile(tmp_path, INSTRUMENTS, 7)  # the first is left as the failure left it
    again.begin_session(1)
    again.put_totals(np.zeros_like(again.totals()))
    for sequence in range(1, 18):  # a recovery does everything once more
        trade(again, sequence)
    again.close()
    reading = RecordTail(tmp_path).read(0)
    known = [place + 10 for place in torn if place < durable]  # damage in what the disk had is reported, not hidden
    assert [place for place, _ in reading.damaged] == known
    assert [int(e) >> 21 for e in reading.records["execution"]] == [s for s in range(1, 18) if s not in known]
    assert reading.records["position"].tolist() == [5 * s for s in range(1, 18) if s not in known]


def _record(folder: Path, told: Connection) -> None:
    """Trade and settle for ever beside a thread that commits in groups; say what is written."""
    journal = JournalFile(folder / "journal", JournalOptions(min_free_mb=0, sync_s=0.001))
    file, settlements = RecordFile(folder / "fills", INSTRUMENTS, 7), SettlementFile(folder / "settled", grouped=True)
    journal.open()
    journal.go_on(0)
    journal.sync_too((file.sync, settlements.sync))
    journal.start()
    for session in range(1, 1 << 30):
        file.begin_session(session)
        for sequence in range(1, 4):
            trade(file, sequence)
            file.roll()
        journal.note(SETTLE, 0, session)
        settlements.write([replace(SETTLED, session=session)])
        told.send(session)


def test_what_was_written_when_a_kill_came_is_there_whatever_the_group_commit_was_doing(tmp_path: Path) -> None:
    rng = random.Random(3)
    for number in range(5):
        folder = tmp_path / str(number)
        (folder / "fills").mkdir(parents=True)
        heard, told = FORKSERVER.Pipe(duplex=False)
        process = FORKSERVER.Process(target=_record, args=(folder, told))
        process.start()
        told.close()
        last = 0
        for _ in range(rng.randint(1, 400)):  # the moment is the test
            last = heard.recv()
        process.kill()
        process.join()
        reading = RecordTail(folder / "fills").read(0, limit=10**6)
        assert reading.damaged == []
        assert len(reading.places) >= 3 * last > 0
        records, malformed, _ = read_settlements(folder / "settled")
        assert malformed == []
        assert [record.session for record in records][:last] == list(range(1, last + 1))
        again = RecordFile(folder / "fills", INSTRUMENTS, 7)
        assert again.words[DURABLE] <= again.words[WRITTEN]
        assert RecordTail(folder / "fills").end() == len(reading.places)
