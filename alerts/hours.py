"""Active hours: when a rule may alert at all (a desk is not paged about a closed market)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class ActiveHours:
    """Days of the week and a stretch of the day, in one time zone.

    A stretch that ends before it begins runs over midnight and belongs to the day it begins on.
    """

    days: frozenset[int]
    begin: time
    end: time
    zone: ZoneInfo

    def contains(self, now_ms: int) -> bool:
        """Whether an instant (ms since the epoch) lies inside."""
        local = datetime.fromtimestamp(now_ms / 1000, self.zone)
        clock = local.time()
        if self.begin < self.end:
            return local.weekday() in self.days and self.begin <= clock < self.end
        if clock >= self.begin:
            return local.weekday() in self.days
        return (local - timedelta(days=1)).weekday() in self.days and clock < self.end

    def span(self, now_ms: int) -> tuple[bool, int]:
        """Whether an instant lies inside, and until when (ms, exclusive) that is so for certain."""
        local = datetime.fromtimestamp(now_ms / 1000, self.zone)
        ends = []
        for day in (local.date(), local.date() + timedelta(days=1)):
            for clock in (self.begin, self.end, time(0)):
                ends.append(round(datetime.combine(day, clock, self.zone).timestamp() * 1000))
        # A clock that is set back shows the same times again: no span is taken to go over an hour's end then.
        offset = local.utcoffset()
        until_ms = min(end for end in (*ends, now_ms + 2 * 86_400_000) if end > now_ms)
        if datetime.fromtimestamp(until_ms / 1000, self.zone).utcoffset() != offset:
            until_ms = min(until_ms, (now_ms // 900_000 + 1) * 900_000)
        return self.contains(now_ms), until_ms

    def __str__(self) -> str:
        days = ",".join(DAYS[day] for day in sorted(self.days))
        return f"{days} {self.begin:%H:%M}-{self.end:%H:%M} {self.zone.key}"


def parse_days(names: list[str]) -> frozenset[int]:
    """Days from names or ranges (`mon-fri`); ValueError names what is allowed."""
    days: set[int] = set()
    for name in names:
        first, _, last = name.strip().lower().partition("-")
        begin, end = _day(first), _day(last or first)
        days.update((begin + offset) % 7 for offset in range((end - begin) % 7 + 1))
    return frozenset(days)


def _day(name: str) -> int:
    if name not in DAYS:
        raise ValueError(f"day {name!r} is not one of {', '.join(DAYS)}")
    return DAYS.index(name)


def parse_time(text: str) -> time:
    """A time of day such as 09:30; 24:00 is midnight at the end."""
    if text.strip() == "24:00":
        return time(0, 0)
    try:
        return datetime.strptime(text.strip(), "%H:%M").time()
    except ValueError:
        raise ValueError(f"{text!r} is not a time of day such as 09:30") from None


def parse_zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; ValueError where this machine does not know it."""
    try:
        return ZoneInfo(name.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"time zone {name!r} is not known here (an IANA name such as Europe/London)") from None
