"""The life of one alert, as a pure state machine: no clock, no I/O, no rule files.

    inactive --exceeds--> pending --held for `for`--> firing --clear, `keep_firing_for` over--> inactive

`step` takes what is alive of an alert, what was seen of it, and the instant, and returns what is alive
afterwards and why it changed. The table TRANSITIONS is the whole machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from metrics.severity import Severity


class AlertState(StrEnum):
    """Where an alert is in its life."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


class Seen(StrEnum):
    """What an evaluation saw of one alert."""

    EXCEEDS = "exceeds"  # the expression holds
    BETWEEN = "between"  # it does not, but the recovery threshold is not passed either
    CLEAR = "clear"  # it does not hold
    MISSING = "missing"  # there is no sample, and the rule says that this ends an alert
    FROZEN = "frozen"  # there is no sample, and the alert is to stay what it is


class Reason(StrEnum):
    """Why an alert changed; the ones in NOTIFIED are also why those whom the policy names are told."""

    PENDING = "pending"
    WITHDRAWN = "withdrawn"  # pending, then no longer exceeded
    FIRST = "first"
    ESCALATED = "escalated"
    TIER_FELL = "tier_fell"
    REPEAT = "repeat"
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"
    UNACKNOWLEDGED = "unacknowledged"  # somebody took the acknowledgement back
    ACK_LAPSED = "ack_lapsed"  # it was given for a time, and that is over
    ASSIGNED = "assigned"  # to a person, who is told
    ESCALATION_STEP = "escalation_step"  # nobody has acknowledged: the next ones are told
    UNTOLD = "untold"  # the auditor found that nobody had been told
    RULE_GONE = "rule_gone"  # resolved because no rule asks for it any more
    UNSUPPRESSED = "unsuppressed"  # told late: what kept it from being told has ended
    TEST = "test"  # no alert: somebody tries a channel
    SETTLED = "settled"  # it came and went, and is now told as what it is


NOTIFIED = frozenset(
    {
        Reason.FIRST,
        Reason.ESCALATED,
        Reason.TIER_FELL,
        Reason.REPEAT,
        Reason.RESOLVED,
        Reason.UNACKNOWLEDGED,
        Reason.ACK_LAPSED,
        Reason.UNTOLD,
        Reason.UNSUPPRESSED,
        Reason.RULE_GONE,
        Reason.SETTLED,
    }
)


class Instant(NamedTuple):
    """One moment on both clocks: wall_ms is shown and stored, mono_ms (monotonic) is what ages are made of."""

    wall_ms: int
    mono_ms: int


@dataclass(frozen=True, slots=True)
class Timing:
    """A rule's durations, milliseconds; repeat_ms 0 means never."""

    for_ms: int = 0
    keep_firing_ms: int = 0
    tier_fall_ms: int = 0
    repeat_ms: int = 0


class Observation(NamedTuple):
    """What one evaluation saw; severity is the tier reached while EXCEEDS, else the rule's lowest."""

    seen: Seen
    severity: Severity


@dataclass(frozen=True, slots=True)
class Live:
    """What is alive of an alert that is not inactive.

    since: when the expression began to hold; fired: when it began to fire; clear_since: since when it would
    be over but for `keep_firing_for`; below_since: since when a lower tier would do; notified: the last
    message's instant; ack_until: when the acknowledgement lapses (None: never).
    """

    state: AlertState
    severity: Severity
    since: Instant
    fired: Instant | None = None
    clear_since: Instant | None = None
    below_since: Instant | None = None
    notified: Instant | None = None
    acked_by: str | None = None
    acked_at_ms: int | None = None
    ack_comment: str | None = None
    ack_until: Instant | None = None
    assigned_to: str | None = None


class Step(NamedTuple):
    """The outcome: what is alive now (None: inactive), and why it changed (None: nothing to tell).

    The same Live object comes back where nothing changed: most evaluations of a firing alert make nothing.
    """

    live: Live | None
    reason: Reason | None = None


def step(live: Live | None, seen: Observation, timing: Timing, now: Instant) -> Step:
    """Advance one alert. Same arguments, same answer."""
    if live is None:
        return _begin(seen, timing, now) if seen.seen is Seen.EXCEEDS else Step(None)
    return TRANSITIONS[live.state, seen.seen](live, seen, timing, now)


def acknowledge(live: Live, who: str, comment: str, now: Instant, lapses_ms: int = 0) -> Step:
    """Take note that somebody is on it; repeats stop until the alert escalates, or lapses_ms is over (0: never)."""
    until = Instant(now.wall_ms + lapses_ms, now.mono_ms + lapses_ms) if lapses_ms else None
    acked = replace(live, acked_by=who, acked_at_ms=now.wall_ms, ack_comment=comment, ack_until=until)
    return Step(acked, Reason.ACKNOWLEDGED)


def unacknowledge(live: Live, now: Instant) -> Step:
    """Take an acknowledgement back: people are told again."""
    return Step(replace(_unacknowledged(live), notified=now), Reason.UNACKNOWLEDGED)


