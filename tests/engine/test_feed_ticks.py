"""Ticks: consolidated quotes and trades become a touch and prints; a slow reference says which."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.book import apply_all, best_price, make_books
from engine.events import LEVEL, TRADE, empty_fills
from engine.feeds.ticks import load, read_ticks
from engine.replay import replay
from metrics.errors import DeskvigilError

QUOTES, TRADES, SPY = (
    f"us_ticks/lean_{name}.zip" for name in ("aig_20131007_quote", "aig_20131007_trade", "spy_20131007_trade")
)


def write(folder: Path, quotes: str = "", trades: str = "", symbol: str = "xyz", day: str = "20200102") -> Path:
    path = folder / f"{symbol}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for what, text in (("Quote", quotes), ("Trade", trades)):
            if text:
                archive.writestr(f"{day}_{symbol}_{what}_Tick.csv", text)
    return path


def events_of(path: Path) -> list[tuple[int, int, int, int, int]]:
    """(ms, kind, side, price, size) each."""
    events = load(path).events
    return [(e["t_ns"] // 1_000_000, e["kind"], e["side"], e["price"], e["qty"]) for e in events]


@pytest.mark.parametrize(
    ("name", "events", "fills"), [(QUOTES, 518_632, 0), (TRADES, 25_351, 25_351), (SPY, 250_601, 250_601)]
)
def test_a_recorded_file_alone(marketdata, name, events, fills) -> None:
    found = replay("ticks", marketdata / name, verify=True)
    assert (found["events"], found["fills"], found["mismatches"], found["skipped_lines"]) == (events, fills, 0, 0)


def test_a_folder_is_quotes_and_trades_of_all_its_symbols_in_the_order_of_time(marketdata) -> None:
    ticks = read_ticks(marketdata / "us_ticks")
    assert [row.symbol for row in ticks.instruments] == ["AIG", "SPY"]
    assert ticks.instruments[0].tick_size_usd == pytest.approx(0.01)
    assert int(np.count_nonzero(ticks.events["kind"] == TRADE)) == 25_351 + 250_601
    assert (np.diff(ticks.events["t_ns"]) >= 0).all()
    volume = ticks.events["qty"][(ticks.events["instrument"] == 1) & (ticks.events["kind"] == TRADE)].sum()
    with zipfile.ZipFile(marketdata / SPY) as archive:
        lines = archive.read(archive.namelist()[0]).split()
    assert volume == sum(int(line.split(b",")[2]) for line in lines)


def test_the_touch_is_replaced_and_bid_and_ask_of_a_moment_are_taken_together(tmp_path) -> None:
    path = write(
        tmp_path,
        "1000,491800,300,0,0,P,1,0\n1000,0,0,492000,100,P,1,0\n2000,492000,200,0,0,Q,1,0\n2000,0,0,492100,50,N,1,0\n",
    )
    assert events_of(path) == [
        (1000, LEVEL, 1, 4918, 300),
        (1000, LEVEL, -1, 4920, 100),
        (2000, LEVEL, 1, 4918, 0),
        (2000, LEVEL, -1, 4920, 0),
        (2000, LEVEL, 1, 4920, 200),
        (2000, LEVEL, -1, 4921, 50),
    ]


def test_trades_take_their_side_from_the_quote_before_them_and_from_the_price_without_one(tmp_path) -> None:
    quotes = "1000,500000,100,0,0,P,1,0\n1000,0,0,500400,100,P,1,0\n"
    trades = "".join(f"{ms},{price},10,N,0,0\n" for ms, price in
                     [(500, 500200), (600, 500100), (1000, 500100), (1001, 500400), (1002, 500000), (1003, 500200), (1004, 500250)])  # fmt: skip
    prints = [row for row in events_of(write(tmp_path, quotes, trades)) if row[1] == TRADE]
    # Before there is a quote: first a purchase, then a fall; the one of the quotes' own moment comes before them.
    assert [row[2] for row in prints] == [1, -1, -1, 1, -1, 1, 1]


def test_a_print_off_the_grid_of_the_quotes_counts_as_the_worse_price_for_who_was_resting(tmp_path) -> None:
    quotes = "1000,500000,100,0,0,P,1,0\n1000,0,0,500100,100,P,1,0\n"
    trades = "2000,500075,10,D,0,0\n2001,500025,10,D,0,0\n"
    assert [(row[2], row[3]) for row in events_of(write(tmp_path, quotes, trades)) if row[1] == TRADE] == [
        (1, 5000),
        (-1, 5001),
    ]


def test_damaged_lines_are_left_out_and_counted(tmp_path) -> None:
    good = "1000,500000,100,0,0,P,1,0\n"
    bad = ["x,1,2,3,4,P,1,0", "1000,500000,100,0,0,P,1", "1000,500000,100,0,0,P,1,0,9", "1000,-5,100,0,0,P,1,0",
           "99999999999,500000,100,0,0,P,1,0", "1000,0,0,0,0,P,1,0", "1000,500000,100,0,0,P,1,1",
           "1000,5000000000000000000000,100,0,0,P,1,0", ",,,"]  # fmt: skip
    path = write(tmp_path, good + "\n".join(bad) + "\r\n" + good, "1001,500000,10,N,0,0\n1001,0,10,N,0,0\n")
    found = replay("ticks", path)
    assert found["skipped_lines"] == len(bad) + 1
    assert [row[1] for row in events_of(path)] == [LEVEL, TRADE]


def test_a_file_without_a_tick_says_so(tmp_path) -> None:
    with pytest.raises(DeskvigilError, match=r"xyz\.zip: expected quote or trade ticks of one day, found none"):
        load(write(tmp_path, "1000,0,0,0,0,P,1,0\n"))


def test_two_days_in_a_folder_are_refused(tmp_path) -> None:
    for day in ("20200102", "20200103"):
        (tmp_path / f"{day}_xyz_Quote_Tick.csv").write_text("1000,500000,100,0,0,P,1,0\n")
    with pytest.raises(DeskvigilError, match="of one day, found files of 20200102, 20200103"):
        load(tmp_path)


class Reference:
    """The touch as the words of the module say it."""

    def __init__(self) -> None:
        self.bid: tuple[int, int] | None = None
        self.ask: tuple[int, int] | None = None

    def take(self, bid: tuple[int, int] | None, ask: tuple[int, int] | None) -> None:
        self.bid = self.bid if bid is None else bid
        self.ask = self.ask if ask is None else ask
        if self.bid and self.ask and self.bid[0] >= self.ask[0]:
            if (bid is None) == (ask is None):
                self.bid = self.ask = None
            elif bid is None:
                self.bid = None
            else:
                self.ask = None


quote = st.tuples(
    st.integers(0, 3), st.sampled_from(["bid", "ask", "both", "pair"]), st.integers(95, 105), st.integers(95, 105),
    st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(quote, min_size=1, max_size=40))
def test_the_touch_of_any_quotes_is_the_reference_s_and_never_crosses(tmp_path, steps) -> None:
    reference, lines, ms = Reference(), [], 1000
    for wait, what, bid, ask, bid_size, ask_size in steps:
        ms += wait + 1  # each step is a moment of its own
        b, a = f"{bid * 100},{bid_size}", f"{ask * 100},{ask_size}"
        if what == "pair":
            lines += [f"{ms},{b},0,0,P,1,0", f"{ms},0,0,{a},Q,1,0"]
        else:
            lines.append(f"{ms},{b if what != 'ask' else '0,0'},{a if what != 'bid' else '0,0'},P,1,0")
        reference.take(
            (bid, bid_size) if what != "ask" else None, (ask, ask_size) if what != "bid" else None,
        )  # fmt: skip
    ticks = read_ticks(write(tmp_path, "\n".join(lines) + "\n"))
    books = make_books(1, max_orders=64, level_book=True)
    apply_all(books, ticks.events, empty_fills(0))
    step = round(ticks.instruments[0].tick_size_usd * 100)
    bid, ask = best_price(books, 0, 1) * step, best_price(books, 0, -1) * step
    assert (bid, ask) == (reference.bid[0] if reference.bid else 0, reference.ask[0] if reference.ask else 0)
    assert ticks.touches[0][-1, 2] == (reference.bid[1] if reference.bid else 0)
    assert ticks.touches[0][-1, 4] == (reference.ask[1] if reference.ask else 0)
