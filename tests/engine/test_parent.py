"""A parent's life, driven step by step by a venue that fills what it likes: nothing is overfilled, no limit is passed, time goes on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import account as acc
from engine import counters as at
from engine import deskarrays
from engine import strategy as plan
from engine.algos.choice import ALGOS, MARKET, Algo
from engine.algos.parent import decide_parent
from engine.decide import decide_quotes
from engine.desk import TradingDesk
from engine.deskarrays import desk_of
from engine.figures import load_market
from engine.gates import TradingState
from engine.jit import kernel
from engine.market import SyntheticFeed
from engine.options import EngineOptions, GateOptions, MakerOptions, ParentOptions
from engine.publisher import Publisher
from engine.synthetic import SyntheticMarket
from metrics.frame import IntArray

ORIGIN_NS = 1 << 60
SECOND = 1_000_000_000
NO_MAKER = MakerOptions(enabled=False)
LABELS = [algo.label for algo in Algo]
# One look: how the mid moves (ticks), spread, lots shown on both sides, share of the child that the market fills,
# share of what crosses that fills.
looks = st.tuples(
    st.integers(-150, 150), st.integers(1, 40), st.integers(0, 500), st.integers(0, 500), st.floats(0, 1), st.floats(0, 1)
)  # fmt: skip


def make_desk(folder: Path, options: EngineOptions) -> tuple[TradingDesk, Publisher]:
    folder.mkdir(exist_ok=True)
    market = SyntheticFeed(SyntheticMarket(load_market(), seed=5))
    publisher = Publisher(folder / "engine.block", market.instruments, {})
    desk = TradingDesk(options, market, publisher)
    desk.start_session(ORIGIN_NS, 0)
    return desk, publisher


# By the desk's table, as the engine calls them: what it has compiled is what is tested.
@kernel
def quote(table: IntArray, i: int, bid: int, ask: int, t_ns: int) -> int:
    return decide_quotes(desk_of(table), i, bid, ask, t_ns)


@kernel
def work(table: IntArray, i: int, touch: int, opposite: int, bid_lots: int, ask_lots: int, t_ns: int) -> int:
    return decide_parent(desk_of(table), i, touch, opposite, bid_lots, ask_lots, t_ns)


class Venue:
    """Carries out one instrument's requests and fills what it is told to; checks each request as it comes."""

    def __init__(self, desk: deskarrays.Desk) -> None:
        self.desk, self.parent, self.child = desk, desk.parents[0], desk.own[0, deskarrays.CHILD]
        self.prices: list[tuple[int, int]] = []  # price and limit of every child
        self.filled = 0

    def carry_out(self, requests: int, t_ns: int, crossed_share: float) -> None:
        for row in self.desk.requests[:requests].tolist():
            _, place, action, side, ticks, lots = row
            assert place == deskarrays.CHILD
            if action == deskarrays.WITHDRAW:
                self.child[deskarrays.ID] = 0
                continue
            assert self.child[deskarrays.ID] == 0, "one child at a time"
            missing = int(self.parent[plan.P_TARGET] - self.parent[plan.P_FILLED])
            assert side == self.parent[plan.P_SIDE]
            assert 0 < lots <= missing
            self.prices.append((side * ticks, side * int(self.parent[plan.P_LIMIT])))
            self.child[:] = -4, side, ticks, lots, t_ns
            if action == deskarrays.CROSS:
                self.fill(crossed_share, t_ns)
                self.child[deskarrays.ID] = 0

    def fill(self, share: float, t_ns: int) -> None:
        lots = int(self.child[deskarrays.LEFT] * share) if self.child[deskarrays.ID] else 0
        if lots:
            self.filled += lots
            plan.note_fill.py_func(self.parent, lots, int(self.child[deskarrays.PRICE]), t_ns)
            self.child[deskarrays.LEFT] -= lots
            if self.child[deskarrays.LEFT] == 0:
                self.child[deskarrays.ID] = 0


