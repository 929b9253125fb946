"""Bitstamp: order events become a book that never crosses, in which own orders meet the recorded flow."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.book import Books, apply, best_price, counters, depth, make_books, order_qty, traded_lots
from engine.events import CANCEL, EXECUTE, HALT, LIMIT, REDUCE, RESUME
from engine.feeds.bitstamp import HEADER, load, read
from engine.feeds.capture import Capture
from engine.replay import replay

RECORDED = "bitstamp_l3/orders_2015-05-01.csv.xz"
T0_MS = 1_430_438_404_000
Row = tuple[int, int, float, int, str, str]  # order id, ms, price, volume, action, direction


def write(folder: Path, rows: list[Row | str]) -> Path:
    path = folder / "orders.csv"
    lines = [HEADER.decode()]
    for row in rows:
        if isinstance(row, str):
            lines.append(row)
        else:
            order_id, ms, price, volume, action, side = row
            lines.append(f"{order_id},{T0_MS + ms},{T0_MS},{price:.2f},{volume},{action},{side}")
    path.write_text("\n".join(lines) + "\n")
    return path


def play(capture: Capture, books: Books) -> int:
    """Apply event by event; returns how many were refused. The book must never be crossed nor a level empty."""
    refused = 0
    prices, lots = np.zeros(64, dtype=np.int64), np.zeros(64, dtype=np.int64)
    for k, event in enumerate(capture.events.tolist()):
        t_ns, order_id, price, qty, instrument, kind, side, flags = event
        refused += apply(books, t_ns, order_id, price, qty, instrument, kind, side, flags) < 0
        bid, ask = best_price(books, 0, 1), best_price(books, 0, -1)
        assert not 0 < ask <= bid
        if k % 500 == 0:
            for one in (1, -1):
                assert (lots[: depth(books, 0, one, prices, lots)] > 0).all()
    return refused


def test_the_recorded_hours_never_cross_and_no_level_is_negative(marketdata) -> None:
    found = replay("bitstamp", marketdata / RECORDED, verify=True)
    assert (found["book_rows_checked"], found["mismatches"]) == (50_414, 0)
    assert (found["gaps"], found["skipped_lines"], found["fills"]) == (0, 0, 578)
    books = make_books(1)
    assert play(read(marketdata / RECORDED), books) == 0
    assert not any(count for name, count in counters(books).items() if name.startswith("refused"))


def test_an_aggressor_executes_what_it_meets_and_rests_with_what_is_left(tmp_path) -> None:
    rows: list[Row | str] = [
        (1, 0, 236.50, 100, "created", "ask"),
        (2, 10, 236.60, 300, "created", "ask"),
        (3, 20, 236.55, 250, "created", "bid"),
        (1, 30, 236.50, 0, "deleted", "ask"),
        (3, 31, 236.55, 150, "changed", "bid"),
    ]
    events = load(write(tmp_path, rows)).events
    assert list(events["kind"]) == [HALT, LIMIT, LIMIT, EXECUTE, LIMIT, REDUCE]
    assert list(events["order_id"]) == [0, 1, 2, 1, 3, 3]
    books = make_books(1)
    capture = read(write(tmp_path, rows))
    assert play(capture, books) == 0
    lot = round(capture.instruments[0].lot_size * 1e8)
    assert order_qty(books, 0, 3) * lot == 150
    assert traded_lots(books, 0) * lot == 100


def test_a_trade_whose_two_losses_come_the_other_way_round_is_one_trade(tmp_path) -> None:
    rows: list[Row | str] = [
        (1, 0, 236.50, 100, "created", "ask"),
        (3, 20, 236.55, 40, "created", "bid"),
        (3, 30, 236.55, 0, "deleted", "bid"),
        (1, 35, 236.50, 60, "changed", "ask"),
    ]
    events = load(write(tmp_path, rows)).events
    assert list(events["kind"]) == [HALT, LIMIT, EXECUTE]


def test_an_own_order_before_a_recorded_one_trades_first_and_meets_what_arrives(tmp_path) -> None:
    rows: list[Row | str] = [
        (1, 0, 236.50, 100, "created", "ask"),
        (2, 5, 200.01, 1, "created", "bid"),
        (3, 20, 236.50, 40, "created", "bid"),
        (1, 30, 236.50, 60, "changed", "ask"),
        (3, 30, 236.50, 0, "deleted", "bid"),
        (4, 90, 236.45, 30, "created", "ask"),
    ]
    capture = read(write(tmp_path, rows))
    tick = round(capture.instruments[0].tick_size_usd * 100)
    lot = round(capture.instruments[0].lot_size * 1e8)
    books = make_books(1)
    fills = []
    flow = capture.events[capture.events["kind"] != HALT]  # the venue matched while we were still building its book
    for k, (t_ns, order_id, price, qty, _, kind, side, flags) in enumerate(flow.tolist()):
        if k == 2:
            apply(books, t_ns, -1, 23650 // tick, 15 // lot, 0, LIMIT, -1, 0)
            apply(books, t_ns, -2, 23645 // tick, 20 // lot, 0, LIMIT, 1, 0)
            apply(books, t_ns, -3, 23649 // tick, 25 // lot, 0, LIMIT, -1, 0)
        count = apply(books, t_ns, order_id, price, qty, 0, kind, side, flags)
        fills += [(int(fill["maker_id"]), int(fill["qty"]) * lot) for fill in books.fills[: max(count, 0)]]
    # 40 were sold: our better ask of 25 first; the one behind order 1 in the queue gets nothing.
    assert fills == [(-3, 25), (1, 40), (-2, 20)]


@pytest.mark.parametrize(
    ("rows", "kinds", "duplicates"),
    [
        ([(9, 0, 5.0, 7, "deleted", "bid"), (9, 1, 5.0, 7, "created", "bid")], [], 1),
        ([(9, 0, 5.0, 7, "created", "bid"), (9, 1, 5.0, 7, "created", "bid")], [LIMIT], 1),
        ([(9, 0, 5.0, 7, "created", "bid"), (9, 1, 5.0, 0, "deleted", "bid"), (9, 2, 5.0, 3, "changed", "bid")],
         [LIMIT, EXECUTE], 1),
        ([(9, 0, 5.0, 7, "changed", "bid"), (9, 1, 5.0, 7, "deleted", "bid")], [LIMIT, CANCEL], 0),
        ([(9, 0, 5.0, 7, "created", "bid"), (9, 1, 5.5, 7, "changed", "bid")], [LIMIT, CANCEL, LIMIT], 0),
        ([(9, 0, 5.0, 7, "created", "bid"), (9, 1, 5.0, 9, "changed", "bid")], [LIMIT, CANCEL, LIMIT], 0),
    ],
)  # fmt: skip
def test_events_out_of_order_and_out_of_nowhere(tmp_path, rows, kinds, duplicates) -> None:
    start: list[Row | str] = [(1, 0, 100.0, 5, "created", "ask")]
    capture = read(write(tmp_path, start + rows))
    assert list(capture.events["kind"]) == [HALT, LIMIT, *kinds]
    assert capture.counters.duplicates == duplicates


def test_an_order_whose_end_was_lost_does_not_stand_in_the_way_for_long(tmp_path) -> None:
    rows: list[Row | str] = [
        (1, 0, 236.50, 100, "created", "ask"),
        (2, 100, 236.60, 50, "created", "bid"),
        (3, 6_000, 236.00, 50, "created", "bid"),
    ]
    capture = read(write(tmp_path, rows))
    assert capture.counters.gaps == 1
    assert list(capture.events["kind"]) == [HALT, LIMIT, LIMIT, CANCEL, LIMIT]
    assert list(capture.events["order_id"]) == [0, 1, 3, 1, 2]


def test_damaged_lines_are_counted_with_their_places_and_change_nothing(tmp_path) -> None:
    good: list[Row | str] = [(1, 0, 236.50, 100, "created", "ask"), (2, 1, 236.40, 10, "created", "bid")]
    damaged: list[Row | str] = [
        "65595247,1430438404518",
        "65595247,abc,1430438404000,236.47,1,created,bid",
        "65595247,1430438404518,1430438404000,236.47,1,invented,bid",
        "65595247,1430438404518,1430438404000,-236.47,1,created,bid",
        "65595247,1430438404518,1430438404000,236.47,-1,created,bid",
        "0,1430438404518,1430438404000,236.47,1,created,bid",
        "65595247,1430438404518,1430438404000,236.47,1,created,hold",
        "65595247,1430438404518,1430438404000,236.47,1,created,bid,more",
        "\x00\x01\x02",
    ]
    capture = read(write(tmp_path, [good[0], *damaged, good[1]]))
    assert [line for line, _ in capture.counters.skipped_at] == list(range(3, 12))
    assert list(capture.events["order_id"]) == [0, 1, 2]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_a_venue_whose_messages_change_places_still_gives_a_book_that_never_crosses(tmp_path, seed) -> None:
    rows = venue_rows(seed, 200)
    capture = read(write(tmp_path, list(rows)))
    books = make_books(1)
    assert play(capture, books) == 0
    found = replay("bitstamp", tmp_path / "orders.csv")
    assert (found["mismatches"], found["skipped_lines"]) == (0, 0)


def venue_rows(seed: int, steps: int) -> list[Row]:
    """A small venue that matches by price; its messages arrive up to 100 ms late, so they change places."""
    rng = random.Random(seed)
    live: dict[int, list[int]] = {}  # id: side, price in cents, volume
    sent: list[tuple[float, Row]] = []

    def say(ms: int, order_id: int, action: str) -> None:
        side, price, volume = live[order_id]
        row = (order_id, ms, price / 100, volume, action, "bid" if side > 0 else "ask")
        sent.append((ms + rng.random() * 100, row))

    for k in range(steps):
        ms, side = 30 * k, rng.choice((1, -1))
        if live and rng.random() < 0.35:
            order_id = rng.choice(list(live))
            say(ms, order_id, "deleted")
            del live[order_id]
            continue
        taker, price, left = 1000 + k, 20_000 - side * rng.randrange(-4, 20), rng.randrange(1, 50)
        live[taker] = [side, price, left]
        say(ms, taker, "created")
        others = sorted((o[1] * side, i) for i, o in live.items() if o[0] == -side and side * (price - o[1]) >= 0)
        for _, maker in others:
            if live[taker][2] == 0:
                break
            traded = min(live[taker][2], live[maker][2])
            for order_id in (maker, taker):
                live[order_id][2] -= traded
                say(ms, order_id, "changed" if live[order_id][2] else "deleted")
            if live[maker][2] == 0:
                del live[maker]
        if live[taker][2] == 0:
            del live[taker]
    return [(i, round(late), *rest) for late, (i, _, *rest) in sorted(sent, key=lambda pair: pair[0])]  # type: ignore[misc]


def test_nobody_trades_on_a_book_that_is_still_being_built(marketdata, tmp_path) -> None:
    rows: list[Row | str] = [(k, 100_000 * k, 236.50 - k / 100, 100, "created", "bid") for k in range(1, 6)]
    events = load(write(tmp_path, rows)).events
    assert list(events["kind"]) == [HALT, LIMIT, LIMIT, LIMIT, RESUME, LIMIT, LIMIT]  # 300 s after the first
    tape = load(marketdata / RECORDED)
    phases = tape.events[np.isin(tape.events["kind"], (HALT, RESUME))]
    assert list(phases["kind"]) == [HALT, RESUME]
    assert 300 <= (phases["t_ns"][1] - phases["t_ns"][0]) / 1e9 < 302
