"""Kraken: level books with a checksum in every update (WebSocket v1), as recorded by cryptofeed or off a socket.

A snapshot ("as", "bs") is followed by updates ("a", "b"): absolute sizes, 0 removes a level, a fourth
field "r" says that a level comes (back) into view. What lies beyond the subscribed depth after an update
is to be forgotten. "c" is the CRC32 over the ten best asks, then bids, each as the digits of its price and
of its size without the point and without leading zeros. Prints carry the aggressor's side.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Final

from engine.events import LEVEL, Tape
from engine.feeds.capture import Capture, cryptofeed, prove_capture, read_capture
from engine.feeds.decimals import UNIT, Increments, price_units, units
from engine.feeds.decoder import Check, FeedState, Levels, MessageDecoder, Track, Update, read_levels
from engine.feeds.files import Opening
from engine.feeds.result import Result
from engine.feeds.sortedside import SortedSide

CHECKED: Final = 10  # levels a side that the checksum covers
MAX_DEPTH: Final = 1000
EVENTS: Final = ("heartbeat", "systemStatus", "subscriptionStatus", "pong")
SIDES: Final = {"b": 1, "s": -1}
Level = tuple[int, str]  # quantity, the digits that the checksum is over


def _digits(text: str) -> str:
    return text.replace(".", "").lstrip("0")


class _Book:
    """One pair as the venue's messages give it."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids: SortedSide[Level] = SortedSide(1)
        self.asks: SortedSide[Level] = SortedSide(-1)

    def checksum(self) -> int:
        """CRC32 by the venue's rule."""
        best = self.asks.top(CHECKED) + self.bids.top(CHECKED)
        return zlib.crc32("".join([digits for _, (_, digits) in best]).encode())


class KrakenDecoder(MessageDecoder):
    """Any number of pairs on one connection."""

    def __init__(self) -> None:
        super().__init__()
        self._books: dict[str, _Book] = {}

    def _take(self, message: Any, t_ns: int) -> bool:
        if isinstance(message, dict):
            return message.get("event") in EVENTS
        *parts, channel, pair = message[1:]
        if channel.startswith("book-"):
            self._take_book(parts, int(channel[5:]), pair, t_ns)
        elif channel == "trade":
            self._take_trades(parts[0], pair, t_ns)
        else:
            return channel in ("ticker", "spread") or channel.startswith("ohlc-")
        return True

    def _take_book(self, parts: list[dict[str, Any]], depth: int, pair: str, t_ns: int) -> None:
        if not 1 <= depth <= MAX_DEPTH:
            raise ValueError(f"a depth of {depth}")
        if "as" in parts[0] or "bs" in parts[0]:
            levels = read_levels(parts[0].get("bs", []), parts[0].get("as", []))
            self._take_snapshot(self._track(pair), levels, depth, t_ns)
            return
        bids: list[Any] = []
        asks: list[Any] = []
        checksum = None
        for part in parts:
            bids += part.get("b", [])
            asks += part.get("a", [])
            checksum = part.get("c", checksum)
        if not bids and not asks:
            raise ValueError("an update of nothing")
        wanted = None if checksum is None else int(checksum)
        levels = read_levels(bids, asks)
        track = self._track(pair)
        if track.state is FeedState.LIVE:
            self._update(track, levels, depth, t_ns)
            if wanted is not None:
                self._verify(track, wanted, t_ns)

    def _take_snapshot(self, track: Track, levels: Levels, depth: int, t_ns: int) -> None:
        book = self._books[track.symbol] = _Book()
        book.bids.replace({price: (qty, _digits(p) + _digits(q)) for price, qty, p, q in levels.bids if qty})
        book.asks.replace({price: (qty, _digits(p) + _digits(q)) for price, qty, p, q in levels.asks if qty})
        self._snapshot(track, levels, t_ns)
        self._prune(track, book, depth, t_ns)

    def _update(self, track: Track, levels: Levels, depth: int, t_ns: int) -> None:
        book = self._books[track.symbol]
        for side, rows in ((book.bids, levels.bids), (book.asks, levels.asks)):
            for price, qty, price_text, qty_text in rows:
                if qty:
                    side.set(price, (qty, _digits(price_text) + _digits(qty_text)))
                else:
                    side.remove(price)
        self._emit_levels(track, levels, t_ns)
        self._prune(track, book, depth, t_ns)

    def _prune(self, track: Track, book: _Book, depth: int, t_ns: int) -> None:
        """Forget what is beyond the depth: the venue does not say any more what happens there."""
        for sign, side in ((1, book.bids), (-1, book.asks)):
            if len(side) > depth:
                self._out += [Update(t_ns, track.index, LEVEL, sign, price, 0) for price in side.cut(depth)]

    def _verify(self, track: Track, wanted: int, t_ns: int) -> None:
        book = self._books[track.symbol]
        found = book.checksum()
        if found == wanted:
            self.counters.checksums_ok += 1
            bids, asks = (
                tuple((price, qty) for price, (qty, _) in side.top(CHECKED)) for side in (book.bids, book.asks)
            )
            self.checks.append(Check(len(self._out), track.index, bids, asks))
        else:
            self.counters.checksums_bad += 1
            self._void(track, FeedState.BAD_CHECKSUM, f"checksum {found}, the venue says {wanted}", t_ns)

    def _take_trades(self, rows: list[list[str]], pair: str, t_ns: int) -> None:
        trades = [(SIDES[row[3]], price_units(row[0]), units(row[1])) for row in rows]
        track = self._track(pair)
        for side, price, qty in trades:
            self._emit_trade(track, side, price, qty, t_ns)

    def _forget(self, track: Track) -> None:
        self._books.pop(track.symbol, None)

    def _increments_in(self, listing: Any) -> dict[str, Increments]:
        """Tick and lot by the public list AssetPairs."""
        return {
            row["wsname"]: Increments(UNIT // 10 ** row["pair_decimals"], UNIT // 10 ** row["lot_decimals"])
            for row in listing["result"].values()
            if "wsname" in row
        }


def is_capture(opening: Opening) -> bool:
    """Whether it is a raw capture of Kraken's, by its first lines."""
    lines = opening.head.split(b"\n")
    return any(
        (b".kraken.com <-> " in line) or (b"kraken.com/" in line and b" -> " in line) or (b',"book-' in line[-40:])
        for line in lines
    ) or (b": [" in opening.head[:24] and b'{"as":' in opening.head)  # fmt: skip


def read(path: Path) -> Capture:
    """Read a capture; see `read_capture`."""
    return read_capture(path, "kraken", cryptofeed, KrakenDecoder())


def load(path: Path) -> Tape:
    """A capture as a tape."""
    return read(path).tape()


def prove(path: Path, _: Path | None) -> Result:
    """Replay a capture: the venue's checksums, and the compiled book against the decoder's after each."""
    return prove_capture(read(path))
