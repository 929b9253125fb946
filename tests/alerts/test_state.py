"""The life of one alert: the transition table, and its properties over random histories."""

import itertools
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from alerts.state import (
    TRANSITIONS,
    AlertState,
    Instant,
    Live,
    Observation,
    Reason,
    Seen,
    Timing,
    acknowledge,
    step,
)
from metrics.severity import Severity

W, C, E = Severity.WARNING, Severity.CRITICAL, Severity.EMERGENCY


def at(seconds: float) -> Instant:
    return Instant(1_700_000_000_000 + round(seconds * 1000), round(seconds * 1000))


def exceeds(severity: Severity = W) -> Observation:
    return Observation(Seen.EXCEEDS, severity)


CLEAR = Observation(Seen.CLEAR, W)
BETWEEN = Observation(Seen.BETWEEN, W)
MISSING = Observation(Seen.MISSING, W)
FROZEN = Observation(Seen.FROZEN, W)


def run(timing: Timing, *moments: tuple[float, Observation]) -> tuple[Live | None, list[Reason]]:
    live, reasons = None, []
    for seconds, seen in moments:
        outcome = step(live, seen, timing, at(seconds))
        live = outcome.live
        if outcome.reason is not None:
            reasons.append(outcome.reason)
    return live, reasons


def test_the_table_covers_every_state_and_every_observation():
    assert set(TRANSITIONS) == {(state, seen) for state in (AlertState.PENDING, AlertState.FIRING) for seen in Seen}


def test_without_a_hold_an_alert_fires_at_once():
    live, reasons = run(Timing(), (0, exceeds()))
    assert live is not None
    assert (live.state, reasons) == (AlertState.FIRING, [Reason.FIRST])


def test_with_a_hold_it_is_pending_until_the_hold_is_over():
    timing = Timing(for_ms=10_000)
    assert run(timing, (0, exceeds()), (9.9, exceeds()))[1] == [Reason.PENDING]
    live, reasons = run(timing, (0, exceeds()), (9.9, exceeds()), (10, exceeds()))
    assert reasons == [Reason.PENDING, Reason.FIRST]
    assert live is not None
    assert live.since == at(0)
    assert live.fired == at(10)


@pytest.mark.parametrize("seen", [CLEAR, BETWEEN, MISSING])
def test_a_pending_alert_is_withdrawn_by_anything_but_exceeding(seen):
    assert run(Timing(for_ms=10_000), (0, exceeds()), (5, seen)) == (None, [Reason.PENDING, Reason.WITHDRAWN])


def test_a_firing_alert_stays_between_recovery_and_threshold():
    live, reasons = run(Timing(), (0, exceeds()), (1, BETWEEN), (2, BETWEEN))
    assert live is not None
    assert reasons == [Reason.FIRST]
    assert run(Timing(), (0, exceeds()), (1, BETWEEN), (2, CLEAR)) == (None, [Reason.FIRST, Reason.RESOLVED])


def test_keep_firing_for_bridges_short_clearances():
    timing = Timing(keep_firing_ms=5000)
    live, reasons = run(timing, (0, exceeds()), (1, CLEAR), (5.9, CLEAR), (6, exceeds()), (7, CLEAR), (11.9, MISSING))
    assert live is not None
    assert reasons == [Reason.FIRST]
    assert run(timing, (0, exceeds()), (1, CLEAR), (6, CLEAR)) == (None, [Reason.FIRST, Reason.RESOLVED])


def test_a_rise_escalates_at_once_and_takes_the_acknowledgement_away():
    live, _ = run(Timing(repeat_ms=1000), (0, exceeds()))
    assert live is not None
    live = acknowledge(live, "ana", "looking", at(1)).live
    assert live is not None
    outcome = step(live, exceeds(C), Timing(repeat_ms=1000), at(2))
    assert outcome.reason is Reason.ESCALATED
    assert outcome.live is not None
    assert (outcome.live.severity, outcome.live.acked_by) == (C, None)


def test_a_fall_is_a_change_after_a_while_and_no_resolve():
    timing = Timing(tier_fall_ms=5000)
    live, reasons = run(timing, (0, exceeds(E)), (1, exceeds(W)), (5.9, exceeds(W)))
    assert live is not None
    assert (live.severity, reasons) == (E, [Reason.FIRST])
    live, reasons = run(timing, (0, exceeds(E)), (1, exceeds(W)), (3, exceeds(E)), (4, exceeds(W)), (9, exceeds(W)))
    assert live is not None
    assert (live.severity, live.state, reasons) == (W, AlertState.FIRING, [Reason.FIRST, Reason.TIER_FELL])


def test_a_firing_alert_nobody_acknowledged_is_repeated():
    timing = Timing(repeat_ms=10_000)
    live, reasons = run(timing, (0, exceeds()), (9, exceeds()), (10, exceeds()), (15, exceeds()), (20, exceeds()))
    assert reasons == [Reason.FIRST, Reason.REPEAT, Reason.REPEAT]
    assert live is not None
    live = acknowledge(live, "ana", "", at(21)).live
    assert step(live, exceeds(), timing, at(100)).reason is None


def test_a_frozen_alert_does_not_move():
    live, _ = run(Timing(for_ms=1000), (0, exceeds()))
    assert step(live, FROZEN, Timing(for_ms=1000), at(100)).live is live


