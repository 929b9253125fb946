"""AckLinks: signed, expiring links by which whoever got a message may acknowledge its alert."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from alerts.errors import LinkError
from metrics.clock import Clock
from metrics.errors import ConfigError

VALID_S = 7 * 86_400
KEY_BYTES = 32
MAX_TOKEN = 400


def load_key(path: Path) -> bytes:
    """The secret in a file that only its owner can read, made where there is none; ConfigError where it is unusable."""
    try:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
        mode, key = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the key of acknowledge links, {path}: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"the key of acknowledge links, {path}, may be read by others: chmod 600 it, or delete it")
    if len(key) != KEY_BYTES:
        raise ConfigError(f"the key of acknowledge links, {path}, is damaged: delete it and a new one is made")
    return key


class AckLinks:
    """Makes and reads links. A link is bound to one episode of one alert, and ends after a week."""

    def __init__(self, key: bytes, external_url: str, clock: Clock) -> None:
        self._key = key
        self._base = external_url.rstrip("/")
        self._clock = clock

    def url(self, alert_id: str) -> str:
        """The address of the page on which this alert can be acknowledged."""
        until_s = self._clock.now_ns() // 1_000_000_000 + VALID_S
        content = f"{until_s}.{alert_id}".encode()
        return f"{self._base}/acknowledge/{_text(content)}.{_text(self._sign(content))}"

    def read(self, token: str) -> str:
        """The alert that a link's last part stands for; LinkError says why it is not valid."""
        content, dot, signature = token.partition(".")
        if len(token) > MAX_TOKEN or not dot:
            raise LinkError("This link is not whole. Open it from the message again, or use the console.")
        try:
            raw, given = _bytes(content), _bytes(signature)
        except (binascii.Error, ValueError):
            raise LinkError("This link is not whole. Open it from the message again, or use the console.") from None
        if not hmac.compare_digest(given, self._sign(raw)):
            raise LinkError("This link was not made by this console, or its key was changed since.")
        until_s, _, alert_id = raw.decode().partition(".")
        if int(until_s) * 1_000_000_000 < self._clock.now_ns():
            raise LinkError("This link has expired: links in messages are valid for seven days.")
        return alert_id

    def _sign(self, content: bytes) -> bytes:
        return hmac.digest(self._key, b"acknowledge." + content, hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
