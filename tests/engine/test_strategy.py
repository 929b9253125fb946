"""Strategy decisions: quotes never cross, inventory is leaned against."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.events import Instrument
from engine.jit import kernel
from engine.options import EngineOptions, ParentOptions
from engine.strategy import (
    NOT_FINITE,
    P_NEXT_NS,
    P_SIDE,
    crossing_price,
    is_worth_moving,
    lots_for,
    quote_price,
    resting_price,
    schedule_parents,
)

INSTRUMENTS = tuple(Instrument(f"S{i}", 0.01) for i in range(8))
touches = st.tuples(st.integers(2, 10**6), st.integers(1, 500)).map(lambda t: (t[0], t[0] + t[1]))


@kernel
def quote(side, best_bid, best_ask, inventory, skew, edge):
    return quote_price(side, best_bid, best_ask, inventory, skew, edge)


@settings(deadline=None)
@given(st.sampled_from([1, -1]), touches, st.floats(-2, 2), st.floats(0, 5), st.integers(0, 20))
def test_a_quote_never_crosses_the_touch(side, touch, inventory, skew, edge) -> None:
    bid, ask = touch
    price = quote(side, bid, ask, inventory, skew, edge)
    assert price == quote_price.py_func(side, bid, ask, inventory, skew, edge)
    if price:
        assert price < ask if side > 0 else price > bid
        assert price >= 1


@settings(deadline=None)
@given(touches, st.floats(0, 0.999), st.floats(0, 5))
def test_both_quotes_lean_against_the_inventory(touch, inventory, skew) -> None:
    bid, ask = touch
    assert quote(1, bid, ask, inventory, skew, 0) <= quote(1, bid, ask, 0.0, skew, 0) == bid
    assert quote(-1, bid, ask, inventory, skew, 0) <= quote(-1, bid, ask, 0.0, skew, 0) == ask
    assert quote(-1, bid, ask, -inventory, skew, 0) >= ask


@settings(deadline=None)
@given(touches, st.floats(1, 3))
def test_at_full_inventory_only_the_reducing_side_is_quoted(touch, inventory) -> None:
    bid, ask = touch
    assert quote(1, bid, ask, inventory, 1.0, 0) == 0
    assert quote(-1, bid, ask, inventory, 1.0, 0) > 0
    assert quote(-1, bid, ask, -inventory, 1.0, 0) == 0
    assert quote(1, bid, ask, -inventory, 1.0, 0) > 0


def test_a_quote_keeps_its_place_in_the_queue_for_small_moves() -> None:
    assert not is_worth_moving.py_func(1000, 1000, 1000, 1001)
    assert is_worth_moving.py_func(1000, 1001, 1001, 1002)
    assert not is_worth_moving.py_func(1000, 1002, 1002, 1018)
    assert is_worth_moving.py_func(1000, 1003, 1003, 1019)


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(1e-5, 1))
def test_lots_are_whole_and_near_the_value(value, mid, usd) -> None:
    assume(mid * usd > 1e-3)
    lots = lots_for.py_func(value, mid, usd)
    assert lots >= 1
    assert lots == 1 or abs(lots * mid * usd - value) <= mid * usd * 0.5 + 1e-6


@given(st.sampled_from([1, -1]), touches, st.floats(0, 0.2))
def test_a_crossing_order_reaches_at_least_the_touch(side, touch, reach) -> None:
    bid, ask = touch
    price = crossing_price.py_func(side, (bid + ask) / 2, ask if side > 0 else bid, reach)
    assert price >= ask if side > 0 else 1 <= price <= bid


@given(st.sampled_from([1, -1]), touches, st.integers(0, 20))
def test_a_slice_rests_at_the_touch_or_inside_the_spread(side, touch, improve) -> None:
    bid, ask = touch
    own, opposite = (bid, ask) if side > 0 else (ask, bid)
    price = resting_price.py_func(side, own, opposite, improve)
    assert bid <= price <= ask
    assert price != opposite
    assert price in (own, own + side * improve)


def test_the_schedule_is_spread_over_one_period_and_drawn_from_the_seed() -> None:
    options = EngineOptions(parents=ParentOptions(first_after_s=0.5, period_s=16.0))
    rows = schedule_parents(options, INSTRUMENTS, 1_000, seed=3)
    assert sorted(rows[:, P_NEXT_NS]) == [1_000 + 500_000_000 + k * 2_000_000_000 for k in range(8)]
    assert set(rows[:, P_SIDE]) <= {1, -1}
    np.testing.assert_array_equal(rows, schedule_parents(options, INSTRUMENTS, 1_000, seed=3))
    assert not np.array_equal(rows, schedule_parents(options, INSTRUMENTS, 1_000, seed=4))


WILD = st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -1e300])


@given(WILD, st.floats(0.1, 1e6), st.floats(1e-9, 1e6))
def test_a_value_that_is_not_finite_is_no_number_of_lots(value: float, mid: float, usd: float) -> None:
    assert lots_for(value, mid, usd) == NOT_FINITE
    assert lots_for(1000.0, value if math.isnan(value) else math.nan, usd) == NOT_FINITE


@given(st.sampled_from([1, -1]), WILD, st.booleans())
def test_a_quote_that_is_not_finite_stands_nowhere_that_a_book_knows(side: int, value: float, is_skew: bool) -> None:
    inventory, skew = (0.5, value) if is_skew else (value, 1.0)
    assert quote_price(side, 100, 110, inventory, skew, 0) == NOT_FINITE