def test_a_stepped_wall_clock_changes_no_age():
    timing = Timing(for_ms=10_000)
    live, _ = run(timing, (0, exceeds()))
    stepped = Instant(at(1).wall_ms + 3_600_000, at(1).mono_ms)
    assert step(live, exceeds(), timing, stepped).reason is None


class AlertLife(RuleBasedStateMachine):
    """Random lives against what the whole history says an alert must be."""

    @initialize(hold=st.integers(0, 20), keep=st.integers(0, 20), fall=st.integers(0, 20), repeat=st.integers(0, 30))
    def begin(self, hold: int, keep: int, fall: int, repeat: int) -> None:
        self.timing = Timing(hold * 1000, keep * 1000, fall * 1000, repeat * 1000)
        self.now_s = 0
        self.live: Live | None = None
        self.seen: list[tuple[int, Observation]] = []
        self.reasons: list[Reason] = []
        self.acked = False

    @rule(
        wait=st.integers(0, 12),
        seen=st.sampled_from([Seen.EXCEEDS, Seen.EXCEEDS, Seen.EXCEEDS, *Seen]),
        severity=st.sampled_from(Severity),
    )
    def observe(self, wait: int, seen: Seen, severity: Severity) -> None:
        self.now_s += wait
        severity = severity if seen is Seen.EXCEEDS else Severity.INFO
        observation = Observation(seen, severity)
        before, acked = self.live, self.acked
        outcome = step(self.live, observation, self.timing, at(self.now_s))
        assert outcome == step(self.live, observation, self.timing, at(self.now_s))
        self.live = outcome.live
        if seen is not Seen.FROZEN:
            self.seen.append((self.now_s, observation))
        if outcome.reason is not None:
            self.reasons.append(outcome.reason)
        self.acked = self.live is not None and self.live.acked_by is not None
        self.check_reason(before, outcome.reason)
        if acked and not self.acked:
            assert outcome.reason in (Reason.ESCALATED, Reason.RESOLVED)

    @precondition(lambda self: self.live is not None and self.live.state is AlertState.FIRING)
    @rule()
    def somebody_acknowledges(self) -> None:
        assert self.live is not None
        self.live = acknowledge(self.live, "ana", "", at(self.now_s)).live
        self.acked = True

    def check_reason(self, before: Live | None, reason: Reason | None) -> None:
        was = AlertState.INACTIVE if before is None else before.state
        is_now = AlertState.INACTIVE if self.live is None else self.live.state
        expected = {
            (AlertState.INACTIVE, AlertState.INACTIVE): {None},
            (AlertState.INACTIVE, AlertState.PENDING): {Reason.PENDING},
            (AlertState.INACTIVE, AlertState.FIRING): {Reason.FIRST},
            (AlertState.PENDING, AlertState.PENDING): {None},
            (AlertState.PENDING, AlertState.FIRING): {Reason.FIRST},
            (AlertState.PENDING, AlertState.INACTIVE): {Reason.WITHDRAWN},
            (AlertState.FIRING, AlertState.FIRING): {None, Reason.ESCALATED, Reason.TIER_FELL, Reason.REPEAT},
            (AlertState.FIRING, AlertState.INACTIVE): {Reason.RESOLVED},
        }
        assert reason in expected[was, is_now]
        if before is not None and self.live is not None and before.state is AlertState.FIRING:
            assert (reason is Reason.ESCALATED) == (self.live.severity > before.severity)
            assert (reason is Reason.TIER_FELL) == (self.live.severity < before.severity)

    def exceeding_since(self) -> int | None:
        """Start of the unbroken run of exceeding observations that lasts until now."""
        since = None
        for second, observation in self.seen:
            since = (second if since is None else since) if observation.seen is Seen.EXCEEDS else None
        return since

    @invariant()
    def a_pending_alert_has_exceeded_without_a_break_for_less_than_its_hold(self) -> None:
        if getattr(self, "live", None) is None or self.live.state is not AlertState.PENDING:
            return
        assert self.live.since == at(self.exceeding_since())

    @invariant()
    def a_firing_alert_exceeded_for_its_hold_once(self) -> None:
        if getattr(self, "live", None) is None or self.live.state is not AlertState.FIRING:
            return
        assert self.live.fired is not None
        assert self.live.fired.mono_ms - self.live.since.mono_ms >= self.timing.for_ms

    @invariant()
    def an_alert_whose_last_observation_exceeds_is_alive(self) -> None:
        if getattr(self, "seen", None) and self.seen[-1][1].seen is Seen.EXCEEDS:
            assert self.live is not None

    @invariant()
    def firing_and_resolving_alternate(self) -> None:
        ends = [reason for reason in getattr(self, "reasons", []) if reason in (Reason.FIRST, Reason.RESOLVED)]
        assert all(first is not second for first, second in itertools.pairwise(ends))


AlertLife.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAlertLife = AlertLife.TestCase


def test_acknowledging_is_noted_with_name_time_and_words():
    live, _ = run(Timing(), (0, exceeds()))
    assert live is not None
    outcome = acknowledge(live, "ana", "on it", at(3))
    assert outcome.live == replace(live, acked_by="ana", acked_at_ms=at(3).wall_ms, ack_comment="on it")
    assert outcome.reason is Reason.ACKNOWLEDGED
