"""The order book: price-time priority, checked event by event against a slow reference and a ledger."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import (
    Books,
    apply,
    apply_all,
    best_price,
    counters,
    depth,
    is_halted,
    last_trade_price,
    make_books,
    others_price,
    own_orders,
    qty_ahead,
    reset,
)
from engine.events import (
    CANCEL,
    CLEAR,
    EVERYTHING,
    EXECUTE,
    FOK,
    HALT,
    IOC,
    LIMIT,
    POST_ONLY,
    REDUCE,
    REFUSAL_NAMES,
    REPLACE,
    REST_ONLY,
    RESUME,
    STP_BOTH,
    STP_TAKER,
    empty_events,
    empty_fills,
)
from engine.feeds.tape import load_tape
from tests.engine.ledger import Ledger
from tests.engine.reference_book import Fill, ReferenceBook

INSTRUMENTS = 3
BOOKS = make_books(INSTRUMENTS, max_orders=256, max_fills=256)
FIELDS = ("maker_id", "taker_id", "price", "qty", "side", "flags")
KINDS = (
    [LIMIT] * 8 + [IOC] * 4 + [CANCEL] * 3 + [REDUCE] * 2 + [REPLACE] * 4 + [EXECUTE] * 2 + [CLEAR, HALT, RESUME, RESUME]
)  # fmt: skip
FLAGS = {
    LIMIT: [0, 0, 0, 0, REST_ONLY, POST_ONLY, STP_TAKER, STP_BOTH],
    REPLACE: [0, 0, 0, 0, REST_ONLY, POST_ONLY, STP_TAKER, STP_BOTH],
    IOC: [0, 0, STP_TAKER, STP_BOTH, FOK, FOK, FOK | STP_TAKER, FOK | STP_BOTH],
    CLEAR: [0, EVERYTHING],
}
IDS = [*range(1, 12), -1, -2, -3, -4, -5]

near = st.integers(95, 105)
anywhere = st.one_of(near, near, near, st.integers(1, 20_000), st.integers(1, 1 << 40))


@st.composite
def some_event(draw: st.DrawFn) -> tuple[int, int, int, int, int, int, int]:
    """(instrument, kind, order_id, side, price, qty, flags); few ids, so that orders are met again and again."""
    kind = draw(st.sampled_from(KINDS))
    price = draw(anywhere)
    if kind == IOC and draw(st.booleans()):
        price = 0  # a market order
    flags = draw(st.sampled_from(FLAGS.get(kind, [0])))
    return (
        draw(st.sampled_from([0, 1, 1, 1, 2])), kind, draw(st.sampled_from(IDS)), draw(st.sampled_from([1, -1])), price,
        draw(st.integers(1, 9)), flags,
    )  # fmt: skip


def levels(books: Books, i: int, side: int) -> list[tuple[int, int]]:
    prices, quantities = np.zeros(64, dtype=np.int64), np.zeros(64, dtype=np.int64)
    count = depth(books, i, side, prices, quantities)
    return list(zip(prices[:count].tolist(), quantities[:count].tolist(), strict=True))


def play(books: Books, i: int, kind: int, order_id: int, side: int, price: int, qty: int, flags: int):
    """Apply one event; a list of its fills or the refusal."""
    count = apply(books, 7, order_id, price, qty, i, kind, side, flags)
    if count < 0:
        return count
    columns = [books.fills[:count][name].tolist() for name in FIELDS]
    return list(zip(*columns, strict=True))


class Twins:
    """The compiled books beside their references, and a ledger for each instrument."""

    def __init__(self, books: Books, instruments: int = INSTRUMENTS) -> None:
        reset(books)
        self.books = books
        self.references = [ReferenceBook() for _ in range(instruments)]
        self.ledgers = [Ledger(books, i) for i in range(instruments)]
        self.events = 0

    def apply(self, i: int, *event: int) -> int | list[Fill]:
        """Apply an event to both; they agree in its outcome and in the whole instrument, and nothing is lost."""
        self.events += 1
        outcome = play(self.books, i, *event)
        assert outcome == self.references[i].apply(*event)
        self.ledgers[i].follow(*event, outcome)
        self.compare(i)
        return outcome

    def compare(self, i: int) -> None:
        books, reference = self.books, self.references[i]
        for side in (1, -1):
            queue = reference.queue(side)
            assert levels(books, i, side) == reference.depth(side)[:64]
            assert best_price(books, i, side) == (queue[0].price if queue else 0)
            assert others_price(books, i, side) == next((o.price for o in queue if o.order_id > 0), 0)
            ahead: Counter[int] = Counter()
            for order in queue:
                assert qty_ahead(books, i, order.order_id) == ahead[order.price]
                ahead[order.price] += order.qty
        assert own_orders(books, i) == sum(order.order_id < 0 for order in reference.orders)
        assert is_halted(books, i) == reference.halted
        assert last_trade_price(books, i) == reference.last_price

    def compare_counters(self) -> None:
        counted = counters(self.books)
        refused = sum((reference.refused for reference in self.references), Counter[str]())
        assert {name: counted[f"refused_{name}"] for name in REFUSAL_NAMES} == {n: refused[n] for n in REFUSAL_NAMES}
        assert counted["events"] == self.events
        assert counted["resting"] == sum(len(reference.orders) for reference in self.references)
        assert counted["resting_peak"] >= counted["resting"]
        assert counted["lost_fills"] == 0


def run_streams(events: list[tuple[int, ...]]) -> None:
    twins = Twins(BOOKS)
    for i, *event in events:
        twins.apply(i, *event)
        twins.compare_counters()
    for i in range(INSTRUMENTS):
        twins.compare(i)


@settings(max_examples=400)
@given(st.lists(some_event(), max_size=50))
def test_every_event_gives_the_fills_and_the_book_that_the_reference_gives(events) -> None:
    run_streams(events)


@pytest.mark.prove
@settings(max_examples=8_000)
@given(st.lists(some_event(), max_size=70))
def test_thousands_of_streams_give_what_the_reference_gives(events) -> None:
    run_streams(events)


def long_run(events: int, seed: int) -> Counter[int]:
    """A seeded stream around a wandering price, most of it about orders that rest or have just gone."""
    random = np.random.default_rng(seed)
    twins = Twins(BOOKS)
    outcomes: Counter[int] = Counter()
    price, last_id = 50_000, 0
    recent: list[int] = [1]
    for _ in range(events):
        i, side = int(random.integers(INSTRUMENTS)), 1 - 2 * int(random.integers(2))
        kind = KINDS[int(random.integers(len(KINDS) - 4))]  # halts and clearings less often than there
        if random.random() < 0.01:
            kind = RESUME if twins.references[i].halted else (HALT, CLEAR)[int(random.integers(2))]
        if random.random() < 0.01:
            price += int(random.integers(-3_000, 3_001))
        limit = max(price + int(random.normal() * (4 if random.random() < 0.97 else 4_000)), 1)
        flags = FLAGS.get(kind, [0])[int(random.integers(len(FLAGS.get(kind, [0]))))]
        order_id = recent[int(random.integers(len(recent)))]
        if twins.references[i].orders and random.random() < 0.5:
            order_id = twins.references[i].orders[int(random.integers(len(twins.references[i].orders)))].order_id
        if kind == LIMIT:
            last_id += 1
            order_id = -last_id if random.random() < 0.3 else last_id
            recent = [*recent[-60:], order_id]
        elif kind == IOC:
            order_id = -(1 << 40) if random.random() < 0.4 else 0
            limit = limit if random.random() < 0.7 else 0
        outcome = twins.apply(i, kind, order_id, side, limit, int(random.integers(1, 30)), flags)
        outcomes[kind if isinstance(outcome, list) else outcome] += 1
    twins.compare_counters()
    return outcomes


def test_a_long_stream_gives_what_the_reference_gives() -> None:
    outcomes = long_run(4_000, seed=20)
    assert all(outcomes[-1 - k] > 0 for k in (0, 4, 5, 6)), "the stream does not reach what it is to try"
    assert all(outcomes[kind] > 0 for kind in set(KINDS))


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(5))
def test_long_streams_give_what_the_reference_gives(seed) -> None:
    long_run(40_000, seed)


@settings(max_examples=40)
@given(st.lists(some_event(), min_size=1, max_size=60))
def test_the_same_events_give_the_same_state_to_the_last_bit(events) -> None:
    states = []
    for _ in range(2):
        books = make_books(INSTRUMENTS, max_orders=64, max_fills=64)
        for i, kind, order_id, side, price, qty, flags in events:
            apply(books, 7, order_id, price, qty, i, kind, side, flags)
        states.append((books.words.tobytes(), books.fills.tobytes()))
    assert states[0] == states[1]


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
    events["kind"] = random.choice([kind for kind in KINDS if kind != CLEAR], n)
    events["order_id"] = random.choice([*range(1, 90), *range(-9, 0)], n)
    events["instrument"] = random.integers(0, INSTRUMENTS, n)
    events["side"] = random.choice([1, -1], n)
    events["price"] = np.where(
        random.random(n) < 0.1, random.integers(1, 60_000, n), 20_000 + random.integers(-9, 10, n)
    )
    events["qty"] = random.integers(1, 20, n)
    events["flags"] = [random.choice(FLAGS.get(int(kind), [0])) for kind in events["kind"]]
    return events


def checked_build(events: int, folder: Path) -> list[int]:
    """How many fills the streams gave in books that were compiled with every index checked."""
    program = (
        "from tests.engine.test_book import *\n"
        "books = make_books(3, max_orders=100, max_fills=16)\n"
        f"print(apply_all(books, random_events({events}), empty_fills(10)))\n"
        "from tests.engine.test_levels import random_levels\n"
        "books = make_books(1, max_orders=50, max_fills=16, level_book=True)\n"
        f"print(apply_all(books, random_levels({events}), empty_fills(10)))\n"
    )
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(folder)}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(count) for count in done.stdout.split()]


@pytest.mark.prove
def test_the_books_touch_nothing_outside_their_arrays(tmp_path) -> None:
    assert all(count > 1_000 for count in checked_build(20_000, tmp_path))
