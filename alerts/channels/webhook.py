"""Webhook: Alertmanager's v4 JSON by HTTP POST, signed by the standard-webhooks scheme."""

from __future__ import annotations

import email.utils
import json
import math
import ssl
from datetime import UTC
from typing import Any
from urllib.parse import quote, urlsplit

import httpcore2
import orjson

from alerts.batch import Batch, common
from alerts.channels.egress import EgressDenied, EgressPolicy, GuardedBackend
from alerts.channels.letter import one_line
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
        self._keys = _keys(options)
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
        options = self._options
        return Recipient(
            options.name, options.min_severity, options.send_resolved, options.max_per_minute, options.burst
        )

    def send(self, batch: Batch) -> None:
        """POST the batch; ChannelError where the receiver did not answer 2xx within the timeout."""
        body = _json(alertmanager_body(batch, self._options.name, self._options.max_alerts))
        headers = {"Content-Type": "application/json", "User-Agent": "deskvigil", **self._headers}
        if self._keys:
            now_s = self._clock.now_ns() // 1_000_000_000
            headers |= signed_headers(self._keys, batch.batch_id, now_s, body)
        else:
            headers["webhook-id"] = batch.batch_id
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
        first_line = one_line(answer.strip()[:1000].splitlines()[0])[:200] if answer.strip() else ""
        text = f"answered {status}" + (f": {first_line}" if first_line else "")
        if 300 <= status < 400:
            text += " (redirects are not followed)"
        wait_s = None if permanent else _retry_after_s(headers.get("retry-after", ""), self._clock.now_ns() / 1e9)
        return ChannelError(text, permanent=permanent, retry_after_s=wait_s)


def alertmanager_body(batch: Batch, receiver: str, max_alerts: int = 0) -> dict[str, Any]:
    """The batch as Alertmanager's webhook JSON, version 4, and what it has no word for under `deskvigil`.

    alerts: each alert as it is now, firing before resolved, the worst first; more than `max_alerts` (0: no
    limit) are counted in truncatedAlerts. deskvigil: the first of them, and under `events` every change that
    is told, in order.
    """
    latest = batch.latest
    shown = latest[:max_alerts] if max_alerts else latest
    first = latest[0]
    alone = f'{{}}:{{alertname="{first.name}", alert_id="{first.alert_id}"}}'
    return {
        "version": "4",
        "groupKey": batch.group_key or (alone if len(latest) == 1 else f"{{}}/digest:{batch.batch_id}"),
        "truncatedAlerts": len(latest) - len(shown),
        "status": "resolved" if batch.resolved else "firing",
        "receiver": receiver,
        "groupLabels": dict(batch.group_labels) or ({"alertname": first.name} if len(latest) == 1 else {}),
        "commonLabels": common(one.labels for one in latest),
        "commonAnnotations": common(one.annotations for one in latest),
        "externalURL": first.external_url,
        "alerts": [_alert(one) for one in shown],
        "deskvigil": {
            "test": batch.test,
            "person": None if batch.target is None else batch.target.person,
            "reason": first.reason.value,
            "alertId": first.alert_id,
            "rule": first.rule,
            "severity": first.severity.label,
            "value": first.value if math.isfinite(first.value) else None,
            "comparison": first.comparison,
            "activeSince": rfc3339(first.active_since_ms),
            "sentFor": rfc3339(first.created_ms),
            "events": [
                {
                    "id": one.message_id,
                    "alertId": one.alert_id,
                    "reason": one.reason.value,
                    "severity": one.severity.label,
                    "at": rfc3339(one.created_ms),
                }
                for one in batch.messages
            ],
        },
    }


def _json(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # a label with half a surrogate pair, which is no UTF-8 but can be escaped
        return json.dumps(body, allow_nan=False).encode("ascii")


def _alert(message: Message) -> dict[str, Any]:
    return {
        "status": "resolved" if message.resolved else "firing",
        "labels": dict(message.labels),
        "annotations": dict(message.annotations),
        "startsAt": rfc3339(message.fired_at_ms),
        "endsAt": NEVER if message.resolved_at_ms is None else rfc3339(message.resolved_at_ms),
        "generatorURL": message.link,
        "fingerprint": message.fingerprint,
    }


def _keys(options: WebhookOptions) -> list[bytes]:
    try:
        return [read_secret(secret) for secret in (options.secret, *options.old_secrets) if secret]
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
