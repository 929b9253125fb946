"""Reconciliation over real files and a real database: each fault is found in time, kept once, and survives restarts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.options import DEFAULT_RULES
from alerts.rules import load_rules
from console.breakview import break_view
from console.comparison import COMPARED, COPY, OWN, Comparison, Execution
from console.reconciliation import Reconciliation
from console.views import Checks
from engine.account import Account, book_fill, fees_of
from engine.dropcopy import execution_id, send_drop_copy
from engine.events import Instrument, empty_fills
from engine.executions import Executions, record_execution
from engine.jit import kernel
from engine.recordfile import RECORD, RECORD_WORDS, RECORDS_AT, WRITTEN, RecordFile, checksums
from engine.settlement import SettlementFile, settle
from metrics.clock import ManualClock
from metrics.paths import RuntimePaths
from query.engine import QueryEngine
from query.options import QueryOptions
from storage.breaks import BreakError, FillBreak, insert_breaks
from storage.options import StorageOptions
from storage.store import Store

INSTRUMENTS = (Instrument("AAA", 0.01), Instrument("BBB", 0.25))
HALF_S = 0.5
FREE = fees_of(np.ones(2), 0.0, 0.0, 0.0, 0.0)


@kernel
def trade_both(own, copy, rows, ledger, fees, fills, wall_ns):
    """What the engine does with an own fill, in its order."""
    send_drop_copy(copy, fills, 1)
    fill = fills[0]
    i, side, order = int(fill.instrument), int(fill.side), fill.taker_id
    book_fill(rows, ledger, fees, i, side, fill.qty, fill.price, 1)
    record_execution(
        own, ledger, execution_id(fill.sequence, 0, 1), order, i, side, fill.price, fill.qty, 1, fill.t_ns, wall_ns
    )


class Rig:
    """An engine's files and a console that reconciles them; time is handed in."""

    def __init__(self, folder: Path) -> None:
        self.paths = RuntimePaths(folder)
        self.clock = ManualClock()
        self.account = Account.empty(np.ones(2))
        self.run_ns, self.session, self.sequence = 7, 1, 0
        self.executions = Executions(self.paths.executions_dir, INSTRUMENTS, self.run_ns)
        self.executions.begin_session(1)
        self.store = Store.open(StorageOptions(), self.paths, self.clock)
        self.console = Reconciliation(self.paths, self.store, self.clock)

    def close(self) -> None:
        self.console.close()
        self.store.close()
        self.executions.close()

    def restart_console(self, *, killed: bool = False) -> None:
        if not killed:
            self.console.close()
        self.console = Reconciliation(self.paths, self.store, self.clock)

    def restart_engine(self) -> None:
        self.executions.close()
        self.run_ns += 1
        self.session, self.sequence = 1, 0
        self.account = Account.empty(np.ones(2))
        self.executions = Executions(self.paths.executions_dir, INSTRUMENTS, self.run_ns)
        self.executions.begin_session(1)

    def trade(self, n: int = 1) -> None:
        for _ in range(n):
            self.sequence += 1
            k = self.sequence
            fills = empty_fills(1)
            fills[0] = (k * 1000, k, 3, -4 * k - 2, 100 + k % 7, 1 + k % 5, k % 2, 1 if k % 3 else -1, 0)
            own, copy = self.executions.own.words, self.executions.copy.words
            trade_both(own, copy, self.account.rows, self.account.ledger, FREE, fills, self.clock.now_ns())

    def settle(self) -> None:
        self.account.rows[:, 7] = 101.0  # MARK
        records = settle(
            self.account, INSTRUMENTS, [True, False], [0, 0], self.executions.copy.totals(),
            run_ns=self.run_ns, session=self.session, t_ns=self.clock.now_ns(), engine_ns=0,
        )  # fmt: skip
        SettlementFile(self.paths.settlements).write(records)
        self.session += 1
        self.executions.begin_session(self.session)

    def tick(self, seconds: float = HALF_S) -> dict[str, float]:
        for _ in range(round(seconds / HALF_S)):
            self.clock.advance(round(HALF_S * 1e9))
            frame = self.console.collect(self.clock.now_ns())
        names = [str(s).removeprefix("deskvigil_reconciliation_") for s in frame.schema.series]
        return dict(zip(names, frame.values.tolist(), strict=True))

    def breaks(self) -> list[FillBreak]:
        return self.store.breaks.list()[::-1]


