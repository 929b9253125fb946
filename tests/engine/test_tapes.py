"""Every kind of recording is a market that the desk trades on: it quotes, fills, and is refused nothing that is sound."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine import counters as at
from engine.desk import TradingDesk
from engine.events import HALT, RESUME, Tape, empty_events
from engine.feeds.dbnwrite import write_dbn
from engine.feeds.itchwrite import write_itch
from engine.feeds.tape import load_tape
from engine.gates import Reason
from engine.market import open_market
from engine.options import EngineOptions
from engine.orderlog import ORDER_EVENT, Happened
from engine.publisher import Publisher
from metrics.frame import IntArray

ORIGIN_NS = 1 << 60
SECOND = 1_000_000_000
RECORDINGS = {
    "kraken": "kraken_l2/KRAKEN.ws.50.0.xz",
    "coinbase": "coinbase_l2/COINBASE.ws.28.0.xz",
    "bitstamp": "bitstamp_l3/orders_2015-05-01.csv.xz",
    "binance usdm": "binance/usdm_btcusdt_20240808.gz",
    "binance spot": "binance/spot_btcusdt_20240808.gz",
    "lobster": "lobster/LOBSTER_SampleFile_AMZN_2012-06-21_5.zip",
    "orders": "orders/AMZN_2012-06-21.orders.csv.xz",
}


class Played:
    """A desk that has traded on a recording's first half hour.

    accepted: engine time of each own order that was accepted, read from the order log after every step.
    """

    def __init__(self, tape: Path, folder: Path, seconds: int = 1800, look_ns: int = SECOND // 20) -> None:
        options = EngineOptions(tape=tape)
        market = open_market(options)
        publisher = Publisher(folder / "block", market.instruments, {})
        self.desk = TradingDesk(options, market, publisher)
        self.accepted: list[int] = []
        self.desk.start_session(ORIGIN_NS, 0)
        now_ns, end_ns, seen = ORIGIN_NS, ORIGIN_NS + min(market.end_ns - market.start_ns, seconds * SECOND), 0
        log = publisher.orders.events.view(ORDER_EVENT).reshape(-1)
        written = publisher.orders.events_written
        while now_ns < end_ns:
            due_ns = self.desk.step(now_ns)
            assert written[0] - seen <= len(log)
            rows = log[np.arange(seen, int(written[0])) % len(log)]
            self.accepted += rows["engine_ns"][rows["what"] == Happened.ACCEPTED].tolist()
            seen = int(written[0])
            now_ns = max(now_ns + 100_000, min(due_ns, now_ns + look_ns))

    @property
    def counts(self) -> IntArray:
        return self.desk.counts

    @property
    def fills(self) -> int:
        return int(self.counts[[at.FILLS_MAKER, at.FILLS_TAKER]].sum())


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_desk_trades_on_it(name: str, marketdata: Path, tmp_path: Path) -> None:
    played = Played(marketdata / RECORDINGS[name], tmp_path)
    assert played.fills > 10
    for reason in (Reason.ORDER_QUANTITY, Reason.ORDER_VALUE, Reason.VENUE, Reason.MISSING_LIMIT):
        assert played.counts[at.REJECTED_FOR + reason] == 0, reason
    if (
        name == "bitstamp"
    ):  # on its first seconds' few orders one of our own moved the mid by 5 %, which the period remembers
        assert played.counts[at.REJECTED_FOR + Reason.PERIOD_COLLAR] == 0


def test_a_folder_of_trades_and_quotes_is_a_market_too(marketdata: Path, tmp_path: Path) -> None:
    for kind in ("trade", "quote"):
        shutil.copy(marketdata / f"us_ticks/lean_aig_20131007_{kind}.zip", tmp_path)
    played = Played(tmp_path, tmp_path, seconds=7 * 3600)  # the recording begins hours before the opening
    assert played.fills > 10
    assert played.counts[at.REJECTED_FOR + Reason.ORDER_QUANTITY] == 0


def morning(marketdata: Path, halted: tuple[int, int]) -> Tape:
    """The first quarter of an hour of a recorded day, with a halt from one second to another."""
    tape = load_tape(marketdata / RECORDINGS["lobster"])
    halt = empty_events(2)
    halt["kind"], halt["t_ns"] = (HALT, RESUME), [tape.start_ns + second * SECOND for second in halted]
    end_ns = tape.start_ns + 900 * SECOND
    events = np.concatenate([tape.events[tape.events["t_ns"] < end_ns], halt])
    return dataclasses.replace(tape, events=events[np.argsort(events["t_ns"], kind="stable")], end_ns=end_ns)


@pytest.mark.parametrize("format", ["itch", "dbn mbo", "dbn mbp-10"])
def test_the_venues_phases_open_and_close_the_market_to_the_desk(format: str, marketdata: Path, tmp_path: Path) -> None:
    tape = morning(marketdata, halted=(400, 500))
    start_ns, hours = tape.start_ns, (tape.start_ns + 120 * SECOND, tape.start_ns + 780 * SECOND)
    data = write_itch(tape, hours) if format == "itch" else write_dbn(tape, hours, levels=format.endswith("10"))
    path = tmp_path / "morning"
    path.write_bytes(data.tobytes())
    played = Played(path, tmp_path)
    seconds = (np.array(played.accepted) - start_ns) / SECOND
    assert len(seconds) > 100
    assert played.fills > 10
    is_open = (seconds >= 120) & (seconds < 400) | (seconds >= 500) & (seconds < 780)
    assert is_open.all()
    for begins, ends in ((120, 400), (500, 780)):  # it does trade in each stretch
        assert ((seconds >= begins) & (seconds < ends)).sum() > 20
    for reason in (Reason.ORDER_QUANTITY, Reason.ORDER_VALUE, Reason.VENUE, Reason.MISSING_LIMIT):
        assert played.counts[at.REJECTED_FOR + reason] == 0, reason


def test_the_desk_trades_on_a_recorded_futures_day_once_its_auction_is_over(marketdata: Path, tmp_path: Path) -> None:
    path = marketdata / "cme_mbo/esh4-glbx-mdp3-20231225.mbo.dbn.zst"
    tape = load_tape(path)
    [opens_ns] = tape.events["t_ns"][tape.events["kind"] == RESUME]
    played = Played(path, tmp_path, seconds=int(opens_ns - tape.start_ns) // SECOND + 1800, look_ns=SECOND)
    assert played.fills > 10
    assert min(played.accepted) >= opens_ns
