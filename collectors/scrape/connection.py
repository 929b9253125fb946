"""Connection: one HTTP/1.1 connection that is kept for the next scrape, with a limit on everything it takes in."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

MOST_HEAD_BYTES = 64 * 1024
MOST_ERROR_BYTES = 64 * 1024
MOST_LOOKUPS = 64


class FetchError(Exception):
    """A scrape that brought no page; the message says why."""


class ClosedEarlyError(FetchError):
    """The server closed a kept connection before it answered: worth one try on a new one."""


@dataclass(slots=True)
class Answer:
    """An HTTP answer; body is unpacked. received_bytes: of the body as it came over the line."""

    status: int = 0
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    received_bytes: int = 0


class Connection(asyncio.Protocol):
    """One connection. One request at a time; whatever goes wrong closes it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._done: asyncio.Future[Answer] | None = None
        self._answer = Answer()
        self._body: _Body | None = None
        self._limit = 0
        self._head_bytes = 0
        self._in_body = self._reusable = False
        self.requests = 0
        self._phase = "the answer"

    def waits_for(self) -> str:
        """What is being waited for, in words."""
        return self._phase

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing() and self._done is None

    def request(self, head: bytes, body_limit: int) -> asyncio.Future[Answer]:
        """Send a request; the future brings the answer or a FetchError. body_limit: bytes, unpacked."""
        if self._transport is None or not self.usable:
            raise ClosedEarlyError("the connection is closed")
        self._done = asyncio.get_running_loop().create_future()
        self._limit = body_limit
        self._begin()
        self.requests += 1
        self._transport.write(head)
        return self._done

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._done is None:  # nobody has asked
            self.close()
            return
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(FetchError("the server wants to change the protocol"))
        except httptools.HttpParserError as error:
            # What a callback raised is the cause; anything else is the parser's own.
            cause = error.__context__
            self._fail(cause if isinstance(cause, FetchError) else FetchError(f"the answer is not HTTP: {error}"))
        except FetchError as error:
            self._fail(error)
        else:
            if not self._in_body and self._head_bytes > MOST_HEAD_BYTES and self._done is not None:
                self._fail(FetchError(f"the answer's head is longer than {MOST_HEAD_BYTES} bytes"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None:
            sized = "content-length" in self._answer.headers or "transfer-encoding" in self._answer.headers
            if exc is None and self._in_body and not sized:
                try:
                    self.on_message_complete()  # the end of the connection is the end of the body
                except FetchError as error:
                    self._fail(error)
            elif self._in_body:
                self._fail(FetchError(f"the connection ended in the middle of the body{_because(exc)}"))
            elif self.requests > 1 and not self._head_bytes:
                self._fail(ClosedEarlyError("the server closed the connection"))
            else:
                self._fail(FetchError(f"the connection ended before the answer{_because(exc)}"))
        self._transport = None

    # --- httptools ----------------------------------------------------------------------------

    def on_status(self, status: bytes) -> None:
        self._answer.reason += status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        if len(self._answer.headers) > 200:
            raise FetchError("the answer has more than 200 headers")

    def on_headers_complete(self) -> None:
        answer = self._answer
        answer.status = self._parser.get_status_code()
        if answer.status < 200:
            return
        self._in_body = True
        self._phase = "the body"
        limit = self._limit if answer.status == 200 else min(self._limit, MOST_ERROR_BYTES)
        self._body = _Body(answer.headers.get("content-encoding", ""), limit)

    def on_body(self, data: bytes) -> None:
        if self._body is not None:
            self._body.feed(data)

    def on_message_complete(self) -> None:
        answer, done = self._answer, self._done
        if answer.status < 200:  # 100 Continue and the like: the answer proper follows, in the same parser
            self._answer = Answer()
            return
        if done is None or self._body is None:
            return
        answer.body = self._body.finish()
        answer.received_bytes = self._body.received
        self._done, self._body = None, None
        sized = "content-length" in answer.headers or "transfer-encoding" in answer.headers
        if not (sized and self._parser.should_keep_alive()):
            self.close()
        if not done.done():
            done.set_result(answer)

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer, self._body = Answer(), None
        self._head_bytes, self._in_body, self._phase = 0, False, "the answer"

    def _fail(self, error: Exception) -> None:
        done, self._done = self._done, None
        self.close()
        if done is not None and not done.done():
            done.set_exception(error)


class _Body:
    """The parts of a body, unpacked as they come and never beyond the limit."""

    def __init__(self, encoding: str, limit: int) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise FetchError(f"the body is encoded as {encoding!r}, which was not asked for")
        self._limit = limit
        self._packed = "gzip" in encoding
        self._gunzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._parts: list[bytes] = []
        self._size = 0
        self.received = 0

    def feed(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > self._limit:
            raise self._too_large()
        if not self._packed:
            self._add(data)
            return
        try:
            while data:
                if self._gunzip.eof:  # gzip members may follow one another
                    self._gunzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
                self._add(self._gunzip.decompress(data, self._limit - self._size + 1))
                data = self._gunzip.unconsumed_tail or self._gunzip.unused_data
        except zlib.error as error:
            raise FetchError(f"the body is not gzip: {error}") from None

    def finish(self) -> bytes:
        if self._packed and self.received and not self._gunzip.eof:
            raise FetchError("the gzip body ends too early")
        return b"".join(self._parts)

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            raise self._too_large()
        self._parts.append(part)

    def _too_large(self) -> FetchError:
        return FetchError(f"the body is larger than {self._limit} bytes (body_size_limit)")


_lookups = threading.BoundedSemaphore(MOST_LOOKUPS)


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host.

    Each look-up has a thread of its own, a daemon: a name server that does not answer holds up neither other targets
    nor the program's end. FetchError where there is none, or where MOST_LOOKUPS are under way already.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if not _lookups.acquire(blocking=False):
        raise FetchError(f"cannot look up {host}: {MOST_LOOKUPS} other names are waiting for the name server")
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Any] = loop.create_future()

    def tell(result: Any) -> None:
        if not found.done():
            found.set_result(result)

    def look_up() -> None:
        result: Any
        try:
            result = list(
                dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            )
        except (OSError, UnicodeError) as error:
            result = error
        finally:
            _lookups.release()
        try:
            loop.call_soon_threadsafe(tell, result)
        except RuntimeError:  # the loop has ended meanwhile
            return

    threading.Thread(target=look_up, name=f"lookup-{host}"[:15], daemon=True).start()
    result = await found
    if isinstance(result, OSError):
        raise FetchError(f"cannot look up {host}: {result.strerror or result}")
    if isinstance(result, Exception):
        raise FetchError(f"cannot look up {host}: {result}")
    return cast(Sequence[str], result)


async def connect(addresses: Sequence[str], port: int, tls: ssl.SSLContext | None, server_name: str) -> Connection:
    """Connect to the first address that answers; FetchError says why none did."""
    loop = asyncio.get_running_loop()
    reasons: list[str] = []
    for address in addresses:
        try:
            _, connection = await loop.create_connection(
                Connection, address, port, ssl=tls, server_hostname=server_name if tls else None
            )
        except ssl.SSLCertVerificationError as error:
            raise FetchError(f"TLS: the server's certificate is not accepted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise FetchError(f"TLS: {_tls_words(error)}") from None
        except OSError as error:
            reasons.append(f"cannot connect to {address} port {port}: {_os_words(error)}")
        else:
            return connection
    raise FetchError("; ".join(reasons[:2]) or "the name has no address")


def _tls_words(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if reason in ("wrong version number", "record layer failure", "http request"):
        return f"the server does not speak TLS on this port ({reason})"
    return reason


def _os_words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def _because(error: Exception | None) -> str:
    if error is None:
        return ""
    if isinstance(error, ssl.SSLError):
        return f": TLS: {_tls_words(error)}"
    return f": {_os_words(error)}" if isinstance(error, OSError) else f": {error}"


def request_head(path: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a GET request."""
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
