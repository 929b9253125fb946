"""Venues: where each venue's public feed is, how one subscribes, and what its messages say of their time.

What the messages mean is the decoders' affair (`engine.feeds`), which read recordings just the same.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote

import orjson

from engine.feeds.binance import BinanceDecoder
from engine.feeds.coinbase import CoinbaseDecoder
from engine.feeds.decoder import MessageDecoder
from engine.feeds.kraken import KrakenDecoder
from engine.live.options import FeedOptions

_KRAKEN_TIME: Final = re.compile(rb'"(\d{10})\.(\d{6})"')
_BINANCE_TIME: Final = re.compile(rb'"E":\s?(\d{13})\b')
_COINBASE_TIME: Final = re.compile(rb'"time":\s?"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{1,9})Z"')
_KRAKEN_NAMES: Final = {"BTC": "XBT", "DOGE": "XDG"}


class Venue(Protocol):
    """One feed of a venue, for one connection at a time.

    decoder: of its messages; natives: the venue's own names of the configured symbols, in their order.
    """

    decoder: MessageDecoder
    natives: tuple[str, ...]

    def socket_url(self) -> str:
        """Where to connect."""
        ...

    def listing_url(self) -> str:
        """Where the instruments are listed, for `decoder.learn`."""
        ...

    def snapshot_url(self, native: str) -> str:
        """Where a snapshot of one book is; empty where a subscription brings it."""
        ...

    def subscribe(self, natives: Sequence[str]) -> list[str]:
        """What to send after connecting."""
        ...

    def resubscribe(self, native: str) -> list[str]:
        """What to send for a new snapshot; empty where there is `snapshot_url`."""
        ...

    def sent_ns(self, message: bytes) -> int:
        """When the venue sent a message, wall clock; 0 where it does not say."""
        ...


class Kraken:
    """Kraken's WebSocket v1: `book` with its checksums, and `trade`."""

    def __init__(self, options: FeedOptions, depth: int) -> None:
        self.decoder: MessageDecoder = KrakenDecoder()
        self.natives = tuple(
            "/".join(_KRAKEN_NAMES.get(part, part) for part in symbol.split("/")) for symbol in options.symbols
        )
        self._url = options.url or "wss://ws.kraken.com"
        self._rest = options.rest_url or "https://api.kraken.com"
        self._book = {"name": "book", "depth": depth}

    def socket_url(self) -> str:
        return self._url

    def listing_url(self) -> str:
        return f"{self._rest}/0/public/AssetPairs?pair={','.join(name.replace('/', '') for name in self.natives)}"

    def snapshot_url(self, native: str) -> str:
        return ""

    def subscribe(self, natives: Sequence[str]) -> list[str]:
        return [
            _text({"event": "subscribe", "pair": list(natives), "subscription": what})
            for what in (self._book, {"name": "trade"})
        ]

    def resubscribe(self, native: str) -> list[str]:
        return [
            _text({"event": event, "pair": [native], "subscription": self._book})
            for event in ("unsubscribe", "subscribe")
        ]

    def sent_ns(self, message: bytes) -> int:
        return max((int(s) * 10**9 + int(us) * 1000 for s, us in _KRAKEN_TIME.findall(message)), default=0)


class Coinbase:
    """Coinbase Exchange: `level2_batch` (what is public of the book), `matches` and `heartbeat`."""

    CHANNELS: Final = ("level2_batch", "matches", "heartbeat")

    def __init__(self, options: FeedOptions, depth: int) -> None:
        self.decoder: MessageDecoder = CoinbaseDecoder()
        self.natives = tuple(symbol.replace("/", "-") for symbol in options.symbols)
        self._url = options.url or "wss://ws-feed.exchange.coinbase.com"
        self._rest = options.rest_url or "https://api.exchange.coinbase.com"

    def socket_url(self) -> str:
        return self._url

    def listing_url(self) -> str:
        return f"{self._rest}/products"

    def snapshot_url(self, native: str) -> str:
        return ""

    def subscribe(self, natives: Sequence[str]) -> list[str]:
        return [_text({"type": "subscribe", "product_ids": list(natives), "channels": list(self.CHANNELS)})]

    def resubscribe(self, native: str) -> list[str]:
        channels = list(self.CHANNELS[:2])
        return [
            _text({"type": kind, "product_ids": [native], "channels": channels})
            for kind in ("unsubscribe", "subscribe")
        ]

    def sent_ns(self, message: bytes) -> int:
        found = _COINBASE_TIME.search(message)
        if found is None:
            return 0
        *parts, fraction = found.groups()
        try:
            return timegm(tuple(int(part) for part in parts)) * 10**9 + int(fraction.ljust(9, b"0"))
        except ValueError:  # a month that is none: the decoder has its own view of such a message
            return 0


class Binance:
    """Binance: combined streams of depth changes and trades; snapshots over REST."""

    def __init__(self, options: FeedOptions, depth: int) -> None:
        self.decoder: MessageDecoder = BinanceDecoder()
        self.natives = tuple(symbol.replace("/", "") for symbol in options.symbols)
        self._url = options.url or "wss://stream.binance.com:9443"
        self._rest = options.rest_url or "https://api.binance.com"
        self._depth = depth

    def socket_url(self) -> str:
        streams = [f"{name.lower()}@{what}" for name in self.natives for what in ("depth@100ms", "trade")]
        return f"{self._url}/stream?streams={'/'.join(streams)}"

    def listing_url(self) -> str:
        names = orjson.dumps(self.natives).decode()
        return f"{self._rest}/api/v3/exchangeInfo?symbols={quote(names)}"

    def snapshot_url(self, native: str) -> str:
        return f"{self._rest}/api/v3/depth?symbol={native}&limit={self._depth}"

    def subscribe(self, natives: Sequence[str]) -> list[str]:
        return []

    def resubscribe(self, native: str) -> list[str]:
        return []

    def sent_ns(self, message: bytes) -> int:
        found = _BINANCE_TIME.search(message)
        return int(found[1]) * 1_000_000 if found else 0


VENUES: Final[dict[str, type[Kraken] | type[Coinbase] | type[Binance]]] = {
    "kraken": Kraken,
    "coinbase": Coinbase,
    "binance": Binance,
}


def open_venue(options: FeedOptions, depth: int) -> Venue:
    """The venue of a feed."""
    return VENUES[options.venue](options, depth)


def _text(message: Any) -> str:
    return orjson.dumps(message).decode()