@pytest.fixture
def rig(tmp_path: Path):
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def records_of(file: RecordFile) -> np.ndarray:
    words = file.words
    start = int(words[RECORDS_AT])
    return words[start : start + int(words[WRITTEN]) * RECORD_WORDS].view(RECORD)


def rewrite(file: RecordFile, records: np.ndarray) -> None:
    """Put other records into a live segment, numbered and sealed as if they had been written so."""
    records = records.copy()
    records["sequence"] = np.arange(1, len(records) + 1)
    records["checksum"] = checksums(records)
    start = int(file.words[RECORDS_AT])
    file.words[start : start + records.size * RECORD_WORDS] = records.view(np.int64)
    file.words[WRITTEN] = len(records)


def drop(file: RecordFile, k: int) -> None:
    rewrite(file, np.delete(records_of(file), k))


def double(file: RecordFile, k: int) -> None:
    rewrite(file, np.insert(records_of(file), k + 1, records_of(file)[k]))


def alter(file: RecordFile, k: int, name: str, by: int) -> None:
    records = records_of(file).copy()
    records[name][k] += by
    rewrite(file, records)


def test_equal_streams_are_equal_and_nothing_is_kept_but_how_far_it_came(rig: Rig) -> None:
    rig.trade(50)
    figures = rig.tick(3)
    assert figures["executions_equal_total"] == 50
    assert figures["accuracy_ratio"] == 1.0
    assert figures["lag_seconds"] == figures["open_breaks"] == figures["waiting_executions"] == 0
    assert rig.breaks() == []


@pytest.mark.parametrize(("stream", "kind"), [("own", "missing_own"), ("copy", "missing_copy")])
@pytest.mark.parametrize("at", [0, 17, 29])
def test_a_dropped_fill_is_found_within_two_seconds(rig: Rig, stream: str, kind: str, at: int) -> None:
    rig.trade(30)
    lost = records_of(rig.executions.copy)[at].copy()
    drop(getattr(rig.executions, stream), at)
    figures = rig.tick(2)
    assert figures[f'breaks_total{{kind="{kind}"}}'] == figures["open_breaks"] == 1
    (found,) = rig.breaks()
    assert (found.kind, found.state, found.symbol) == (kind, "open", INSTRUMENTS[lost["instrument"]].symbol)
    assert found.detail["order_id"] == lost["order_id"]
    assert found.detail["qty"] == lost["qty"]
    assert figures["accuracy_ratio"] == 29 / 30
    assert rig.tick(3)["open_breaks"] == 1  # and is found once


@pytest.mark.parametrize("stream", ["own", "copy"])
@pytest.mark.parametrize("at", [0, 17, 29])
def test_a_duplicated_fill_is_found_at_the_next_look(rig: Rig, stream: str, at: int) -> None:
    rig.trade(30)
    double(getattr(rig.executions, stream), at)
    figures = rig.tick()
    assert figures['breaks_total{kind="duplicated"}'] == figures["open_breaks"] == 1
    (found,) = rig.breaks()
    assert found.detail["stream"] == stream
    assert rig.tick(3)["open_breaks"] == 1


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("stream", ["own", "copy"])
def test_an_altered_fill_is_found_with_the_field_that_differs(rig: Rig, stream: str, name: str) -> None:
    rig.trade(9)
    alter(getattr(rig.executions, stream), 4, name, 1)
    figures = rig.tick()
    assert figures['breaks_total{kind="altered"}'] == figures["open_breaks"] == 1
    (found,) = rig.breaks()
    assert list(found.detail["fields"]) == [name]
    own, copy = found.detail["fields"][name]["own"], found.detail["fields"][name]["copy"]
    assert own - copy == (1 if stream == "own" else -1)


