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
    make_books,
    order_qty,
    others_price,
    qty_ahead,
    reset,
)
from engine.events import (
    CANCEL,
    CLEAR,
    EVERYTHING,
    FOK,
    HALT,
    IOC,
    LEVEL,
    LIMIT,
    POST_ONLY,
    REDUCE,
    REPLACE,
    REST_ONLY,
    RESUME,
    STP_BOTH,
    STP_TAKER,
    TRADE,
    UNFILLABLE,
    empty_events,
)
from tests.engine.reference_levels import ReferenceLevels
from tests.engine.test_book import levels, play

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


def test_a_replaced_order_keeps_its_estimated_place_only_where_it_shrinks(market) -> None:
    market.send(LIMIT, -1, BID, 100, 10)
    market.trade(ASK, 100, 30)
    assert market.send(REPLACE, -1, BID, 100, 4) == []
    assert (order_qty(market.books, 0, -1), qty_ahead(market.books, 0, -1)) == (4, 20)
    market.level(BID, 100, 70)
    assert market.send(REPLACE, -1, BID, 100, 5) == []
    assert qty_ahead(market.books, 0, -1) == 70
    assert market.send(REPLACE, -1, BID, 102, 45) == [(102, 40, BID)]
    assert order_qty(market.books, 0, -1) == 5


def test_fill_or_kill_counts_what_is_visible_and_not_what_was_used_up(market) -> None:
    assert market.send(IOC, -1, BID, 103, 101, FOK) == UNFILLABLE
    market.trade(BID, 102, 30)
    assert market.send(IOC, -1, BID, 103, 71, FOK) == UNFILLABLE
    assert market.send(IOC, -1, BID, 103, 70, FOK) == [(102, 10, BID), (103, 60, BID)]


def test_after_a_halt_our_orders_meet_the_levels_that_they_cross(market) -> None:
    market.send(HALT, 0, 0, 0, 0)
    market.send(LIMIT, -1, BID, 102, 50)
    market.send(LIMIT, -2, ASK, 101, 3)
    assert market.level(ASK, 101, 8) == []
    fills = market.send(RESUME, 0, 0, 0, 0)
    assert fills == [(102, 8, ASK), (102, 40, ASK), (102, 2, ASK)]  # the last one is the cancelled rest
    assert (order_qty(market.books, 0, -1), order_qty(market.books, 0, -2)) == (0, 3)


def random_levels(n: int):
    """A stream of levels, prints and own orders; for the checked build too."""
    random = np.random.default_rng(3)
    events = empty_events(n)
    kinds = [LEVEL, LEVEL, LEVEL, LEVEL, TRADE, LIMIT, IOC, CANCEL, REPLACE]
    events["kind"] = random.choice(kinds, n)
    events["order_id"] = -random.integers(1, 9, n)
    events["side"] = random.choice([1, -1], n)
    far = random.random(n) < 0.1
    events["price"] = np.where(far, random.integers(1, 60_000, n), 20_000 + random.integers(-9, 10, n))
    events["qty"] = random.integers(0, 20, n)
    return events


OWN_FLAGS = [0, 0, 0, 0, REST_ONLY, POST_ONLY, STP_TAKER, STP_BOTH]
FLAGS = {
    LIMIT: OWN_FLAGS,
    REPLACE: OWN_FLAGS,
    IOC: [0, 0, STP_TAKER, STP_BOTH, FOK, FOK | STP_TAKER, FOK | STP_BOTH],
    CLEAR: [0, 0, EVERYTHING],
}
KINDS = (
    [LEVEL] * 8 + [TRADE] * 4 + [LIMIT] * 5 + [REPLACE] * 3 + [IOC] * 3 + [CANCEL, REDUCE, CLEAR, HALT, RESUME, RESUME]
)  # fmt: skip


@st.composite
def some_event(draw: st.DrawFn) -> tuple[int, int, int, int, int, int]:
    """(kind, order_id, side, price, qty, flags) of a sound event."""
    kind = draw(st.sampled_from(KINDS))
    price = draw(st.one_of(st.integers(98, 104), st.integers(98, 104), st.integers(1, 30_000)))
    qty = draw(st.integers(0 if kind == LEVEL else 1, 30))
    if kind == IOC and draw(st.booleans()):
        price = 0
    flags = draw(st.sampled_from(FLAGS.get(kind, [0])))
    order_id = 0 if kind in (LEVEL, TRADE) else draw(st.integers(-5, -1))
    return kind, order_id, draw(st.sampled_from([1, -1])), price, qty, flags


def compare_with_reference(events) -> None:
    reset(BOOKS)
    reference = ReferenceLevels()
    for event in events:
        assert play(BOOKS, 0, *event) == reference.apply(*event)
        for side in (1, -1):
            totals: dict[int, int] = {}
            for entry in reference.queue(side):
                totals[entry.price] = totals.get(entry.price, 0) + entry.qty
            assert levels(BOOKS, 0, side) == list(totals.items())[:64]
            for order in reference.own(side):
                assert order_qty(BOOKS, 0, order.order_id) == order.qty > 0
                assert qty_ahead(BOOKS, 0, order.order_id) == order.mark >= 0
            assert others_price(BOOKS, 0, side) == next((e.price for e in reference.queue(side) if e.order_id == 0), 0)
        buys, sells = reference.own(1), reference.own(-1)
        if not reference.halted and not any(event[-1] & REST_ONLY for event in events):
            assert not buys or not sells or buys[0].price < sells[0].price, "our own orders cross each other"
    assert counters(BOOKS)["resting"] == len(reference.entries)


@settings(max_examples=400)
@given(st.lists(some_event(), max_size=50))
def test_levels_and_own_orders_are_what_the_reference_gives(events) -> None:
    compare_with_reference(events)


@pytest.mark.prove
@settings(max_examples=8_000)
@given(st.lists(some_event(), max_size=70))
def test_thousands_of_level_streams_give_what_the_reference_gives(events) -> None:
    compare_with_reference(events)
