from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from console.blotter import CANCELLED, FILLED, LIVE, REJECTED, UNSEEN
from console.orderboard import OrderBoardCollector
from engine import deskarrays
from engine.book import best_price, level_qty
from engine.gates import TradingState
from engine.orderlog import Happened
from metrics.clock import SystemClock
from tests.dashboard.traded import SECOND, Board, Traded


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Traded:
    return Traded(tmp_path_factory.mktemp("traded"))


def test_what_the_events_say_works_is_what_the_desk_has_working(traded: Traded) -> None:
    desk, _ = traded.desk.arrays
    own = desk.own[desk.own[:, :, deskarrays.ID] != 0]
    ours = {order.order_id: (order.side, order.price, order.left) for order in traded.newest() if order.state in LIVE}
    assert ours == {
        int(row[deskarrays.ID]): (row[deskarrays.SIDE], row[deskarrays.PRICE], row[deskarrays.LEFT]) for row in own
    }
    shown = traded.take().tables["working"]
    assert set(shown["order_id"].tolist()) == set(ours)


def test_fills_of_the_blotter_add_up_to_the_account(traded: Traded) -> None:
    desk, _ = traded.desk.arrays
    lots = np.zeros(len(desk.account))
    for order in traded.newest():
        lots[order.instrument] += order.side * order.filled
        assert order.filled + order.left <= order.qty
        assert order.state != FILLED or order.filled == order.qty
    assert np.abs(lots).sum() > 0
    assert lots.tolist() == desk.account[:, 0].tolist()


def test_an_accepted_order_carries_its_stages(traded: Traded) -> None:
    accepted = [event for order in traded.newest() for event in order.events if event["what"] == Happened.ACCEPTED]
    assert accepted
    assert all(event["gate_ns"] > 0 and event["decision_ns"] > 0 for event in accepted)


def test_the_depth_is_that_of_the_books(traded: Traded) -> None:
    depth = traded.take().tables["depth"].reshape(-1, 2, 10)
    _, books = traded.desk.arrays
    for i in range(len(depth)):
        for column, side in ((0, 1), (1, -1)):
            price = best_price(books, i, side)
            assert depth[i, column, 0]["price"] == price
            assert depth[i, column, 0]["lots"] == level_qty(books, i, side, price)
    own = traded.desk.arrays[0].own
    assert depth["own"].sum() <= own[own[:, :, deskarrays.ID] != 0][:, deskarrays.LEFT].sum()
    assert depth["own"].sum() > 0


def test_what_was_overwritten_is_counted_and_an_order_whose_end_was_missed_is_unseen(tmp_path: Path) -> None:
    board = OrderBoardCollector(tmp_path / "engine.orders", tmp_path / "engine.orderlog", SystemClock(), dict)
    assert board.collect(1).values[0] == 0.0
    traded = Traded(tmp_path)
    board.collect(traded.wall_ns)
    working = board.view({"count": 100, "state": "working"})["blotter"]
    traded.desk.cancel_all()
    events = traded.publisher.orders
    events.events_written[0] += len(events.events)  # so much happens that what was cancelled is overwritten
    events.events[:, 2] = -(1 << 40)  # all of one order that has ended, so that the blotter still keeps the others
    events.events[:, 3] = int(Happened.CANCELLED)
    events.events[:, 8] = 0
    traded.wall_ns += SECOND
    traded.publish(traded.wall_ns)
    frame = board.collect(traded.wall_ns)
    assert frame.values[5] > 0
    assert working["matching"] > 0
    assert board.view({"count": 100, "state": UNSEEN})["blotter"]["matching"] == working["matching"]


def test_a_console_that_starts_shows_the_blotter_of_the_one_before(tmp_path: Path) -> None:
    board = Board(tmp_path)
    question = {"count": 100}
    for _ in range(20):  # one console that looks all the time, and one that starts at the end
        board.traded.trade()
        board.collector.collect(board.traded.wall_ns)
    before, after = board.collector, board.console()
    after.collect(board.traded.wall_ns)
    assert before.view(question)["blotter"]["total"] > 100
    assert after.view(question)["blotter"] == before.view(question)["blotter"]
    number = before.view(question)["blotter"]["rows"][0]["n"]
    assert (
        after.view({**question, "order": number})["timeline"] == before.view({**question, "order": number})["timeline"]
    )
    assert after.view(question)["missed"] == 0


def test_one_order_is_cancelled_by_its_number_and_a_halt_refuses_the_next(tmp_path: Path) -> None:
    traded = Traded(tmp_path)
    order = next(order for order in traded.newest() if order.state in LIVE)
    working = traded.desk.working_orders()
    assert traded.desk.cancel_order(order.order_id) == 1
    assert traded.desk.working_orders() == working - 1
    assert traded.desk.cancel_order(order.order_id) == 0
    traded.take()
    assert (order.state, order.left) == (CANCELLED, 0)
    traded.desk.set_states([TradingState.HALTED] * 10)
    assert traded.desk.working_orders() == 0
    traded.take()
    assert not [order for order in traded.newest() if order.state in LIVE]
    assert {order.state for order in traded.newest()} <= {CANCELLED, FILLED, REJECTED}
