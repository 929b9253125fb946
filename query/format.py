"""Numbers, times and durations as Prometheus writes and reads them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from query.errors import bad_data

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_ORDER = ("y", "w", "d", "h", "m", "s", "ms")
_MOST_MS = 2**62


def format_value(value: float) -> str:
    """The shortest decimal digits that read back as `value`, without exponent: Go's FormatFloat(v, 'f', -1, 64)."""
    if math.isfinite(value):
        text = repr(value)
        if "e" in text:
            return _without_exponent(text)
        return text.removesuffix(".0")
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


def _without_exponent(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    point = len(whole) + int(exponent)
    digits = whole + fraction
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return sign + digits + "0" * (point - len(digits))
    return f"{sign}{digits[:point]}.{digits[point:]}"


def rfc3339(t_ms: int) -> str:
    """A time in UTC, whole seconds."""
    try:
        return datetime.fromtimestamp(t_ms // 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{t_ms // 1000} s"


def parse_duration_ms(text: str) -> int:
    """Read a duration such as 1h30m or a plain number of seconds; QueryError(bad_data) where it is neither."""
    try:
        seconds = float(text)
    except ValueError:
        match = _DURATION.fullmatch(text)
        if not text or match is None:
            raise bad_data(f"cannot parse {text!r} to a valid duration") from None
        total = sum(int(part) * _UNITS_MS[unit] for part, unit in zip(match.groups(), _ORDER, strict=True) if part)
    else:
        if not math.isfinite(seconds) or abs(seconds) * 1000 > _MOST_MS:
            raise bad_data(f"cannot parse {text!r} to a valid duration. It overflows int64")
        total = round(seconds * 1000)
    if total > _MOST_MS:
        raise bad_data(f"cannot parse {text!r} to a valid duration. It overflows int64")
    return total


def parse_time_ms(text: str) -> int:
    """Read Unix seconds (with fraction) or RFC 3339; QueryError(bad_data) where it is neither."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise bad_data(f"cannot parse {text!r} to a valid timestamp") from None
        if when.tzinfo is None:
            raise bad_data(f"cannot parse {text!r} to a valid timestamp: it has no time zone") from None
        return round((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    if not math.isfinite(seconds) or abs(seconds) * 1000 > _MOST_MS:
        raise bad_data(f"cannot parse {text!r} to a valid timestamp")
    return round(seconds * 1000)
