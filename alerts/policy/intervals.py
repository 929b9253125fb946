"""Time intervals in Alertmanager's words: times, weekdays, days_of_month, months, years, location."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from alerts.hours import parse_zone

KEYS = ("times", "weekdays", "days_of_month", "months", "years", "location")
WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
Range = tuple[int, int]
_TIME = re.compile(r"(\d\d):(\d\d)\Z")


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """Instants for which every field given holds; ranges include both ends, but for times: minutes, the last not.

    weekdays count from Sunday (0); days of the month below 0 count from its end (-1: the last).
    """

    times: tuple[Range, ...] = ()
    weekdays: tuple[Range, ...] = ()
    days_of_month: tuple[Range, ...] = ()
    months: tuple[Range, ...] = ()
    years: tuple[Range, ...] = ()
    zone: tzinfo = UTC

    def contains(self, now_ms: int) -> bool:
        """Whether an instant (ms since the epoch) lies inside."""
        local = datetime.fromtimestamp(now_ms / 1000, self.zone)
        minute = local.hour * 60 + local.minute
        return (
            (not self.times or any(first <= minute < last for first, last in self.times))
            and _within(self.weekdays, local.isoweekday() % 7)
            and (not self.days_of_month or any(_day_within(one, local) for one in self.days_of_month))
            and _within(self.months, local.month)
            and _within(self.years, local.year)
        )


def _within(ranges: tuple[Range, ...], value: int) -> bool:
    return not ranges or any(first <= value <= last for first, last in ranges)


def _day_within(days: Range, local: datetime) -> bool:
    length = monthrange(local.year, local.month)[1]
    first, last = (day if day > 0 else length + day + 1 for day in days)
    return max(first, 1) <= local.day <= min(last, length)


def parse_interval(raw: Any) -> TimeInterval:
    """Read one element of `time_intervals`; ValueError names the key that is wrong."""
    if not isinstance(raw, dict):
        raise ValueError("a time interval must be a mapping")
    for key in raw:
        if key not in KEYS:
            raise ValueError(f"unknown key {key!r}; allowed are {', '.join(KEYS)}")
    location = raw.get("location")
    return TimeInterval(
        times=tuple(_times(one) for one in _list(raw, "times")),
        weekdays=tuple(_range(one, "weekdays", _named(WEEKDAYS, 0), 0, 6) for one in _list(raw, "weekdays")),
        days_of_month=tuple(_days(one) for one in _list(raw, "days_of_month")),
        months=tuple(_range(one, "months", _named(MONTHS, 1), 1, 12) for one in _list(raw, "months")),
        years=tuple(_range(one, "years", {}, 1, 9999) for one in _list(raw, "years")),
        zone=UTC if not location else _zone(location),
    )


def _zone(name: Any) -> tzinfo:
    if name == "Local":
        local = datetime.now().astimezone().tzinfo
        return local or UTC
    if not isinstance(name, str):
        raise ValueError("location must be the name of a time zone")
    try:
        return parse_zone(name)
    except ValueError as error:
        raise ValueError(f"location: {error}") from None


def _list(raw: dict[str, Any], key: str) -> list[Any]:
    found = raw.get(key, [])
    if found == "":
        return []
    if not isinstance(found, list):
        raise ValueError(f"{key} must be a list")
    return found


def _times(raw: Any) -> Range:
    if not isinstance(raw, dict) or set(raw) != {"start_time", "end_time"}:
        raise ValueError("times: each needs start_time and end_time")
    first, last = _minute(raw["start_time"]), _minute(raw["end_time"])
    if first >= last:
        raise ValueError(f"times: {raw['start_time']} is not before {raw['end_time']} (over midnight: two entries)")
    return first, last


def _minute(text: Any) -> int:
    found = _TIME.match(text) if isinstance(text, str) else None
    minute = int(found[1]) * 60 + int(found[2]) if found else -1
    if found is None or int(found[2]) > 59 or not 0 <= minute <= 24 * 60:
        raise ValueError(f"times: {text!r} is not a time of day such as 09:30 (24:00 ends the day)")
    return minute


def _days(raw: Any) -> Range:
    first, last = _range(raw, "days_of_month", {}, -31, 31, ordered=False)
    if first == 0 or last == 0:
        raise ValueError("days_of_month: there is no day 0")
    if (first < 0) == (last < 0) and first > last:
        raise ValueError(f"days_of_month: {raw!r} ends before it begins")
    if first < 0 < last:
        raise ValueError(f"days_of_month: {raw!r} begins at the month's end and ends at its beginning")
    return first, last


def _range(raw: Any, key: str, names: dict[str, int], least: int, most: int, ordered: bool = True) -> Range:
    if not isinstance(raw, str):
        raise ValueError(f"{key}: {raw!r} is no text")
    begin, _, end = raw.strip().lower().partition(":")
    first, last = (_number(part.strip(), key, names, least, most) for part in (begin, end or begin))
    if ordered and first > last:
        raise ValueError(f"{key}: {raw!r} ends before it begins")
    return first, last


def _number(text: str, key: str, names: dict[str, int], least: int, most: int) -> int:
    if text in names:
        return names[text]
    numeric = key != "weekdays" and re.fullmatch(r"-?\d{1,4}", text) is not None
    if not numeric or not least <= int(text) <= most:
        allowed = f"{least} to {most}" if key != "weekdays" else ", ".join(names)
        raise ValueError(f"{key}: {text!r} is not one of {allowed}")
    return int(text)


def _named(names: tuple[str, ...], first: int) -> dict[str, int]:
    return {name: index for index, name in enumerate(names, first)}
