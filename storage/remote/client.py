"""RemoteClient: HTTP with one remote store: samples to it, questions to it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import httpcore2

from metrics.errors import ConfigError, TransientError
from storage.remote.options import Endpoint

MAX_ANSWER = 256 << 20
_MAX_REFUSAL = 4_096


class RemoteAway(TransientError):  # noqa: N818 - a state of the outside world, not an error of ours
    """The remote store gave no answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came back with; retry_after is the header as it stands."""

    status: int
    body: bytes
    retry_after: str = ""

    @property
    def first_line(self) -> str:
        lines = self.body.decode("utf-8", "replace").strip().splitlines()
        return lines[0][:300] if lines else ""


class RemoteClient:
    """Connections are kept open and bounded. Redirects are not followed. Thread-safe."""

    def __init__(self, endpoint: Endpoint, timeout_s: float, ca_file: str = "", connections: int = 4) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        try:
            context = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:
            raise ConfigError(f"storage.ca_file: {ca_file} cannot be read: {error}") from None
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=30.0,
            retries=0,
        )

    def write(self, body: bytes) -> Answer:
        """POST one snappy-compressed WriteRequest. Raises RemoteAway where no answer came."""
        headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ]
        return self._request("POST", self.endpoint.write, headers, body, self._timeout_s, _MAX_REFUSAL)

    def ask(
        self, path: str, parameters: Sequence[tuple[str, str]], timeout_s: float | None = None, *, post: bool = True
    ) -> Answer:
        """Send one question to the query API (`path` below /api/v1). Raises RemoteAway where no answer came."""
        address, form = f"{self.endpoint.base}/api/v1/{path}", urlencode(parameters)
        wait_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        if not post:
            return self._request("GET", f"{address}?{form}" if form else address, [], None, wait_s, MAX_ANSWER)
        headers = [("Content-Type", "application/x-www-form-urlencoded")]
        return self._request("POST", address, headers, form.encode(), wait_s, MAX_ANSWER)

    def close(self) -> None:
        self._pool.close()

    def _request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        timeout_s: float,
        most_bytes: int,
    ) -> Answer:
        pairs: list[tuple[bytes | str, bytes | str]] = [("User-Agent", "deskvigil"), *headers, *self.endpoint.headers]
        limits = {**dict.fromkeys(("read", "write", "pool"), timeout_s), "connect": min(timeout_s, 5.0)}
        chunks: list[bytes] = []
        size = 0
        try:
            with self._pool.stream(method, url, headers=pairs, content=body, extensions={"timeout": limits}) as answer:
                for chunk in answer.iter_stream():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > most_bytes:
                        break
                status = int(answer.status)
                found = {name.lower(): value for name, value in answer.headers}
        except httpcore2.TimeoutException as error:
            raise RemoteAway(f"{self._name()} gave no answer within {timeout_s:g} s ({type(error).__name__})") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, OSError) as error:
            raise RemoteAway(f"{self._name()} cannot be reached: {error or type(error).__name__}") from None
        if size > most_bytes and most_bytes > _MAX_REFUSAL:
            raise RemoteAway(f"{self._name()} answered with more than {most_bytes >> 20} MiB")
        return Answer(status, b"".join(chunks), found.get(b"retry-after", b"").decode("latin-1"))

    def _name(self) -> str:
        return f"the remote store {self.endpoint.base}"
