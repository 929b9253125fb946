"""People: who can be told, by which channels and at which addresses there.

people:
  ana:
    zone: Europe/Zurich
    channels:
      email: ana@desk.example
      pager:                     # nothing: the channel's own receivers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from alerts.hours import parse_zone
from alerts.policy.decision import Target
from alerts.policy.section import Section


@dataclass(frozen=True, slots=True)
class Person:
    """One person. channels: addresses by the channel's name, none for the channel's own; never empty."""

    name: str
    zone: ZoneInfo
    channels: Mapping[str, tuple[str, ...]]

    def targets(self) -> tuple[tuple[str, Target], ...]:
        """Each channel and whom of it to tell."""
        return tuple((channel, Target(self.name, to)) for channel, to in self.channels.items())


def parse_people(block: Any, where: str) -> dict[str, Person]:
    """Read the section `people` (None: nobody); ConfigError names place, line and key."""
    if block is None or block == "":
        return {}
    return {name: _person(name, section) for name, section in Section(block, where).named(("zone", "channels"))}


def _person(name: str, section: Section) -> Person:
    channels = section.section("channels")
    found = {channel: channels.texts(channel) for channel in channels.keys()}  # noqa: SIM118 - a section is no mapping
    if not found:
        raise section.wrong("channels names no channel: nobody could tell this person anything")
    try:
        zone = parse_zone(section.text("zone", "UTC"))
    except ValueError as error:
        raise section.wrong(f"zone: {error}") from None
    return Person(name, zone, found)
