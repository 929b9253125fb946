"""The ladder under prices that were chosen to break it: window edges, far clusters, the ends of the scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import apply, best_price, counters, level_qty, make_books, next_price, reset
from engine.events import CANCEL, CLEAR, IOC, LIMIT, MAX_PRICE_TICKS, MAX_QTY_LOTS, REPLACE
from engine.layout import BEST_AT, LOW, WINDOW
from tests.engine.test_book import BOOKS, Twins

EDGES = sorted({edge + d for edge in (0, LOW, BEST_AT, WINDOW - BEST_AT, WINDOW, 2 * WINDOW) for d in (-1, 0, 1)})
edge_price = st.builds(
    lambda base, offset, sign: min(max(base + sign * offset, 1), MAX_PRICE_TICKS),
    st.sampled_from([1, WINDOW, 1 << 20, MAX_PRICE_TICKS - WINDOW, MAX_PRICE_TICKS]),
    st.sampled_from(EDGES),
    st.sampled_from([1, -1]),
)
edge_event = st.tuples(
    st.sampled_from([LIMIT, LIMIT, LIMIT, LIMIT, REPLACE, CANCEL, CANCEL, IOC]),
    st.integers(1, 24),
    st.sampled_from([1, 1, 1, -1]),
    edge_price,
    st.one_of(st.integers(1, 9), st.just(MAX_QTY_LOTS)),
)


@settings(max_examples=400)
@given(st.lists(edge_event, max_size=50))
def test_prices_at_the_edges_of_windows_and_of_the_scale_keep_their_queues(events) -> None:
    twins = Twins(BOOKS)
    for kind, order_id, side, price, qty in events:
        twins.apply(1, kind, order_id, side, price, qty, 0)
    twins.compare_counters()


def test_a_book_whose_touch_wanders_far_keeps_every_order_in_its_queue() -> None:
    random = np.random.default_rng(5)
    twins = Twins(BOOKS)
    price = 50_000
    for order_id in range(1, 3_000):
        price = max(price + int(random.integers(-900, 901)), 10_000)
        kind = (LIMIT, LIMIT, IOC, CANCEL)[int(random.integers(4))]
        side = 1 - 2 * int(random.integers(2))
        orders = twins.references[2].orders
        if len(orders) > 60 or (kind == CANCEL and orders):
            kind, order_id = CANCEL, orders[int(random.integers(len(orders)))].order_id
        limit = max(price - side * int(random.integers(0, 9_000)), 1)
        twins.apply(2, kind, order_id, side, limit, int(random.integers(1, 9)), 0)
    twins.compare_counters()
    assert counters(BOOKS)["rebases"] > 50


@pytest.mark.parametrize("side", [1, -1])
def test_thousands_of_orders_behind_the_window_come_forward_in_price_and_time(side) -> None:
    random = np.random.default_rng(9)
    books = make_books(1, max_orders=8_192, max_fills=8_192)
    touch = 1 << 24
    apply(books, 0, 1, touch, 1, 0, LIMIT, side, 0)
    prices = touch - side * random.integers(WINDOW, 40 * WINDOW, 6_000) // 64 * 64
    for k, price in enumerate(prices.tolist()):
        assert apply(books, 0, k + 2, price, 1, 0, LIMIT, side, 0) == 0
    assert level_qty(books, 0, side, int(prices[0])) == int((prices == prices[0]).sum())
    assert next_price(books, 0, side, touch) == int((side * prices).max()) * side
    assert apply(books, 0, 1, 0, 0, 0, CANCEL, side, 0) == 0
    assert best_price(books, 0, side) == int((side * prices).max()) * side
    assert apply(books, 0, 0, 0, 6_000, 0, IOC, -side, 0) == 6_000
    expected = sorted(range(6_000), key=lambda k: (-side * prices[k], k))
    assert (books.fills[:6_000]["maker_id"] - 2).tolist() == expected


def test_a_clearing_reaches_the_far_orders_of_the_venue_and_leaves_ours() -> None:
    books = make_books(1, max_orders=4_096)
    for k in range(1, 3_001):
        apply(books, 0, k if k % 3 else -k, 1_000_000 - 7 * k * (k % 5), 1, 0, LIMIT, 1, 0)
    apply(books, 0, 0, 0, 0, 0, CLEAR, 0, 0)
    assert counters(books)["resting"] == 1_000
    best = max(1_000_000 - 7 * k * (k % 5) for k in range(3, 3_001, 3))
    assert best_price(books, 0, 1) == best
    reset(books)
    assert counters(books)["resting"] == 0
