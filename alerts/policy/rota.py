"""Rotas: who is on duty at an instant, by week, time zone, layers and overrides.

    rotas:
      desk:
        zone: Europe/London
        layers:                                   # a later one covers the earlier ones in its hours
          - people: [ana, ben]                    # in turn, from the week of `start` on
            handover: mon 09:00
            weeks: 1                              # how long each one's turn is
            start: 2024-01-01
          - people: [cem]
            handover: fri 17:00
            hours: {days: [mon-fri], from: "18:00", to: "08:00"}

All arithmetic is on local dates: a handover at 09:00 is at 09:00 on either side of a change of the clocks,
and a turn is a week of the calendar, be it 167, 168 or 169 hours. A local time that a change of the clocks
leaves out comes as much later as they jump; of one that comes twice the first counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from alerts.hours import DAYS, parse_days, parse_time, parse_zone
from alerts.policy.section import Section

START = "2024-01-01"
HORIZON_DAYS = 70
DAY_MS = 86_400_000
MAX_DUTIES = 200


@dataclass(frozen=True, slots=True)
class Hours:
    """When a layer counts: days of the week and a stretch of the day; one over midnight belongs to its first day."""

    days: frozenset[int]
    begin: time
    end: time

    def stretches(self, zone: ZoneInfo, first: date, count: int) -> Iterator[tuple[int, int]]:
        """The stretches that begin on `count` days from `first` on, as ms since the epoch, ends excluded."""
        for day in (first + timedelta(days=number) for number in range(count)):
            if day.weekday() in self.days:
                last = day if self.begin < self.end else day + timedelta(days=1)
                yield instant_ms(day, self.begin, zone), instant_ms(last, self.end, zone)


@dataclass(frozen=True, slots=True)
class Layer:
    """People who take turns. weekday (0: Monday) and clock: the handover; start: a day of the first one's first week."""

    people: tuple[str, ...]
    weekday: int
    clock: time
    weeks: int
    start: date
    hours: Hours | None

    def turn(self, at_ms: int, zone: ZoneInfo) -> str:
        """Whose turn it is, hours aside."""
        handover = self._handover(at_ms, zone)
        weeks = (handover - self._first()).days // 7
        return self.people[weeks // self.weeks % len(self.people)]

    def counts(self, at_ms: int, zone: ZoneInfo) -> bool:
        """Whether an instant is in the layer's hours."""
        if self.hours is None:
            return True
        day = _local(at_ms, zone).date() - timedelta(days=2)
        return any(begin <= at_ms < end for begin, end in self.hours.stretches(zone, day, 4))

    def edges(self, first: date, days: int, zone: ZoneInfo) -> Iterator[int]:
        """Instants at which somebody else may be on duty, of `days` days from `first` on."""
        for number in range(days):
            day = first + timedelta(days=number)
            if day.weekday() == self.weekday:
                yield instant_ms(day, self.clock, zone)
        if self.hours is not None:
            for stretch in self.hours.stretches(zone, first, days):
                yield from stretch

    def _first(self) -> date:
        return self.start - timedelta(days=(self.start.weekday() - self.weekday) % 7)

    def _handover(self, at_ms: int, zone: ZoneInfo) -> date:
        """The day of the last handover at or before an instant."""
        day = _local(at_ms, zone).date()
        near = day - timedelta(days=(day.weekday() - self.weekday) % 7)
        # Where the clocks go back over midnight, a day's first minutes come before the last ones of the day before.
        later = (near + timedelta(days=7), near)
        return next((one for one in later if instant_ms(one, self.clock, zone) <= at_ms), near - timedelta(days=7))


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody stands in, ends excluded; of several at one instant the newest counts."""

    id: int
    rota: str
    person: str
    starts_ms: int
    ends_ms: int
    created_by: str
    comment: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Duty:
    """A stretch of time with one person (None: nobody) on duty; override: whose id put them there."""

    person: str | None
    begins_ms: int
    ends_ms: int
    override: int | None = None


@dataclass(frozen=True, slots=True)
class Rota:
    """Layers, the later ones over the earlier."""

    name: str
    zone: ZoneInfo
    layers: tuple[Layer, ...]

    @property
    def people(self) -> frozenset[str]:
        """Everybody who is in it."""
        return frozenset(person for layer in self.layers for person in layer.people)

    def who(self, at_ms: int, overrides: Sequence[Override] = ()) -> str | None:
        """Who is on duty at an instant (ms since the epoch); None in hours that no layer covers."""
        return self._on_duty(at_ms, overrides)[0]

    def duties(self, from_ms: int, to_ms: int, overrides: Sequence[Override] = ()) -> list[Duty]:
        """Who is on duty from when to when, without gaps; at most HORIZON_DAYS and MAX_DUTIES stretches."""
        zone, first = self.zone, _local(from_ms, self.zone).date() - timedelta(days=2)
        to_ms = min(to_ms, from_ms + HORIZON_DAYS * DAY_MS)
        days = (_local(to_ms, zone).date() - first).days + 2
        edges = {edge for layer in self.layers for edge in layer.edges(first, days, zone)}
        edges |= {edge for one in self._mine(overrides) for edge in (one.starts_ms, one.ends_ms)}
        inside = sorted(edge for edge in edges if from_ms < edge < to_ms)
        duties: list[Duty] = []
        for begin, end in zip([from_ms, *inside], [*inside, to_ms], strict=True):
            person, override = self._on_duty(begin, overrides)
            if duties and (duties[-1].person, duties[-1].override) == (person, override):
                duties[-1] = Duty(person, duties[-1].begins_ms, end, override)
            elif len(duties) == MAX_DUTIES:
                break
            else:
                duties.append(Duty(person, begin, end, override))
        return duties

    def _mine(self, overrides: Sequence[Override]) -> list[Override]:
        return [one for one in overrides if one.rota == self.name]

    def _on_duty(self, at_ms: int, overrides: Sequence[Override]) -> tuple[str | None, int | None]:
        standing_in = [one for one in self._mine(overrides) if one.starts_ms <= at_ms < one.ends_ms]
        if standing_in:
            newest = max(standing_in, key=lambda one: one.id)
            return newest.person, newest.id
        layer = next((one for one in reversed(self.layers) if one.counts(at_ms, self.zone)), None)
        return (None if layer is None else layer.turn(at_ms, self.zone)), None


def instant_ms(day: date, clock: time, zone: ZoneInfo) -> int:
    """A local time as ms since the epoch, with changes of the clocks as said above."""
    local = datetime.combine(day, clock, zone)
    return round(local.astimezone(UTC).timestamp() * 1000)


def parse_rotas(block: Any, where: str) -> dict[str, Rota]:
    """Read the section `rotas` (None: none); ConfigError names place, line and key."""
    if block is None or block == "":
        return {}
    return {name: _rota(name, section) for name, section in Section(block, where).named(("zone", "layers"))}


def _rota(name: str, section: Section) -> Rota:
    keys = ("people", "handover", "weeks", "start", "hours")
    try:
        zone = parse_zone(section.text("zone", "UTC"))
    except ValueError as error:
        raise section.wrong(f"zone: {error}") from None
    return Rota(name, zone, tuple(_layer(one) for one in section.sections("layers", keys)))


def _layer(section: Section) -> Layer:
    people = section.texts("people")
    if not people:
        raise section.wrong("people is missing: who takes turns?")
    weekday, clock = _handover(section)
    start = section.text("start", START)
    try:
        begins = date.fromisoformat(start)
    except ValueError:
        raise section.wrong(f"start: {start!r} is not a date such as 2024-01-01") from None
    hours = _hours(section.section("hours", ("days", "from", "to"))) if "hours" in section else None
    return Layer(people, weekday, clock, section.number("weeks", 1, 1, 52), begins, hours)


def _handover(section: Section) -> tuple[int, time]:
    text = section.text("handover", "mon 00:00")
    day, _, clock = text.lower().partition(" ")
    try:
        return DAYS.index(day), parse_time(clock)
    except ValueError:
        raise section.wrong(f"handover: {text!r} is not a day and a time such as `mon 09:00`") from None


def _hours(section: Section) -> Hours:
    try:
        days = parse_days(list(section.texts("days")) or ["mon-sun"])
        return Hours(days, parse_time(section.text("from")), parse_time(section.text("to")))
    except ValueError as error:
        raise section.wrong(str(error)) from None


def _local(at_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, zone)
