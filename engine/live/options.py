"""Options of live market feeds; the defaults are what ships: none."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le

VenueName = Literal["", "binance", "coinbase", "kraken"]
MAX_SYMBOLS = 64


@dataclass(frozen=True, kw_only=True)
class FeedOptions:
    """One feed. venue: whose, none means no such feed; symbols: BASE/QUOTE, as BTC/USD.

    url, rest_url: instead of the venue's public ones; without TLS only on this machine.
    """

    venue: VenueName = ""
    symbols: tuple[str, ...] = ()
    url: str = ""
    rest_url: str = ""

    def __post_init__(self) -> None:
        if not self.venue:
            if self.symbols or self.url or self.rest_url:
                raise ValueError("a feed needs a venue: binance, coinbase or kraken")
            return
        if len(set(self.symbols)) != len(self.symbols) or len(self.symbols) > MAX_SYMBOLS:
            raise ValueError(f"symbols must differ and be at most {MAX_SYMBOLS}")
        for symbol in self.symbols:
            base, slash, quote = symbol.partition("/")
            if not (slash and base.isalnum() and quote.isalnum() and symbol.isascii() and symbol == symbol.upper()):
                raise ValueError(f"{symbol!r} is no symbol like BTC/USD")
        for url, scheme in ((self.url, "ws"), (self.rest_url, "http")):
            if url:
                _check_url(url, scheme)


@dataclass(frozen=True, kw_only=True)
class LiveOptions(FeedOptions):
    """The live market: a feed, and perhaps a backup that takes over while the first is not LIVE.

    backup: its symbols stand for the first feed's, in the same order; none given means the same ones.
    switch_after_s: the first feed has not been LIVE for this long and the backup is; return_after_s:
    the first has been LIVE again for this long without a break. stale_after_s: silence after which a
    feed is STALE; reconnect_after_s: silence after which its connection is made anew. depth: levels a
    side where the venue lets one choose. repair_after_s: how long to wait for a snapshot that was
    asked for before asking again. backoff_least_s doubles with each failed connection up to
    backoff_most_s, and each wait is a random part of it. session: "day" settles at midnight UTC,
    "open" never ends by itself. ca_file: certificates to trust instead of the system's.
    """

    backup: FeedOptions = field(default_factory=FeedOptions)
    switch_after_s: Annotated[float, Gt(0), Le(3600)] = 3.0
    return_after_s: Annotated[float, Gt(0), Le(86_400)] = 30.0
    stale_after_s: Annotated[float, Gt(0), Le(3600)] = 10.0
    reconnect_after_s: Annotated[float, Gt(0), Le(3600)] = 20.0
    repair_after_s: Annotated[float, Gt(0), Le(3600)] = 5.0
    backoff_least_s: Annotated[float, Gt(0), Le(60)] = 0.5
    backoff_most_s: Annotated[float, Gt(0), Le(3600)] = 30.0
    ping_s: Annotated[float, Gt(0), Le(3600)] = 15.0
    open_timeout_s: Annotated[float, Gt(0), Le(600)] = 10.0
    max_message_bytes: Annotated[int, Ge(1024), Le(1 << 28)] = 1 << 25
    depth: Literal[10, 25, 100, 500, 1000] = 1000
    ca_file: str = ""
    session: Literal["day", "open"] = "day"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.venue and not self.symbols:
            raise ValueError("a live feed needs symbols, like BTC/USD")
        if self.backup.venue and not self.venue:
            raise ValueError("a backup needs a feed that it is the backup of")
        if self.backup.symbols and len(self.backup.symbols) != len(self.symbols):
            raise ValueError(f"the backup has {len(self.backup.symbols)} symbols, the feed {len(self.symbols)}")

    @property
    def feeds(self) -> tuple[FeedOptions, ...]:
        """The feed and, where there is one, its backup with its symbols filled in."""
        backup = self.backup
        if not backup.venue:
            return (self,) if self.venue else ()
        symbols = backup.symbols or self.symbols
        return self, FeedOptions(venue=backup.venue, symbols=symbols, url=backup.url, rest_url=backup.rest_url)

    @property
    def names(self) -> tuple[str, ...]:
        """What the feeds are called in series and on screen: by their venues, told apart where that is the same."""
        venues = [feed.venue for feed in self.feeds]
        return tuple(f"{venue}-backup" if venue in venues[:k] else str(venue) for k, venue in enumerate(venues))


def _check_url(url: str, scheme: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in (scheme, f"{scheme}s") or not parts.hostname:
        raise ValueError(f"{url!r} must begin with {scheme}s://")
    if parts.scheme == scheme and not _is_here(parts.hostname):
        raise ValueError(f"{url!r} would go over the network without TLS: use {scheme}s://")


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
