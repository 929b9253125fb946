"""The four breakers on a real desk: what opens each of them, what is then not done, and how it closes again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import counters as at
from engine import deskarrays
from engine import step as step_module
from engine.blotter import FAULTS
from engine.breaker import DECISIONS, MARKET_DATA, ORDERS, RISK, BreakerState, Transition
from engine.desk import TradingDesk
from engine.fusebox import FuseBox
from engine.gates import BLOCK, HOLD, HOLD_CONTROL, HOLD_PARENTS, HOLD_QUOTES, PROBES, Reason
from engine.options import BreakerOptions, BreakersOptions, EngineOptions, ParentOptions
from engine.strategy import IDLE, MAKER_USD, P_COUNT, P_NEXT_NS, P_STATE, PARENT_USD
from engine.telemetry import BlockSpec, BlockWriter
from metrics.catalogue import series
from tests.engine.test_desk import ORIGIN_NS, SECOND, make_desk

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
SHORT = BreakerOptions(failures=3, open_s=2.0)
OPTIONS = BreakersOptions(market_data=SHORT, decisions=SHORT, orders=replace(SHORT, failures=2), risk=SHORT)
QUOTES = slice(deskarrays.MAKER_BID, deskarrays.MAKER_ASK + 1)


class Rig:
    """A desk that trades and its fuse box; time goes on in steps of 20 ms, with a look after each."""

    def __init__(self, folder: Path) -> None:
        options = EngineOptions(parents=ParentOptions(shortest_s=1.0, longest_s=3.0, period_s=4.0))
        self.desk: TradingDesk = make_desk(folder / "desk", options)
        self.told: list[Transition] = []
        self.feed_faults = 0
        self.lost = 0
        self.hold = 0
        self.risk_block = folder / "risk.block"
        self.box = FuseBox(OPTIONS, self.desk, self.risk_block, lambda: self.feed_faults, self.tell)
        self.now_s = 0.0

    def tell(self, change: Transition) -> None:
        self.told.append(change)
        if change.after is OPEN and change.breaker in (MARKET_DATA, DECISIONS):
            self.desk.withdraw_quotes()

    def play(self, seconds: float) -> None:
        until = self.now_s + seconds
        while self.now_s < until:
            self.now_s += 0.02
            self.desk.step(self.now_ns)
            self.look()

    @property
    def now_ns(self) -> int:
        return ORIGIN_NS + round(self.now_s * SECOND)

    def look(self) -> None:
        self.box.look(self.now_ns, self.lost, self.hold)

    def state(self, name: str) -> BreakerState:
        return self.box.breakers[name].state

    def count(self, which: int) -> int:
        return int(self.desk.counts[which])

    @property
    def quotes(self) -> int:
        return int(np.count_nonzero(self.desk.arrays[0].own[:, QUOTES, deskarrays.ID]))

    @property
    def word(self) -> dict[str, int]:
        words = self.desk.arrays[0].gates.words
        return {name: int(words[at]) for name, at in (("block", BLOCK), ("probes", PROBES), ("hold", HOLD))}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.play(3.0)
    assert rig.quotes > 0
    assert all(rig.state(name) is CLOSED for name in OPTIONS.__dataclass_fields__)
    return rig


def test_a_sound_desk_trips_nothing_and_nothing_is_held(rig: Rig) -> None:
    rig.play(20.0)
    assert rig.told == []
    assert rig.word == {"block": 0, "probes": 0, "hold": 0}
    assert rig.count(at.DECISIONS) > 100
    for fault in (at.DECISION_FAULTS, at.VENUE_FAULTS, at.EVENTS_REFUSED, at.REJECTED_FOR + Reason.BREAKER):
        assert rig.count(fault) == 0
    assert rig.box.rows(rig.now_ns).tolist() == [[0.0] * 4] * 3


def test_prices_that_are_not_finite_are_never_sent_and_open_the_decisions_breaker(rig: Rig) -> None:
    desk, _ = rig.desk.arrays
    rig.play(1.0)
    usual = desk.settings[:, :].copy()
    sent = rig.count(at.MESSAGES_OF)

    desk.settings[:, MAKER_USD] = np.nan
    desk.status[:, deskarrays.STATE] = 0
    rig.play(1.0)
    assert rig.count(at.DECISION_FAULTS) >= 3
    assert rig.state(DECISIONS) is OPEN
    assert rig.quotes == 0, "quotes are withdrawn"
    assert rig.count(at.MESSAGES_OF) - sent < 3 * 20, "none of the broken ones reached the gates"
    desk.settings[:] = usual
    started = rig.count(at.PARENTS_STARTED)
    rig.play(0.9)
    assert rig.quotes == 0
    assert rig.count(at.PARENTS_STARTED) == started, "no new parents while it is open"
    rig.play(2.0)
    assert rig.state(DECISIONS) is CLOSED, "the probe went well"
    rig.play(3.0)
    assert rig.quotes > 0
    assert rig.count(at.PARENTS_STARTED) > started
    assert [change.after.name for change in rig.told] == ["OPEN", "HALF_OPEN", "CLOSED"]


def test_a_probe_of_the_decisions_is_one_and_what_is_still_broken_opens_it_again(rig: Rig) -> None:

    desk, _ = rig.desk.arrays
    desk.settings[:, [MAKER_USD, PARENT_USD]] = np.nan
    rig.play(1.0)
    assert rig.state(DECISIONS) is OPEN
    before = rig.count(at.DECISION_FAULTS) + rig.count(at.DECISIONS)
    rig.play(1.9)
    during = rig.count(at.DECISION_FAULTS) + rig.count(at.DECISIONS)
    assert rig.state(DECISIONS) is OPEN
    rig.play(0.6)
    assert rig.box.breakers[DECISIONS].trips == 2
    assert during - before < 200, "only children that were at work go on"
    assert [change.after.name for change in rig.told] == ["OPEN", "HALF_OPEN", "OPEN"]


def test_a_models_signal_out_of_its_range_opens_the_decisions_breaker_and_none_is_fine(rig: Rig) -> None:
    desk, _ = rig.desk.arrays
    desk.signal[:] = np.nan
    desk.signal[0] = 1.0
    rig.play(0.2)
    assert rig.state(DECISIONS) is CLOSED
    desk.signal[0] = np.inf
    rig.play(0.1)
    assert rig.state(DECISIONS) is OPEN


def test_market_data_that_are_damaged_block_every_order_and_cancel_the_quotes(rig: Rig) -> None:
    rig.feed_faults += 3
    rig.look()
    assert rig.state(MARKET_DATA) is OPEN
    assert rig.quotes == 0
    assert rig.word["block"] == int(Reason.STALE_DATA)
    marks = rig.desk.arrays[0].account.copy()
    acked, stale = rig.count(at.ACKED), rig.count(at.REJECTED_FOR + Reason.STALE_DATA)
    rejects = rig.count(at.REJECTED_OF + 1)
    rig.play(1.9)
    assert rig.count(at.ACKED) == acked
    assert rig.count(at.REJECTED_FOR + Reason.STALE_DATA) > stale, "children at work ask and are refused"
    assert rig.count(at.REJECTED_OF + 1) == rejects, "which is not their fault"
    assert np.isfinite(marks).any(), "what was known last is still shown"
    rig.play(1.0)
    assert rig.state(MARKET_DATA) is CLOSED
    rig.play(1.0)
    assert rig.quotes > 0


def test_a_book_that_stays_crossed_is_a_failure_and_one_that_crosses_for_a_moment_is_none(rig: Rig) -> None:
    desk, _ = rig.desk.arrays
    now = int(desk.clockwork[deskarrays.LATEST_NS])
    desk.status[0, deskarrays.CROSSED_NS] = now - SECOND // 2
    rig.look()
    rig.look()
    rig.look()
    assert rig.state(MARKET_DATA) is CLOSED
    for _ in range(3):
        desk.status[0, deskarrays.CROSSED_NS] = now - 2 * SECOND
        rig.look()
    assert rig.state(MARKET_DATA) is OPEN


def test_events_that_the_book_refuses_open_it_when_they_are_most_of_them(rig: Rig) -> None:
    for _ in range(3):
        rig.desk.counts[at.EVENTS_REFUSED] += 10
        rig.desk.counts[at.EVENT_OF_KIND + 1] += 40
        rig.look()
    assert rig.state(MARKET_DATA) is CLOSED
    for _ in range(3):
        rig.desk.counts[at.EVENTS_REFUSED] += 30
        rig.desk.counts[at.EVENT_OF_KIND + 1] += 40
        rig.look()
    assert rig.state(MARKET_DATA) is OPEN


@pytest.mark.parametrize("fault", ["venue", "entry", "journal"])
def test_two_faults_on_the_order_path_refuse_every_order_until_one_probe_comes_through(rig: Rig, fault: str) -> None:
    def happen(times: int) -> None:
        if fault == "venue":
            rig.desk.counts[at.VENUE_FAULTS] += times
        elif fault == "entry":
            rig.desk.arrays[0].blotter[FAULTS] += times
        else:
            for _ in range(times):
                rig.lost += 5
                rig.look()

    happen(1)
    rig.play(1.0)  # orders went well meanwhile
    happen(2)
    rig.look()
    assert rig.state(ORDERS) is OPEN
    acked, refused = rig.count(at.ACKED), rig.count(at.REJECTED_FOR + Reason.BREAKER)
    rig.play(1.5)
    assert rig.count(at.ACKED) == acked
    assert rig.count(at.REJECTED_FOR + Reason.BREAKER) > refused
    cancelled = rig.count(at.CANCELLED)
    rig.desk.withdraw_quotes()
    rig.play(0.1)
    assert rig.count(at.CANCELLED) >= cancelled, "cancels pass"
    while rig.state(ORDERS) is OPEN:
        rig.play(0.02)
    assert rig.word["probes"] == 1
    before = rig.count(at.ACKED)
    for _ in range(50):  # half a second of quotes that would all like to be sent, and no look that could close it
        rig.now_s += 0.02
        rig.desk.step(rig.now_ns)
    assert rig.count(at.ACKED) == before + 1, "one order was let through and no more"
    rig.look()
    assert rig.state(ORDERS) is CLOSED
    rig.play(1.0)
    assert rig.count(at.ACKED) > before + 1


def test_a_failing_probe_of_the_order_path_opens_it_again(rig: Rig) -> None:
    rig.desk.counts[at.VENUE_FAULTS] += 2
    rig.look()
    rig.now_s += 2.0
    rig.look()
    assert rig.state(ORDERS) is BreakerState.HALF_OPEN
    rig.desk.counts[at.VENUE_FAULTS] += 1
    rig.look()
    assert rig.state(ORDERS) is OPEN
    assert rig.word == {"block": int(Reason.BREAKER), "probes": 0, "hold": 0}


class Risk:
    """A risk process as its block shows it."""

    def __init__(self, path: Path) -> None:
        names = ("ok", "no_engine", "stale", "no_marks")
        self.spec = BlockSpec(
            "risk",
            (series("deskvigil_risk_var_usd", confidence="0.99"),
             *(series("deskvigil_risk_state", state=name) for name in names)),
        )  # fmt: skip
        self.block = BlockWriter(path, self.spec)
        self.beat = 0

    def run(self, state: str = "ok") -> None:
        self.beat += 1
        self.block.scalars[:] = [
            1000.0 if state == "ok" else np.nan,
            *(float(s.label("state") == state) for s in self.spec.scalars[1:]),
        ]
        self.block.publish(self.beat)


def test_risk_that_was_never_there_is_not_missed(rig: Rig) -> None:
    rig.play(10.0)
    assert rig.state(RISK) is CLOSED
    Risk(rig.risk_block).run()  # a block that a dead process left behind: its heartbeat never moves
    rig.play(10.0)
    assert rig.state(RISK) is CLOSED


@pytest.mark.parametrize("how", ["silent", "no_marks", "stale"])
def test_risk_that_is_silent_or_blind_opens_its_breaker_and_a_figure_closes_it(rig: Rig, how: str) -> None:
    risk = Risk(rig.risk_block)
    for _ in range(4):
        risk.run()
        rig.play(0.5)
    assert rig.state(RISK) is CLOSED
    for _ in range(10):
        if how != "silent":
            risk.run(how)
        rig.play(0.5)
        if rig.state(RISK) is OPEN:
            break
    assert rig.state(RISK) is OPEN
    assert ("no sign of life" if how == "silent" else how) in rig.box.breakers[RISK].reason
    for _ in range(8):
        risk.run()
        rig.play(0.5)
    assert rig.state(RISK) is CLOSED


def test_what_the_degraded_mode_holds_is_held_beside_the_breakers(rig: Rig) -> None:
    rig.hold = HOLD_CONTROL
    rig.play(0.1)
    assert rig.word["hold"] == HOLD_CONTROL
    rig.hold = HOLD_CONTROL | HOLD_QUOTES
    rig.play(1.0)
    assert rig.quotes == 0
    rig.desk.counts[at.DECISION_FAULTS] += 3
    rig.look()
    assert rig.word["hold"] == HOLD_CONTROL | HOLD_QUOTES | HOLD_PARENTS
    rig.hold = 0
    rig.play(5.0)
    assert rig.word["hold"] == 0
    assert rig.quotes > 0


def test_no_parent_of_the_control_group_begins_while_that_is_held(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.hold = HOLD_CONTROL
    rig.look()
    rig.play(40.0)
    assert rig.desk._desk.finished_written[0] > 20
    finished = rig.desk._desk.finished[: int(rig.desk._desk.finished_written[0])]
    assert not finished["control"].any()
    rig.hold = 0
    rig.play(60.0)
    assert rig.desk._desk.finished[: int(rig.desk._desk.finished_written[0])]["control"].any()


# What raises in Python or in a kernel.


def raising(monkeypatch: pytest.MonkeyPatch, rig: Rig, stage: int, is_event: bool) -> list[tuple[int, int]]:
    """Let the step kernel raise at a stage, at each event or timer of instrument 0 from now on; returns where it did."""
    real, raised = step_module.step, []

    def broken(table, events, cursor, timeline, speed, late_ns, until_ns):
        before, desk = cursor, rig.desk.arrays[0]
        cursor = real(table, events, cursor, timeline, speed, late_ns, until_ns)
        if (cursor > before) if is_event else True:
            desk.clockwork[deskarrays.STAGE] = stage
            desk.clockwork[deskarrays.AT_EVENT], desk.clockwork[deskarrays.AT_INSTRUMENT] = (
                cursor - 1 if is_event else -1,
                0,
            )
            raised.append((cursor, int(desk.parents[0, P_COUNT])))
            raise ZeroDivisionError("no such number")
        return cursor

    monkeypatch.setattr(step_module, "step", broken)
    return raised


def until_it_raises(rig: Rig) -> Exception:
    while True:
        rig.now_s += 0.02
        try:
            rig.desk.step(rig.now_ns)
        except ZeroDivisionError as error:
            return error


def test_a_decision_that_raises_is_left_out_and_the_next_event_is_the_next(rig: Rig, monkeypatch) -> None:
    raised = raising(monkeypatch, rig, deskarrays.DECIDING, is_event=True)
    words = rig.desk.stumbled(until_it_raises(rig))
    assert "decision on event" in words
    assert rig.desk._pace.cursor == raised[0][0]
    monkeypatch.undo()
    rig.play(2.0)
    assert rig.quotes > 0


def test_a_timer_that_raises_twice_ends_its_parent(rig: Rig, monkeypatch) -> None:
    desk, _ = rig.desk.arrays
    while desk.parents[0, P_STATE] == IDLE:
        rig.play(0.02)
    number, finished = int(desk.parents[0, P_COUNT]), rig.count(at.PARENTS_FINISHED)
    raising(monkeypatch, rig, deskarrays.DECIDING, is_event=False)
    for turn in range(2):
        rig.now_s += 0.001
        with pytest.raises(ZeroDivisionError) as found:
            rig.desk.step(rig.now_ns)
        words = rig.desk.stumbled(found.value)
        assert ("ended" in words) == (turn == 1)
    monkeypatch.undo()
    assert f"parent {number}" in words
    assert desk.parents[0, P_STATE] == IDLE
    assert desk.parents[0, P_NEXT_NS] > desk.clockwork[deskarrays.LATEST_NS]
    assert rig.count(at.PARENTS_FINISHED) >= finished + 1


@pytest.mark.parametrize("stage", [deskarrays.APPLYING, deskarrays.ACTING])
def test_books_that_were_being_changed_are_not_gone_on_with(rig: Rig, monkeypatch, stage: int) -> None:
    raising(monkeypatch, rig, stage, is_event=True)
    error = until_it_raises(rig)
    with pytest.raises(ZeroDivisionError):
        rig.desk.stumbled(error)


def test_three_decisions_that_raise_open_their_breaker(rig: Rig) -> None:
    for _ in range(3):
        assert rig.state(DECISIONS) is CLOSED
        rig.box.failed(DECISIONS, rig.now_ns, "the decision on event 7: no such number")
    assert rig.state(DECISIONS) is OPEN
    status = rig.box.status(rig.now_ns + SECOND)[DECISIONS]
    assert status == {
        "state": "OPEN",
        "trips": 1,
        "failures": 0,
        "since_s": 1.0,
        "reason": "the decision on event 7: no such number",
    }
