"""Binance: level books chained by update ids, prints and best quotes (combined streams), recorded or off a socket.

Depth messages carry the first and last update id they cover (U, u); on the futures market also the last id
of the message before (pu). A snapshot (REST, one of the lines of a capture) holds everything up to its
lastUpdateId: messages received before it are applied after it where they reach beyond, as Binance's manual
says. A break in the chain is a gap. Best quotes (bookTicker) are not part of the flow: where one has the
update id of a depth message, it is a check of the book.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from engine.events import Tape
from engine.feeds.capture import Capture, ns_json, prove_capture, read_capture
from engine.feeds.decimals import Increments, price_units, units
from engine.feeds.decoder import DAMAGED, Check, FeedState, Levels, MessageDecoder, Remedy, Track, Update, read_levels
from engine.feeds.files import Opening, read_unpacked
from engine.feeds.result import Result
from metrics.errors import DeskvigilError

MAX_WAITING: Final = 4096  # depth messages kept for a snapshot that is still to come
MAX_QUOTES: Final = 1 << 16  # best quotes kept for a depth message that is still to come
SYMBOL: Final = re.compile(rb'"s":\s?"([A-Za-z0-9_]+)"')
STRAY_SHARE: Final = 0.01  # symbols rarer than this beside the file's own are damaged ones


class Depth(NamedTuple):
    """One depth message; before_id -1 where the market has none, chained: whether it follows the one before."""

    first_id: int
    last_id: int
    before_id: int
    levels: Levels
    chained: bool = True

    def follows(self, last_id: int) -> bool:
        """Whether nothing is missing between that update id and this message."""
        return self.before_id == last_id if self.before_id >= 0 else self.first_id <= last_id + 1

    def joins(self, last_id: int) -> bool:
        """Whether nothing is missing between a snapshot up to that id and this message."""
        return self.before_id <= last_id if self.before_id >= 0 else self.first_id <= last_id + 1


class Quote(NamedTuple):
    """Best bid and ask: (price, quantity) each."""

    bid: tuple[int, int]
    ask: tuple[int, int]


@dataclass(slots=True)
class _Chain:
    """Where a symbol's update ids stand. snapshot_id: of the snapshot whose first depth message is still to come."""

    last_id: int = -1
    snapshot_id: int = -1
    waiting: deque[Depth] = field(default_factory=lambda: deque(maxlen=MAX_WAITING))
    quotes: dict[int, Quote] = field(default_factory=dict)


