"""Watch: losses, drawdowns, refusals and output beyond their limits are found, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.control import DRAWDOWN, LOSS, REJECTS
from engine.gates import STRATEGIES, TradingState, make_gates
from engine.limits import Change, Limits
from engine.options import GateOptions
from engine.watch import MIN_ORDERS, Flow, Watch

SECOND = 1_000_000_000
OPTIONS = GateOptions(
    max_loss_usd=1000.0, max_drawdown_usd=500.0, max_reject_ratio=0.5, max_output_ratio=20.0, watch_s=10.0
)


def limits(options: GateOptions = OPTIONS) -> Limits:
    return Limits(options, ("AAA",), (1.0,), make_gates(options, 1))


def flow(orders: int, refused: int, intents: int) -> Flow:
    """All of one strategy, the second."""
    one = np.eye(len(STRATEGIES), dtype=np.int64)[1]
    return Flow(one * orders, one * refused, one * intents)


def found(now: Flow, options: GateOptions = OPTIONS, later_s: float = 10.0) -> list[str]:
    watch = Watch(limits(options), options.watch_s)
    assert watch.look_at_flow(0, flow(1000, 900, 1)) == []
    before = flow(1000, 900, 1)
    total = Flow(before.orders + now.orders, before.refused + now.refused, before.intents + now.intents)
    return [row.key for row in watch.look_at_flow(round(later_s * SECOND), total)]


@pytest.mark.parametrize(
    ("pnl", "drawdown", "keys"),
    [
        (-999.0, 499.0, []),
        (-1000.0, 0.0, [LOSS]),
        (100.0, 500.0, [DRAWDOWN]),
        (-1000.0, 1000.0, [LOSS, DRAWDOWN]),
    ],
)
def test_a_loss_and_a_drawdown_at_their_limit_are_found(pnl: float, drawdown: float, keys: list[str]) -> None:
    rows = Watch(limits(), 10.0).look_at_result(pnl, drawdown)
    assert [row.key for row in rows] == keys
    assert all(row.state is TradingState.REDUCING and row.reason for row in rows)


def test_a_loss_limit_that_was_lowered_counts_at_once() -> None:
    of = limits()
    watch = Watch(of, 10.0)
    assert watch.look_at_result(-10.0, 10.0) == []
    of.set(Change("max_loss_usd", "all", 10.0, "anna", "drill", 1))
    assert [row.key for row in watch.look_at_result(-10.0, 10.0)] == [LOSS]


def test_refusals_are_found_beyond_their_share_and_not_at_it() -> None:
    assert found(flow(MIN_ORDERS, MIN_ORDERS // 2, MIN_ORDERS)) == []
    assert found(flow(MIN_ORDERS, MIN_ORDERS // 2 + 1, MIN_ORDERS)) == [f"{REJECTS}:strategy:{STRATEGIES[1]}"]
    assert found(flow(MIN_ORDERS - 1, MIN_ORDERS - 1, MIN_ORDERS)) == [], "of few orders a share says little"


def test_output_is_compared_with_what_was_put_in() -> None:
    key = f"output:strategy:{STRATEGIES[1]}"
    assert found(flow(400, 0, 20)) == []
    assert found(flow(401, 0, 20)) == [key]
    assert found(flow(401, 0, 0), replace(OPTIONS, max_output_ratio=401.0)) == []


def test_nothing_is_judged_before_the_while_is_over() -> None:
    assert found(flow(10_000, 10_000, 1), later_s=9.999) == []
