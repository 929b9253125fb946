"""What a policy decides about one change of one alert: where it goes, or why it goes nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Protocol

from alerts.evaluate import Change


class Priority(IntEnum):
    """What goes first within a group: a larger one overtakes what waits."""

    DIGEST = -1  # waits for the next digest
    PLAIN = 0
    BAD_NEWS = 1  # an alert that fires
    RISEN = 2  # a tier that rose, a step of an escalation: never waits for its group


@dataclass(frozen=True, slots=True)
class Target:
    """Whom of a channel: the person for whom it is sent, and addresses in place of the channel's own (empty: those)."""

    person: str
    to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Address:
    """One place that a message goes to: a channel, a group there, and how long the group may wait for company.

    group_key: rows of one channel with the same key may go out as one message ("": each on its own).
    wait_ms: how long the first of a group waits. interval_ms: the least time between two messages of a group.
    repeat_ms: how often it is told again while it fires (0: never; None: as `alerts.repeat_interval_s` says).
    group_labels: what the group has in common by definition.
    """

    channel: str
    group_key: str = ""
    wait_ms: int = 0
    interval_ms: int = 0
    priority: Priority = Priority.PLAIN
    target: Target | None = None
    repeat_ms: int | None = None
    group_labels: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """Tells it from the alert's other addresses: the channel, and the person where it is one."""
        return self.channel if self.target is None else f"{self.channel} {self.target.person}"


class Why(StrEnum):
    """Why nobody is told of a change."""

    SILENCED = "silenced"
    INHIBITED = "inhibited"
    MUTED = "muted"
    FLAPPING = "flapping"
    ACKNOWLEDGED = "acknowledged"
    UNROUTED = "unrouted"  # no channel is configured, or none wants this tier


@dataclass(frozen=True, slots=True)
class Suppression:
    """Why a change is not told, by whom or what, and until when (None: not known).

    kept: keys of the addresses that it kept from being told (empty: there were none to tell, or all).
    """

    why: Why
    by: str
    until_ms: int | None = None
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Addresses, or else at least one suppression; both where only some of the receivers are left out."""

    addresses: tuple[Address, ...] = ()
    suppressions: tuple[Suppression, ...] = field(default=())


class Policy(Protocol):
    """Decides by its arguments, and by what it was made of and has observed."""

    def observe(self, change: Change, labels: Mapping[str, str]) -> None:
        """Take note of a change before anything is decided: what fires may inhibit."""
        ...

    def decide(self, change: Change, labels: Mapping[str, str], now_ms: int) -> Decision:
        """Where a change of an alert with these labels (`severity` among them) goes."""
        ...
