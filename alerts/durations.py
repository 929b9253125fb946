"""Prometheus durations: 100ms, 30s, 1h30m."""

from __future__ import annotations

from query.errors import QueryError
from query.format import parse_duration_ms


def parse_duration_s(text: str) -> float:
    """Seconds in a duration; ValueError says what is allowed. `0` alone needs no unit."""
    text = text.strip()
    try:
        if text == "0" or text[-1:].isalpha():  # a bare number is no duration in a rule file
            return parse_duration_ms(text) / 1000
    except QueryError:
        pass
    raise ValueError(f"{text!r} is not a duration such as 100ms, 30s, 5m or 1h30m") from None


def show_duration(seconds: float) -> str:
    """A duration as people write it: 1h 30m, 45s, 120ms."""
    if seconds != seconds or seconds in (float("inf"), float("-inf")):
        return f"{seconds}"
    if seconds == 0:
        return "0s"
    sign, rest = ("-" if seconds < 0 else ""), abs(seconds)
    if rest < 1:
        return f"{sign}{_small(rest)}"
    if rest < 60:
        return f"{sign}{rest:.4g}s"
    whole = int(rest)
    days, hours, minutes, left = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (left, "s"))
    first = next(index for index, (amount, _) in enumerate(parts) if amount)
    return sign + " ".join(f"{amount}{unit}" for amount, unit in parts[first:])


def _small(seconds: float) -> str:
    for factor, unit in ((1e3, "ms"), (1e6, "us"), (1e9, "ns")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.4g}{unit}"
    return f"{seconds:.4g}s"
