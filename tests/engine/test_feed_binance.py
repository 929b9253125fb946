"""Binance captures: synchronised as the venue says, and checked against its own best quotes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from engine.events import CLEAR, LEVEL, TRADE
from engine.feeds.binance import read as read_capture
from engine.feeds.capture import CaptureCheck, check_capture
from engine.feeds.tape import load_tape
from metrics.errors import DeskvigilError

FUTURES = "binance/usdm_btcusdt_20240808.gz"
SPOT = "binance/spot_btcusdt_20240808.gz"


def test_a_futures_capture_has_no_gap_and_every_quote_agrees(marketdata) -> None:
    capture = read_capture(marketdata / FUTURES)
    assert (capture.counters.gaps, capture.counters.skipped, len(capture.checks)) == (0, 0, 629)
    assert check_capture(capture) == CaptureCheck(rows=126, mismatches=0)
    assert capture.instruments[0].symbol == "BTCUSDT"
    assert capture.instruments[0].tick_size_usd == pytest.approx(0.1)
    assert capture.instruments[0].lot_size == pytest.approx(0.001)


def test_a_spot_capture_has_no_gap_and_every_quote_agrees(marketdata) -> None:
    capture = read_capture(marketdata / SPOT)
    assert (capture.counters.gaps, capture.counters.skipped) == (0, 0)
    assert check_capture(capture) == CaptureCheck(rows=564, mismatches=0)


def test_a_lost_line_is_a_gap_and_shows_in_the_quotes(marketdata, tmp_path) -> None:
    lines = gzip.decompress((marketdata / FUTURES).read_bytes()).split(b"\n")
    depth = [k for k, line in enumerate(lines) if b"@depth" in line]
    del lines[depth[2000]]
    path = tmp_path / "lost"
    path.write_bytes(b"\n".join(lines))
    assert read_capture(path).counters.gaps == 1


def depth(first: int, last: int, bids: Any = (), asks: Any = (), **more: int) -> dict[str, Any]:
    data = {"e": "depthUpdate", "s": "XY", "U": first, "u": last, "b": list(bids), "a": list(asks), **more}
    return {"stream": "xy@depth@100ms", "data": data}


def trade(price: str, qty: str, buyer_is_maker: bool, **more: str) -> dict[str, Any]:
    return {"stream": "xy@trade", "data": {"s": "XY", "p": price, "q": qty, "m": buyer_is_maker, **more}}


def quote(update: int, bid: str, bid_qty: str, ask: str, ask_qty: str) -> dict[str, Any]:
    return {"stream": "xy@bookTicker", "data": {"u": update, "s": "XY", "b": bid, "B": bid_qty, "a": ask, "A": ask_qty}}


SNAPSHOT = {"lastUpdateId": 10, "bids": [["9.9", "1.50"], ["9.8", "2.00"]], "asks": [["10.1", "1.00"]]}


def capture_file(folder: Path, *messages: dict[str, Any]) -> Path:
    path = folder / "capture"
    path.write_text("".join(f"{1000 + k} {json.dumps(message)}\n" for k, message in enumerate(messages)))
    return path


def test_depth_from_before_the_snapshot_is_applied_after_it_where_it_reaches_beyond(tmp_path) -> None:
    path = capture_file(
        tmp_path,
        depth(5, 9, bids=[["9.7", "1"]]),
        depth(10, 12, bids=[["9.9", "0"]]),
        SNAPSHOT,
        depth(13, 13, asks=[["10.0", "0.25"]]),
        quote(13, "9.8", "2.00", "10.0", "0.25"),
    )
    capture = read_capture(path)
    assert list(capture.events["kind"]) == [CLEAR, LEVEL, LEVEL, LEVEL, LEVEL, LEVEL]
    assert list(capture.events["t_ns"]) == [1002, 1002, 1002, 1002, 1002, 1003]
    assert capture.counters.gaps == 0
    assert check_capture(capture) == CaptureCheck(rows=1, mismatches=0)


def test_a_quote_that_differs_from_the_book_is_a_mismatch(tmp_path) -> None:
    path = capture_file(
        tmp_path, SNAPSHOT, depth(11, 11, bids=[["9.9", "1"]]), quote(11, "9.9", "1.25", "10.1", "1.00")
    )
    assert check_capture(read_capture(path)) == CaptureCheck(rows=1, mismatches=1)


@pytest.mark.parametrize(
    ("first", "second", "gaps"),
    [
        (depth(11, 12), depth(13, 14), 0),
        (depth(11, 12), depth(14, 14), 1),
        (depth(12, 12), depth(13, 14), 1),
        (depth(11, 12, pu=9), depth(20, 21, pu=12), 0),
        (depth(11, 12, pu=9), depth(20, 21, pu=15), 1),
        (depth(18, 19, pu=17), depth(20, 21, pu=19), 1),
    ],
)
def test_breaks_in_the_chain_of_update_ids_are_counted(tmp_path, first, second, gaps) -> None:
    assert read_capture(capture_file(tmp_path, SNAPSHOT, first, second)).counters.gaps == gaps


def test_prints_carry_the_aggressor_s_side_and_ticks_and_lots_come_from_the_numbers(tmp_path) -> None:
    path = capture_file(tmp_path, SNAPSHOT, depth(11, 11), trade("10.1", "0.25", False), trade("9.9", "0.50", True))
    tape = load_tape(path)
    prints = tape.events[tape.events["kind"] == TRADE]
    assert list(prints["side"]) == [1, -1]
    assert list(prints["price"]) == [101, 99]
    assert list(prints["qty"]) == [1, 2]
    assert tape.instruments[0].tick_size_usd == pytest.approx(0.1)
    assert tape.instruments[0].lot_size == pytest.approx(0.25)
    assert tape.level_book
    assert not tape.simulated_market


def test_other_streams_prints_without_a_trade_and_a_cut_off_last_line_are_skipped_and_counted(tmp_path) -> None:
    other = {"stream": "xy@aggTrade", "data": {"p": "1"}}
    path = capture_file(tmp_path, SNAPSHOT, depth(11, 11), other, trade("0", "0", True, X="INSURANCE_FUND"))
    path.write_text(path.read_text() + '1009 {"stream":"xy@de')
    assert read_capture(path).counters.skipped == 3


@pytest.mark.parametrize(
    "line",
    [
        "1001 {broken",
        "999 {}",
        '99999999999999999999 {"stream":"xy@trade"}',
        "x {}",
        '1001 {"stream":"xy@depth","data":{"s":"XY","u":3}}',
        '1001 {"stream":"xy@trade","data":{"s":"XY","p":"1,5","q":"1","m":true}}',
        '1001 {"stream":"xy@trade","data":{"s":"XY","p":1.5,"q":"1","m":true}}',
        '1001 {"stream":"xy@trade","data":{"s":"XY","p":"-1","q":"1","m":true}}',
        '1001 {"stream":"xy@depth","data":{"s":"XY","U":1,"u":3,"b":[["1"]],"a":[]}}',
        "1001 [1]",
    ],
)
def test_a_damaged_line_is_skipped_and_its_place_is_kept(tmp_path, line) -> None:
    path = capture_file(tmp_path, SNAPSHOT)
    path.write_text(path.read_text() + line + "\n" + "1002 " + json.dumps(depth(11, 11, bids=[["9.9", "3"]])) + "\n")
    capture = read_capture(path)
    assert (capture.counters.skipped, capture.counters.gaps) == (1, 0)
    assert capture.counters.skipped_at[0][0] == 2
    assert list(capture.events["kind"]) == [CLEAR, LEVEL, LEVEL, LEVEL, LEVEL]


def test_a_capture_without_a_snapshot_is_an_error(tmp_path) -> None:
    with pytest.raises(DeskvigilError, match="snapshot"):
        load_tape(capture_file(tmp_path, depth(11, 11)))


def test_a_capture_of_two_symbols_is_an_error(tmp_path) -> None:
    second = depth(11, 11)
    second["data"]["s"] = "ZZ"
    with pytest.raises(DeskvigilError, match="one symbol, found XY, ZZ"):
        load_tape(capture_file(tmp_path, SNAPSHOT, depth(11, 11), second))