def test_a_flipped_bit_is_damage_and_its_execution_is_missing(rig: Rig) -> None:
    rig.trade(9)
    rig.executions.own.words[int(rig.executions.own.words[RECORDS_AT]) + 3 * RECORD_WORDS + 8] ^= 4
    rig.tick(2)
    assert sorted(found.kind for found in rig.breaks()) == ["damaged", "missing_own"]


def test_records_taken_out_of_a_stream_leave_a_gap(rig: Rig) -> None:
    rig.trade(9)
    records = np.delete(records_of(rig.executions.own), [3, 4])
    file = rig.executions.own
    start = int(file.words[RECORDS_AT])
    file.words[start : start + records.size * RECORD_WORDS] = np.ascontiguousarray(records).view(np.int64)
    file.words[WRITTEN] = len(records)
    figures = rig.tick(3)
    assert figures['breaks_total{kind="gap"}'] == 1
    assert figures['breaks_total{kind="missing_own"}'] == 2
    assert figures["open_breaks"] == 3


def test_a_position_that_differs_is_reported_once_until_it_agrees_again(rig: Rig) -> None:
    rig.trade(4)
    alter(rig.executions.own, 3, "position", 5)
    figures = rig.tick()
    assert (figures["positions_disagreeing"], figures['breaks_total{kind="position"}']) == (1, 1)
    rig.trade(2)
    assert rig.tick()["positions_disagreeing"] == 0


def test_a_fill_that_comes_late_explains_its_break(rig: Rig) -> None:
    rig.trade(5)
    whole = records_of(rig.executions.own).copy()
    rig.executions.own.words[WRITTEN] = 4
    assert rig.tick(2)["open_breaks"] == 1
    rig.restart_console(killed=True)
    assert rig.tick()["open_breaks"] == 1
    rewrite(rig.executions.own, whole)
    figures = rig.tick(2)
    kinds = {found.kind: found for found in rig.breaks()}
    assert kinds["missing_own"].state == "explained"
    assert kinds["missing_own"].who == "reconciliation"
    assert (kinds["late"].state, len(kinds)) == ("open", 2)
    assert figures['breaks_total{kind="late"}'] == 1


@pytest.mark.parametrize("killed", [False, True])
def test_restarts_of_console_and_engine_break_nothing_and_skip_nothing(rig: Rig, killed: bool) -> None:
    total = 0
    for _ in range(4):
        rig.trade(25)
        rig.tick(1)
        rig.trade(5)  # written while no console looks
        rig.restart_console(killed=killed)
        rig.tick(1)
        rig.settle()
        rig.restart_engine()
        rig.trade(10)
        total += 40
        rig.tick(11)
    assert rig.tick()["executions_equal_total"] == total
    assert rig.breaks() == []
    assert len(rig.store.settlements.list()) == 8


def test_a_break_is_kept_once_however_often_it_is_found_again(rig: Rig) -> None:
    rig.trade(10)
    rig.executions.copy.words[WRITTEN] = 9  # one is missing at the end, so the cursor may not pass it while it waits
    for _ in range(3):
        rig.tick(2)
        rig.restart_console(killed=True)
    assert [found.kind for found in rig.breaks()] == ["missing_copy"]


def test_settlements_are_taken_over_and_checked_against_the_drop_copy(rig: Rig) -> None:
    rig.trade(20)
    rig.settle()
    rig.trade(5)
    figures = rig.tick(1)
    assert figures["settlements_total"] == 2
    assert rig.breaks() == []
    row = rig.store.settlements.list()[0]
    assert (row.symbol, row.mark_from, row.detail["cash"]) == ("BBB", "last_mid", row.detail["venue_cash"])
    rig.account.ledger[1, 0] += 3  # HELD: the account lost its way
    rig.settle()
    rig.tick(1)
    (found,) = rig.breaks()
    assert (found.kind, found.symbol) == ("settlement", "BBB")
    assert found.detail["settled"]["position"] - found.detail["drop_copy"]["position"] == 3


