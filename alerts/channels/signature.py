"""Signatures by the standard-webhooks scheme: the receiver can tell that a message is ours, whole and fresh."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"


class SecretError(ValueError):
    """The secret is not "whsec_" and 24 to 64 bytes in base64."""


def read_secret(text: str) -> bytes:
    """The key bytes of a secret as it is written in configurations; SecretError where it is none."""
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SecretError('a webhook secret is "whsec_" followed by base64') from None
    if not 24 <= len(key) <= 64:
        raise SecretError(f"a webhook secret has 24 to 64 bytes, this one has {len(key)}")
    return key


def signed_headers(keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers: HMAC-SHA256 over `id.timestamp.body`, once by each key, so that keys can be exchanged."""
    content = f"{message_id}.{timestamp_s}.".encode() + body
    digests = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{digest}" for digest in digests),
    }