class BinanceDecoder(MessageDecoder):
    """Any number of symbols; a snapshot among the messages names none and is taken for the only one.

    only: messages of other symbols are skipped.
    """

    snapshot_by = Remedy.SNAPSHOT

    def __init__(self, only: str | None = None) -> None:
        super().__init__()
        self._only = only
        self._chains: dict[str, _Chain] = {}
        self._early: tuple[int, Levels] | None = None  # a snapshot that came before its symbol was known

    def _take(self, message: Any, t_ns: int) -> bool:
        data = message.get("data", message)
        if "lastUpdateId" in data:
            snapshot_id, levels = int(data["lastUpdateId"]), read_levels(data["bids"], data["asks"])
            self._take_snapshot(snapshot_id, levels, t_ns)
            return True
        stream = message.get("stream", "").partition("@")[2]
        if stream.startswith("depth"):
            ids = int(data["U"]), int(data["u"]), int(data.get("pu", -1))
            depth = Depth(*ids, read_levels(data["b"], data["a"]))
            self._take_depth(self._known(data["s"], t_ns), depth, t_ns)
        elif stream == "bookTicker":
            bid, ask = (price_units(data["b"]), units(data["B"])), (price_units(data["a"]), units(data["A"]))
            update_id = int(data["u"])
            self._take_quote(self._known(data["s"], t_ns), update_id, Quote(bid, ask))
        elif stream == "trade" and data.get("X", "MARKET") == "MARKET":
            side, price, qty = -1 if data["m"] else 1, price_units(data["p"]), units(data["q"])
            self._emit_trade(self._known(data["s"], t_ns), side, price, qty, t_ns)
        else:
            return False
        return True

    def decode_snapshot(self, symbol: str, body: bytes, received_ns: int) -> list[Update]:
        """The updates of one symbol's depth as REST gives it; counted and skipped as messages are."""
        self._begin()
        self.counters.messages += 1
        self._latest_ns = self._latest_ns or received_ns
        try:
            data = orjson.loads(body)
            snapshot_id, levels = int(data["lastUpdateId"]), read_levels(data["bids"], data["asks"])
            self._start(self._known(symbol, received_ns), snapshot_id, levels, received_ns)
        except DAMAGED:
            self.counters.skip(self.line, body)
        return self._out

    def _known(self, symbol: Any, t_ns: int) -> Track:
        if self._only not in (None, symbol):
            raise ValueError(f"a message of {symbol!r}")
        track = self._track(symbol)
        self._chains.setdefault(track.symbol, _Chain())
        if self._early is not None:
            (snapshot_id, levels), self._early = self._early, None
            self._start(track, snapshot_id, levels, t_ns)
        return track

    def _take_snapshot(self, snapshot_id: int, levels: Levels, t_ns: int) -> None:
        if not self._tracks:
            self._early = snapshot_id, levels
        elif len(self._tracks) == 1:
            self._start(next(iter(self._tracks.values())), snapshot_id, levels, t_ns)
        else:
            raise ValueError("a snapshot of one of several symbols")

    def _start(self, track: Track, snapshot_id: int, levels: Levels, t_ns: int) -> None:
        """Begin with a snapshot and what was received before it but reaches beyond."""
        chain = self._chains[track.symbol]
        if track.state is FeedState.LIVE and snapshot_id <= chain.last_id:
            self.counters.duplicates += 1
            return
        self._snapshot(track, levels, t_ns)
        chain.snapshot_id = snapshot_id
        waiting, chain.waiting = chain.waiting, deque(maxlen=MAX_WAITING)
        for depth in waiting:
            if track.state is FeedState.LIVE:
                self._update(track, chain, depth, t_ns)
            else:
                chain.waiting.append(depth)

    def _take_depth(self, track: Track, depth: Depth, t_ns: int) -> None:
        chain = self._chains[track.symbol]
        before = chain.last_id
        if depth.last_id <= before:
            self.counters.duplicates += 1
            return
        chain.last_id = depth.last_id
        if before >= 0 and not depth.follows(before):
            self.counters.gaps += 1
            depth = depth._replace(chained=False)
        if track.state is FeedState.LIVE:
            self._update(track, chain, depth, t_ns)
        if track.state is not FeedState.LIVE:
            chain.waiting.append(depth)

    def _update(self, track: Track, chain: _Chain, depth: Depth, t_ns: int) -> None:
        """Apply a depth message unless the snapshot holds it already; a missing one before it voids the book."""
        if chain.snapshot_id >= 0:
            if depth.last_id <= chain.snapshot_id:
                return
            if not depth.joins(chain.snapshot_id):
                self.counters.gaps += depth.chained  # where it is not, that has been counted
                self._gap(track, f"update {depth.first_id} after the snapshot up to {chain.snapshot_id}", t_ns)
                return
            chain.snapshot_id = -1
        elif not depth.chained:
            self._gap(track, f"updates are missing before {depth.first_id}", t_ns)
            return
        self._emit_levels(track, depth.levels, t_ns)
        quote = chain.quotes.pop(depth.last_id, None)
        if quote is not None:
            self.checks.append(Check(len(self._out), track.index, (quote.bid,), (quote.ask,), on_time=False))

    def _take_quote(self, track: Track, update_id: int, quote: Quote) -> None:
        chain = self._chains[track.symbol]
        if update_id == chain.last_id and track.state is FeedState.LIVE and chain.snapshot_id < 0:
            self.checks.append(Check(len(self._out), track.index, (quote.bid,), (quote.ask,)))
        elif update_id > chain.last_id or track.state is not FeedState.LIVE:
            if len(chain.quotes) == MAX_QUOTES:
                del chain.quotes[next(iter(chain.quotes))]
            chain.quotes[update_id] = quote

    def _gap(self, track: Track, reason: str, t_ns: int) -> None:
        self._void(track, FeedState.GAP, reason, t_ns)

    def _forget(self, track: Track) -> None:
        self._chains[track.symbol].snapshot_id = -1

    def connected(self, t_ns: int) -> list[Update]:
        """A new connection: every book is void until its snapshot, and its chain of ids starts anew."""
        self._chains = {symbol: _Chain() for symbol in self._chains}
        return super().connected(t_ns)

    def _increments_in(self, listing: Any) -> dict[str, Increments]:
        """Tick and lot by the public list exchangeInfo."""
        found = {}
        for row in listing["symbols"]:
            filters = {rule["filterType"]: rule for rule in row["filters"]}
            tick, lot = filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]
            found[row["symbol"]] = Increments(price_units(tick), price_units(lot))
        return found


def is_capture(opening: Opening) -> bool:
    """Whether it has `ns json` lines of combined streams, or their snapshot, near its beginning."""
    for line in opening.head.split(b"\n"):
        stamp, _, text = line.partition(b" ")
        if stamp.isdigit() and text.lstrip().startswith((b'{"stream"', b'{"lastUpdateId"', b'{"data"')):
            return True
    return False


def read(path: Path) -> Capture:
    """Read a capture; see `read_capture`.

    DeskvigilError also for one of several symbols: the snapshots among its lines name none.
    """
    found = Counter(SYMBOL.findall(read_unpacked(path))).most_common()
    symbols = [symbol.decode() for symbol, count in found if count > STRAY_SHARE * found[0][1]]
    if len(symbols) > 1:
        raise DeskvigilError(f"{path.name}: expected one symbol, found {', '.join(sorted(symbols))}")
    return read_capture(path, "binance", ns_json, BinanceDecoder(*symbols))


def load(path: Path) -> Tape:
    """A capture as a tape."""
    return read(path).tape()


def prove(path: Path, _: Path | None) -> Result:
    """Replay a capture and compare the book with the venue's quotes."""
    return prove_capture(read(path))