@settings(max_examples=60)
@given(
    st.sampled_from([*LABELS, "mix"]), st.integers(0, 40), st.sampled_from([1, -1]), st.lists(looks, min_size=5, max_size=120),
    st.floats(0.0002, 0.02), st.floats(0, 2),
)  # fmt: skip
def test_a_parent_is_never_overfilled_keeps_its_limit_and_ends_in_time(algo, number, side, seen, limit, grace) -> None:
    parents = ParentOptions(
        algo=algo, limit_ratio=limit, grace_s=grace, shortest_s=2.0, longest_s=6.0, period_s=8.0, slices=3
    )
    with tempfile.TemporaryDirectory() as folder:
        whole, publisher = make_desk(Path(folder), EngineOptions(maker=NO_MAKER, parents=parents))
        desk, table = whole._desk, whole._table
        desk.status[0, deskarrays.STATE] = TradingState.ACTIVE
        venue = Venue(desk)
        desk.parents[0, plan.P_COUNT], desk.parents[0, plan.P_SIDE] = number, side
        mid, t_ns, looked = 20_000, 0, 0
        for move, spread, bid_lots, ask_lots, rested_share, crossed_share in seen:
            mid = max(mid + move, 1000)
            bid, offered = mid - spread, mid + spread
            desk.account[0, acc.MARK], desk.spread[0] = mid, 2.0 * spread
            desk.volumes[deskarrays.TRADED_BY_OTHERS, 0] += bid_lots
            venue.carry_out(quote(table, 0, bid, offered, t_ns), t_ns, crossed_share)
            venue.fill(rested_share, t_ns)
            t_ns, same = max(t_ns, int(desk.parents[0, plan.P_NEXT_NS])), 0
            while int(desk.parents[0, plan.P_NEXT_NS]) <= t_ns:
                state, before = desk.parents[0, plan.P_STATE], int(desk.finished_written[0])
                touch, opposite = (bid, offered) if desk.parents[0, plan.P_SIDE] > 0 else (offered, bid)
                requests = work(table, 0, touch, opposite, bid_lots, ask_lots, t_ns)
                venue.carry_out(requests, t_ns, crossed_share)
                if int(desk.finished_written[0]) > before:
                    row = publisher.parents[before]
                    assert row["filled"] == venue.filled <= row["target"]
                    assert row["end_ns"] <= row["start_ns"] + (6.0 + grace) * SECOND + SECOND
                    venue.filled, looked = 0, looked + 1
                    assert desk.own[0, deskarrays.CHILD, deskarrays.ID] == 0
                same += 1
                assert same < 6, f"stands still in state {state}"
        assert all(price <= worst for price, worst in venue.prices)


