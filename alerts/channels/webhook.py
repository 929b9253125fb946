"""Webhook: Alertmanager's v4 JSON by HTTP POST, signed by the standard-webhooks scheme."""

from __future__ import annotations

import email.utils
import math
import ssl
from datetime import UTC
from typing import Any
from urllib.parse import quote, urlsplit

import httpcore2
import orjson

from alerts.channels.egress import EgressDenied, EgressPolicy, GuardedBackend
from alerts.channels.signature import read_secret, signed_headers
from alerts.errors import ChannelError
from alerts.ledger import Recipient
from alerts.message import Message
from alerts.options import WebhookOptions
from alerts.views import rfc3339
from metrics.clock import Clock
from metrics.errors import ConfigError

RETRIED_4XX = frozenset({408, 425, 429})
MAX_ANSWER = 2048
NEVER = "0001-01-01T00:00:00Z"


class WebhookChannel:
    """One receiver. A new connection for each message: none that went stale overnight is in the way.

    Redirects are not followed. ConfigError where URL, secret or allow list are unusable.
    """

    def __init__(self, options: WebhookOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._key = _key(options)
        self._headers = dict(_header(options, line) for line in options.headers)
        _check_url(options)
        try:
            self._backend = GuardedBackend(EgressPolicy(options.allow))
            context = ssl.create_default_context(cafile=options.ca_file or None)
        except (ValueError, OSError) as error:
            raise ConfigError(f"alerts webhook {options.name!r}: {error}") from None
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context, max_connections=1, max_keepalive_connections=0, network_backend=self._backend
        )

    @property
    def recipient(self) -> Recipient:
        return Recipient(self._options.name, self._options.min_severity, self._options.send_resolved)

    def send(self, message: Message) -> None:
        """POST the message; ChannelError where the receiver did not answer 2xx within the timeout."""
        body = orjson.dumps(alertmanager_body(message, self._options.name))
        headers = {"Content-Type": "application/json", "User-Agent": "deskvigil", **self._headers}
        if self._key is not None:
            now_s = self._clock.now_ns() // 1_000_000_000
            headers |= signed_headers(self._key, message.message_id, now_s, body)
        else:
            headers["webhook-id"] = message.message_id
        status, answer_headers, answer = self._post(headers, body)
        if not 200 <= status < 300:
            raise self._refusal(status, answer_headers, answer)

    def close(self) -> None:
        self._pool.close()

    def _post(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], str]:
        timeout_s = self._options.timeout_s
        pairs: list[tuple[bytes | str, bytes | str]] = list(headers.items())
        extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)}
        self._backend.begin(timeout_s)
        answer = b""
        try:
            with self._pool.stream(
                "POST", self._options.url, headers=pairs, content=body, extensions=extensions
            ) as response:
                for chunk in response.iter_stream():
                    answer += chunk
                    if len(answer) > MAX_ANSWER:
                        break
                found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                return response.status, found, answer[:MAX_ANSWER].decode("utf-8", "replace")
        except EgressDenied as error:
            raise ChannelError(str(error), permanent=True) from None
        except httpcore2.TimeoutException as error:
            raise ChannelError(f"no answer within {timeout_s:g} s ({type(error).__name__})") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            raise ChannelError(f"{type(error).__name__}: {error}") from None
        except httpcore2.UnsupportedProtocol as error:
            raise ChannelError(str(error), permanent=True) from None

    def _refusal(self, status: int, headers: dict[str, str], answer: str) -> ChannelError:
        permanent = 400 <= status < 500 and status not in RETRIED_4XX
        first_line = answer.strip().splitlines()[0][:200] if answer.strip() else ""
        text = f"answered {status}" + (f": {first_line}" if first_line else "")
        if 300 <= status < 400:
            text += " (redirects are not followed)"
        wait_s = None if permanent else _retry_after_s(headers.get("retry-after", ""), self._clock.now_ns() / 1e9)
        return ChannelError(text, permanent=permanent, retry_after_s=wait_s)


def alertmanager_body(message: Message, receiver: str) -> dict[str, Any]:
    """The message as Alertmanager's webhook JSON, version 4, and what it has no word for under `deskvigil`."""
    status = "resolved" if message.resolved else "firing"
    labels, annotations = dict(message.labels), dict(message.annotations)
    alert = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": rfc3339(message.fired_at_ms),
        "endsAt": NEVER if message.resolved_at_ms is None else rfc3339(message.resolved_at_ms),
        "generatorURL": message.link,
        "fingerprint": message.fingerprint,
    }
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{message.name}", alert_id="{message.alert_id}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": receiver,
        "groupLabels": {"alertname": message.name},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": message.external_url,
        "alerts": [alert],
        "deskvigil": {
            "reason": message.reason.value,
            "alertId": message.alert_id,
            "rule": message.rule,
            "severity": message.severity.label,
            "value": message.value if math.isfinite(message.value) else None,
            "comparison": message.comparison,
            "activeSince": rfc3339(message.active_since_ms),
            "sentFor": rfc3339(message.created_ms),
        },
    }


def _key(options: WebhookOptions) -> bytes | None:
    if not options.secret:
        return None
    try:
        return read_secret(options.secret)
    except ValueError as error:
        raise ConfigError(f"alerts webhook {options.name!r}: secret: {error}") from None


def _check_url(options: WebhookOptions) -> None:
    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ConfigError(
            f"alerts webhook {options.name!r}: url must be http://host/... or https://host/... without a user name"
        )
    if quote(options.url, safe="%/:?#[]@!$&'()*+,;=-._~") != options.url:
        raise ConfigError(f"alerts webhook {options.name!r}: url has characters that must be percent-encoded")


def _header(options: WebhookOptions, line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip() or any(character in line for character in "\r\n\0"):
        raise ConfigError(f"alerts webhook {options.name!r}: a header must be `Name: value`")
    return name.strip(), value.strip()


def _retry_after_s(text: str, now_s: float) -> float | None:
    """Seconds to wait from a Retry-After header: a number, or an HTTP date."""
    if text.strip().isdigit():
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s)
