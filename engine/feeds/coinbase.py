"""Coinbase: level books, prints and tickers (Exchange WebSocket), as recorded by cryptofeed or off a socket.

Level updates carry no number. What speaks for the book: it never crosses after a message, the times of a
product's updates never fall, the trade ids of its prints have no hole, and the ticker's best prices equal
the book's where the ticker's trade is what the last update came from. The side of a match is the resting
order's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.events import Tape
from engine.feeds.capture import Capture, cryptofeed, prove_capture, read_capture
from engine.feeds.decimals import Increments, price_units, units
from engine.feeds.decoder import Check, FeedState, Levels, MessageDecoder, Track, read_levels
from engine.feeds.files import Opening
from engine.feeds.result import Result
from engine.feeds.sortedside import SortedSide

SIDES: Final = {"buy": 1, "sell": -1}
QUIET: Final = ("subscriptions", "heartbeat", "status")  # types that say nothing of a book
NOT_SAID: Final = -1


@dataclass(slots=True)
class _Product:
    """A product as the venue's messages give it; time: of its last update, as written (they sort as text)."""

    bids: SortedSide[int] = field(default_factory=lambda: SortedSide(1))
    asks: SortedSide[int] = field(default_factory=lambda: SortedSide(-1))
    time: str = ""
    ticker: tuple[str, int, int] | None = None  # time, best bid, best ask: of a trade whose updates are still to come


class CoinbaseDecoder(MessageDecoder):
    """Any number of products on one connection."""

    def __init__(self) -> None:
        super().__init__()
        self._products: dict[str, _Product] = {}
        self._trade_ids: dict[str, int] = {}

    def _take(self, message: Any, t_ns: int) -> bool:
        kind = message["type"]
        if kind == "l2update":
            self._take_update(message, t_ns)
        elif kind == "snapshot":
            levels = read_levels(message["bids"], message["asks"])
            track = self._track(message["product_id"])
            product = self._products[track.symbol] = _Product()
            product.bids.replace({price: qty for price, qty, _, _ in levels.bids if qty})
            product.asks.replace({price: qty for price, qty, _, _ in levels.asks if qty})
            self._snapshot(track, levels, t_ns)
            self._stop_if_crossed(track, product, t_ns)
        elif kind in ("match", "last_match"):
            self._take_match(message, t_ns)
        elif kind == "ticker":
            self._take_ticker(message)
        else:
            return kind in QUIET
        return True

    def _take_update(self, message: Any, t_ns: int) -> None:
        changes: dict[str, list[Any]] = {"buy": [], "sell": []}
        for side, *level in message["changes"]:
            changes[side].append(level)
        levels = read_levels(changes["buy"], changes["sell"])
        time = _time_text(message.get("time", ""))
        track = self._track(message["product_id"])
        if track.state is not FeedState.LIVE:
            return
        product = self._products[track.symbol]
        if time < product.time:
            self._gap(track, f"an update of {time} after one of {product.time}", t_ns)
            return
        if product.ticker is not None and time > product.ticker[0]:
            self._compare(track, product, product.ticker)
            product.ticker = None
        product.time = time
        self._apply(product, levels)
        self._emit_levels(track, levels, t_ns)
        self._stop_if_crossed(track, product, t_ns)

    def _apply(self, product: _Product, levels: Levels) -> None:
        for side, rows in ((product.bids, levels.bids), (product.asks, levels.asks)):
            for price, qty, _, _ in rows:
                if qty:
                    side.set(price, qty)
                else:
                    side.remove(price)

    def _take_match(self, message: Any, t_ns: int) -> None:
        """A print; last_match is the one before the subscription: where the trade ids go on from."""
        side, price, qty = -SIDES[message["side"]], price_units(message["price"]), units(message["size"])
        trade_id = int(message["trade_id"])
        track = self._track(message["product_id"])
        last = self._trade_ids.get(track.symbol)
        if last is not None and trade_id <= last:
            self.counters.duplicates += 1
            return
        self._trade_ids[track.symbol] = trade_id
        if message["type"] == "last_match":
            return
        if last is not None and trade_id > last + 1:
            self._gap(track, f"trade {trade_id} after trade {last}", t_ns)
        self._emit_trade(track, side, price, qty, t_ns)

    def _take_ticker(self, message: Any) -> None:
        """Best prices just after a trade: comparable once the updates of that trade are in, and no later ones."""
        ticker = _time_text(message.get("time", "")), units(message["best_bid"]), units(message["best_ask"])
        track = self._track(message["product_id"])
        if track.state is not FeedState.LIVE:
            return
        product = self._products[track.symbol]
        if ticker[0] == product.time:
            self._compare(track, product, ticker)
        elif ticker[0] > product.time:
            product.ticker = ticker

    def _compare(self, track: Track, product: _Product, ticker: tuple[str, int, int]) -> None:
        time, bid, ask = ticker
        if time and time == product.time:
            bids, asks = (((price, NOT_SAID),) if price else () for price in (bid, ask))
            self.checks.append(Check(len(self._out), track.index, bids, asks))

    def _stop_if_crossed(self, track: Track, product: _Product, t_ns: int) -> None:
        bid, ask = product.bids.best(), product.asks.best()
        if 0 < ask <= bid:
            self._gap(track, "the book is crossed: updates are missing", t_ns)

    def _gap(self, track: Track, reason: str, t_ns: int) -> None:
        self.counters.gaps += 1
        if track.state is FeedState.LIVE:
            self._void(track, FeedState.GAP, reason, t_ns)

    def _forget(self, track: Track) -> None:
        """A gap, or a new connection: its last_match says where the trade ids go on from."""
        self._products.pop(track.symbol, None)
        self._trade_ids.pop(track.symbol, None)

    def _increments_in(self, listing: Any) -> dict[str, Increments]:
        """Tick and lot by the public list /products."""
        return {
            row["id"]: Increments(price_units(row["quote_increment"]), price_units(row["base_increment"]))
            for row in listing
        }


def _time_text(time: Any) -> str:
    """A time as written: `2021-04-17T16:43:37.200251Z`, or none."""
    if not isinstance(time, str) or (time and not (time[:4].isdigit() and time.endswith("Z"))):
        raise ValueError(f"expected a time, found {time!r}")
    return time[:-1]


def is_capture(opening: Opening) -> bool:
    """Whether it is a raw capture of Coinbase's, by its first lines."""
    lines = opening.head.split(b"\n")
    return any(
        (b"coinbase.com <-> " in line) or (b': {"type":"' in line[:40] and b'"product_id' in line) for line in lines
    )


def read(path: Path) -> Capture:
    """Read a capture; see `read_capture`."""
    return read_capture(path, "coinbase", cryptofeed, CoinbaseDecoder())


def load(path: Path) -> Tape:
    """A capture as a tape."""
    return read(path).tape()


def prove(path: Path, _: Path | None) -> Result:
    """Replay a capture and compare the best prices with the venue's tickers where they are comparable."""
    return prove_capture(read(path))
