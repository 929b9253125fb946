"""Fetcher: asks one target for its page: headers, credentials, TLS, redirects, one kept connection."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from collectors.scrape.connection import (
    Answer,
    ClosedEarlyError,
    Connection,
    FetchError,
    connect,
    request_head,
    resolve,
)
from collectors.scrape.grammar import Format
from collectors.scrape.options import ScrapeJob, TlsOptions
from collectors.scrape.targets import Target, host_port
from metrics.errors import ConfigError

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
MOST_REDIRECTS = 10
MOST_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page as bytes, and the format that its Content-Type names."""

    body: bytes
    form: Format
    received_bytes: int


class Fetcher:
    """Asks one target. Used by one task of one event loop."""

    def __init__(self, target: Target, tls: TlsContexts, version: str) -> None:
        self._target = target
        self._job = target.job
        self._version = version
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._connection: Connection | None = None
        self._at: tuple[str, str, int] | None = None
        self._phase: Callable[[], str] = lambda: "the connection"
        self._turn = 0

    async def fetch(self) -> Fetched:
        """Bring the page; FetchError says why there is none."""
        timeout_s = self._target.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._follow()
        except TimeoutError:
            phase = self._phase()
            self.close()
            raise FetchError(f"no end within {timeout_s:g} s (scrape_timeout), waiting for {phase}") from None
        except asyncio.CancelledError:
            self.close()
            raise
        if answer.status != 200:
            raise FetchError(f"the server answers HTTP {answer.status} {answer.reason}".rstrip())
        return Fetched(answer.body, format_of(answer.headers.get("content-type", "")), answer.received_bytes)

    def close(self) -> None:
        """Close the kept connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._at = None, None

    async def _follow(self) -> Answer:
        url = self._target.url
        answer = await self._ask(url)
        if not self._job.follow_redirects:
            return answer
        for _ in range(MOST_REDIRECTS):
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            location = answer.headers.get("location")
            if not location:
                raise FetchError(f"the server answers HTTP {answer.status} without saying where to")
            try:
                url = urljoin(url, location)
                parts = urlsplit(url)
            except ValueError:
                raise FetchError(f"the server redirects to {location[:200]!r}, which is no address") from None
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise FetchError(f"the server redirects to {location[:200]!r}, which is not http or https")
            answer = await self._ask(url)
        if answer.status in (301, 302, 303, 307, 308):
            raise FetchError(f"more than {MOST_REDIRECTS} redirects, the last one to {url[:200]}")
        return answer

    async def _ask(self, url: str) -> Answer:
        parts = urlsplit(url)
        address = parts.netloc.rpartition("@")[2]
        try:
            host, port = host_port(address, parts.scheme)
        except ConfigError as error:
            raise FetchError(f"the server redirects: {error}") from None
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if any(not "!" <= c <= "~" for c in address + path):
            raise FetchError(f"the server redirects to {url[:200]!r}, which is not percent-encoded")
        own = self._origin() == (parts.scheme, host, port)
        head = request_head(path, self._headers(address, credentials=own))
        for _ in range(2):
            connection = await self._connected(parts.scheme, host, port)
            self._phase = connection.waits_for
            try:
                return await connection.request(head, self._job.body_size_limit)
            except ClosedEarlyError:
                if connection.requests <= 1:
                    raise
                self.close()  # it was kept from the scrape before and the server has let go of it
        raise FetchError("the server closes every connection before it answers")

    def _origin(self) -> tuple[str, str, int]:
        return self._target.scheme, *host_port(self._target.address, self._target.scheme)

    async def _connected(self, scheme: str, host: str, port: int) -> Connection:
        at = (scheme, host, port)
        tls = self._tls.current() if scheme == "https" else None
        kept = self._connection
        if kept is not None and self._at == at and kept.usable and tls is self._context:
            return kept
        self.close()
        self._phase = lambda: f"the address of {host}"
        addresses = await resolve(host, port)
        self._phase = lambda: f"the connection to {host} port {port}"
        # Another address first after each failure: of several, one may be out of reach and silent.
        turn = self._turn % max(1, len(addresses))
        self._turn += 1
        server_name = self._job.tls_config.server_name or host
        connection = await connect([*addresses[turn:], *addresses[:turn]], port, tls, server_name)
        self._turn -= 1
        self._connection, self._at, self._context = connection, at, tls
        return connection

    def _headers(self, address: str, *, credentials: bool) -> dict[str, str]:
        headers = {
            "Host": address,
            "User-Agent": f"Deskvigil/{self._version}",
            "Accept": ACCEPT,
            "Accept-Encoding": "gzip",
            "X-Prometheus-Scrape-Timeout-Seconds": f"{self._target.timeout_s:g}",
        }
        if credentials:  # only ever to the target itself, not to where it redirects
            value = authorization(self._job)
            if value:
                headers["Authorization"] = value
        return headers


def authorization(job: ScrapeJob) -> str:
    """The Authorization header's value, "" for none; secret files are read each time, so they may be rotated."""
    if job.authorization is not None:
        secret = job.authorization.credentials
        if job.authorization.credentials_file is not None:
            secret = _secret(job.authorization.credentials_file, "credentials_file")
        return f"{job.authorization.type.strip()} {secret}" if secret else ""
    if job.basic_auth is not None:
        password = job.basic_auth.password
        if job.basic_auth.password_file is not None:
            password = _secret(job.basic_auth.password_file, "password_file")
        pair = f"{job.basic_auth.username}:{password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"
    return ""


def _secret(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_SECRET_BYTES).decode().strip()
    except OSError as error:
        raise FetchError(f"{name} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FetchError(f"{name} {path} is not text") from None
    if any(ord(c) < 32 for c in content) or not content.isascii():
        raise FetchError(f"{name} {path} is not one line of ASCII")
    return content


def format_of(content_type: str) -> Format:
    """The format that a Content-Type names; anything but OpenMetrics is tried as Prometheus's text."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/openmetrics-text":
        return "openmetrics"
    if kind == "application/vnd.google.protobuf":
        raise FetchError("the server answers in protobuf, which was not asked for")
    return "text"


class TlsContexts:
    """One TLS context for all targets of a job (making one takes milliseconds), made anew where a file has changed."""

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self._context: ssl.SSLContext | None = None
        self._stamps: tuple[int, ...] = ()

    def current(self) -> ssl.SSLContext:
        """The context of the files as they are now; FetchError where they cannot be used."""
        options = self._options
        stamps = tuple(_modified(path) for path in (options.ca_file, options.cert_file, options.key_file) if path)
        if self._context is None or stamps != self._stamps:
            self._context = tls_context(options)
            self._stamps = stamps
        return self._context


def _modified(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """The context of some options; FetchError names the file that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=None if options.ca_file is None else str(options.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise FetchError(f"TLS: ca_file {options.ca_file} cannot be used: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if options.min_version == "TLS13" else ssl.TLSVersion.TLSv1_2
    try:
        if options.cert_file is not None and options.key_file is not None:
            context.load_cert_chain(options.cert_file, options.key_file, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise FetchError(f"TLS: cert_file {options.cert_file} and key_file cannot be used: {error}") from None
    if options.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    """An encrypted key would otherwise be asked for on the terminal."""
    raise ValueError("the key is encrypted, which is not supported")
