"""Roster: people, rotas and escalation policies of one policy file, checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alerts.policy.decision import Address, Priority, Target
from alerts.policy.escalation import EscalationPolicy, Step, parse_escalations
from alerts.policy.people import Person, parse_people
from alerts.policy.rota import Override, Rota, parse_rotas
from alerts.yaml_block import Block
from metrics.errors import ConfigError
from metrics.severity import Severity


@dataclass(frozen=True, slots=True)
class Roster:
    """Who there is, who is on duty when, and who is told next."""

    people: Mapping[str, Person] = field(default_factory=dict)
    rotas: Mapping[str, Rota] = field(default_factory=dict)
    escalations: tuple[EscalationPolicy, ...] = ()

    def policy_for(self, labels: Mapping[str, str], severity: Severity) -> EscalationPolicy | None:
        """The first policy that fits an alert."""
        return next((one for one in self.escalations if one.fits(labels, severity)), None)

    def on_duty(self, rota: str, at_ms: int, overrides: Collection[Override]) -> str | None:
        """Who is on duty now; None where nobody is, or there is no such rota any more."""
        found = self.rotas.get(rota)
        return None if found is None else found.who(at_ms, tuple(overrides))

    def addresses(
        self, step: Step, at_ms: int, overrides: Collection[Override], channels: Collection[str]
    ) -> tuple[Address, ...]:
        """Where a step's messages go; each channel and person once.

        channels: the ones there are. Where the step leads to nobody (the file has changed since, nobody is on
        duty), all of them: better one message too many than none.
        """
        people = dict.fromkeys(step.people)
        people.update(dict.fromkeys(filter(None, (self.on_duty(rota, at_ms, overrides) for rota in step.rotas))))
        found = [Address(name, priority=Priority.RISEN) for name in dict.fromkeys(step.channels)]
        found += [one for person in people for one in self.addresses_of(person)]
        kept = tuple(one for one in found if one.channel in channels)
        return kept or tuple(Address(name, priority=Priority.RISEN) for name in channels)

    def addresses_of(self, person: str) -> tuple[Address, ...]:
        """A person's own channels; none where the file does not know the person."""
        known = self.people.get(person)
        targets = () if known is None else known.targets()
        return tuple(Address(channel, priority=Priority.RISEN, target=target) for channel, target in targets)

    def check(self, channels: Collection[str], where: str) -> None:
        """ConfigError where something is named that is not there; channels: the configured ones."""
        for kind, owner, name in self._mentions():
            known: Collection[str] = {"person": self.people, "rota": self.rotas, "channel": channels}[kind]
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"{where}: {owner}: there is no {kind} {name!r} (there are: {there})")

    def _mentions(self) -> Iterator[tuple[str, str, str]]:
        for person in self.people.values():
            yield from (("channel", f"people: {person.name}", channel) for channel in person.channels)
        for rota in self.rotas.values():
            yield from (("person", f"rotas: {rota.name}", name) for name in sorted(rota.people))
        for policy in self.escalations:
            for number, step in enumerate(policy.chain.steps, 1):
                owner = f"escalations: {policy.name}: step {number}"
                for kind, names in (("person", step.people), ("rota", step.rotas), ("channel", step.channels)):
                    yield from ((kind, owner, name) for name in names)


def parse(block: Any, where: str) -> Roster:
    """Read the three sections of a policy file's top mapping, others left alone; ConfigError says what is wrong."""
    if block is None or block == "":
        return Roster()
    if not isinstance(block, Block):
        raise ConfigError(f"{where}: must be a mapping")
    return Roster(
        parse_people(block.get("people"), f"{where}: people"),
        parse_rotas(block.get("rotas"), f"{where}: rotas"),
        parse_escalations(block.get("escalations"), f"{where}: escalations"),
    )


class RosterContacts:
    """How a policy's receivers reach people: by a roster and who stands in now."""

    def __init__(self, roster: Roster, standing_in: Callable[[], Collection[Override]]) -> None:
        self._roster = roster
        self._standing_in = standing_in

    def person(self, name: str) -> Sequence[tuple[str, Target]]:
        """The channels of one person, and whom of each."""
        known = self._roster.people.get(name)
        return () if known is None else known.targets()

    def duty(self, rota: str, now_ms: int) -> Sequence[tuple[str, Target]]:
        """The same of whoever has the duty of a rota (nobody: empty)."""
        person = self._roster.on_duty(rota, now_ms, self._standing_in())
        return () if person is None else self.person(person)
