"""Order files: matched strictly, and refused with the line's number where they are not what they should be."""

from __future__ import annotations

import gzip
import lzma

import numpy as np
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
    "line",
    [
        "7,14,market,buy,10100,5",
        "7,14,limit,long,10100,5",
        "7,14,limit,buy,101.5,5",
        "7,14,limit,buy,10100",
        "7,14,limit,buy,10100,5,6",
        "7,,limit,buy,10100,5",
        "7,-4,limit,buy,10100,5",
        "7,14,limit,buy,10100,0",
        "7,14,limit,buy,0,5",
        "5,14,limit,buy,10100,5",
        "7,buy,limit,buy,10100,5",
        "7,14,limit,buy,10100,9999999999999999999999",
        "\x00\xff",
    ],
)
def test_a_damaged_row_is_skipped_counted_and_logged_with_its_line(tmp_path, caplog, line) -> None:
    path = tmp_path / "wrong.orders.csv"
    path.write_text(FLOW, encoding="latin-1")
    whole = read_orders(path)
    path.write_text(FLOW + line + "\n8,20,ioc,sell,10100,1\n", encoding="latin-1")
    orders = read_orders(path)
    assert orders.skipped == 1
    assert "wrong.orders.csv: 1 lines skipped, the first: line 8" in caplog.text
    assert list(orders.rows) == [*whole.rows, len(whole.rows) + 1]
    assert np.array_equal(orders.events[:-1]["order_id"], whole.events["order_id"])


@pytest.mark.parametrize("stamp", ["0", "999999999"])
def test_one_damaged_time_costs_one_row_whichever_way_it_points(tmp_path, stamp) -> None:
    path = tmp_path / "times.csv"
    rows = [f"{k},{k},limit,buy,10100,5" for k in range(10, 20)]
    rows[4] = f"{stamp},14,limit,buy,10100,5"
    path.write_bytes(HEADER + b"\n" + "\n".join(rows).encode())
    orders = read_orders(path)
    assert list(orders.rows) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert orders.skipped == 1


def test_fills_name_the_rows_of_the_file_also_where_some_were_skipped(tmp_path) -> None:
    path = tmp_path / "gap.csv"
    path.write_bytes(HEADER + b"\n1,1,limit,buy,100,5\ndamaged\n2,,ioc,sell,100,2\n")
    assert list(match_orders(read_orders(path)).row) == [2]


def test_an_order_file_without_orders_is_an_error(tmp_path) -> None:
    path = tmp_path / "empty.csv"
    path.write_bytes(HEADER + b"\n")
    with pytest.raises(DeskvigilError, match="line 2: expected an order"):
        load_tape(path)
