"""The trading desk on the synthetic market, with time handed in: deterministic, bounded, obedient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import account as acc
from engine import counters as at
from engine import deskarrays, ownfills
from engine.desk import TradingDesk
from engine.events import SELF_CANCEL, TAKER_CANCEL, FillArray, empty_fills
from engine.figures import load_market
from engine.gates import TradingState
from engine.jit import kernel
from engine.market import SyntheticFeed
from engine.options import EngineOptions, ParentOptions
from engine.publisher import Publisher
from engine.synthetic import SyntheticMarket
from metrics.frame import IntArray

# Monotonic time that the machine's clock never reaches: nothing is ever late, so nothing depends on the machine.
ORIGIN_NS = 1 << 60
SECOND = 1_000_000_000
OPTIONS = EngineOptions(parents=ParentOptions(shortest_s=1.0, longest_s=3.0, period_s=5.0))


@kernel
def book(table: IntArray, fills: FillArray, count: int, t_ns: int) -> int:
    """By the desk's table, as the engine calls it: what it has compiled is what is tested."""
    return ownfills.book_fills(deskarrays.desk_of(table), fills, count, t_ns)


def make_desk(folder: Path, options: EngineOptions = OPTIONS) -> TradingDesk:
    folder.mkdir(exist_ok=True)
    market = SyntheticFeed(SyntheticMarket(load_market(), seed=5))
    desk = TradingDesk(options, market, Publisher(folder / "engine.block", market.instruments, {}))
    desk.start_session(ORIGIN_NS, 0)
    return desk


def play(desk: TradingDesk, from_s: float, to_s: float, every_ns: int) -> None:
    for elapsed_ns in range(round(from_s * SECOND), round(to_s * SECOND) + 1, every_ns):
        desk.step(ORIGIN_NS + elapsed_ns)


def test_the_same_seed_trades_the_same_however_the_steps_are_spaced(tmp_path: Path) -> None:
    often, seldom = make_desk(tmp_path / "a"), make_desk(tmp_path / "b")
    play(often, 0, 20, SECOND // 100)
    play(seldom, 0, 20, SECOND // 5)
    assert often._desk.counts[at.FILLS_TAKER] > 0
    for name in ("own", "parents", "account", "maker_lots", "sums", "volumes"):
        np.testing.assert_array_equal(getattr(often._desk, name), getattr(seldom._desk, name), err_msg=name)


def test_fills_lie_in_the_account_and_positions_stay_small(tmp_path: Path) -> None:
    desk = make_desk(tmp_path / "a")
    play(desk, 0, 60, SECOND // 10)
    rows = desk._desk.account
    np.testing.assert_array_equal(rows[:, acc.POSITION], rows[:, acc.BOUGHT] - rows[:, acc.SOLD])
    np.testing.assert_array_equal(desk._desk.volumes[deskarrays.OWN_FILLED], rows[:, acc.BOUGHT] + rows[:, acc.SOLD])
    assert desk._desk.sums[at.TRADED_VALUE] == pytest.approx(rows[:, acc.VALUE].sum())
    value = np.abs(rows[:, acc.POSITION]) * rows[:, acc.MARK] * rows[:, acc.USD]
    maker, parents = OPTIONS.maker, OPTIONS.parents
    assert (value <= maker.max_inventory_usd + maker.order_usd + 2 * parents.order_usd).all()
    assert desk._desk.counts[at.FILLS_LOST] == 0


def test_own_orders_known_to_the_desk_are_those_in_the_books(tmp_path: Path) -> None:
    desk = make_desk(tmp_path / "a")
    for second in range(30):
        play(desk, second, second + 1, SECOND // 10)
        for i in range(len(desk._desk.own)):
            for place in range(deskarrays.PLACES):
                order_id, lots = desk._desk.own[i, place, [deskarrays.ID, deskarrays.LEFT]]
                if order_id:
                    assert desk.resting_lots(i, int(order_id)) == lots
    working = desk.working_orders()
    assert desk.cancel_all() == working > 0
    assert desk.working_orders() == 0


def test_reducing_never_adds_to_a_position(tmp_path: Path) -> None:
    desk = make_desk(tmp_path / "a")
    play(desk, 0, 30, SECOND // 10)
    desk.set_states([TradingState.REDUCING] * 10)
    held = desk._desk.account[:, acc.POSITION].copy()
    assert (held != 0).any()
    for second in range(30, 90):
        play(desk, second, second + 1, SECOND // 10)
        now = desk._desk.account[:, acc.POSITION]
        assert (np.abs(now) <= np.abs(held)).all()
        assert (now * held >= 0).all()
        held = now.copy()


def test_halted_sends_nothing(tmp_path: Path) -> None:
    desk = make_desk(tmp_path / "a")
    play(desk, 0, 5, SECOND // 10)
    working = desk.working_orders()
    assert desk.set_states([TradingState.HALTED] * 10) == working > 0
    sent = desk._desk.counts[[at.SUBMITTED_MAKER, at.SUBMITTED_PARENT]].tolist()
    play(desk, 5, 15, SECOND // 10)
    assert desk._desk.counts[[at.SUBMITTED_MAKER, at.SUBMITTED_PARENT]].tolist() == sent
    assert desk.working_orders() == 0


def test_ending_a_session_leaves_flat_books_and_its_result(tmp_path: Path) -> None:
    desk = make_desk(tmp_path / "a")
    play(desk, 0, 20, SECOND // 10)
    pnl = desk.gauges(ORIGIN_NS + 20 * SECOND)["pnl_usd"]
    assert desk.end_session() == pytest.approx(pnl)
    desk.start_session(ORIGIN_NS + 20 * SECOND, 0)
    gauges = desk.gauges(ORIGIN_NS + 20 * SECOND)
    assert gauges["exposure_gross_usd"] == gauges["pnl_usd"] == gauges["working_orders"] == 0.0
    assert gauges["settled_pnl_usd"] == pytest.approx(pnl)
    assert gauges["session_total"] == 2.0


def test_an_own_order_that_self_trade_prevention_cancelled_frees_its_place_and_is_no_fill(tmp_path: Path) -> None:
    whole = make_desk(tmp_path / "a")
    desk, table = whole._desk, whole._table
    maker, taker = -(4 + deskarrays.MAKER_ASK), -(8 + deskarrays.CHILD)
    for order_id in (maker, taker):
        desk.own[0, (-order_id) & 3, [deskarrays.ID, deskarrays.LEFT]] = order_id, 5
    fills = empty_fills(2)
    for fill, flags in zip(fills, (SELF_CANCEL, TAKER_CANCEL), strict=True):
        fill["maker_id"], fill["taker_id"], fill["qty"], fill["side"], fill["flags"] = maker, taker, 5, 1, flags
    before = desk.counts.copy()
    assert book(table, fills[1:], 1, 0) == 0  # the taker's rest alone: the maker stays
    assert desk.own[0, [deskarrays.MAKER_ASK, deskarrays.CHILD], deskarrays.ID].tolist() == [maker, 0]
    assert book(table, fills[:1], 1, 0) == 0
    assert not desk.own[0, :, deskarrays.ID].any()
    assert desk.counts[at.CANCELLED] - before[at.CANCELLED] == 2
    assert not desk.account[0, acc.POSITION]
