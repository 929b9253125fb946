"""Every kind of recording is a market that the desk trades on: it quotes, fills, and is refused nothing that is sound."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine import counters as at
from engine.desk import TradingDesk
from engine.gates import Reason
from engine.market import open_market
from engine.options import EngineOptions
from engine.publisher import Publisher

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


def played(tape: Path, folder: Path, seconds: int = 1800) -> TradingDesk:
    """A desk that has traded on the recording's first half hour."""
    options = EngineOptions(tape=tape)
    market = open_market(options)
    desk = TradingDesk(options, market, Publisher(folder / "block", market.instruments, {}))
    desk.start_session(ORIGIN_NS, 0)
    now_ns, end_ns = ORIGIN_NS, ORIGIN_NS + min(market.end_ns - market.start_ns, seconds * SECOND)
    while now_ns < end_ns:
        now_ns = max(now_ns + 100_000, min(desk.step(now_ns), now_ns + SECOND // 20))
    return desk


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_desk_trades_on_it(name: str, marketdata: Path, tmp_path: Path) -> None:
    counts = played(marketdata / RECORDINGS[name], tmp_path).counts
    assert counts[[at.FILLS_MAKER, at.FILLS_TAKER]].sum() > 10
    for reason in (Reason.ORDER_QUANTITY, Reason.ORDER_VALUE, Reason.VENUE, Reason.MISSING_LIMIT):
        assert counts[at.REJECTED_FOR + reason] == 0, reason


def test_a_folder_of_trades_and_quotes_is_a_market_too(marketdata: Path, tmp_path: Path) -> None:
    for kind in ("trade", "quote"):
        shutil.copy(marketdata / f"us_ticks/lean_aig_20131007_{kind}.zip", tmp_path)
    counts = played(tmp_path, tmp_path, seconds=7 * 3600).counts  # the recording begins hours before the opening
    assert counts[[at.FILLS_MAKER, at.FILLS_TAKER]].sum() > 10
    assert counts[at.REJECTED_FOR + Reason.ORDER_QUANTITY] == 0
