"""Decoders: what they do message by message, as a live socket feeds them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import CLEAR, HALT, LEVEL, RESUME, TRADE
from engine.feeds.binance import BinanceDecoder
from engine.feeds.coinbase import CoinbaseDecoder
from engine.feeds.decimals import UNIT, Increments, increments_of, units
from engine.feeds.decoder import Decoder, FeedState, MessageDecoder, Remedy, Update
from engine.feeds.kraken import KrakenDecoder

S = 10**9


def depth(first: int, last: int, bids: Any = (), asks: Any = (), symbol: str = "XY", **more: int) -> bytes:
    data = {"e": "depthUpdate", "s": symbol, "U": first, "u": last, "b": list(bids), "a": list(asks), **more}
    return json.dumps({"stream": f"{symbol.lower()}@depth@100ms", "data": data}).encode()


def rest(last: int, bids: Any = (("9.9", "1.50"),), asks: Any = (("10.1", "1.00"),)) -> bytes:
    return json.dumps({"lastUpdateId": last, "bids": list(bids), "asks": list(asks)}).encode()


def kinds(updates: list[Update]) -> list[int]:
    return [update.kind for update in updates]


KRAKEN_BOOK = b'[7,{"as":[["10.1","1.00","1.5"]],"bs":[["9.9","1.50","1.5"]]},"book-10","XY"]'
COINBASE_BOOK = b'{"type":"snapshot","product_id":"XY","bids":[["9.9","1.50"]],"asks":[["10.1","1.00"]]}'


def _binance_start(decoder: MessageDecoder) -> list[Update]:
    assert isinstance(decoder, BinanceDecoder)
    return decoder.decode_snapshot("XY", rest(10), S)


VENUES: list[tuple[Callable[[], MessageDecoder], Callable[[MessageDecoder], list[Update]]]] = [
    (BinanceDecoder, _binance_start),
    (KrakenDecoder, lambda decoder: decoder.decode(KRAKEN_BOOK, S)),
    (CoinbaseDecoder, lambda decoder: decoder.decode(COINBASE_BOOK, S)),
]


@pytest.mark.parametrize(("make", "start"), VENUES)
def test_every_decoder_goes_through_the_states_and_back(make, start) -> None:
    decoder: Decoder = make()
    assert (decoder.state("XY"), decoder.reason("XY")) == (FeedState.SYNCING, "not seen yet")
    assert kinds(start(decoder)) == [CLEAR, LEVEL, LEVEL]
    assert decoder.symbols == ["XY"]
    assert (decoder.state("XY"), decoder.requires("XY")) == (FeedState.LIVE, Remedy.NOTHING)
    assert decoder.increments("XY") == (UNIT // 10, UNIT // 100)

    assert decoder.look(10 * S) == []
    assert kinds(decoder.look(12 * S)) == [HALT]
    assert (decoder.state("XY"), decoder.requires("XY")) == (FeedState.STALE, Remedy.RECONNECT)
    assert "11.0 s" in decoder.reason("XY")
    assert decoder.look(13 * S) == []
    assert kinds(decoder.decode(b'{"event":"heartbeat","type":"heartbeat"}', 14 * S)) == [RESUME]
    assert decoder.state("XY") is FeedState.LIVE

    assert kinds(decoder.disconnected(15 * S)) == [CLEAR, HALT]
    assert (decoder.state("XY"), decoder.requires("XY")) == (FeedState.DISCONNECTED, Remedy.RECONNECT)
    assert decoder.connected(16 * S) == []
    assert decoder.state("XY") is FeedState.SYNCING
    assert decoder.requires("XY") in (Remedy.SNAPSHOT, Remedy.RESUBSCRIBE)
    assert kinds(start(decoder)) == [CLEAR, LEVEL, LEVEL, RESUME]
    assert decoder.state("XY") is FeedState.LIVE


@pytest.mark.parametrize(("make", "start"), VENUES)
@given(junk=st.one_of(st.binary(max_size=60), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["type", "event", "data", "stream", "a", "b", "c", "as", "bs", "s", "u", "U", "changes", "product_id",
                         "lastUpdateId", "bids", "asks", "time"]), inner, max_size=6),
    max_leaves=12).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_no_message_whatever_is_fatal_or_changes_a_live_book(make, start, junk) -> None:
    decoder = make()
    start(decoder)
    updates = decoder.decode(junk, 2 * S)
    assert updates == []
    assert decoder.state("XY") is FeedState.LIVE
    assert decoder.counters.skipped in (0, 1)


def test_a_break_in_binance_s_chain_voids_the_book_until_a_newer_snapshot() -> None:
    decoder = BinanceDecoder()
    decoder.decode_snapshot("XY", rest(10), 1)
    assert kinds(decoder.decode(depth(11, 12, [["9.8", "1"]]), 2)) == [LEVEL]
    assert kinds(decoder.decode(depth(14, 15, [["9.7", "1"]]), 3)) == [CLEAR, HALT]
    assert (decoder.state("XY"), decoder.requires("XY")) == (FeedState.GAP, Remedy.SNAPSHOT)
    assert decoder.decode(depth(16, 17, [["9.6", "1"]]), 4) == []
    # The snapshot ends within the messages that waited: the later of them are applied after it.
    assert kinds(decoder.decode_snapshot("XY", rest(15), 5)) == [CLEAR, LEVEL, LEVEL, RESUME, LEVEL]
    assert decoder.state("XY") is FeedState.LIVE
    assert kinds(decoder.decode(depth(18, 18, [["9.6", "0"]]), 6)) == [LEVEL]
    assert decoder.counters.gaps == 1


def test_a_snapshot_older_than_what_waits_leaves_the_gap_open() -> None:
    decoder = BinanceDecoder()
    decoder.decode(depth(14, 15), 1)
    assert kinds(decoder.decode_snapshot("XY", rest(10), 2)) == [CLEAR, LEVEL, LEVEL, CLEAR, HALT]
    assert (decoder.state("XY"), decoder.counters.gaps) == (FeedState.GAP, 1)
    assert kinds(decoder.decode_snapshot("XY", rest(14), 3))[-1] == RESUME
    assert decoder.state("XY") is FeedState.LIVE


def test_repeated_and_overtaken_messages_of_binance_change_nothing() -> None:
    decoder = BinanceDecoder()
    decoder.decode_snapshot("XY", rest(10), 1)
    decoder.decode(depth(11, 12, [["9.8", "1"]]), 2)
    assert decoder.decode(depth(11, 12, [["9.8", "1"]]), 3) == []
    assert decoder.decode_snapshot("XY", rest(9), 4) == []
    assert (decoder.counters.duplicates, decoder.counters.gaps) == (2, 0)


def test_several_symbols_share_a_binance_connection() -> None:
    decoder = BinanceDecoder()
    decoder.decode(depth(5, 9, symbol="AA"), 1)
    decoder.decode_snapshot("BB", rest(100), 2)
    assert decoder.decode(depth(10, 10, [["1", "1"]], symbol="AA"), 3) == []
    assert decoder.decode(depth(101, 101, [["1", "1"]], symbol="BB"), 4)[0].instrument == 1
    assert (decoder.state("AA"), decoder.state("BB")) == (FeedState.SYNCING, FeedState.LIVE)
    assert decoder.symbols == ["AA", "BB"]
    assert kinds(decoder.decode_snapshot("AA", rest(9), 5)) == [CLEAR, LEVEL, LEVEL, LEVEL]


def test_a_print_is_passed_on_in_every_state() -> None:
    decoder = BinanceDecoder()
    trade = {"stream": "xy@trade", "data": {"s": "XY", "p": "9.9", "q": "1", "m": True}}
    assert kinds(decoder.decode(json.dumps(trade).encode(), 1)) == [TRADE]


@given(seed=st.integers(0, 10**6), damage=st.sampled_from(["none", "lost", "twice", "swapped"]))
def test_binance_is_a_dict_book_or_says_that_it_is_not(seed, damage) -> None:
    rng = random.Random(seed)
    truth: dict[tuple[int, str], str] = {(1, "9.9"): "1.50", (-1, "10.1"): "1.00"}
    messages, last = [], 10
    for _ in range(30):
        bids = [[f"9.{rng.randrange(10)}", rng.choice(["0", "1.25", "7"])] for _ in range(rng.randrange(3))]
        asks = [[f"10.{rng.randrange(10)}", rng.choice(["0", "1.25", "7"])] for _ in range(rng.randrange(3))]
        first, last = last + 1, last + rng.randrange(1, 4)
        messages.append(depth(first, last, bids, asks))
        truth |= {(1, price): qty for price, qty in bids} | {(-1, price): qty for price, qty in asks}
    at = rng.randrange(28)
    if damage == "lost":
        del messages[at]
    elif damage == "twice":
        messages.insert(at + 1, messages[at])
    elif damage == "swapped":
        messages[at], messages[at + 1] = messages[at + 1], messages[at]
    decoder = BinanceDecoder()
    book: dict[tuple[int, int], int] = {}
    for updates in [decoder.decode_snapshot("XY", rest(10), 1), *(decoder.decode(m, 2) for m in messages)]:
        for update in updates:
            if update.kind == CLEAR:
                book.clear()
            elif update.kind == LEVEL:
                book[update.side, update.price] = update.qty
    if damage in ("none", "twice"):
        assert decoder.state("XY") is FeedState.LIVE
        wanted = {(side, units(price)): units(qty) for (side, price), qty in truth.items() if units(qty)}
        assert {level: qty for level, qty in book.items() if qty} == wanted
    else:
        assert decoder.state("XY") is FeedState.GAP
        assert book == {}


@pytest.mark.parametrize(
    ("make", "listing", "symbol", "expected"),
    [
        (BinanceDecoder, {"symbols": [{"symbol": "XY", "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"}, {"filterType": "LOT_SIZE", "stepSize": "0.00001000"}]}]},
         "XY", (UNIT // 100, UNIT // 10**5)),
        (CoinbaseDecoder, [{"id": "X-Y", "quote_increment": "0.01", "base_increment": "0.00000001"}],
         "X-Y", (UNIT // 100, UNIT // 10**8)),
        (KrakenDecoder, {"result": {"XY": {"wsname": "X/Y", "pair_decimals": 1, "lot_decimals": 8}}},
         "X/Y", (UNIT // 10, UNIT // 10**8)),
    ],
)  # fmt: skip
def test_ticks_and_lots_come_from_the_venue_s_list(make, listing, symbol, expected) -> None:
    decoder = make()
    decoder.learn(json.dumps(listing).encode())
    assert decoder.increments(symbol) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", UNIT), ("0.000000000000000001", 1), ("1e-8", UNIT // 10**8), ("12.50", 25 * UNIT // 2), ("0.0", 0), ("1.5E+3", 1500 * UNIT)],
)  # fmt: skip
def test_decimals_are_read_without_loss(text, expected) -> None:
    assert units(text) == expected


@pytest.mark.parametrize(
    "text", ["", ".", "-1", "1,5", "nan", "inf", "1_000", "0x1", "1e99", "0.0000000000000000001", "9" * 70, "٣"]
)
def test_what_is_no_decimal_is_refused(text) -> None:
    with pytest.raises(ValueError, match="expected"):
        units(text)


@given(st.lists(st.integers(1, 10**9), min_size=1), st.integers(1, 10**6), st.integers(1, 10**14))
def test_increments_are_the_largest_steps_and_lots_fit_the_book(prices, tick, lot) -> None:
    found = increments_of([price * tick for price in prices], [0, lot, 3 * lot])
    assert all(price * tick % found.tick == 0 for price in prices)
    assert found.tick % tick == 0
    assert found.lots(lot) == 1


def test_a_quantity_too_large_for_its_lots_is_counted_in_coarser_ones() -> None:
    found = increments_of([1], [1, 10**27])
    assert found.lots(10**27) <= 1 << 48
    assert found.lots(1) == 1
    assert found.lots(0) == 0


def test_a_price_off_the_grid_is_said() -> None:
    assert Increments(10, 1).ticks(50) == 5
    with pytest.raises(ValueError, match="no multiple"):
        Increments(10, 1).ticks(55)
