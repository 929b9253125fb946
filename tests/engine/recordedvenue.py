"""A venue on this machine that speaks as the real ones do: its messages are the recorded ones.

It keeps the book that its messages make, as text, so that a snapshot asked for in the middle is the one
that the recorded venue would have given. Tests let it play so many messages, and may have it misbehave.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import lzma
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Sides = dict[str, dict[str, list[str]]]  # native symbol and side -> price -> level as written


def messages_of(path: Path) -> list[bytes]:
    """What a recorder received over its socket, and snapshots among it."""
    raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else gzip.decompress(path.read_bytes())
    lines = []
    for line in raw.split(b"\n"):
        first, _, rest = line.partition(b" ")
        if rest.startswith(b"-> "):  # an answer over REST
            first, _, rest = rest[3:].partition(b" ")
        if rest and first.rstrip(b":").replace(b".", b"").isdigit():
            lines.append(rest)
    return lines


class RecordedVenue:
    """One venue. `play` sends recorded messages to whoever is connected."""

    def __init__(self, messages: list[bytes]) -> None:
        self.messages, self.at = messages, 0
        self.books: dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]] = {}
        self.sockets: set[ServerConnection] = set()
        self.subscriptions = 0
        self.refuses = False
        self.silent = False
        self.url = self.rest_url = ""
        self.listing = b"{}"
        self.rest_calls: list[str] = []

    # What differs between venues.

    def apply(self, message: Any) -> None:
        raise NotImplementedError

    def snapshots(self, request: Any) -> list[str]:
        raise NotImplementedError

    def rest(self, path: str) -> bytes:
        return self.listing

    # The same for all.

    async def open(self, context: ssl.SSLContext | None = None) -> None:
        self._server = await serve(self._handle, "127.0.0.1", 0, ssl=context)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'wss' if context else 'ws'}://localhost:{port}"
        venue = self

        class Rest(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                venue.rest_calls.append(self.path)
                body = venue.rest(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._rest = ThreadingHTTPServer(("127.0.0.1", 0), Rest)
        self.rest_url = f"http://127.0.0.1:{self._rest.server_port}"
        threading.Thread(target=self._rest.serve_forever, daemon=True).start()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()
        self._rest.shutdown()
        self._rest.server_close()

    async def _handle(self, socket: ServerConnection) -> None:
        if self.refuses:
            await socket.close()
            return
        self.sockets.add(socket)
        try:
            async for text in socket:
                request = json.loads(text)
                for answer in self.snapshots(request):
                    if not self.silent:
                        await socket.send(answer)
                self.subscriptions += 1
        except ConnectionClosed:
            pass
        finally:
            self.sockets.discard(socket)

    async def disconnect(self) -> None:
        """The network goes: no closing handshake."""
        for socket in list(self.sockets):
            socket.transport.abort()

    async def send(self, message: bytes | str) -> None:
        for socket in list(self.sockets):
            with suppress(ConnectionClosed):
                await socket.send(message.decode() if isinstance(message, bytes) else message)

    async def play(self, count: int, spoil: Callable[[bytes], list[bytes | str]] = lambda message: [message]) -> int:
        """Let `count` messages happen; spoil: what is sent in place of each. Returns how many were sent."""
        sent = 0
        for message in self.messages[self.at : self.at + count]:
            self.at += 1
            self.apply(json.loads(message))
            for text in spoil(message):
                await self.send(text)
                sent += 1
            await asyncio.sleep(0)
        return sent

    def _set(self, native: str, side: int, price: str, level: list[str], gone: bool) -> None:
        book = self.books.setdefault(native, ({}, {}))[side]
        if gone:
            book.pop(price, None)
        else:
            book[price] = level

    def best(self, native: str) -> tuple[float, float]:
        bids, asks = self.books[native]
        return max(map(float, bids)), min(map(float, asks))


class RecordedKraken(RecordedVenue):
    """Kraken, 10 pairs; depth 1000."""

    def __init__(self, path: Path, natives: tuple[str, ...]) -> None:
        messages = []
        self.natives = natives
        super().__init__(messages)
        for text in messages_of(path):
            message = json.loads(text)
            if isinstance(message, list) and message[-1] in natives and message[-2].startswith(("book", "trade")):
                if "as" in message[1]:
                    self.apply(message)
                else:
                    messages.append(text)

    def apply(self, message: Any) -> None:
        if message[-2] == "trade":
            return
        for part in message[1:-2]:
            for key, rows in part.items():
                for row in rows if key in ("as", "bs", "a", "b") else ():
                    self._set(message[-1], key.startswith("a"), row[0], row[:3], float(row[1]) == 0)
        for side, book in enumerate(self.books[message[-1]]):  # beyond the depth nothing is said any more
            for price in sorted(book, key=float, reverse=side == 0)[1000:]:
                del book[price]

    def snapshots(self, request: Any) -> list[str]:
        if request["event"] != "subscribe" or request["subscription"]["name"] != "book":
            return []
        answers = []
        for pair in self.books.keys() & request["pair"]:
            bids, asks = self.books[pair]
            levels = {
                "as": [asks[p] for p in sorted(asks, key=float)],
                "bs": [bids[p] for p in sorted(bids, key=float)[::-1]],
            }
            answers.append(json.dumps([1, levels, "book-1000", pair]))
        return answers


class RecordedCoinbase(RecordedVenue):
    """Coinbase, 10 products."""

    def __init__(self, path: Path, natives: tuple[str, ...]) -> None:
        messages: list[bytes] = []
        super().__init__(messages)
        for text in messages_of(path):
            message = json.loads(text)
            if message.get("product_id") in natives:
                if message["type"] == "snapshot":
                    self.apply(message)
                elif message["type"] in ("l2update", "match"):
                    messages.append(text)

    def apply(self, message: Any) -> None:
        native = message["product_id"]
        for key in ("bids", "asks"):
            for price, qty in message.get(key, ()):
                self._set(native, key == "asks", price, [price, qty], False)
        for side, price, qty in message.get("changes", ()):
            self._set(native, side == "sell", price, [price, qty], float(qty) == 0)

    def snapshots(self, request: Any) -> list[str]:
        if request["type"] != "subscribe":
            return []
        answers = []
        for native in request["product_ids"]:
            bids, asks = self.books[native]
            snapshot = {"type": "snapshot", "product_id": native, "bids": [*bids.values()], "asks": [*asks.values()]}
            answers.append(json.dumps(snapshot))
        return answers


class RecordedBinance(RecordedVenue):
    """Binance spot, one symbol; its snapshots come over REST."""

    def __init__(self, path: Path, native: str) -> None:
        messages: list[bytes] = []
        super().__init__(messages)
        self.native, self.last_id = native, 0
        for text in messages_of(path):
            message = json.loads(text)
            if "lastUpdateId" in message:
                if not self.last_id:
                    self.last_id = message["lastUpdateId"]
                    for side, key in enumerate(("bids", "asks")):
                        for price, qty in message[key]:
                            self._set(native, side, price, [price, qty], False)
                    messages[:] = [one for one in messages if json.loads(one)["data"].get("u", 0) > self.last_id]
            elif message["stream"].split("@")[1] in ("depth", "trade"):
                messages.append(text)

    def apply(self, message: Any) -> None:
        data = message["data"]
        if data["e"] == "depthUpdate" and data["u"] > self.last_id:
            self.last_id = data["u"]
            for side, key in enumerate(("b", "a")):
                for price, qty in data[key]:
                    self._set(self.native, side, price, [price, qty], float(qty) == 0)

    def snapshots(self, request: Any) -> list[str]:
        return []

    def rest(self, path: str) -> bytes:
        if "depth" not in path:
            return self.listing
        bids, asks = self.books[self.native]
        return json.dumps({"lastUpdateId": self.last_id, "bids": [*bids.values()], "asks": [*asks.values()]}).encode()
