"""Latencies: from the intended time, without coordinated omission; the slowest orders; what recording costs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import counters as at
from engine.desk import TradingDesk
from engine.events import IOC, LIMIT, Instrument, Tape, empty_events
from engine.histogram import EDGES_NS
from engine.market import TapeMarket
from engine.options import EngineOptions
from engine.publisher import Publisher
from engine.recorder import (
    LAST,
    LONGEST,
    SLOWEST,
    SLOWEST_KEPT,
    STAGE_ROWS,
    begin_window,
    cost_s,
    note_order,
)
from engine.telemetry import BlockReader

MS = 1_000_000


def tape(every_ms: int, n: int) -> TapeMarket:
    """An order every so often; two instruments in turn."""
    events = empty_events(n)
    for k in range(n):
        side = 1 if k % 4 < 2 else -1
        events[k] = (k * every_ms * MS, k + 1, 10_000 - 5 * side, 10, k % 2, LIMIT if k % 8 else IOC, side, 0)
    instruments = Instrument("AAA", 0.01), Instrument("BBB", 0.01)
    return TapeMarket(Tape(instruments, events, True, "test", 0, n * every_ms * MS), "test")


def make_desk(folder: Path, market: TapeMarket, **options: float) -> tuple[TradingDesk, Publisher]:
    publisher = Publisher(folder / "engine.block", market.instruments, {})
    return TradingDesk(EngineOptions(**options), market, publisher), publisher  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Latencies are real time: compiling must not be part of them."""
    desk, _ = make_desk(tmp_path_factory.mktemp("warm"), tape(10, 10))
    desk.start_session(time.monotonic_ns(), 0)
    desk.step(time.monotonic_ns() + 50 * MS)


def recorded_at_least(desk: TradingDesk, stage: int, ns: int) -> int:
    """How many durations were recorded in buckets that reach beyond `ns`."""
    return int(desk._desk.latencies[stage][EDGES_NS[1:] > ns].sum())


def test_a_stall_shows_in_every_event_that_was_due_in_it(tmp_path: Path) -> None:
    """The loop stood still for 400 ms: each event due in them shows the wait it had, not only the first."""
    desk, _ = make_desk(tmp_path, tape(2, 300))
    now_ns = time.monotonic_ns()
    desk.start_session(now_ns - 400 * MS, 0)
    desk.step(now_ns)
    waits_ms = [400 - 2 * k for k in range(200)]
    for least_ms in range(0, 400, 20):
        expected = sum(wait >= least_ms for wait in waits_ms)
        assert recorded_at_least(desk, at.LATENCY_MARKET_DATA, least_ms * MS) >= expected
    assert desk._desk.stages[LONGEST, at.LATENCY_MARKET_DATA] >= 400 * MS
    acked = int(desk._desk.counts[at.ACKED])
    assert acked > 0  # and what was sent because of them is measured from then on too
    assert recorded_at_least(desk, at.LATENCY_ACK, 0) == acked
    assert desk._desk.latency_sums[at.LATENCY_ACK] >= acked * MS


def test_a_standstill_that_moves_the_timeline_is_recorded_all_the_same(tmp_path: Path) -> None:
    desk, _ = make_desk(tmp_path, tape(10, 600), rebase_after_s=1.0)
    now_ns = time.monotonic_ns()
    desk.start_session(now_ns - 3_000 * MS, 0)
    desk.step(now_ns - 3_000 * MS)
    desk._desk.latencies[:] = 0
    desk.step(now_ns)
    assert desk._desk.counts[at.REBASES] == 1
    for least_ms in (0, 500, 1_000, 2_000, 2_900):
        expected = len([k for k in range(1, 301) if 3_000 - 10 * k >= least_ms])
        assert recorded_at_least(desk, at.LATENCY_MARKET_DATA, least_ms * MS) >= expected
    assert desk._desk.stages[LONGEST, at.LATENCY_MARKET_DATA] >= 2_990 * MS


def test_the_longest_time_is_exact_and_stays_for_a_whole_second(tmp_path: Path) -> None:
    market = tape(10, 10)
    _, publisher = make_desk(tmp_path, market)
    at_stage = publisher._block.spec.scalars.index(
        next(
            s
            for s in publisher._block.spec.scalars
            if s.name.endswith("latency_max_seconds") and ("stage", "gate") in s.labels
        )
    )
    seen = []
    for tenth in range(30):
        if tenth == 7:
            publisher.stages[LONGEST, at.LATENCY_GATE] = 123_456_789
        publisher._publish_stages(1_000 * 1_000_000_000 + tenth * 100 * MS)
        seen.append(publisher._block.scalars[at_stage])
    assert seen[7:20] == [0.123456789] * 13  # its own second and the one after
    assert seen[:7] == [0.0] * 7
    assert seen[20:] == [0.0] * 10


times = st.lists(st.integers(1, 10_000), max_size=120)


@settings(deadline=None)
@given(times, times)
def test_the_slowest_orders_of_a_window_are_kept_and_those_of_the_window_before(first, second) -> None:
    stages = np.zeros((STAGE_ROWS, 6), dtype=np.int64)
    words = np.zeros((2 * SLOWEST_KEPT, len(SLOWEST.names or ())), dtype=np.int64)
    begin_window(words, stages)
    for k, window in enumerate((first, second)):
        if k:
            begin_window(words, stages)
        for order, total_ns in enumerate(window):
            note_order(words, stages, total_ns, total_ns // 8, total_ns // 4, total_ns // 2, order, -order - 1, k, 0)
    rows = words.view(SLOWEST).reshape(-1)
    for k, window in enumerate((first, second)):
        kept = rows[(rows["total_ns"] > 0) & (rows["instrument"] == k)]
        assert sorted(kept["total_ns"], reverse=True) == sorted(window, reverse=True)[:SLOWEST_KEPT]
        parts = sum(kept[name] for name in ("market_data_ns", "decision_ns", "gate_ns", "book_ns"))
        np.testing.assert_array_equal(parts, kept["total_ns"])
        assert all(window[row["engine_ns"]] == row["total_ns"] for row in kept)


def test_a_trading_desk_fills_the_table_of_its_slowest_orders(tmp_path: Path) -> None:
    desk, publisher = make_desk(tmp_path, tape(2, 300))
    now_ns = time.monotonic_ns()
    desk.start_session(now_ns - 400 * MS, 0)
    desk.step(now_ns)
    publisher._block.publish(1)
    rows = BlockReader(tmp_path / "engine.block").read().tables["slowest"]
    rows = rows[rows["total_ns"] > 0]
    assert 0 < len(rows) <= SLOWEST_KEPT
    assert (rows["order_id"] < 0).all()
    assert rows["total_ns"].max() == desk._desk.stages[LONGEST, at.LATENCY_ACK]
    assert (rows["market_data_ns"] + rows["decision_ns"] + rows["gate_ns"] <= rows["total_ns"]).all()
    assert desk._desk.stages[LAST, at.LATENCY_STEP] > 0


def test_the_recorders_cost_is_measured_and_published(tmp_path: Path) -> None:
    assert all(0.0 < cost < 1e-3 for cost in cost_s())
    _, publisher = make_desk(tmp_path, tape(10, 10))
    publisher._block.publish(1)
    snapshot = BlockReader(tmp_path / "engine.block").read()
    costs = [
        value
        for series, value in zip(snapshot.spec.scalars, snapshot.scalars.tolist(), strict=True)
        if series.name == "deskvigil_engine_recorder_cost_seconds"
    ]
    assert len(costs) == 2
    assert all(cost == pytest.approx(cost) and cost > 0 for cost in costs)
