"""Evaluation of one rule: from samples to alerts that begin, change and end.

A RuleRun holds what is alive of one rule. It reads no clock and no database: samples and the instant
are handed in, changes are handed back, and whoever called stores them.
"""

from __future__ import annotations

import math
import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from alerts.expression import Comparison
from alerts.extension import NoData
from alerts.flapping import Verdict
from alerts.options import AlertOptions
from alerts.rules import Rule, fingerprint
from alerts.source import Samples
from alerts.state import AlertState, Instant, Live, Observation, Reason, Seen, Timing, step
from alerts.templates import Facts
from alerts.views import AlertView
from metrics.errors import DeskvigilError

if TYPE_CHECKING:
    from alerts.policy.decision import Suppression

HIDDEN_LABELS = frozenset({"__name__", "alertname"})
IDENTITIES_KEPT = 4096
NO_LABELS: dict[str, str] = {}


class EvaluationError(DeskvigilError):
    """A rule could not be evaluated; the message says why."""


@dataclass(frozen=True, slots=True)
class Posted:
    """Of an alert that another program sent: who, when it is over unless sent again, what it links to and says.

    ends_ms on the wall clock, as shown and stored; due_ms the same on the monotonic clock.
    """

    sender: str
    ends_ms: int
    due_ms: int
    generator_url: str
    annotations: dict[str, str]


@dataclass(slots=True)
class Tracked:
    """One alert that is not inactive: what never changes of it, and what does.

    stored: the database has its row. restored: it comes from before a restart and was not seen since.
    told: whom a message about it went to (keys of addresses: a channel's name, where it is for a person with
    that), and when last on the monotonic clock: they are also told how it goes on. value: the last one with
    which the alert held; NaN where it is about missing data. suppressed: why nobody is told now. owed: keys of
    addresses that were not told of a change ("": whoever will have it). repeat_ms: how often its route wants
    it told again; None: the rule's own. posted: where it was sent to us; None: it is a rule's. flapping: it
    comes and goes.
    """

    alert_id: str
    fingerprint: str
    labels: dict[str, str]
    live: Live
    value: float
    stored: bool = False
    restored: bool = False
    told: dict[str, int] = field(default_factory=dict)
    suppressed: tuple[Suppression, ...] = ()
    owed: set[str] = field(default_factory=set)
    repeat_ms: int | None = None
    posted: Posted | None = None
    flapping: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one alert, ready to be stored and told.

    rule is its key (`group/rule`), comparison the tier's threshold. before/after: None where the alert is
    inactive, never both. event_id is stable over retries and restarts.
    """

    rule: str
    tracked: Tracked
    before: Live | None
    after: Live | None
    reason: Reason
    at: Instant
    value: float
    annotations: Mapping[str, str]
    comparison: Comparison | None
    event_id: str
    who: str | None = None
    comment: str | None = None
    verdict: Verdict = Verdict.TOLD

    @property
    def live(self) -> Live:
        """The alert after the change, or as it last was where it ended."""
        live = self.after or self.before
        if live is None:
            raise ValueError("a change has a before or an after")
        return live

    @property
    def labels(self) -> dict[str, str]:
        """The alert's labels with the tier of this moment."""
        return shown_labels(self.tracked, self.live)


@dataclass(frozen=True, slots=True)
class Identity:
    """The labels of one alert of one rule, without `severity` (which moves), and their hash."""

    labels: dict[str, str]
    fingerprint: str


class Run(Protocol):
    """Whatever has alerts: a rule, or those who send us theirs."""

    alerts: dict[str, Tracked]

    @property
    def key(self) -> str: ...
    def owns(self, tracked: Tracked) -> bool: ...
    def view(self, tracked: Tracked) -> AlertView: ...
    def shown_labels(self, tracked: Tracked, live: Live) -> dict[str, str]: ...
    def change(
        self,
        tracked: Tracked,
        after: Live,
        reason: Reason,
        now: Instant,
        who: str | None = None,
        comment: str | None = None,
    ) -> Change: ...