def test_malformed_lines_of_the_settlement_file_are_counted_and_skipped(rig: Rig) -> None:
    rig.paths.settlements.write_bytes(b'{"half a li')
    rig.settle()
    figures = rig.tick(1)
    assert (figures["malformed_lines_total"], figures["settlements_total"]) == (1, 2)


def test_people_explain_and_close_breaks_and_that_is_audited(rig: Rig) -> None:
    rig.trade(3)
    drop(rig.executions.own, 1)
    rig.tick(2)
    (found,) = rig.breaks()
    with pytest.raises(BreakError, match="who says so"):
        rig.store.breaks.close(found.id, "anna", " ")
    assert rig.store.breaks.explain(found.id, "anna", "asked the venue").state == "explained"
    with pytest.raises(BreakError, match="is explained"):
        rig.store.breaks.explain(found.id, "anna", "again")
    assert rig.tick()["open_breaks"] == 0
    assert rig.store.breaks.close(found.id, "ben", "booked by hand").state == "closed"
    with pytest.raises(BreakError, match="there is no break 99"):
        rig.store.breaks.close(99, "ben", "?")
    entries = rig.store.audit.list(2)
    assert [(e.who, e.action, e.detail["comment"]) for e in entries] == [
        ("ben", "break_closed", "booked by hand"), ("anna", "break_explained", "asked the venue"),
    ]  # fmt: skip
    (kept,) = rig.breaks()
    assert (kept.explained_by, kept.explanation) == ("anna", "asked the venue")
    assert (kept.who, kept.comment) == ("ben", "booked by hand")


def test_a_closed_break_stays_closed_when_its_records_are_read_again(rig: Rig) -> None:
    rig.trade(10)
    double(rig.executions.own, 4)
    rig.executions.copy.words[WRITTEN] = 9  # the last one waits, so the cursor stays before the duplicate
    rig.tick()
    (found,) = rig.breaks()
    rig.store.breaks.close(found.id, "anna", "sent twice by the venue")
    rig.restart_console(killed=True)
    rig.tick()
    assert [(row.kind, row.state) for row in rig.breaks()] == [("duplicated", "closed")]


def test_the_same_duplicate_once_more_is_a_new_break(rig: Rig) -> None:
    rig.trade(10)
    double(rig.executions.own, 9)
    assert rig.tick()["open_breaks"] == 1
    rig.store.breaks.close(rig.breaks()[0].id, "anna", "sent twice by the venue")
    assert rig.tick()["open_breaks"] == 0
    rig.restart_console()
    double(rig.executions.own, 10)
    assert rig.tick()["open_breaks"] == 1
    assert {row.state for row in rig.breaks() if row.kind == "duplicated"} == {"closed", "open"}


def test_positions_that_differ_again_are_a_new_break(rig: Rig) -> None:
    def differ() -> float:
        rig.trade()
        alter(rig.executions.own, rig.sequence - 1, "position", 5)
        return rig.tick()["open_breaks"]

    rig.trade(3)
    assert differ() == 1
    rig.store.breaks.close(rig.breaks()[0].id, "anna", "booked by hand")
    instrument = rig.sequence % 2
    rig.trade(2)
    assert rig.tick()["open_breaks"] == 0
    if (rig.sequence + 1) % 2 != instrument:
        rig.trade()
    assert differ() == 1
    assert [row.kind for row in rig.breaks()] == ["position", "position"]


