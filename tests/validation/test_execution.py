"""The execution comparison: what it counts on a market whose every cost is known, and on a small synthetic one."""

from __future__ import annotations

import numpy as np
import pytest

from engine.algos.choice import Algo
from engine.algos.finished import FINISHED
from engine.events import LIMIT, Instrument, Tape, empty_events
from engine.figures import load_market
from engine.market import SyntheticFeed, TapeMarket
from engine.options import ParentOptions
from engine.synthetic import SyntheticMarket
from validation.execution import Case, measure, settle
from validation.executionfigures import MEASURES, Parents, common, compare

SECOND = 1_000_000_000
SHORT = ParentOptions(shortest_s=1.0, longest_s=3.0, period_s=4.0)


def still_tape(seconds: int) -> Tape:
    """Deep quotes at 9,990 and 10,010 that never move; an order far away every tenth of a second keeps the data fresh."""
    events = empty_events(2 + seconds * 10)
    events["t_ns"][2:] = np.arange(1, seconds * 10 + 1) * (SECOND // 10)
    events["order_id"] = np.arange(1, len(events) + 1)
    events["price"], events["qty"], events["kind"], events["side"] = 5_000, 1, LIMIT, 1
    events["price"][:2], events["qty"][:2], events["side"][:2] = (9_990, 10_010), 1_000_000, (1, -1)
    return Tape((Instrument("STILL", 0.01),), events, False, "still", 0, seconds * SECOND)


def test_a_market_order_on_a_still_market_costs_exactly_the_half_spread() -> None:
    tape = still_tape(60)
    case = Case(name="still", sample="out", open=lambda _: TapeMarket(tape, "still"), block_s=5)
    outcome = settle(case, SHORT)
    assert outcome.count >= 12
    assert outcome.half_spread_bps == pytest.approx(10.0)
    for algo in Algo:  # nobody trades with what rests, so every algorithm ends up crossing
        slippage = outcome.measures[algo]["slippage"].own
        assert (slippage.value, slippage.low, slippage.high) == pytest.approx((10.0, 10.0, 10.0))
        assert outcome.measures[algo]["fill"].own.value == 100.0
        assert outcome.measures[algo]["impact"].own.value == pytest.approx(0.0)
        assert outcome.parents[algo].rejected == {}
    assert outcome.measures[Algo.MARKET]["completion"].own.value == 0.0
    assert outcome.measures[Algo.PEG]["completion"].own.value == pytest.approx(2.0, abs=0.3)
    assert outcome.measures[Algo.PEG]["slippage"].against is not None
    assert outcome.measures[Algo.PEG]["slippage"].against.value == pytest.approx(0.0)


def test_the_same_parents_are_compared_on_a_synthetic_market() -> None:
    case = Case(
        name="small", sample="out", runs=2, seconds=30, block_s=10,
        open=lambda k: SyntheticFeed(SyntheticMarket(load_market(), seed=50 + k)),
    )  # fmt: skip
    outcome = settle(case, SHORT)
    assert outcome.count > 80
    base = outcome.parents[Algo.MARKET].rows
    for algo in Algo:
        rows = outcome.parents[algo].rows
        assert set(rows["algo"]) == {algo}
        for field in ("instrument", "number", "side"):
            np.testing.assert_array_equal(rows[field], base[field])
        assert (rows["filled"] <= rows["target"]).all()
        for name in MEASURES:
            own = outcome.measures[algo][name].own
            assert own.low <= own.value <= own.high
    text = outcome.table()
    assert all(algo.label in text for algo in Algo)
    assert "rejects" in text


def test_a_recording_that_is_not_there_is_left_out_and_a_missed_target_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DESKVIGIL_MARKETDATA", str(tmp_path))
    monkeypatch.setattr(
        "validation.execution.cases",
        lambda folder: iter(
            [Case(name="still", sample="in", open=lambda _: TapeMarket(still_tape(60), "still"), block_s=5)]
        ),
    )
    said: list[str] = []
    figures = measure(said.append)
    slippage = next(figure for figure in figures if figure.what.endswith("peg, slippage"))
    assert slippage.value == pytest.approx(10.0)
    assert "MISSED" in slippage.peer
    assert all(figure.kept for figure in figures)
    assert any("still (in of sample)" in line for line in said)


def _parents(target, filled, paid, arrival=1_000.0, end=1_000.0, side=1) -> Parents:
    rows = np.zeros(1, dtype=FINISHED)
    rows["target"], rows["filled"], rows["notional"] = target, filled, filled * paid
    rows["arrival"], rows["end_mid"], rows["side"], rows["fills"] = arrival, end, side, min(filled, 1)
    rows["first_fill_ns"] = 0 if filled else -1
    return Parents(rows, np.zeros(1, dtype=np.int64), np.ones(1), 1, {})


@pytest.mark.parametrize("side", [1, -1])
def test_shortfall_marks_what_did_not_fill_at_the_end(side) -> None:
    found = compare(*(_parents(10, 6, 1_000 + side, end=1_000.0 + 5 * side, side=side),) * 2)
    assert found["slippage"].own.value == pytest.approx(10.0)
    assert found["fill"].own.value == pytest.approx(60.0)
    assert found["impact"].own.value == pytest.approx(50.0)
    assert found["shortfall"].own.value == pytest.approx((6 * 1 + 4 * 5) / (10 * 1_000) * 1e4)
    assert found["unfinished"].own.value == 100.0


def test_nothing_filled_has_no_slippage_but_a_shortfall() -> None:
    found = compare(*(_parents(10, 0, 0, end=1_002.0),) * 2)
    assert np.isnan(found["slippage"].own.value)
    assert found["shortfall"].own.value == pytest.approx(20.0)


def test_only_parents_that_every_run_has_are_compared() -> None:
    one, two = _parents(10, 10, 1_001), _parents(20, 20, 1_001)
    two.rows["number"] = 1
    both = Parents(np.concatenate([two.rows, one.rows]), np.zeros(2, dtype=np.int64), np.ones(2), 2, {})
    first, second = common([both, one])
    assert first.rows["number"].tolist() == second.rows["number"].tolist() == [0]
