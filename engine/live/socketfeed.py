"""SocketFeed: one venue's public feed over a WebSocket, kept alive and mended.

It connects, subscribes, decodes (with the decoders of recorded files) and hands updates on. A book that is
not LIVE is mended by what its decoder says it takes: a snapshot over REST, a new subscription, a new
connection. A feed that cannot be reached is tried again after longer and longer waits, of which each is a
random part, so that a venue that comes back is not met by everybody at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from engine.feeds.binance import BinanceDecoder
from engine.feeds.decimals import Increments
from engine.feeds.decoder import FeedState, Remedy, Update
from engine.live.mirror import Mirror, MirrorFullError
from engine.live.options import FeedOptions, LiveOptions
from engine.live.venues import open_venue
from metrics.errors import ConfigError

LOG = logging.getLogger("deskvigil.feed")
NS: Final = 1_000_000_000
LOOK_S: Final = 0.05
SKIPS_NAMED: Final = 5  # damaged messages that the log names, of each connection
# The worst of a feed's instruments is what the feed is.
WORST_FIRST: Final = (
    FeedState.DISCONNECTED, FeedState.SYNCING, FeedState.BAD_CHECKSUM, FeedState.GAP, FeedState.STALE, FeedState.LIVE,
)  # fmt: skip
TROUBLE: Final = (OSError, WebSocketException, EOFError, TimeoutError)

Taker = Callable[[list[Update]], None]


class SocketFeed:
    """One feed; `run` for as long as it should live. Everything happens in one event loop.

    clock: the market's time in ns; take: gets the updates after the mirror has them, instruments numbered
    as in `options.symbols`. `mirror` holds the books, `states` what each instrument is.
    """

    def __init__(
        self, name: str, feed: FeedOptions, options: LiveOptions, clock: Callable[[], int], take: Taker
    ) -> None:
        self.name = name
        self.venue = open_venue(feed, options.depth)
        self.venue.decoder.stale_after_ns = round(options.stale_after_s * NS)
        self.mirror = Mirror(len(feed.symbols))
        self.connections = self.failures = self.foreign = self.repairs = 0
        self.heard_ns = 0  # monotonic
        self.lag_ns = -1
        self.is_connected = False
        self._options, self._clock, self._take = options, clock, take
        self._index = {native: i for i, native in enumerate(self.venue.natives)}
        self._asked_ns: dict[str, int] = {}  # monotonic: when a snapshot was last asked for
        self._unasked: set[str] = set()  # needs one since the connection was made
        self._fault = ""
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._backoff_s = options.backoff_least_s
        self._ssl = _ssl_context(options, feed)
        self._skips_named = 0

    @property
    def states(self) -> list[FeedState]:
        """The state of each instrument."""
        if not self.is_connected:
            return [FeedState.DISCONNECTED] * len(self.venue.natives)
        return [self.venue.decoder.state(native) for native in self.venue.natives]

    @property
    def state(self) -> FeedState:
        """The worst of its instruments' states."""
        return min(self.states, key=WORST_FIRST.index)

    def reason(self, i: int) -> str:
        """Why instrument i is in its state, in words."""
        return self.venue.decoder.reason(self.venue.natives[i]) if self.is_connected else "no connection"

    def increments(self, i: int) -> Increments | None:
        """Tick and lot of instrument i; None before the venue has told either in a list or in a snapshot."""
        return self.venue.decoder.increments(self.venue.natives[i])

    async def run(self) -> None:
        """Connect again and again, until cancelled."""
        while True:
            try:
                await self._session()
                words = "the venue closed the connection"
            except TROUBLE as error:
                words = f"{type(error).__name__}: {error}"
            except MirrorFullError as error:
                words = str(error)
            finally:
                self._end_session()
            self.failures += 1
            wait_s = self._backoff_s * random.uniform(0.5, 1.0)
            self._backoff_s = min(2 * self._backoff_s, self._options.backoff_most_s)
            LOG.warning("%s: %s; trying again in %.1f s", self.name, words[:300], wait_s)
            await asyncio.sleep(wait_s)

    async def _session(self) -> None:
        """One connection, from its beginning to its end."""
        options, venue = self._options, self.venue
        await self._learn()
        url = venue.socket_url()
        async with connect(
            url, max_size=options.max_message_bytes, ping_interval=options.ping_s, ping_timeout=options.ping_s,
            open_timeout=options.open_timeout_s, close_timeout=1.0,
            ssl=self._ssl if url.startswith("wss:") else None,
        ) as socket:  # fmt: skip
            self.connections += 1
            self.is_connected = True
            self._skips_named = 0
            self.heard_ns = time.monotonic_ns()
            self._hand_on(venue.decoder.connected(self._clock()))
            self._take([])
            self._asked_ns = dict.fromkeys(venue.natives, self.heard_ns)
            self._unasked = set(venue.natives)
            self._fault = ""
            for message in venue.subscribe(venue.natives):
                await socket.send(message)
            await self._listen(socket)

    async def _listen(self, socket: ClientConnection) -> None:
        """Take messages, and look after the books in between."""
        next_look_ns = 0
        silence_ns = round(self._options.reconnect_after_s * NS)
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    message = await socket.recv(decode=False)
            except TimeoutError:
                message = None
            now_ns = time.monotonic_ns()
            if message is not None:
                self._message(bytes(message), now_ns)
            if self._fault:
                raise MirrorFullError(self._fault)
            if now_ns >= next_look_ns:
                next_look_ns = now_ns + round(LOOK_S * NS)
                self._hand_on(self.venue.decoder.look(self._clock()))
                if now_ns - self.heard_ns > silence_ns:
                    raise TimeoutError(f"nothing came for {silence_ns / NS:g} s")
                await self._mend(socket, now_ns)

    def _message(self, message: bytes, now_ns: int) -> None:
        decoder = self.venue.decoder
        self.heard_ns = now_ns
        sent_ns = self.venue.sent_ns(message)
        if sent_ns:
            self.lag_ns = time.time_ns() - sent_ns
        skipped = decoder.counters.skipped
        self._hand_on(decoder.decode(message, self._clock()))
        if decoder.counters.skipped > skipped and self._skips_named < SKIPS_NAMED:
            self._skips_named += 1
            LOG.warning("%s: a message that makes no sense was left out: %r", self.name, message[:120])

    async def _mend(self, socket: ClientConnection, now_ns: int) -> None:
        """Ask for what the books that are not LIVE need, each at most once in repair_after."""
        again_ns = round(self._options.repair_after_s * NS)
        for native in self.venue.natives:
            decoder = self.venue.decoder
            state = decoder.state(native)
            if state is FeedState.LIVE:
                self._asked_ns.pop(native, None)  # the next trouble is mended at once
                self._backoff_s = self._options.backoff_least_s
                continue
            remedy = decoder.requires(native)
            waited = now_ns - self._asked_ns.get(native, -again_ns) >= again_ns
            snapshot_url = self.venue.snapshot_url(native)
            if remedy is Remedy.SNAPSHOT and snapshot_url:
                # Before the first change has come a snapshot could not be joined to any.
                due = waited or native in self._unasked
                if native in decoder.symbols and native not in self._fetching and due:
                    self._unasked.discard(native)
                    self._asked_ns[native] = now_ns
                    self._fetching[native] = asyncio.create_task(self._fetch_snapshot(native, snapshot_url))
            elif remedy is Remedy.RESUBSCRIBE and waited:
                self._asked_ns[native] = now_ns
                self.repairs += 1
                LOG.warning("%s %s: %s; subscribing anew", self.name, native, decoder.reason(native))
                for message in self.venue.resubscribe(native):
                    await socket.send(message)

    async def _fetch_snapshot(self, native: str, url: str) -> None:
        self.repairs += 1
        try:
            body = await self._get(url)
        except OSError as error:
            LOG.warning("%s %s: no snapshot: %s", self.name, native, error)
        else:
            decoder = self.venue.decoder
            if isinstance(decoder, BinanceDecoder):
                self._hand_on(decoder.decode_snapshot(native, body, self._clock()))
        finally:
            self._fetching.pop(native, None)

    async def _learn(self) -> None:
        """Ask for ticks and lots; without an answer the decimals of the snapshots say them."""
        if all(self.increments(i) is not None for i in range(len(self.venue.natives))):
            return
        try:
            self.venue.decoder.learn(await self._get(self.venue.listing_url()))
        except OSError as error:
            LOG.warning(
                "%s: no list of instruments (%s): ticks and lots by the decimals of the books", self.name, error
            )

    async def _get(self, url: str) -> bytes:
        """Fetch over HTTP; OSError where that fails or is too much."""
        return await asyncio.to_thread(
            _download, url, self._options.open_timeout_s, self._options.max_message_bytes, self._ssl
        )

    def _hand_on(self, updates: list[Update]) -> None:
        """Number instruments as they were configured, keep the mirror, tell the taker."""
        if not updates:
            return
        symbols = self.venue.decoder.symbols
        ours = []
        for update in updates:
            i = self._index.get(symbols[update.instrument])
            if i is None:
                self.foreign += 1
                continue
            try:
                self.mirror.take(i, update)
            except MirrorFullError as error:
                self._fault = f"{symbols[update.instrument]}: {error}"
                return
            ours.append(update._replace(instrument=i))
        self._take(ours)

    def _end_session(self) -> None:
        for task in self._fetching.values():
            task.cancel()
        self._fetching.clear()
        if self.is_connected:
            self._hand_on(self.venue.decoder.disconnected(self._clock()))
            self.is_connected = False
            for i in range(len(self.venue.natives)):
                self.mirror.clear(i)
            self._take([])


def _ssl_context(options: LiveOptions, feed: FeedOptions) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=options.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"engine.live.ca_file: {options.ca_file}: {error}") from None


def _download(url: str, timeout_s: float, most_bytes: int, context: ssl.SSLContext) -> bytes:
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, headers={"User-Agent": "deskvigil"})  # noqa: S310 - the scheme was checked
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            body: bytes = answer.read(most_bytes + 1)
    except HTTPException as error:
        raise OSError(f"{url}: {type(error).__name__}: {error}") from None
    if len(body) > most_bytes:
        raise OSError(f"{url}: more than {most_bytes} bytes")
    return body