def test_what_comes_after_its_break_was_closed_is_late_and_not_a_second_one(rig: Rig) -> None:
    rig.trade(5)
    whole = records_of(rig.executions.own).copy()
    rig.executions.own.words[WRITTEN] = 4
    rig.tick(2)
    rig.store.breaks.close(rig.breaks()[0].id, "anna", "the line was down")
    rig.tick(11)
    rig.restart_console()
    rewrite(rig.executions.own, whole)
    rig.tick()
    assert {row.kind: row.state for row in rig.breaks()} == {"missing_own": "closed", "late": "open"}
    rig.restart_console()
    double(rig.executions.own, 4)
    rig.tick()
    assert sorted(row.kind for row in rig.breaks()) == ["duplicated", "late", "missing_own"]


def test_while_a_file_cannot_be_read_the_lag_grows_and_then_all_is_caught_up(rig: Rig) -> None:
    rig.trade(3)
    magic = int(rig.executions.own.words[0])
    rig.executions.own.words[0] = 0
    assert rig.tick(4)["lag_seconds"] >= 3.5
    rig.executions.own.words[0] = magic
    figures = rig.tick()
    assert (figures["lag_seconds"], figures["executions_equal_total"]) == (0, 3)


def test_the_shipped_rule_fires_on_a_break_and_rests_when_it_is_closed(rig: Rig) -> None:
    (rule,) = [r for group in load_rules(DEFAULT_RULES) for r in group.rules if r.name == "ReconciliationBreak"]
    query = QueryEngine(rig.store.reader, QueryOptions(), rig.clock)

    def fires() -> bool:
        rig.clock.advance(500_000_000)
        rig.store.live.append(rig.console.collect(rig.clock.now_ns()))
        return bool(query.instant(rule.expression.text, rig.clock.now_ns() // 1_000_000).present.any())

    rig.trade(5)
    assert not fires()
    rig.trade(5)
    drop(rig.executions.own, 7)
    seen = [fires() for _ in range(4)]
    assert seen[-1]  # two seconds after it happened at the latest
    rig.store.breaks.close(rig.breaks()[0].id, "anna", "booked by hand")
    assert not fires()


def test_a_break_that_is_not_whole_in_the_database_stops_nothing(rig: Rig) -> None:
    row = {"key": "missing_own/7/1/99", "kind": "missing_own", "t_ms": 0, "run_ns": 7, "session": 1, "execution": 99,
           "symbol": "AAA", "detail": {"qty": 5}}  # fmt: skip
    with rig.store.write() as connection:
        insert_breaks(connection, [row], 0)
    rig.trade(3)
    figures = rig.tick()
    assert (figures["executions_equal_total"], figures["lag_seconds"], figures["open_breaks"]) == (3, 0, 1)


def test_the_page_is_told_at_once_what_somebody_did_about_a_break(rig: Rig) -> None:
    checks = Checks(rig.store, rig.clock)
    rig.trade(9)
    alter(rig.executions.own, 4, "price", 3)
    rig.tick()
    (shown,) = checks()["breaks"]
    own, copy = (f"{price * 0.25:,.2f} USD" for price in (100 + 5 % 7 + 3, 100 + 5 % 7))
    assert (shown["state"], shown["symbol"], shown["differs"]) == ("open", "BBB", [("price", own, copy)])
    rig.store.breaks.explain(shown["id"], "anna", "asked the venue")
    rig.store.breaks.close(shown["id"], "ben", "busted")
    (shown,) = checks()["breaks"]
    words = [shown[name] for name in ("state", "explained_by", "explanation", "closed_by", "closing")]
    assert words == ["closed", "anna", "asked the venue", "ben", "busted"]


@pytest.mark.parametrize(
    ("kind", "detail", "differs"),
    [
        ("missing_own", {"side": 1, "qty": 3, "price": 401}, [("side", "–", "buy"), ("quantity", "–", "1.5"), ("price", "–", "100.25 USD")]),
        ("missing_copy", {"side": -1, "liquidity": 1}, [("side", "sell", "–"), ("liquidity", "taker", "–")]),
        ("duplicated", {"stream": "own", "order_id": -6}, [("order", "-6", "–")]),
        ("position", {"own": -4, "copy": 2}, [("position", "-2.0", "1.0")]),
        (
            "settlement",
            {"settled": {"cash": str(1 << 70), "executions": 3}, "drop_copy": {"cash": "8", "executions": 3}},
            [("cash", f"{(1 << 70) / 8:,.3f} USD", "1.000 USD")],
        ),
        ("damaged", {"stream": "own", "place": 4}, []),
        ("gap", {"stream": "copy", "first": 4, "records": 2}, []),
        ("late", {"stream": "own", "seconds": 2.5}, []),
    ],
)  # fmt: skip
def test_a_break_says_field_by_field_what_differs(kind: str, detail: dict, differs: list) -> None:
    units = {"tick_usd": 0.25, "lot": 0.5}
    row = FillBreak(1, "", kind, 0, 0, 0, 0, 0, "", detail | units, "open", "", "", 0, "", "")
    shown = break_view(row)
    assert shown["differs"] == differs
    assert shown["what"].endswith(".")


def test_without_its_units_a_break_is_told_in_ticks_and_lots() -> None:
    row = FillBreak(1, "", "missing_own", 0, 0, 0, 0, 0, "", {"price": 401, "qty": 3}, "open", "", "", 0, "", "")
    assert break_view(row)["differs"] == [("quantity", "–", "3 lots"), ("price", "–", "401 ticks")]


# The comparison alone, against the obvious: sets.

numbered = st.lists(st.integers(1, 60), unique=True, max_size=40)


def execution(k: int, qty: int = 1) -> Execution:
    return Execution(7, 1, k, -k, 0, 1, 100, qty, 0, k, k, 0)


@settings(max_examples=300, deadline=None)
@given(numbered, numbered, st.sets(st.integers(1, 60)), st.data())
def test_any_two_streams_break_where_their_sets_differ(own, copy, changed, data) -> None:
    streams = {
        OWN: [execution(k) for k in sorted(own)],
        COPY: [execution(k, 2 if k in changed else 1) for k in sorted(copy)],
    }
    doubled = {name: data.draw(st.sets(st.sampled_from(s)) if s else st.just(set())) for name, s in streams.items()}
    comparison = Comparison(grace_ns=100)
    queues = {name: [e for x in s for e in ([x, x] if x in doubled[name] else [x])] for name, s in streams.items()}
    while any(queues.values()):
        name = data.draw(st.sampled_from([n for n, q in queues.items() if q]))
        count = data.draw(st.integers(1, 10))
        comparison.take(name, queues[name][:count], 0)
        queues[name] = queues[name][count:]
    comparison.expire(101)
    found = {(b.kind, b.execution, b.detail.get("stream")) for b in comparison.found()}
    both = set(own) & set(copy)
    assert found == (
        {("missing_copy", k, None) for k in set(own) - both}
        | {("missing_own", k, None) for k in set(copy) - both}
        | {("altered", k, None) for k in both & changed}
        | {("duplicated", e.execution, name) for name, s in doubled.items() for e in s}
    )
    assert comparison.waiting == 0
    assert comparison.equal == len(both - changed)
    again = Comparison(100)
    again.resume(comparison.state())
    assert again.state() == comparison.state()


def test_a_duplicate_of_something_long_forgotten_is_still_one() -> None:
    comparison = Comparison(100)
    comparison.take(OWN, [execution(k) for k in range(1, 5)], 0)
    comparison.take(COPY, [execution(k) for k in range(1, 5)], 0)
    later = Comparison(100)
    later.resume(comparison.state())
    later.take(OWN, [replace_execution(execution(2))], 0)
    assert [b.kind for b in later.found()] == ["duplicated"]


def replace_execution(before: Execution) -> Execution:
    return before._replace(wall_ns=before.wall_ns + 1)
