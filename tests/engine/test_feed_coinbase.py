"""Coinbase: the recorded tickers agree with the book, and generated products of any precision come out right."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.events import CLEAR, HALT, LEVEL, TRADE
from engine.feeds.coinbase import CoinbaseDecoder, load, read
from engine.feeds.decoder import FeedState, Remedy
from engine.replay import replay
from tests.engine.test_feed_kraken import in_the_book

RECORDED = "coinbase_l2/COINBASE.ws.28.0.xz"
PRODUCT = "ANY-THING"


def at(k: int) -> str:
    return f"2021-04-17T16:43:{k // 1000:02d}.{k % 1000:03d}000Z"


def snapshot(bids: Any, asks: Any, product: str = PRODUCT) -> dict[str, Any]:
    return {"type": "snapshot", "product_id": product, "bids": bids, "asks": asks}


def update(k: int, *changes: list[str], product: str = PRODUCT) -> dict[str, Any]:
    return {"type": "l2update", "product_id": product, "changes": list(changes), "time": at(k)}


def match(k: int, trade_id: int, side: str = "sell", price: str = "10.1", kind: str = "match") -> dict[str, Any]:
    numbers = {"trade_id": trade_id, "size": "0.5", "price": price, "sequence": trade_id * 3}
    return {"type": kind, "product_id": PRODUCT, "side": side, "time": at(k), **numbers}


def ticker(k: int, bid: str, ask: str) -> dict[str, Any]:
    return {"type": "ticker", "product_id": PRODUCT, "best_bid": bid, "best_ask": ask, "time": at(k), "sequence": k}


BOOK = snapshot([["9.9", "1.5"], ["9.80", "2"]], [["10.1", "1"], ["10.2", "0.25"]])


def write(folder: Path, *messages: Any) -> Path:
    path = folder / "capture"
    lines = [
        message if isinstance(message, str) else json.dumps(message, separators=(",", ":")) for message in messages
    ]
    path.write_text(
        "wss://ws-feed.pro.coinbase.com <-> 1618677816.84\n"
        + "".join(f"{1618677817 + k / 1000:.6f}: {line}\n" for k, line in enumerate(lines))
    )
    return path


def test_every_comparable_recorded_ticker_agrees_and_no_book_crosses(marketdata) -> None:
    found = replay("coinbase", marketdata / RECORDED, verify=True)
    assert (found["book_rows_checked"], found["mismatches"]) == (97, 0)
    assert (found["gaps"], found["skipped_lines"], found["fills"]) == (0, 0, 97)
    tape = load(marketdata / RECORDED)
    assert tape.level_book
    assert len(tape.instruments) == 10


def test_a_ticker_that_differs_from_the_book_is_a_mismatch(tmp_path) -> None:
    good = [BOOK, update(1, ["sell", "10.1", "0"]), ticker(1, "9.9", "10.20")]
    assert replay("coinbase", write(tmp_path, *good))["mismatches"] == 0
    found = replay("coinbase", write(tmp_path, *good[:2], ticker(1, "9.9", "10.1")))
    assert (found["book_rows_checked"], found["mismatches"]) == (1, 1)


def test_a_ticker_before_the_updates_of_its_trade_is_compared_once_they_are_in(tmp_path) -> None:
    messages = [BOOK, ticker(5, "9.9", "10.2"), update(5, ["sell", "10.1", "0"]), update(6, ["buy", "9.95", "1"])]
    found = replay("coinbase", write(tmp_path, *messages))
    assert (found["book_rows_checked"], found["mismatches"]) == (1, 0)


def test_a_ticker_from_before_the_snapshot_is_not_comparable(tmp_path) -> None:
    found = replay("coinbase", write(tmp_path, BOOK, ticker(0, "8", "9"), update(1, ["buy", "9.9", "1"])))
    assert found["book_rows_checked"] == 0


def test_the_aggressor_is_the_other_side_of_the_match_s(tmp_path) -> None:
    events = load(write(tmp_path, BOOK, match(1, 7, "sell"), match(2, 8, "buy", "9.9"))).events
    assert list(events[events["kind"] == TRADE]["side"]) == [1, -1]


@pytest.mark.parametrize(
    ("messages", "gaps", "duplicates"),
    [
        ([match(1, 7, kind="last_match"), match(2, 8), match(3, 9)], 0, 0),
        ([match(1, 7, kind="last_match"), match(2, 9)], 1, 0),
        ([match(1, 7), match(2, 8), match(3, 8)], 0, 1),
        ([update(2, ["buy", "9.9", "1"]), update(1, ["buy", "9.9", "3"])], 1, 0),
        ([update(2, ["buy", "10.1", "1"])], 1, 0),
        ([update(2, ["buy", "10.1", "1"], ["sell", "10.1", "0"])], 0, 0),
    ],
)
def test_missing_and_misplaced_messages_are_gaps_and_void_the_book(tmp_path, messages, gaps, duplicates) -> None:
    decoder = CoinbaseDecoder()
    updates = []
    for k, message in enumerate([BOOK, *messages]):
        updates += decoder.decode(json.dumps(message).encode(), k)
    assert (decoder.counters.gaps, decoder.counters.duplicates) == (gaps, duplicates)
    assert decoder.state(PRODUCT) is (FeedState.GAP if gaps else FeedState.LIVE)
    assert decoder.requires(PRODUCT) is (Remedy.RESUBSCRIBE if gaps else Remedy.NOTHING)
    assert ([update.kind for update in updates].count(HALT)) == gaps
    decoder.decode(json.dumps(BOOK).encode(), 99)
    assert decoder.state(PRODUCT) is FeedState.LIVE


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(decimals=st.integers(0, 12), lot_decimals=st.integers(0, 8), seed=st.integers(0, 10**6))
def test_a_product_of_any_precision_is_the_dict_that_its_messages_make(tmp_path, decimals, lot_decimals, seed) -> None:
    rng = random.Random(seed)
    book: dict[str, dict[int, int]] = {"buy": {}, "sell": {}}

    def level(side: str) -> list[str]:
        ticks = 1000 - (1 if side == "buy" else -1) * rng.randrange(1, 50)
        lots = rng.choice([0, 1, 7, rng.randrange(10**6)])
        book[side][ticks] = lots
        # Half of the numbers drop the zeros they need not have.
        price = f"{ticks / 10**decimals:.{decimals}f}"
        return [price.rstrip("0").rstrip(".") if "." in price and rng.random() < 0.5 else price,
                f"{lots / 10**lot_decimals:.{lot_decimals}f}"]  # fmt: skip

    first = snapshot(*([level(side) for _ in range(15)] for side in ("buy", "sell")))
    messages: list[Any] = [first]
    for side in ("bids", "asks"):  # a price twice in a snapshot: the last counts, as in the book
        first[side] = [
            row for k, row in enumerate(first[side]) if all(float(row[0]) != float(o[0]) for o in first[side][k + 1 :])
        ]
    for k in range(80):
        changes = []
        for _ in range(rng.randrange(1, 4)):
            side = rng.choice(["buy", "sell"])
            changes.append([side, *level(side)])
        messages.append(update(k, *changes))
    capture = read(write(tmp_path, *messages))
    assert (capture.counters.gaps, capture.counters.skipped) == (0, 0)
    found, row = in_the_book(capture), capture.instruments[0]
    for side, name in ((1, "buy"), (-1, "sell")):
        expected = {ticks: lots for ticks, lots in book[name].items() if lots}
        ordered = sorted(expected, reverse=side > 0)
        assert [price * row.tick_size_usd for price in found[side]] == pytest.approx(
            [ticks / 10**decimals for ticks in ordered], rel=1e-9
        )
        assert [lots * row.lot_size for lots in found[side].values()] == pytest.approx(
            [expected[ticks] / 10**lot_decimals for ticks in ordered], rel=1e-9
        )


def test_damaged_lines_are_counted_with_their_places_and_change_nothing(tmp_path) -> None:
    good = update(1, ["buy", "9.95", "4"])
    damaged = [
        json.dumps(good)[:40],
        update(2, ["buy", "0", "4"]),
        update(2, ["buy", "9.7", "4"], ["hold", "9.7", "4"]),
        update(2, ["buy", "9.7", 4.0]),  # type: ignore[list-item]
        {"type": "l2update", "changes": [], "time": at(1)},
        {"type": "surprise"},
        {"type": "match", "product_id": PRODUCT, "side": "sell"},
    ]
    capture = read(write(tmp_path, BOOK, *damaged, good))
    assert [line for line, _ in capture.counters.skipped_at] == [3, 4, 5, 6, 7, 8, 9]
    assert capture.counters.skipped == 7
    assert in_the_book(capture) == in_the_book(read(write(tmp_path, BOOK, good)))
    assert list(capture.events["kind"]) == [CLEAR, LEVEL, LEVEL, LEVEL, LEVEL, LEVEL]


def test_lines_whose_stamps_are_damaged_are_skipped_and_those_out_of_order_keep_their_place(tmp_path) -> None:
    path = write(tmp_path, BOOK, update(1, ["buy", "9.95", "4"]), update(2, ["buy", "9.95", "0"]))
    lines = path.read_text().splitlines()
    one = json.dumps(update(1, ["buy", "9.91", "1"]))
    lines[2:2] = [f"1918677817.5: {one}", f"16x: {one}"]
    lines[4] = lines[4].replace("1618677817.", "1618677816.")
    path.write_text("\n".join(lines))
    capture = read(path)
    assert [line for line, _ in capture.counters.skipped_at] == [3, 4]
    assert (capture.events["t_ns"][1:] >= capture.events["t_ns"][:-1]).all()
    assert list(in_the_book(capture)[1].values()) == [6, 8]
