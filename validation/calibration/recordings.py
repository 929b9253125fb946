"""Recordings: the recorded days as arrays, each with where it came from."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray

AMZN_5 = "lobster/LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"
AMZN_1 = "lobster/LOBSTER_SampleFile_AMZN_2012-06-21_1.zip"
AAPL_1 = "lobster/LOBSTER_SampleFile_AAPL_2012-06-21_1.zip"
SPOT = "binance/spot_btcusdt_20240808.gz"
PERPETUAL = "binance/usdm_btcusdt_20240808.gz"
DAILY = "daily/pypfopt_stock_prices.csv.gz"
SPY = "us_ticks/lean_spy_20131007_trade.zip"
FILES = {
    "amzn_5": AMZN_5,
    "amzn_1": AMZN_1,
    "aapl_1": AAPL_1,
    "btcusdt_spot": SPOT,
    "btcusdt_perpetual": PERPETUAL,
    "daily_closes": DAILY,
    "spy_trades": SPY,
}

ADD, REDUCE, DELETE, VISIBLE, HIDDEN = 1, 2, 3, 4, 5
LOBSTER_TICK = 100  # LOBSTER's prices are in 1e-4 dollars and the stocks' tick is a cent


class RecordingError(DeskvigilError):
    """A recording is missing or is not what its name says."""


def source_of(folder: Path, name: str) -> dict[str, Any]:
    """Provenance of one recording: its path below the folder, size in bytes and SHA-256."""
    path = folder / name
    if not path.is_file():
        raise RecordingError(f"recording {path} is missing; give the folder that holds {name}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": name, "bytes": path.stat().st_size, "sha256": digest}


@dataclass(frozen=True, eq=False)
class OrderDay:
    """One LOBSTER day: n messages and the book after each of them.

    time_s float64 (n,), seconds after midnight; kind, order_id, qty int64 (n,), qty in shares;
    price int64 (n,), ticks; side int64 (n,), +1 bid and -1 ask (for executions the resting side);
    ask_price, ask_qty, bid_price, bid_qty int64 (n, levels), prices in ticks.
    """

    time_s: FloatArray
    kind: IntArray
    order_id: IntArray
    qty: IntArray
    price: IntArray
    side: IntArray
    ask_price: IntArray
    ask_qty: IntArray
    bid_price: IntArray
    bid_qty: IntArray
    open_s: float
    close_s: float

    @property
    def session_s(self) -> float:
        return self.close_s - self.open_s


def read_order_day(path: Path) -> OrderDay:
    """Read a LOBSTER zip (message and orderbook file); RecordingError where it is not one."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        try:
            message_name = next(name for name in names if "_message_" in name)
            book_name = next(name for name in names if "_orderbook_" in name)
        except StopIteration:
            raise RecordingError(f"{path} holds no LOBSTER message and orderbook file: {names}") from None
        with archive.open(message_name) as file:
            messages = np.loadtxt(io.TextIOWrapper(file), delimiter=",")
        with archive.open(book_name) as file:
            book = np.loadtxt(io.TextIOWrapper(file), delimiter=",", dtype=np.int64)
    if len(messages) != len(book):
        raise RecordingError(f"{path}: {len(messages)} messages but {len(book)} book rows")
    open_ms, close_ms = message_name.split("_")[2:4]
    whole = messages[:, 1:].astype(np.int64)
    return OrderDay(
        time_s=messages[:, 0],
        kind=whole[:, 0],
        order_id=whole[:, 1],
        qty=whole[:, 2],
        price=whole[:, 3] // LOBSTER_TICK,
        side=whole[:, 4],
        ask_price=book[:, 0::4] // LOBSTER_TICK,
        ask_qty=book[:, 1::4],
        bid_price=book[:, 2::4] // LOBSTER_TICK,
        bid_qty=book[:, 3::4],
        open_s=int(open_ms) / 1e3,
        close_s=int(close_ms) / 1e3,
    )


@dataclass(frozen=True, eq=False)
class TradeSpan:
    """Trades and best quotes of one venue's capture.

    trade_s, price, qty float64 and buyer bool, shape (trades,); quote_s, bid, ask float64, shape
    (quotes,). Seconds since the first line, by the capture's own clock.
    """

    trade_s: FloatArray
    price: FloatArray
    qty: FloatArray
    buyer: npt.NDArray[np.bool_]
    quote_s: FloatArray
    bid: FloatArray
    ask: FloatArray
    span_s: float


def read_trade_span(path: Path) -> TradeSpan:
    """Read a Binance combined-stream capture: one 'ns json' line each."""
    trades: list[tuple[float, float, float, bool]] = []
    quotes: list[tuple[float, float, float]] = []
    first = last = 0
    with gzip.open(path, "rb") as file:
        for line in file:
            stamp, _, text = line.partition(b" ")
            last = int(stamp)
            first = first or last
            message = orjson.loads(text)
            data = message.get("data", message)
            stream = message.get("stream", "")
            at_s = (last - first) / 1e9
            if stream.endswith("@trade") and data.get("X", "MARKET") == "MARKET":
                trades.append((at_s, float(data["p"]), float(data["q"]), not data["m"]))
            elif stream.endswith("@bookTicker"):
                quotes.append((at_s, float(data["b"]), float(data["a"])))
    if not trades or not quotes:
        raise RecordingError(f"{path} holds no trades or no bookTicker lines")
    trade, quote = np.array(trades), np.array(quotes)
    return TradeSpan(
        trade[:, 0], trade[:, 1], trade[:, 2], trade[:, 3] > 0, quote[:, 0], quote[:, 1], quote[:, 2], (last - first) / 1e9
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class DailyCloses:
    """Adjusted closes: float64, shape (days, stocks), NaN where a stock has none."""

    symbols: tuple[str, ...]
    dates: npt.NDArray[np.datetime64]
    close: FloatArray


def read_daily_closes(path: Path) -> DailyCloses:
    """Read the table of adjusted daily closes (date, then one column per stock, gaps empty)."""
    with gzip.open(path, "rt") as file:
        header = file.readline().strip().split(",")
        rows = [line.rstrip("\n").split(",") for line in file]
    dates = np.array([row[0] for row in rows], dtype="datetime64[D]")
    close = np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows])
    return DailyCloses(tuple(header[1:]), dates, close)
