"""Order types, one sentence each: what a venue's member expects of them, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import apply, best_price, best_qty, counters, make_books, order_qty, qty_ahead, reset
from engine.events import (
    BOOK_FULL,
    CANCEL,
    CLEAR,
    EXECUTE,
    FOK,
    HALT,
    INVALID,
    IOC,
    LEVEL,
    LIMIT,
    MAX_PRICE_TICKS,
    MAX_QTY_LOTS,
    MAX_VENUE_ID,
    POST_ONLY,
    REDUCE,
    REPLACE,
    RESUME,
    SELF_CANCEL,
    STP_BOTH,
    STP_TAKER,
    TAKER_CANCEL,
    TRADE,
    UNFILLABLE,
    UNKNOWN_ORDER,
    VENUE_HALTED,
    WOULD_MATCH,
)
from engine.layout import FILL_COUNT, HEADER_WORDS, REFUSED, SEQUENCE
from tests.engine.test_book import play

BUY, SELL = 1, -1
BOOKS = make_books(2, max_orders=64, max_fills=64)


class Venue:
    """One instrument, with an order type a method; fills come back as (maker, taker, price, qty, flags)."""

    def __init__(self) -> None:
        reset(BOOKS)
        self.books = BOOKS

    def send(self, kind: int, order_id: int, side: int = BUY, price: int = 0, qty: int = 0, flags: int = 0):
        outcome = play(BOOKS, 0, kind, order_id, side, price, qty, flags)
        if isinstance(outcome, int):
            return outcome
        return [(maker, taker, at, lots, what) for maker, taker, at, lots, _, what in outcome]

    def left(self, order_id: int) -> int:
        return order_qty(BOOKS, 0, order_id)


@pytest.fixture
def venue() -> Venue:
    """Asks 10 at 101 (order 1), 10 at 102 (our order -1), 10 at 103 (order 2)."""
    venue = Venue()
    for order_id, price in ((1, 101), (-1, 102), (2, 103)):
        assert venue.send(LIMIT, order_id, SELL, price, 10) == []
    return venue


def test_a_market_order_takes_any_price_and_what_is_left_lapses(venue) -> None:
    fills = venue.send(IOC, 9, BUY, 0, 50)
    assert [(maker, price, qty) for maker, _, price, qty, _ in fills] == [(1, 101, 10), (-1, 102, 10), (2, 103, 10)]
    assert counters(venue.books)["resting"] == 0


def test_fill_or_kill_trades_all_of_it_or_nothing(venue) -> None:
    assert venue.send(IOC, 9, BUY, 102, 21, FOK) == UNFILLABLE
    assert [venue.left(order_id) for order_id in (1, -1, 2)] == [10, 10, 10]
    assert len(venue.send(IOC, 9, BUY, 102, 20, FOK)) == 2
    assert venue.left(2) == 10
    assert counters(venue.books)["refused_unfillable"] == 1


def test_fill_or_kill_does_not_count_our_own_orders(venue) -> None:
    assert venue.send(IOC, -9, BUY, 0, 21, FOK) == UNFILLABLE
    assert venue.left(-1) == 10
    fills = venue.send(IOC, -9, BUY, 0, 20, FOK)
    assert fills == [(1, -9, 101, 10, 0), (-1, -9, 102, 10, SELF_CANCEL), (2, -9, 103, 10, 0)]


@pytest.mark.parametrize("mode", [STP_TAKER, STP_BOTH])
def test_fill_or_kill_does_not_count_what_stands_behind_an_own_order_that_stops_it(venue, mode) -> None:
    assert venue.send(IOC, -9, BUY, 0, 11, FOK | mode) == UNFILLABLE
    assert venue.send(IOC, -9, BUY, 0, 10, FOK | mode) == [(1, -9, 101, 10, 0)]
    assert venue.left(-1) == 10


def test_by_default_the_own_resting_order_is_cancelled_and_the_aggressor_goes_on(venue) -> None:
    assert venue.send(LIMIT, -9, BUY, 103, 25) == [
        (1, -9, 101, 10, 0),
        (-1, -9, 102, 10, SELF_CANCEL),
        (2, -9, 103, 10, 0),
    ]
    assert (venue.left(-1), venue.left(-9)) == (0, 5)


def test_or_the_aggressor_is_stopped_and_nothing_of_it_rests(venue) -> None:
    assert venue.send(LIMIT, -9, BUY, 103, 25, STP_TAKER) == [(1, -9, 101, 10, 0), (-1, -9, 102, 15, TAKER_CANCEL)]
    assert (venue.left(-1), venue.left(-9), venue.left(2)) == (10, 0, 10)


def test_or_both_are_cancelled(venue) -> None:
    assert venue.send(IOC, -9, BUY, 103, 25, STP_BOTH) == [
        (1, -9, 101, 10, 0),
        (-1, -9, 102, 10, SELF_CANCEL),
        (-1, -9, 102, 15, TAKER_CANCEL),
    ]
    assert (venue.left(-1), venue.left(-9), venue.left(2)) == (0, 0, 10)


def test_others_may_trade_with_us_whatever_their_flags_say(venue) -> None:
    assert len(venue.send(IOC, 9, BUY, 0, 30, STP_BOTH)) == 3


def test_post_only_is_refused_where_it_would_match_and_rests_where_not(venue) -> None:
    assert venue.send(LIMIT, 9, BUY, 101, 5, POST_ONLY) == WOULD_MATCH
    assert venue.left(9) == 0
    assert venue.send(LIMIT, 9, BUY, 100, 5, POST_ONLY) == []
    assert best_price(venue.books, 0, BUY) == 100


class TestReplace:
    @pytest.fixture
    def queue(self) -> Venue:
        """Bids at 100: order 1, our -1, order 2, ten each; an ask of 5 at 105 (order 9)."""
        venue = Venue()
        for order_id in (1, -1, 2):
            venue.send(LIMIT, order_id, BUY, 100, 10)
        venue.send(LIMIT, 9, SELL, 105, 5)
        return venue

    @pytest.mark.parametrize("qty", [1, 9, 10])
    def test_not_more_at_the_same_price_keeps_its_place(self, queue, qty) -> None:
        assert queue.send(REPLACE, -1, BUY, 100, qty) == []
        assert (queue.left(-1), qty_ahead(queue.books, 0, -1), qty_ahead(queue.books, 0, 2)) == (qty, 10, 10 + qty)

    def test_more_at_the_same_price_goes_to_the_end(self, queue) -> None:
        assert queue.send(REPLACE, -1, BUY, 100, 11) == []
        assert (queue.left(-1), qty_ahead(queue.books, 0, -1), best_qty(queue.books, 0, BUY)) == (11, 20, 31)

    def test_another_price_goes_to_that_queue_and_coming_back_does_not_restore_the_place(self, queue) -> None:
        queue.send(REPLACE, -1, BUY, 99, 10)
        assert (qty_ahead(queue.books, 0, -1), best_qty(queue.books, 0, BUY)) == (0, 20)
        queue.send(REPLACE, -1, BUY, 100, 10)
        assert qty_ahead(queue.books, 0, -1) == 20

    def test_a_price_that_crosses_matches_and_the_rest_rests(self, queue) -> None:
        assert queue.send(REPLACE, -1, BUY, 105, 10) == [(9, -1, 105, 5, 0)]
        assert (queue.left(-1), best_price(queue.books, 0, BUY)) == (5, 105)

    def test_qty_is_what_is_to_remain_whatever_has_traded_before(self, queue) -> None:
        queue.send(IOC, 7, SELL, 0, 16)
        assert queue.left(-1) == 4
        assert queue.send(REPLACE, -1, BUY, 100, 4) == []
        assert (queue.left(-1), qty_ahead(queue.books, 0, -1)) == (4, 0)
        assert queue.send(REPLACE, -1, BUY, 100, 10) == []
        assert (queue.left(-1), qty_ahead(queue.books, 0, -1)) == (10, 10)

    def test_post_only_that_would_match_leaves_the_old_order_where_it_was(self, queue) -> None:
        assert queue.send(REPLACE, -1, BUY, 105, 3, POST_ONLY) == WOULD_MATCH
        assert (queue.left(-1), qty_ahead(queue.books, 0, -1)) == (10, 10)

    @pytest.mark.parametrize(
        "gone", [(IOC, 7, SELL, 0, 30), (CANCEL, -1), (REDUCE, -1, BUY, 0, 99), (CLEAR, 0, 0, 0, 0, 4)]
    )
    @pytest.mark.parametrize("late", [(REPLACE, -1, BUY, 101, 5), (CANCEL, -1), (REDUCE, -1, BUY, 0, 1)])
    def test_it_loses_the_race_against_what_took_the_order(self, queue, gone, late) -> None:
        assert isinstance(queue.send(*gone), list)
        assert queue.send(*late) == UNKNOWN_ORDER
        assert queue.left(-1) == 0

    def test_self_trade_prevention_holds_for_it(self, queue) -> None:
        queue.send(LIMIT, -2, SELL, 104, 5)
        assert queue.send(REPLACE, -1, BUY, 105, 10, STP_TAKER) == [(-2, -1, 104, 10, TAKER_CANCEL)]
        assert (queue.left(-1), queue.left(-2)) == (0, 5)

    def test_while_the_venue_is_halted_it_rests_and_trades_afterwards(self, queue) -> None:
        queue.send(HALT, 0)
        assert queue.send(REPLACE, -1, BUY, 105, 10) == []
        assert queue.send(IOC, 7, SELL, 0, 1) == VENUE_HALTED
        assert queue.send(RESUME, 0) == [(9, -1, 105, 5, 0)]

    def test_it_needs_no_room_in_a_full_book(self) -> None:
        books = make_books(1, max_orders=2)
        assert play(books, 0, LIMIT, 1, BUY, 10, 5, 0) == []
        assert play(books, 0, LIMIT, 2, BUY, 11, 5, 0) == []
        assert play(books, 0, REPLACE, 1, BUY, 12, 9, 0) == []
        assert play(books, 0, LIMIT, 3, BUY, 12, 5, 0) == BOOK_FULL
        assert best_price(books, 0, BUY) == 12


def test_a_full_book_refuses_the_next_order_and_goes_on() -> None:
    books = make_books(1, max_orders=2)
    assert play(books, 0, LIMIT, 1, BUY, 10, 5, 0) == []
    assert play(books, 0, LIMIT, 2, BUY, 11, 5, 0) == []
    assert play(books, 0, LIMIT, 3, BUY, 12, 5, 0) == BOOK_FULL
    assert play(books, 0, CANCEL, 1, BUY, 0, 0, 0) == []
    assert play(books, 0, LIMIT, 3, BUY, 12, 5, 0) == []
    assert best_qty(books, 0, BUY) == 5
    assert counters(books)["refused_book_full"] == 1


@pytest.mark.parametrize(
    ("kind", "order_id", "side", "price", "qty", "flags"),
    [
        (LIMIT, 0, 1, 10, 5, 0), (LIMIT, 1, 0, 10, 5, 0), (LIMIT, 1, 1, 0, 5, 0), (LIMIT, 1, 1, 10, 0, 0),
        (LIMIT, 1, 1, -3, 5, 0), (LIMIT, 1 << 62, 1, 10, 5, 0), (LIMIT, 1, 1, 1 << 60, 5, 0), (IOC, 0, 1, 10, 0, 0),
        (LEVEL, 0, 1, 10, 5, 0), (TRADE, 0, 1, 10, 5, 0), (99, 1, 1, 10, 5, 0), (REPLACE, 1, 1, 0, 5, 0),
        (REPLACE, 1, 1, 10, 0, 0), (LIMIT, 1, 1, 10, 5, FOK), (REPLACE, 1, 1, 10, 5, FOK),
        (IOC, -1, 1, 10, 5, STP_TAKER | STP_BOTH), (EXECUTE, 1, 1, 10, 0, 0), (REDUCE, 1, 1, 10, 0, 0),
    ],
)  # fmt: skip
def test_events_that_mean_nothing_are_refused(kind, order_id, side, price, qty, flags) -> None:
    books = make_books(1, max_orders=2)
    assert apply(books, 1, order_id, price, qty, 0, kind, side, flags) == INVALID
    assert apply(books, 1, 1, 10, 5, 9, LIMIT, 1, 0) == INVALID
    assert counters(books)["resting"] == 0
    assert counters(books)["refused_invalid"] == 2


def test_fills_beyond_the_room_are_counted() -> None:
    books = make_books(1, max_orders=8, max_fills=2)
    for order_id in (1, 2, 3):
        apply(books, 1, order_id, 10, 1, 0, LIMIT, -1, 0)
    assert apply(books, 1, 0, 0, 3, 0, IOC, 1, 0) == 2
    assert counters(books)["lost_fills"] == 1
    assert best_price(books, 0, -1) == 0


words = st.one_of(
    st.integers(-3, 14), st.integers(95, 105), st.integers(-(1 << 63), (1 << 63) - 1),
    st.sampled_from([MAX_PRICE_TICKS, MAX_PRICE_TICKS + 1, MAX_QTY_LOTS, MAX_QTY_LOTS + 1, MAX_VENUE_ID, -MAX_VENUE_ID, 1 << 61]),
)  # fmt: skip
anything = st.tuples(
    words, words, words, st.integers(-2, 3), st.integers(-1, 14), st.sampled_from([1, -1, 1, -1, 0, 5]), st.integers(0, 127)
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(anything, max_size=40))
def test_whatever_comes_in_a_refusal_changes_nothing_but_its_count(events) -> None:
    reset(BOOKS)
    counts = [SEQUENCE, FILL_COUNT, *range(REFUSED, HEADER_WORDS)]
    for order_id, price, qty, i, kind, side, flags in events:
        before = BOOKS.words.copy()
        outcome = apply(BOOKS, 7, order_id, price, qty, i, kind, side, flags)
        if outcome < 0:
            after = BOOKS.words.copy()
            assert after[REFUSED - outcome] == before[REFUSED - outcome] + 1
            before[counts] = after[counts] = 0
            assert (before == after).all()
