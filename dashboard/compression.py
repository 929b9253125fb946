"""Compression of what never changes while the server runs: scripts and styles.

Plotly alone is 4.8 MB. The first request for a file is answered as it is while a worker thread
compresses it; later ones get it compressed from memory. Answers that are made anew each time (pages,
API, callbacks) are left alone: on the local machine compressing them costs more than it saves.
"""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass

import brotli  # type: ignore[import-untyped]
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREFIXES = ("/_dash-component-suites/", "/assets/")
_TYPES = ("javascript", "text/css", "image/svg", "json")
_MIN_BYTES = 1_400
_BROTLI_QUALITY = 6
_CACHE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Packed:
    """One file: its head as the application gave it, and the body in both encodings."""

    headers: tuple[tuple[bytes, bytes], ...]
    bodies: dict[str, bytes]


class StaticCompressionMiddleware:
    """Serves static files compressed, from memory, with revalidation by the browser."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._packed: dict[str, _Packed] = {}
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(_PREFIXES):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        encoding = _encoding(headers.get("accept-encoding", ""))
        packed = self._packed.get(scope["path"])
        conditional = "if-none-match" in headers or "if-modified-since" in headers
        if packed is None or encoding is None or conditional or "range" in headers:
            await self._app(scope, receive, self._watching(scope["path"], send, packed is None and not conditional))
            return
        body = packed.bodies[encoding]
        message: Message = {"type": "http.response.start", "status": 200, "headers": list(packed.headers)}
        out = MutableHeaders(scope=message)
        out["Content-Encoding"] = encoding
        out["Content-Length"] = str(len(body))
        await send(message)
        await send({"type": "http.response.body", "body": body})

    def _watching(self, path: str, send: Send, keep: bool) -> Send:
        """Pass the answer on, with cache headers, and keep a copy of it for compressing."""
        start: Message = {}
        parts: list[bytes] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # Without this a browser guesses how long a script stays fresh, and runs an old one after an upgrade.
                headers.setdefault("Cache-Control", "no-cache")
                headers.add_vary_header("Accept-Encoding")
                start.update(message)
            elif keep and start.get("status") == 200:
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    self._pack_later(path, start, b"".join(parts))
            await send(message)

        return sending

    def _pack_later(self, path: str, start: Message, body: bytes) -> None:
        headers = tuple((name, value) for name, value in start["headers"] if name.lower() != b"content-length")
        kind = Headers(raw=list(headers)).get("content-type", "")
        fits = len(body) >= _MIN_BYTES and self._bytes < _CACHE_BYTES
        if not fits or path in self._packed or not any(word in kind for word in _TYPES):
            return
        task = asyncio.create_task(self._pack(path, headers, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pack(self, path: str, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
        bodies = await asyncio.to_thread(_compress, body)
        self._bytes += sum(len(part) for part in bodies.values())
        self._packed[path] = _Packed(headers, bodies)


def _encoding(accepted: str) -> str | None:
    offers = {offer.split(";")[0].strip() for offer in accepted.split(",")}
    return next((name for name in ("br", "gzip") if name in offers), None)


def _compress(body: bytes) -> dict[str, bytes]:
    return {
        "br": brotli.compress(body, quality=_BROTLI_QUALITY),
        "gzip": gzip.compress(body, compresslevel=6, mtime=0),
    }