@pytest.mark.parametrize("algo", [*LABELS, "mix"])
def test_the_same_seed_works_parents_the_same_however_the_steps_are_spaced(algo, tmp_path: Path) -> None:
    parents = ParentOptions(algo=algo, control_share=0.3, shortest_s=1.0, longest_s=3.0, period_s=4.0)
    found = []
    for name, every_ns in (("a", SECOND // 100), ("b", SECOND // 3)):
        desk, publisher = make_desk(tmp_path / name, EngineOptions(parents=parents))
        for elapsed_ns in range(0, 15 * SECOND, every_ns):
            desk.step(ORIGIN_NS + elapsed_ns)
        desk.step(ORIGIN_NS + 15 * SECOND)
        found.append((int(publisher.parents_written[0]), publisher.parents.copy(), desk._desk.sums.copy()))
    (count, rows, sums), (other_count, other_rows, other_sums) = found
    assert count == other_count > 10
    np.testing.assert_array_equal(rows, other_rows)
    np.testing.assert_array_equal(sums, other_sums)


def test_the_headline_leaves_the_control_group_out_and_the_algorithms_have_it(tmp_path: Path) -> None:
    parents = ParentOptions(algo="twap", control_share=0.5, shortest_s=1.0, longest_s=3.0, period_s=4.0)
    desk, publisher = make_desk(tmp_path / "a", EngineOptions(maker=NO_MAKER, parents=parents))
    for tenth in range(401):
        desk.step(ORIGIN_NS + tenth * SECOND // 10)
    counts, sums = desk._desk.counts, desk._desk.sums
    rows = publisher.parents[: int(publisher.parents_written[0])]
    control, own = rows[rows["control"] == 1], rows[rows["control"] == 0]
    assert len(control) > 20 < len(own)
    assert set(control["algo"]) == {MARKET}
    assert set(own["algo"]) == {Algo.TWAP}
    assert counts[at.PARENTS_FINISHED] == len(rows) == counts[at.ALGO_FINISHED : at.ALGO_FINISHED + ALGOS].sum()
    assert counts[at.IMPACT_PARENTS] == len(own)
    for group, algo in ((control, Algo.MARKET), (own, Algo.TWAP)):
        usd = 0.01
        assert sums[at.ALGO_ORDERED + algo] == pytest.approx((group["target"] * group["arrival"]).sum() * usd)
        cost = (group["side"] * (group["notional"] - group["arrival"] * group["filled"])).sum() * usd
        assert sums[at.ALGO_COST + algo] == pytest.approx(cost)
    assert sums[at.PARENT_ORDERED] == pytest.approx(sums[at.ALGO_ORDERED + Algo.TWAP])
    assert sums[at.PARENT_FILLED] == pytest.approx(sums[at.ALGO_FILLED + Algo.TWAP])
    working = desk._desk.parents[:, [plan.P_STATE, plan.P_FILLED]]
    if not (working[working[:, 0] != plan.IDLE, 1] > 0).any():
        assert sums[at.SLIPPAGE_COST] == pytest.approx(sums[at.ALGO_COST + Algo.TWAP])


def test_a_parent_beyond_its_limit_waits_and_is_reported_unfilled(tmp_path: Path) -> None:
    parents = ParentOptions(
        algo="peg", control_share=0.0, limit_ratio=0.001, shortest_s=2.0, longest_s=2.0, grace_s=0.5
    )
    whole, publisher = make_desk(tmp_path / "a", EngineOptions(maker=NO_MAKER, parents=parents))
    desk = whole._desk
    desk.parents[0, plan.P_SIDE] = 1
    desk.account[0, acc.MARK], desk.spread[0] = 10_000.0, 10.0
    t_ns = int(desk.parents[0, plan.P_NEXT_NS])
    assert work(whole._table, 0, 9_995, 10_005, 10, 10, t_ns) == 1  # rests; the venue of this test never accepts it
    assert desk.requests[0, deskarrays.R_ACTION] == deskarrays.REST
    while not publisher.parents_written[0]:
        t_ns = int(desk.parents[0, plan.P_NEXT_NS])
        requests = work(whole._table, 0, 10_095, 10_105, 10, 10, t_ns)
        assert all(
            row[deskarrays.R_ACTION] != deskarrays.CROSS and row[deskarrays.R_TICKS] <= 10_010
            for row in desk.requests[:requests]
        )
    row = publisher.parents[0]
    assert (row["filled"], row["fills"], row["first_fill_ns"]) == (0, 0, -1)
    assert 2 * SECOND < row["end_ns"] - row["start_ns"] <= 3 * SECOND


def test_a_signal_makes_the_peg_cross_or_wait(tmp_path: Path) -> None:
    parents = ParentOptions(algo="peg", control_share=0.0, peg_patience=0.1, peg_urgency=0.0, peg_hold=0.5)
    whole, _ = make_desk(tmp_path / "a", EngineOptions(maker=NO_MAKER, parents=parents))
    desk = whole._desk
    desk.usual_spread[0], desk.parents[0, plan.P_SIDE] = 10.0, 1
    desk.account[0, acc.MARK], desk.spread[0] = 10_000.0, 10.0
    actions = {}
    for signal in (0.0, 0.95, -0.95):
        desk.signal[0], desk.parents[0, plan.P_STATE] = signal, plan.IDLE
        t_ns = int(desk.parents[0, plan.P_NEXT_NS])
        requests = work(whole._table, 0, 9_995, 10_005, 10, 10, t_ns)
        actions[signal] = desk.requests[:requests, deskarrays.R_ACTION].tolist()
    assert actions == {0.0: [deskarrays.REST], 0.95: [deskarrays.WITHDRAW, deskarrays.CROSS], -0.95: []}


def test_a_child_is_no_larger_than_the_gates_take_and_a_negligible_spread_is_paid_at_once(tmp_path: Path) -> None:
    parents = ParentOptions(algo="peg", control_share=0.0, peg_negligible_bps=1.0)
    gates = GateOptions(max_order_qty=30)
    whole, _ = make_desk(tmp_path / "a", EngineOptions(maker=NO_MAKER, parents=parents, gates=gates))
    desk = whole._desk
    desk.account[0, acc.MARK], desk.spread[0], desk.parents[0, plan.P_SIDE] = 10_000.0, 10.0, 1
    found = []
    for touch, opposite in ((9_995, 10_005), (9_999, 10_001)):  # half-spreads of 5 and of 1 bp
        desk.parents[0, plan.P_STATE] = plan.IDLE
        t_ns = int(desk.parents[0, plan.P_NEXT_NS])
        requests = work(whole._table, 0, touch, opposite, 500, 500, t_ns)
        found.append(desk.requests[:requests, [deskarrays.R_ACTION, deskarrays.R_LOTS]].tolist())
        assert desk.parents[0, plan.P_TARGET] == 100
    assert found == [[[deskarrays.REST, 30]], [[deskarrays.WITHDRAW, 0], [deskarrays.CROSS, 30]]]
