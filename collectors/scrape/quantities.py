"""Quantities as Prometheus writes them in its configuration: durations (1m30s) and sizes (10MB)."""

from __future__ import annotations

import re
from typing import Any

_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?\Z")
_SECONDS = (365 * 86_400, 7 * 86_400, 86_400, 3_600, 60, 1, 0.001)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\Z", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def seconds(value: Any) -> Any:
    """Seconds in 15, 1.5, "15s" or "1m30s"; other kinds of values pass for the type check to refuse."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    found = _DURATION.match(text)
    if found and text:
        return sum(int(number) * unit for number, unit in zip(found.groups(), _SECONDS, strict=True) if number)
    try:
        return float(text)
    except ValueError:
        raise ValueError("a duration such as 1s, 15s or 1m30s is expected") from None


def size_bytes(value: Any) -> Any:
    """Bytes in 1000, "512KB", "10MB" or "10MiB" (all powers of 1024, as Prometheus reads them)."""
    if not isinstance(value, str):
        return value
    found = _SIZE.match(value.strip())
    if found is None:
        raise ValueError("a size such as 512KB or 10MB is expected")
    return round(float(found[1]) * 1024 ** _POWERS[found[2].upper()])


def text(value: Any) -> Any:
    """A YAML number where a text is meant (a label `rack: 12`) is its digits."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value
