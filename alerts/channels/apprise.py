"""Apprise: Slack, Teams, Discord, Telegram, PagerDuty and a hundred other services by their URLs.

Apprise opens its connections itself: what the egress guard can do here is to resolve a URL's host beforehand
and refuse one that is not public. It cannot hold the connection to the address that was judged (a name may
change its mind in between), nor see where a service redirects. Where that matters, use a webhook.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from alerts.batch import Batch
from alerts.channels import letter
from alerts.channels.egress import EgressPolicy
from alerts.errors import ChannelError
from alerts.ledger import Recipient
from alerts.options import AppriseOptions
from metrics.errors import ConfigError
from metrics.severity import Severity

MAX_TITLE = 200
MAX_BODY = 3_000
_KINDS = {
    Severity.INFO: "info",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "failure",
    Severity.EMERGENCY: "failure",
}


class AppriseChannel:
    """All URLs of one channel. ConfigError where apprise is not installed, or a URL is none that it knows.

    A URL may hold a token: errors name its position and service, never the URL.
    """

    def __init__(self, options: AppriseOptions) -> None:
        self._options = options
        try:
            import apprise
        except ImportError:
            raise ConfigError(
                f"alerts apprise {options.name!r}: apprise is not installed: pip install -r requirements-notify.txt"
            ) from None
        try:
            self._policy = EgressPolicy(options.allow)
        except ValueError as error:
            raise ConfigError(f"alerts apprise {options.name!r}: {error}") from None
        self._services: list[Any] = []
        for number, url in enumerate(options.urls):
            service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
            if service is None:
                scheme = urlsplit(url).scheme or "no scheme"
                raise ConfigError(
                    f"alerts apprise {options.name!r}: urls[{number}] ({scheme}) is not one apprise knows"
                )
            self._services.append(service)
        self._told: dict[str, set[int]] = {}

    @property
    def recipient(self) -> Recipient:
        options = self._options
        return Recipient(
            options.name, options.min_severity, options.send_resolved, options.max_per_minute, options.burst
        )

    def send(self, batch: Batch) -> None:
        """Tell every service; ChannelError where one did not take it. Those that did are not told again at the retry."""
        title = letter.one_line(letter.subject(batch))[:MAX_TITLE]
        body = letter.text(batch, 20, lambda message: "")[:MAX_BODY]
        kind = "success" if batch.resolved else _KINDS[batch.severity]
        told = self._told.setdefault(batch.batch_id, set())
        failures = []
        for number, service in enumerate(self._services):
            if number in told:
                continue
            self._judge(number, service)
            if service.notify(body=body, title=title, notify_type=kind):
                told.add(number)
            else:
                failures.append(f"urls[{number}] ({service.service_name})")
        if failures:
            while len(self._told) > 1000:
                self._told.pop(next(iter(self._told)))
            raise ChannelError(f"not taken by {', '.join(failures)}")
        self._told.pop(batch.batch_id, None)

    def close(self) -> None:
        """Nothing is kept open between messages."""

    def _judge(self, number: int, service: Any) -> None:
        """Refuse a host of one's own choice that is not public."""
        host = getattr(service, "host", None)
        if not isinstance(host, str) or not host:
            return  # a service with an address of its own
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ChannelError(f"urls[{number}]: its host cannot be resolved: {error}") from None
        for entry in found:
            address = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
            if not self._policy.permits(host, address):
                raise ChannelError(
                    f"urls[{number}]: its host is {address}, which is not a public address and not on the allow list",
                    permanent=True,
                )
