"""Order files: matched strictly, and refused with the line's number where they are not what they should be."""

from __future__ import annotations

import gzip
import lzma

import pytest

from engine.events import CANCEL, IOC, LIMIT, REDUCE
from engine.feeds.orders import HEADER, match_orders, read_orders
from engine.feeds.tape import load_tape
from metrics.errors import DeskvigilError

DAY = "orders/AMZN_2012-06-21.orders.csv.xz"
FLOW = HEADER.decode() + (
    "\n1,11,limit,sell,10200,30\n2,12,limit,sell,10100,10\n3,13,limit,sell,10100,20\n4,13,reduce,sell,10100,5\n"
    "5,,ioc,buy,10200,40\n6,11,cancel,sell,10200,15\n"
)


def test_a_recorded_day_gives_the_fills_that_strict_priority_must_give(marketdata, tmp_path) -> None:
    fills = match_orders(read_orders(marketdata / DAY))
    assert (len(fills.row), fills.crc32()) == (7_907, 1_441_236_958)
    fills.write(tmp_path / "fills.csv")
    expected = lzma.decompress((marketdata / "orders/AMZN_2012-06-21.fills.csv.xz").read_bytes())
    assert (tmp_path / "fills.csv").read_bytes() == expected


def test_better_prices_and_older_orders_trade_first(tmp_path) -> None:
    path = tmp_path / "FLOW_1.orders.csv"
    path.write_text(FLOW)
    fills = match_orders(read_orders(path))
    assert list(zip(fills.row, fills.resting_order_id, fills.qty, fills.price, strict=True)) == [
        (4, 12, 10, 10100),
        (4, 13, 15, 10100),
        (4, 11, 15, 10200),
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_the_tape_is_the_file_row_by_row_however_it_is_packed(tmp_path, pack) -> None:
    path = tmp_path / "FLOW_1.orders.csv"
    path.write_bytes(pack(FLOW.encode()))
    tape = load_tape(path)
    assert list(tape.events["kind"]) == [LIMIT, LIMIT, LIMIT, REDUCE, IOC, CANCEL]
    assert list(tape.events["price"]) == [102, 101, 101, 101, 102, 102]
    assert list(tape.events["side"]) == [-1, -1, -1, -1, 1, -1]
    assert tape.instruments[0].symbol == "FLOW"
    assert tape.instruments[0].tick_size_usd == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("7,14,market,buy,10100,5", "line 8, column 3 (kind): expected limit, reduce, cancel, ioc"),
        ("7,14,limit,long,10100,5", "line 8, column 4 (side): expected buy, sell"),
        ("7,14,limit,buy,101.5,5", "line 8"),
        ("7,14,limit,buy,10100", "line 8"),
        ("7,14,limit,buy,10100,5,6", "line 8"),
        ("7,,limit,buy,10100,5", "line 8"),
        ("7,-4,limit,buy,10100,5", "line 8: expected an order_id above 0"),
        ("7,14,limit,buy,10100,0", "line 8: expected a qty above 0"),
        ("7,14,limit,buy,0,5", "line 8: expected a price above 0"),
        ("5,14,limit,buy,10100,5", "line 8: expected a ts_ns not before the line above"),
    ],
)
def test_a_wrong_row_is_named_by_file_line_and_what_was_expected(tmp_path, line, expected) -> None:
    path = tmp_path / "wrong.orders.csv"
    path.write_text(FLOW + line + "\n")
    with pytest.raises(DeskvigilError) as error:
        read_orders(path)
    assert "wrong.orders.csv" in str(error.value)
    assert expected in str(error.value)


def test_an_order_file_without_orders_is_an_error(tmp_path) -> None:
    path = tmp_path / "empty.csv"
    path.write_bytes(HEADER + b"\n")
    with pytest.raises(DeskvigilError, match="line 2: expected an order"):
        load_tape(path)
