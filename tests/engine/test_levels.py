"""Level books: what our own orders get in a market known by price levels and prints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import (
    INVALID,
    WOULD_MATCH,
    apply,
    best_price,
    best_qty,
    counters,
    level_qty,
    make_books,
    order_qty,
    others_price,
    qty_ahead,
    reset,
)
from engine.events import CANCEL, CLEAR, EVERYTHING, IOC, LEVEL, LIMIT, POST_ONLY, TRADE, empty_events

BID, ASK = 1, -1
BOOKS = make_books(1, max_orders=512, max_fills=256, level_book=True)


class Market:
    """A level book with words for what happens in it."""

    def __init__(self) -> None:
        self.books = BOOKS
        reset(self.books)

    def send(self, kind: int, order_id: int, side: int, price: int, qty: int, flags: int = 0):
        count = apply(self.books, 1, order_id, price, qty, 0, kind, side, flags)
        if count < 0:
            return count
        fills = self.books.fills[:count]
        ours = fills[(fills["maker_id"] < 0) | (fills["taker_id"] < 0)]
        return [(int(f["price"]), int(f["qty"]), int(f["side"])) for f in ours]

    def level(self, side: int, price: int, qty: int):
        return self.send(LEVEL, 0, side, price, qty)

    def trade(self, side: int, price: int, qty: int):
        return self.send(TRADE, 0, side, price, qty)


@pytest.fixture
def market() -> Market:
    market = Market()
    market.level(BID, 100, 50)
    market.level(BID, 99, 80)
    market.level(ASK, 102, 40)
    market.level(ASK, 103, 60)
    return market


def test_an_aggressor_takes_visible_size_level_by_level_and_the_recording_stays(market) -> None:
    assert market.send(IOC, -1, BID, 103, 70) == [(102, 40, BID), (103, 30, BID)]
    assert (best_price(market.books, 0, ASK), best_qty(market.books, 0, ASK)) == (102, 40)
    assert market.send(IOC, -2, BID, 103, 70) == [(103, 30, BID)]  # the same size is not there twice
    market.level(ASK, 102, 45)
    assert market.send(IOC, -3, BID, 102, 70) == [(102, 45, BID)]  # after an update it is


def test_what_an_aggressor_does_not_get_lapses_or_rests(market) -> None:
    assert market.send(LIMIT, -1, BID, 102, 50) == [(102, 40, BID)]
    assert order_qty(market.books, 0, -1) == 10
    assert best_price(market.books, 0, BID) == 102
    assert others_price(market.books, 0, BID) == 100
    assert market.send(LIMIT, -2, ASK, 99, 1, POST_ONLY) == WOULD_MATCH


def test_prints_work_off_the_queue_ahead_before_they_fill_us(market) -> None:
    market.send(LIMIT, -1, BID, 100, 10)
    assert qty_ahead(market.books, 0, -1) == 50
    assert market.trade(ASK, 100, 30) == []
    assert qty_ahead(market.books, 0, -1) == 20
    assert market.trade(ASK, 100, 24) == [(100, 4, ASK)]
    assert market.trade(ASK, 100, 24) == [(100, 6, ASK)]
    assert order_qty(market.books, 0, -1) == 0


def test_a_reduction_explained_by_prints_does_not_move_us_twice(market) -> None:
    market.send(LIMIT, -1, BID, 100, 10)
    market.trade(ASK, 100, 30)
    market.level(BID, 100, 20)
    assert qty_ahead(market.books, 0, -1) == 20


def test_a_reduction_without_prints_moves_us_in_proportion(market) -> None:
    market.level(BID, 100, 40)
    market.send(LIMIT, -1, BID, 100, 10)
    market.level(BID, 100, 80)  # what is added stands behind us
    assert qty_ahead(market.books, 0, -1) == 40
    market.level(BID, 100, 60)
    assert qty_ahead(market.books, 0, -1) == 30
    market.level(BID, 100, 5)
    assert qty_ahead(market.books, 0, -1) <= 5
    market.level(BID, 100, 0)
    assert qty_ahead(market.books, 0, -1) == 0


def test_a_print_through_our_price_fills_us_at_our_price(market) -> None:
    market.send(LIMIT, -1, BID, 101, 10)
    assert market.trade(ASK, 100, 25) == [(101, 10, ASK)]
    market.send(LIMIT, -2, BID, 100, 10)
    assert market.trade(ASK, 99, 6) == [(100, 6, ASK)]


def test_an_opposite_level_at_or_beyond_our_price_fills_us_up_to_its_size(market) -> None:
    market.send(LIMIT, -1, BID, 101, 10)
    assert market.level(ASK, 101, 4) == [(101, 4, ASK)]
    assert market.level(ASK, 100, 90) == [(101, 6, ASK)]


def test_two_own_orders_at_one_price_share_a_print(market) -> None:
    market.send(LIMIT, -1, ASK, 102, 5)
    market.send(LIMIT, -2, ASK, 102, 5)
    assert market.trade(BID, 102, 47) == [(102, 5, BID), (102, 2, BID)]


def test_a_new_snapshot_keeps_our_orders_and_their_place(market) -> None:
    market.send(LIMIT, -1, BID, 100, 10)
    market.send(CLEAR, 0, 0, 0, 0)
    assert best_price(market.books, 0, ASK) == 0
    assert best_qty(market.books, 0, BID) == 10
    market.level(BID, 100, 60)
    assert qty_ahead(market.books, 0, -1) == 50
    market.send(CLEAR, 0, 0, 0, 0, EVERYTHING)
    assert counters(market.books)["resting"] == 0


def test_orders_of_others_do_not_belong_in_a_level_book(market) -> None:
    assert market.send(LIMIT, 7, BID, 100, 10) == INVALID
    assert market.send(IOC, 0, BID, 100, 10) == INVALID


def random_levels(n: int):
    """A stream of levels, prints and own orders; for the checked build too."""
    random = np.random.default_rng(3)
    events = empty_events(n)
    events["kind"] = random.choice([LEVEL, LEVEL, LEVEL, LEVEL, TRADE, LIMIT, IOC, CANCEL], n)
    events["order_id"] = -random.integers(1, 9, n)
    events["side"] = random.choice([1, -1], n)
    far = random.random(n) < 0.1
    events["price"] = np.where(far, random.integers(1, 60_000, n), 20_000 + random.integers(-9, 10, n))
    events["qty"] = random.integers(0, 20, n)
    return events


action = st.tuples(
    st.sampled_from([LEVEL, LEVEL, LEVEL, TRADE, LIMIT, IOC, CANCEL]),
    st.integers(-4, -1),
    st.sampled_from([1, -1]),
    st.one_of(st.integers(98, 104), st.integers(1, 30_000)),
    st.integers(0, 30),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(action, max_size=60))
def test_levels_are_as_recorded_and_no_own_order_trades_more_than_it_has(actions) -> None:
    reset(BOOKS)
    recorded: dict[tuple[int, int], int] = {}
    ours: dict[int, tuple[int, int, int]] = {}  # id: side, price, left
    for kind, order_id, side, price, qty in actions:
        resting = dict(ours)
        count = apply(BOOKS, 1, order_id if kind in (LIMIT, IOC, CANCEL) else 0, price, qty, 0, kind, side, 0)
        if kind == LEVEL:
            recorded[side, price] = qty
        if count >= 0 and kind == LIMIT:
            ours[order_id] = (side, price, qty)
        if count >= 0 and kind == CANCEL:
            del ours[order_id]
        sent = qty
        for fill in BOOKS.fills[: max(count, 0)]:
            maker, taker, lots = int(fill["maker_id"]), int(fill["taker_id"]), int(fill["qty"])
            assert lots > 0
            if maker < 0:
                s, at, left = resting[maker]
                assert int(fill["price"]) == at
                assert left >= lots
                resting[maker] = ours[maker] = (s, at, left - lots)
            if taker < 0 and not fill["flags"]:
                assert side * (price - int(fill["price"])) >= 0
                sent -= lots
                assert sent >= 0
                if kind == LIMIT:
                    ours[taker] = (side, price, sent)
        ours = {key: value for key, value in ours.items() if value[2] > 0}
        for key, (_, _, left) in ours.items():
            assert order_qty(BOOKS, 0, key) == left
            assert qty_ahead(BOOKS, 0, key) >= 0
        for (s, p), size in recorded.items():
            own = sum(left for (o_side, o_price, left) in ours.values() if (o_side, o_price) == (s, p))
            assert level_qty(BOOKS, 0, s, p) == size + own
    assert counters(BOOKS)["resting"] == len(ours) + sum(size > 0 for size in recorded.values())