def lapse(live: Live, now: Instant) -> Step:
    """End an acknowledgement whose time is over; the same Live where it is not."""
    if live.acked_by is None or live.ack_until is None or now.mono_ms < live.ack_until.mono_ms:
        return Step(live)
    return Step(replace(_unacknowledged(live), notified=now), Reason.ACK_LAPSED)


def assign(live: Live, person: str) -> Step:
    """Note whose it is; that person has not acknowledged it by that."""
    return Step(replace(live, assigned_to=person), Reason.ASSIGNED)


def _unacknowledged(live: Live) -> Live:
    return replace(live, acked_by=None, acked_at_ms=None, ack_comment=None, ack_until=None)


def _begin(seen: Observation, timing: Timing, now: Instant) -> Step:
    pending = Live(AlertState.PENDING, seen.severity, since=now)
    return Step(pending, Reason.PENDING) if timing.for_ms > 0 else _fire(pending, now)


def _fire(live: Live, now: Instant) -> Step:
    return Step(replace(live, state=AlertState.FIRING, fired=now, notified=now), Reason.FIRST)


def _still_pending(live: Live, seen: Observation, timing: Timing, now: Instant) -> Step:
    held = live if live.severity is seen.severity else replace(live, severity=seen.severity)
    return _fire(held, now) if now.mono_ms - live.since.mono_ms >= timing.for_ms else Step(held)


def _withdraw(_live: Live, _seen: Observation, _timing: Timing, _now: Instant) -> Step:
    return Step(None, Reason.WITHDRAWN)


def _stay(live: Live, _seen: Observation, _timing: Timing, _now: Instant) -> Step:
    return Step(live)


def _still_firing(live: Live, seen: Observation, timing: Timing, now: Instant) -> Step:
    held = _not_clear(live)
    if seen.severity > live.severity:
        # Whoever acknowledged the lower tier has not seen this one: the acknowledgement is re-armed.
        risen = replace(held, severity=seen.severity, below_since=None, notified=now)
        return Step(_unacknowledged(risen), Reason.ESCALATED)
    return _maybe_lower(held, seen.severity, timing, now)


def _in_between(live: Live, seen: Observation, timing: Timing, now: Instant) -> Step:
    return _maybe_lower(_not_clear(live), seen.severity, timing, now)


def _not_clear(live: Live) -> Live:
    return live if live.clear_since is None else replace(live, clear_since=None)


def _maybe_lower(held: Live, tier: Severity, timing: Timing, now: Instant) -> Step:
    """Fall to a lower tier once the value stayed there long enough; else perhaps remind."""
    if tier >= held.severity:
        return _maybe_repeat(held if held.below_since is None else replace(held, below_since=None), timing, now)
    below_since = held.below_since or now
    if now.mono_ms - below_since.mono_ms < timing.tier_fall_ms:
        waiting = held if held.below_since is not None else replace(held, below_since=below_since)
        return _maybe_repeat(waiting, timing, now)
    return Step(replace(held, severity=tier, below_since=None, notified=now), Reason.TIER_FELL)


def _maybe_repeat(held: Live, timing: Timing, now: Instant) -> Step:
    last = held.notified or held.fired or held.since
    if timing.repeat_ms <= 0 or held.acked_by is not None or now.mono_ms - last.mono_ms < timing.repeat_ms:
        return Step(held)
    return Step(replace(held, notified=now), Reason.REPEAT)


def _clearing(live: Live, _seen: Observation, timing: Timing, now: Instant) -> Step:
    clear_since = live.clear_since or now
    if now.mono_ms - clear_since.mono_ms >= timing.keep_firing_ms:
        return Step(None, Reason.RESOLVED)
    return Step(live if live.clear_since is not None else replace(live, clear_since=clear_since))


Transition = Callable[[Live, Observation, Timing, Instant], Step]

TRANSITIONS: dict[tuple[AlertState, Seen], Transition] = {
    # state               what was seen   what follows
    (AlertState.PENDING, Seen.EXCEEDS): _still_pending,  # fires once held for `for`
    (AlertState.PENDING, Seen.BETWEEN): _withdraw,  # recovery thresholds are for what fires
    (AlertState.PENDING, Seen.CLEAR): _withdraw,
    (AlertState.PENDING, Seen.MISSING): _withdraw,
    (AlertState.PENDING, Seen.FROZEN): _stay,
    (AlertState.FIRING, Seen.EXCEEDS): _still_firing,  # may escalate, fall a tier, repeat
    (AlertState.FIRING, Seen.BETWEEN): _in_between,  # stays, at the lowest tier after a while
    (AlertState.FIRING, Seen.CLEAR): _clearing,  # resolves once `keep_firing_for` is over
    (AlertState.FIRING, Seen.MISSING): _clearing,
    (AlertState.FIRING, Seen.FROZEN): _stay,
}
