"""The order book: price-time priority, checked event by event against a slow reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import (
    BOOK_FULL,
    INVALID,
    apply,
    apply_all,
    best_price,
    best_qty,
    counters,
    depth,
    make_books,
    others_price,
    own_orders,
    qty_ahead,
    reset,
)
from engine.events import (
    CANCEL,
    CLEAR,
    EXECUTE,
    HALT,
    IOC,
    LEVEL,
    LIMIT,
    POST_ONLY,
    REDUCE,
    REST_ONLY,
    RESUME,
    empty_events,
    empty_fills,
)
from engine.feeds.tape import load_tape
from tests.engine.reference_book import ReferenceBook

BOOKS = make_books(3, max_orders=256, max_fills=256)
FIELDS = ("maker_id", "taker_id", "price", "qty", "side", "flags")
KINDS = [LIMIT] * 8 + [IOC] * 2 + [CANCEL] * 3 + [REDUCE] * 2 + [EXECUTE] * 2 + [CLEAR, HALT, RESUME, RESUME]

near = st.integers(95, 105)
anywhere = st.one_of(near, near, near, st.integers(1, 20_000), st.integers(1, 1 << 40))
event = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from([*range(1, 12), -1, -2, -3]),
    st.sampled_from([1, -1]),
    anywhere,
    st.integers(1, 9),
    st.sampled_from([0, 0, 0, REST_ONLY, POST_ONLY]),
)


def levels(books, i: int, side: int) -> list[tuple[int, int]]:
    prices, quantities = np.zeros(64, dtype=np.int64), np.zeros(64, dtype=np.int64)
    count = depth(books, i, side, prices, quantities)
    return list(zip(prices[:count].tolist(), quantities[:count].tolist(), strict=True))


def play(books, i: int, kind: int, order_id: int, side: int, price: int, qty: int, flags: int):
    """Apply one event; a list of its fills or the refusal."""
    count = apply(books, 7, order_id, price, qty, i, kind, side, flags)
    return count if count < 0 else [tuple(int(fill[name]) for name in FIELDS) for fill in books.fills[:count]]


@settings(max_examples=120, deadline=None)
@given(st.lists(event, max_size=60))
def test_every_event_gives_the_fills_and_the_book_that_the_reference_gives(events) -> None:
    reset(BOOKS)
    reference = ReferenceBook()
    apply(BOOKS, 0, 5, 100, 1, 0, LIMIT, 1, 0)  # a neighbour with the same id: books do not mix
    for kind, order_id, side, price, qty, flags in events:
        if kind == CLEAR:
            flags &= 4
        arguments = (kind, order_id, side, price, qty, flags)
        assert play(BOOKS, 1, *arguments) == reference.apply(*arguments)
        for s in (1, -1):
            assert levels(BOOKS, 1, s) == reference.depth(s)[:64]
            queue = reference.queue(s)
            assert best_price(BOOKS, 1, s) == (queue[0].price if queue else 0)
            others = [order.price for order in queue if order.order_id > 0]
            assert others_price(BOOKS, 1, s) == (others[0] if others else 0)
        for order in reference.orders:
            ahead = [
                o.qty
                for o in reference.orders
                if (o.side, o.price) == (order.side, order.price) and o.came < order.came
            ]
            assert qty_ahead(BOOKS, 1, order.order_id) == sum(ahead)
        assert own_orders(BOOKS, 1) == sum(order.order_id < 0 for order in reference.orders)
    assert levels(BOOKS, 0, 1) == [(100, 1)]
    assert counters(BOOKS)["resting"] == 1 + len(reference.orders)


@settings(max_examples=20, deadline=None)
@given(st.lists(event, min_size=1, max_size=60))
def test_the_same_events_give_the_same_state_to_the_last_bit(events) -> None:
    states = []
    for _ in range(2):
        books = make_books(2, max_orders=64, max_fills=64)
        for kind, order_id, side, price, qty, flags in events:
            apply(books, 7, order_id, price, qty, 0, kind, side, flags)
        states.append((books.words.tobytes(), books.fills.tobytes()))
    assert states[0] == states[1]


def test_a_book_whose_touch_wanders_far_keeps_every_order_in_its_queue() -> None:
    reset(BOOKS)
    reference = ReferenceBook()
    random = np.random.default_rng(5)
    price = 50_000
    for step in range(4_000):
        price += int(random.integers(-900, 901))
        kind = (LIMIT, LIMIT, IOC, CANCEL)[int(random.integers(4))]
        side = 1 - 2 * int(random.integers(2))
        order_id = step + 1
        if kind == CANCEL and reference.orders:
            order_id = reference.orders[int(random.integers(len(reference.orders)))].order_id
        limit = max(price - side * int(random.integers(0, 9_000)), 1)
        arguments = (kind, order_id, side, limit, int(random.integers(1, 9)), 0)
        assert play(BOOKS, 2, *arguments) == reference.apply(*arguments)
        if len(reference.orders) > 200:
            for order in reference.orders[:100]:
                apply(BOOKS, 7, order.order_id, 0, 0, 2, CANCEL, order.side, 0)
            reference.orders = reference.orders[100:]
        assert levels(BOOKS, 2, side) == reference.depth(side)[:64]
    assert counters(BOOKS)["rebases"] > 10


def test_a_full_book_refuses_the_next_order_and_goes_on() -> None:
    books = make_books(1, max_orders=2)
    assert play(books, 0, LIMIT, 1, 1, 10, 5, 0) == []
    assert play(books, 0, LIMIT, 2, 1, 11, 5, 0) == []
    assert play(books, 0, LIMIT, 3, 1, 12, 5, 0) == BOOK_FULL
    assert play(books, 0, CANCEL, 1, 1, 0, 0, 0) == []
    assert play(books, 0, LIMIT, 3, 1, 12, 5, 0) == []
    assert best_qty(books, 0, 1) == 5
    assert counters(books)["refused_book_full"] == 1


@pytest.mark.parametrize(
    ("kind", "order_id", "side", "price", "qty"),
    [
        (LIMIT, 0, 1, 10, 5), (LIMIT, 1, 0, 10, 5), (LIMIT, 1, 1, 0, 5), (LIMIT, 1, 1, 10, 0), (LIMIT, 1, 1, -3, 5),
        (LIMIT, 1 << 62, 1, 10, 5), (LIMIT, 1, 1, 1 << 60, 5), (IOC, 0, 1, 10, 0), (LEVEL, 0, 1, 10, 5), (99, 1, 1, 10, 5),
    ],
)  # fmt: skip
def test_events_that_mean_nothing_are_refused(kind, order_id, side, price, qty) -> None:
    books = make_books(1, max_orders=2)
    assert apply(books, 1, order_id, price, qty, 0, kind, side, 0) == INVALID
    assert apply(books, 1, 1, 10, 5, 9, LIMIT, 1, 0) == INVALID
    assert counters(books)["resting"] == 0


def test_fills_beyond_the_room_are_counted() -> None:
    books = make_books(1, max_orders=8, max_fills=2)
    for order_id in (1, 2, 3):
        apply(books, 1, order_id, 10, 1, 0, LIMIT, -1, 0)
    assert apply(books, 1, 0, 0, 3, 0, IOC, 1, 0) == 2
    assert counters(books)["lost_fills"] == 1
    assert best_price(books, 0, -1) == 0


def test_the_recorded_order_flow_twice_gives_the_same_fills(marketdata) -> None:
    tape = load_tape(marketdata / "orders" / "AMZN_2012-06-21.orders.csv.xz")
    books, runs = make_books(1, max_orders=4096), []
    for _ in range(2):
        reset(books)
        fills = empty_fills(20_000)
        count = apply_all(books, tape.events, fills)
        runs.append((count, fills.tobytes(), books.words.tobytes()))
    assert runs[0] == runs[1]
    assert runs[0][0] == 7907


def random_events(n: int):
    """A stream over three instruments that fills, empties and moves the books; for the checked build too."""
    random = np.random.default_rng(11)
    events = empty_events(n)
    events["kind"] = random.choice(KINDS, n)
    events["kind"][events["kind"] == CLEAR] = LIMIT
    events["order_id"] = random.choice([*range(1, 90), *range(-9, 0)], n)
    events["instrument"] = random.integers(0, 3, n)
    events["side"] = random.choice([1, -1], n)
    events["price"] = np.where(
        random.random(n) < 0.1, random.integers(1, 60_000, n), 20_000 + random.integers(-9, 10, n)
    )
    events["qty"] = random.integers(1, 20, n)
    return events


@pytest.mark.prove
def test_the_books_touch_nothing_outside_their_arrays(tmp_path) -> None:
    program = (
        "from tests.engine.test_book import *\n"
        "books = make_books(3, max_orders=100, max_fills=16)\n"
        "print(apply_all(books, random_events(20_000), empty_fills(10)))\n"
        "from tests.engine.test_levels import random_levels\n"
        "books = make_books(1, max_orders=50, max_fills=16, level_book=True)\n"
        "print(apply_all(books, random_levels(20_000), empty_fills(10)))\n"
    )
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(int(count) > 1000 for count in done.stdout.split())
