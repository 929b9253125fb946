"""TimeRange: which stretch of the past, as people write it and as an address carries it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from metrics.errors import DeskvigilError

PRESETS = {"15m": 900, "1h": 3_600, "6h": 21_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000}
DEFAULT = "1h"
LONGEST_S = 400 * 86_400
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)
_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M")


class RangeError(DeskvigilError):
    """A time range that is none; the message says which part."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From start_ms to end_ms; preset names the relative range that it came from, or is ""."""

    start_ms: int
    end_ms: int
    preset: str = ""

    def step_ms(self, points: int) -> int:
        """The smallest round step, at least a second, that needs at most `points` points."""
        least_s = (self.end_ms - self.start_ms) / 1000 / points
        step_s = next((step for step in _STEPS_S if step >= least_s), None)
        return 1000 * (step_s or -(-round(least_s) // 86_400) * 86_400)


def time_range(preset: str, start: str, end: str, now_ms: int) -> TimeRange:
    """Read a range: absolute where start or end is given, else the preset back from now.

    Raises RangeError naming the part that is wrong.
    """
    if not start and not end:
        seconds = PRESETS.get(preset or DEFAULT)
        if seconds is None:
            raise RangeError(f"range {preset!r} is not one of {', '.join(PRESETS)}")
        return TimeRange(now_ms - seconds * 1000, now_ms, preset or DEFAULT)
    end_ms = parse_time(end, "end") if end else now_ms
    start_ms = parse_time(start, "start") if start else end_ms - PRESETS[DEFAULT] * 1000
    if start_ms >= end_ms:
        raise RangeError(f"start ({show_time(start_ms)}) is not before end ({show_time(end_ms)})")
    if end_ms - start_ms > LONGEST_S * 1000:
        raise RangeError(f"the range is longer than {LONGEST_S // 86_400} days")
    return TimeRange(start_ms, end_ms)


def parse_time(text: str, what: str) -> int:
    """Milliseconds since the epoch of `2026-11-23 14:30:00` (UTC, shorter forms allowed) or of a count of them."""
    text = text.strip().removesuffix("Z")
    if text.isdigit() and len(text) >= 12:
        return int(text)
    for form in _FORMATS:
        try:
            return round(datetime.strptime(text.split(".")[0], form).replace(tzinfo=UTC).timestamp() * 1000)
        except ValueError:
            continue
    raise RangeError(f"{what} {text!r} is not a time like 2026-11-23 14:30:00 (UTC)")


def show_time(t_ms: int) -> str:
    """An instant as people read it, UTC, to the second."""
    return datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def spoken(span_ms: int) -> str:
    """A length of time in one round unit: "10 s", "5 min", "2 h"."""
    for word, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if span_ms >= size and span_ms % size == 0:
            return f"{span_ms // size} {word}"
    return f"{span_ms} ms"
