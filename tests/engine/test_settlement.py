"""Settlement: what a session comes to is written down, whole, durable, and equal to the drop copy."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import account as acc
from engine.account import Account
from engine.desk import TradingDesk
from engine.events import Instrument
from engine.figures import load_market
from engine.market import SyntheticFeed
from engine.options import EngineOptions, ParentOptions
from engine.publisher import Publisher
from engine.recordfile import WRITTEN
from engine.settlement import Settlement, SettlementFile, closing_mark, read_settlements, settle
from engine.synthetic import SyntheticMarket

ORIGIN_NS = 1 << 60
SECOND = 1_000_000_000
RECORD = Settlement(
    7, 1, 2, 3, "AAA", 0, 100.5, 1.005, "mid", 5, -500, 5, -500, 2, 5.0, 0.0, 5.0, 0.0, 0.025, 0.001, 0.024
)  # fmt: skip


@pytest.mark.parametrize(
    ("mark", "two_sided", "last_price", "expected"),
    [
        (100.5, True, 99, (100.5, "mid")),
        (100.5, False, 99, (100.5, "last_mid")),
        (float("nan"), False, 99, (99.0, "last_trade")),
        (float("nan"), False, 0, (0.0, "none")),
    ],
)
def test_the_mark_says_where_it_is_from(mark, two_sided, last_price, expected) -> None:
    assert closing_mark(mark, two_sided, last_price) == expected


def test_a_session_settles_on_what_the_desk_shows_and_what_the_drop_copy_holds(tmp_path: Path) -> None:
    market = SyntheticFeed(SyntheticMarket(load_market(), seed=5))
    options = EngineOptions(
        parents=ParentOptions(shortest_s=1.0, longest_s=3.0, period_s=5.0), taker_fee_bps=1.0, fee_least_usd=0.01
    )
    desk = TradingDesk(options, market, Publisher(tmp_path / "engine.block", market.instruments, {}), tmp_path)
    desk.begin_run(7)
    desk.start_session(ORIGIN_NS, 0)
    for tenth in range(200):
        desk.step(ORIGIN_NS + tenth * SECOND // 10)
    before = desk.gauges(ORIGIN_NS + 20 * SECOND)
    settled_usd = desk.end_session(123)
    records = desk.settlements
    assert [record.symbol for record in records] == [row.symbol for row in market.instruments]
    assert sum(record.executions for record in records) == desk.executions.own.words[WRITTEN] > 0
    for record, row in zip(records, market.instruments, strict=True):
        assert (record.position, record.cash) == (record.venue_position, record.venue_cash)
        assert (record.run_ns, record.session, record.t_ns) == (7, 1, 123)
        # Cash and position at the mark are the session's P&L before fees.
        worth = (record.cash + record.position * record.mark_ticks) * row.tick_size_usd * row.lot_size
        assert record.realised_usd + record.unrealised_usd == pytest.approx(worth, abs=1e-6)
    assert any(record.position for record in records)
    assert settled_usd == pytest.approx(before["pnl_usd"])
    assert sum(record.fees_usd for record in records) == pytest.approx(before["fees_usd"])
    assert before["fees_usd"] > 0
    assert before["account_error_usd"] < 1e-6
    # Drop copy and account begin the next session with nothing.
    desk.start_session(ORIGIN_NS + 20 * SECOND, 0)
    assert not desk.executions.copy.totals().any()
    assert not desk._account.ledger.any()
    desk.executions.close()


def test_an_instrument_never_marked_settles_at_its_last_trade() -> None:
    account = Account.empty(np.ones(1))
    account.ledger[0, acc.HELD], account.rows[0, acc.POSITION], account.rows[0, acc.AVERAGE] = 2, 2.0, 90.0
    (record,) = settle(
        account, [Instrument("AAA", 1.0)], [False], [95], np.zeros((1, 4), dtype=np.int64),
        run_ns=1, session=1, t_ns=0, engine_ns=0,
    )  # fmt: skip
    assert (record.mark_from, record.mark_usd, record.unrealised_usd, record.pnl_usd) == (
        "last_trade",
        95.0,
        10.0,
        10.0,
    )
    assert account.rows[0, acc.POSITION] == 0.0


def test_settlements_are_read_from_where_one_left_off_and_half_a_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "settlements.jsonl"
    assert read_settlements(path, 5) == ([], [], 5)
    file = SettlementFile(path)
    assert file.write([RECORD, replace(RECORD, symbol="BBB")])
    records, malformed, offset = read_settlements(path)
    assert (records, malformed, offset) == ([RECORD, replace(RECORD, symbol="BBB")], [], path.stat().st_size)
    with path.open("ab") as raw:
        raw.write(b'{"run_ns": 7, "sess')  # a crash in the middle
    assert read_settlements(path, offset) == ([], [], offset)
    assert file.write([replace(RECORD, session=2)])
    assert read_settlements(path, offset) == ([replace(RECORD, session=2)], [offset], path.stat().st_size)
    path.unlink()
    file.write([RECORD])  # somebody cleared the folder: another file, read from its beginning
    assert read_settlements(path, offset)[0] == [RECORD]


@pytest.mark.parametrize("written", range(6))
@pytest.mark.parametrize("half_a_line", [False, True])
def test_only_what_a_kill_kept_from_the_file_is_written_again(tmp_path: Path, written: int, half_a_line: bool) -> None:
    """A recovery settles two sessions again, of which the file has some lines already."""
    path = tmp_path / "settlements.jsonl"
    earlier = replace(RECORD, run_ns=6, session=9)
    again = [replace(RECORD, session=session, instrument=i) for session in (1, 2) for i in range(3)]
    file = SettlementFile(path)
    file.write([earlier, *again[:written]])
    if half_a_line:
        with path.open("ab") as out:
            out.write(b'{"run_ns":7,"sess')
    assert file.write_missing(again)
    assert file.write_missing(again)
    records, malformed, _ = read_settlements(path)
    assert records == [earlier, *again]
    assert len(malformed) == half_a_line


def test_the_end_of_a_long_file_says_how_far_it_came(tmp_path: Path) -> None:
    path = tmp_path / "settlements.jsonl"
    sessions = [replace(RECORD, session=session) for session in range(1, 500)]
    file = SettlementFile(path)
    file.write(sessions)
    assert path.stat().st_size > 100_000
    file.write_missing([*sessions[-2:], replace(RECORD, session=500)])
    assert [record.session for record in read_settlements(path)[0]] == list(range(1, 501))
    with path.open("ab") as out:
        out.write(b"not a settlement\n" * 5_000)  # longer than what is looked at first
    file.write_missing([replace(RECORD, session=500), replace(RECORD, session=501)])
    assert [record.session for record in read_settlements(path)[0]] == list(range(1, 502))


def test_a_settlement_that_cannot_be_written_is_said_and_hurts_nothing(tmp_path: Path, caplog) -> None:
    assert not SettlementFile(tmp_path / "no folder" / "settlements.jsonl").write([RECORD])
    assert "the settlement of a session is not in" in caplog.text


def test_grouped_settlements_are_in_the_file_at_once_and_on_the_disk_with_the_next_sync(
    tmp_path: Path, monkeypatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    path = tmp_path / "settlements.jsonl"
    file = SettlementFile(path, grouped=True)
    file.sync()
    assert file.write([RECORD])
    assert file.write([replace(RECORD, session=2)])
    assert len(read_settlements(path)[0]) == 2
    assert synced == []
    file.sync()
    file.sync()
    assert synced == [path.stat().st_size]


def test_a_sync_that_the_disk_refuses_is_tried_again(tmp_path: Path, monkeypatch) -> None:
    file = SettlementFile(tmp_path / "settlements.jsonl", grouped=True)
    file.write([RECORD])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", _refuse)
        with pytest.raises(OSError, match="no disk"):
            file.sync()
    synced = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    file.sync()
    assert len(synced) == 1


def _refuse(descriptor: int) -> None:
    raise OSError(5, "no disk")
