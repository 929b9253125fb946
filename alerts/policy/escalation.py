"""Escalation policies: who is told next while nobody acknowledges.

escalations:
  night-desk:
    severity: critical              # this tier and worse; the first policy that fits an alert is its own
    matchers: ['team="desk"']       # all must hold; none: every alert
    steps:
      - {after: 0s, rotas: [desk]}            # after: since the step before (the first: since it fired)
      - {after: 5m, people: [ana], channels: [pager]}
    repeat: 1                       # how often the chain begins anew; an emergency repeats its last step for ever
    repeat_interval: 5m             # ... this long after the last step
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alerts.policy.section import Section
from metrics.severity import Severity
from query.errors import QueryError
from query.matchers import predicate
from query.options import QueryOptions
from query.plan import matchers_of

KEYS = ("severity", "matchers", "steps", "repeat", "repeat_interval")
STEP_KEYS = ("after", "people", "rotas", "channels")
Test = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Step:
    """Whom one step tells, and how long after the one before."""

    after_ms: int
    people: tuple[str, ...] = ()
    rotas: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = [f"{kind} {one}" for kind, names in (("rota", self.rotas), ("channel", self.channels)) for one in names]
        return ", ".join((*self.people, *named))


@dataclass(frozen=True, slots=True)
class Chain:
    """What an escalation does, kept as it was when it began.

    repeat: how often it begins anew after the first time, repeat_ms after its last step. Later rounds repeat
    the last step alone, as often.
    """

    steps: tuple[Step, ...]
    repeat: int
    repeat_ms: int

    def to_json(self) -> dict[str, Any]:
        """The chain as plain JSON values; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Chain:
        """Read a stored chain; KeyError or TypeError where the row is none."""
        names = ("people", "rotas", "channels")
        steps = (Step(int(one["after_ms"]), *(tuple(one[name]) for name in names)) for one in raw["steps"])
        return cls(tuple(steps), int(raw["repeat"]), int(raw["repeat_ms"]))

    def wait_ms(self, step: int, round_: int) -> int:
        """How long step `step` of round `round_` waits for the one before it."""
        anew = round_ > self.repeat or (round_ > 0 and step == 0)
        return self.repeat_ms if anew else self.steps[step].after_ms

    def after(self, step: int, round_: int, *, insists: bool) -> tuple[int, int] | None:
        """Which step and round follow once a step has run; None where that was the last."""
        if round_ <= self.repeat and step + 1 < len(self.steps):
            return step + 1, round_
        if round_ < self.repeat:
            return 0, round_ + 1
        return (len(self.steps) - 1, round_ + 1) if insists else None


@dataclass(frozen=True, slots=True)
class EscalationPolicy:
    """Which alerts escalate, and by which chain."""

    name: str
    severity: Severity
    matches: Test
    chain: Chain

    def fits(self, labels: Mapping[str, str], severity: Severity) -> bool:
        """Whether it is for an alert with these labels and tier."""
        return severity >= self.severity and self.matches(labels)


def parse_escalations(block: Any, where: str) -> tuple[EscalationPolicy, ...]:
    """Read the section `escalations` (None: none), in the file's order; ConfigError names place, line and key."""
    if block is None or block == "":
        return ()
    return tuple(_policy(name, section) for name, section in Section(block, where).named(KEYS))


def _policy(name: str, section: Section) -> EscalationPolicy:
    steps = tuple(_step(one) for one in section.sections("steps", STEP_KEYS))
    repeat_ms = section.duration_ms("repeat_interval", "5m", least_ms=1000)
    chain = Chain(steps, section.number("repeat", 0, 0, 100), repeat_ms)
    return EscalationPolicy(name, section.severity("severity", Severity.CRITICAL), _test(section), chain)


def _step(section: Section) -> Step:
    people, rotas, channels = (section.texts(key) for key in STEP_KEYS[1:])
    if not (people or rotas or channels):
        raise section.wrong("names nobody: give people, rotas or channels")
    return Step(section.duration_ms("after", "0s"), people, rotas, channels)


def _test(section: Section) -> Test:
    texts = section.texts("matchers")
    if not texts:
        return lambda labels: True
    try:
        matchers = matchers_of(f"{{{','.join(texts)}}}", QueryOptions())
        tests = [(matcher.name, predicate(matcher)) for matcher in matchers]
    except QueryError as error:
        raise section.wrong(f"matchers: {error}") from None
    return lambda labels: all(test(labels.get(name, "")) for name, test in tests)
