"""Heartbeat: the dead man's switch. An address outside is asked while alerting is proven to work, and only then.

Whoever watches over that address alerts when the requests stop: the one alert that cannot come from here.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpcore2

from alerts.channels.egress import EgressPolicy, GuardedBackend
from alerts.options import HeartbeatOptions
from metrics.clock import Clock
from metrics.errors import ConfigError

LOG = logging.getLogger(__name__)
MAX_ANSWER = 2048


@dataclass(frozen=True, slots=True)
class HeartbeatStats:
    """sent: answered 2xx; failed: not so; withheld: nothing was proven, so nothing was sent.

    age_s: since the last one that was answered, or since the start; NaN where there is no heartbeat.
    """

    sent: int = 0
    failed: int = 0
    withheld: int = 0
    age_s: float = float("nan")
    problem: str = ""


class Heartbeat:
    """A thread that asks the address every `interval_s`; does nothing without one.

    unproven says why it is not proven that alerting works, "" where it is. Redirects are not followed.
    ConfigError where URL, allow list or CA file are unusable.
    """

    def __init__(self, options: HeartbeatOptions, clock: Clock, unproven: Callable[[], str]) -> None:
        self._options = options
        self._clock = clock
        self._unproven = unproven
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._stats = HeartbeatStats()
        self._since_ns = clock.monotonic_ns()
        if not options.url:
            return
        parts = urlsplit(options.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ConfigError("alerts.heartbeat.url must be http://host/... or https://host/... without a user name")
        try:
            self._backend = GuardedBackend(EgressPolicy(options.allow))
            context = ssl.create_default_context(cafile=options.ca_file or None)
        except (ValueError, OSError) as error:
            raise ConfigError(f"alerts.heartbeat: {error}") from None
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context, max_connections=1, max_keepalive_connections=0, network_backend=self._backend
        )

    def start(self) -> None:
        """Begin; the first one is sent an interval later, when there is something to prove."""
        if self._thread is None and self._options.url:
            self._stopping.clear()
            self._since_ns = self._clock.monotonic_ns()
            self._thread = threading.Thread(target=self._run, name="alerts-heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Bounded by the request's timeout, may be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(self._options.timeout_s + 1.0)
            self._thread = None

    @property
    def stats(self) -> HeartbeatStats:
        """Counters since the start, and what was wrong last ("" where nothing is)."""
        if not self._options.url:
            return self._stats
        return replace(self._stats, age_s=(self._clock.monotonic_ns() - self._since_ns) / 1e9)

    def beat(self) -> None:
        """Send one where alerting is proven to work; count what came of it."""
        before, why = self._stats, self._unproven()
        if why:
            self._stats = replace(before, withheld=before.withheld + 1, problem=f"withheld: {why}")
        elif failure := self._ask():
            self._stats = replace(before, failed=before.failed + 1, problem=failure)
        else:
            self._since_ns = self._clock.monotonic_ns()
            self._stats = replace(before, sent=before.sent + 1, problem="")
        if self._stats.problem and self._stats.problem != before.problem:  # once, not with each one
            LOG.error("heartbeat: %s", self._stats.problem)

    def _ask(self) -> str:
        """Send a GET; return why it was not answered 2xx, "" where it was. The address is a secret: not in words."""
        timeout_s = self._options.timeout_s
        extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)}
        self._backend.begin(timeout_s)
        headers = [("User-Agent", "deskvigil")]
        try:
            with self._pool.stream("GET", self._options.url, headers=headers, extensions=extensions) as response:
                size = 0
                for chunk in response.iter_stream():
                    size += len(chunk)
                    if size > MAX_ANSWER:
                        break
                return "" if 200 <= response.status < 300 else f"answered {response.status}"
        except httpcore2.TimeoutException as error:
            return f"no answer within {timeout_s:g} s ({type(error).__name__})"
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, OSError) as error:
            return f"{type(error).__name__}: {error}"

    def _run(self) -> None:
        while not self._stopping.wait(self._options.interval_s):
            try:
                self.beat()
            except Exception:  # a fault of ours: loud, and nothing is claimed meanwhile
                LOG.exception("the heartbeat failed")
        self._pool.close()