class RuleRun:
    """One rule and its alerts. Not thread-safe: the alert thread owns it."""

    def __init__(self, rule: Rule, ordinal: int, limit: int, options: AlertOptions) -> None:
        self.rule = rule
        self.alerts: dict[str, Tracked] = {}
        self.timing = Timing(
            for_ms=round(rule.for_s * 1000),
            keep_firing_ms=round(rule.keep_firing_for_s * 1000),
            tier_fall_ms=round(options.tier_fall_after_s * 1000),
            repeat_ms=round(options.repeat_interval_s * 1000),
        )
        self._repeating = {self.timing.repeat_ms: self.timing}
        self._salt = f"{rule.key}#{ordinal}"
        self._limit = min(limit or options.max_alerts, options.max_alerts)
        self._store_pending_after_ms = round(options.persist_pending_after_s * 1000)
        self._external_url = options.external_url
        self._identities: dict[int, tuple[dict[str, str], Identity]] = {}
        self._templated = any("{{" in text for text in rule.label_texts.values())

    @property
    def key(self) -> str:
        """The rule's."""
        return self.rule.key

    def evaluate(self, samples: Samples, now: Instant, *, grace: bool) -> list[Change]:
        """Advance all alerts of the rule by what was seen; return what changed.

        samples: the value of the expression (its left side where it ends in a comparison). grace: shortly
        after a start, missing data end nothing that was restored. EvaluationError where two samples
        have the same labels, or the limit is exceeded; nothing has changed then.
        """
        seen = self._observe(samples, now, grace)
        changes = []
        for identity, observation, value in seen.values():
            tracked = self.alerts.get(identity.fingerprint)
            if tracked is None:
                changes += self._begin(identity, observation, value, now)
                continue
            tracked.restored = False
            if observation.seen is Seen.EXCEEDS or observation.seen is Seen.BETWEEN:
                tracked.value = value
            changes += self._advance(tracked, observation, now)
        for tracked in [one for key, one in self.alerts.items() if key not in seen]:
            changes += self._advance(tracked, self._missing(tracked, bool(samples), grace), now)
        return changes

    def end(self, now: Instant) -> list[Change]:
        """End all alerts, because their rule is no longer there."""
        changes = []
        for tracked in list(self.alerts.values()):
            reason = Reason.RULE_GONE if tracked.live.state is AlertState.FIRING else Reason.WITHDRAWN
            changes += self._conclude(tracked, tracked.live, None, reason, now)
        return changes

    def change(
        self,
        tracked: Tracked,
        after: Live,
        reason: Reason,
        now: Instant,
        who: str | None = None,
        comment: str | None = None,
    ) -> Change:
        """A change that no sample made: a person's, a timer's, by the end of a silence or of flapping; not applied."""
        return replace(self._changed(tracked, tracked.live, after, reason, now), who=who, comment=comment)

    def owns(self, tracked: Tracked) -> bool:
        """Whether this rule would give an alert with these labels this identity."""
        return self._hash(tracked.labels) == tracked.fingerprint

    def view(self, tracked: Tracked) -> AlertView:
        """The alert as others see it."""
        live = tracked.live
        tier = self.rule.extension.tier_named(live.severity)
        return AlertView(
            alert_id=tracked.alert_id,
            fingerprint=tracked.fingerprint,
            rule=self.rule.key,
            labels=self.shown_labels(tracked, live),
            annotations=self._facts(tracked, live),
            severity=live.severity,
            state=live.state,
            value=tracked.value,
            threshold=None if tier.comparison is None else tier.comparison.threshold,
            comparison="" if tier.comparison is None else str(tier.comparison),
            active_since_ms=live.since.wall_ms,
            fired_at_ms=None if live.fired is None else live.fired.wall_ms,
            acked_by=live.acked_by,
            acked_at_ms=live.acked_at_ms,
            ack_comment=live.ack_comment,
            ack_until_ms=None if live.ack_until is None else live.ack_until.wall_ms,
            assigned_to=live.assigned_to,
            expression=self._expression_of(tracked),
            suppressed=tracked.suppressed,
            flapping=tracked.flapping,
        )

    def _expression_of(self, tracked: Tracked) -> str:
        added = {"alertname", "severity", *self.rule.labels}
        return self.rule.expression.of({name: text for name, text in tracked.labels.items() if name not in added})

    def shown_labels(self, tracked: Tracked, live: Live) -> dict[str, str]:
        """The alert's labels with its present tier."""
        return shown_labels(tracked, live)

    def identity(self, labels: dict[str, str], value: float = math.nan) -> Identity:
        """The alert that a sample with these labels speaks of."""
        if self._templated:
            return self._identify(labels, value)
        # Whoever hands samples hands the same label objects each time, and does not change them.
        known = self._identities.get(id(labels))
        if known is not None:
            return known[1]
        if len(self._identities) >= IDENTITIES_KEPT:
            self._identities.clear()
        found = self._identify(labels, value)
        self._identities[id(labels)] = (labels, found)
        return found

    def _identify(self, labels: Mapping[str, str], value: float) -> Identity:
        merged = {name: text for name, text in labels.items() if name not in HIDDEN_LABELS and name != "severity"}
        facts = Facts(value, labels, self._external_url)
        for name, template in self.rule.labels.items():
            merged[name] = template.render(facts)
        merged = {name: text for name, text in merged.items() if text}
        merged["alertname"] = self.rule.name
        return Identity(merged, self._hash(merged))

    def _hash(self, labels: Mapping[str, str]) -> str:
        return fingerprint({**labels, "severity": self.rule.severity.label, "\x00": self._salt})

    def _observe(self, samples: Samples, now: Instant, grace: bool) -> dict[str, tuple[Identity, Observation, float]]:
        """What the samples say of each alert; those that neither exceed nor are alive are left out."""
        extension, rule, alerts = self.rule.extension, self.rule, self.alerts
        active = extension.active is None or extension.active.contains(now.wall_ms)
        seen: dict[str, tuple[Identity, Observation, float]] = {}
        exceeding = 0
        for labels, value in samples:
            tier = extension.tier_of(value) if active else None
            if tier is None and not alerts:
                continue
            identity = self.identity(labels, value)
            before = seen.get(identity.fingerprint)
            if tier is not None:
                if before is not None and before[1].seen is Seen.EXCEEDS:
                    raise EvaluationError(f"two series have the same labels, the rule's applied: {identity.labels}")
                exceeding += 1
                observation = Observation(Seen.EXCEEDS, tier.severity)
            elif before is not None:
                continue
            else:
                between = active and extension.recovery is not None and extension.recovery.holds(value)
                observation = Observation(Seen.BETWEEN if between else Seen.CLEAR, rule.severity)
            seen[identity.fingerprint] = (identity, observation, value)
        if not samples and extension.no_data is NoData.ALERT and active and not grace:
            identity, exceeding = self.identity(NO_LABELS), 1
            tracked = alerts.get(identity.fingerprint)
            severity = rule.severity if tracked is None else tracked.live.severity
            seen[identity.fingerprint] = (identity, Observation(Seen.EXCEEDS, severity), math.nan)
        if exceeding > self._limit:
            raise EvaluationError(f"{exceeding} alerts are more than the limit of {self._limit}")
        return seen

    def _missing(self, tracked: Tracked, others: bool, grace: bool) -> Observation:
        policy = self.rule.extension.no_data
        frozen = (
            policy is NoData.KEEP
            or (policy is NoData.ALERT and not others)  # the alert about silence speaks for them
            or (grace and tracked.restored)
        )
        return Observation(Seen.FROZEN if frozen else Seen.MISSING, self.rule.severity)

    def _begin(self, identity: Identity, seen: Observation, value: float, now: Instant) -> list[Change]:
        outcome = step(None, seen, self.timing, now)
        if outcome.live is None:
            return []
        alert_id = f"{identity.fingerprint}-{secrets.token_hex(4)}"
        tracked = Tracked(alert_id, identity.fingerprint, identity.labels, outcome.live, value)
        self.alerts[identity.fingerprint] = tracked
        return self._conclude(tracked, None, outcome.live, outcome.reason, now)

    def _advance(self, tracked: Tracked, seen: Observation, now: Instant) -> list[Change]:
        before = tracked.live
        after, reason = step(before, seen, self._timing(tracked), now)
        if after is before and tracked.stored:
            return []
        return self._conclude(tracked, before, after, reason, now)

    def _timing(self, tracked: Tracked) -> Timing:
        """The rule's durations, with the alert's own interval of repeats."""
        if tracked.repeat_ms is None:
            return self.timing
        known = self._repeating.get(tracked.repeat_ms)
        if known is None:
            known = self._repeating[tracked.repeat_ms] = replace(self.timing, repeat_ms=tracked.repeat_ms)
        return known

    def _conclude(
        self, tracked: Tracked, before: Live | None, after: Live | None, reason: Reason | None, now: Instant
    ) -> list[Change]:
        if after is None:
            del self.alerts[tracked.fingerprint]
        else:
            tracked.live = after
        if reason is Reason.PENDING or (reason is None and not tracked.stored):
            reason = self._lasting(tracked, now)
        if reason is None or (reason is Reason.WITHDRAWN and not tracked.stored):
            return []
        tracked.stored = True
        return [self._changed(tracked, before, after, reason, now)]

    def _changed(
        self, tracked: Tracked, before: Live | None, after: Live | None, reason: Reason, now: Instant
    ) -> Change:
        live = after or before or tracked.live
        comparison = self.rule.extension.tier_named(live.severity).comparison
        facts = self._facts(tracked, live)
        key, event_id = self.rule.key, new_event_id()
        return Change(key, tracked, before, after, reason, now, tracked.value, facts, comparison, event_id)

    def _lasting(self, tracked: Tracked, now: Instant) -> Reason | None:
        """A pending alert is stored once it has lasted: one that comes and goes costs no write."""
        live = tracked.live
        lasted = now.mono_ms - live.since.mono_ms >= self._store_pending_after_ms
        return Reason.PENDING if live.state is AlertState.PENDING and lasted else None

    def _facts(self, tracked: Tracked, live: Live) -> dict[str, str]:
        facts = Facts(tracked.value, self.shown_labels(tracked, live), self._external_url)
        return {name: template.render(facts) for name, template in self.rule.annotations.items()}


def shown_labels(tracked: Tracked, live: Live) -> dict[str, str]:
    """An alert's labels with a tier; one that was sent to us keeps its own."""
    if tracked.posted is not None:
        return tracked.labels
    return {**tracked.labels, "severity": live.severity.label}


def new_event_id() -> str:
    """A message id that no other event has."""
    return f"msg_{uuid.uuid4().hex}"


def occurrences(rules: Iterable[Rule]) -> list[int]:
    """How many rules of the same group, name and labels came before each one: it keeps their alerts apart."""
    counts: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    ordinals = []
    for rule in rules:
        key = (rule.key, tuple(sorted(rule.label_texts.items())))
        ordinals.append(counts.get(key, 0))
        counts[key] = ordinals[-1] + 1
    return ordinals
