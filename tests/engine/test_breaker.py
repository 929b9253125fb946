"""Circuit breakers: the table of states, one probe at a time, whatever happens in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.breaker import NS, TRANSITIONS, Breaker, BreakerState, Transition
from engine.options import BreakerOptions

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN
OPTIONS = BreakerOptions(failures=3, open_s=30.0)


def tripped(now_ns: int = 0) -> tuple[Breaker, list[Transition]]:
    told: list[Transition] = []
    breaker = Breaker("decisions", OPTIONS, told.append)
    breaker.fail(now_ns, "nan", times=3)
    return breaker, told


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker = Breaker("decisions", OPTIONS)
    for _ in range(5):
        breaker.fail(0, "nan", times=2)
        breaker.succeed(0)
    assert breaker.state is CLOSED
    breaker.fail(0, "nan", times=2)
    breaker.fail(7, "nan again")
    assert (breaker.state, breaker.reason, breaker.since_ns, breaker.trips) == (OPEN, "nan again", 7, 1)


def test_nothing_passes_before_the_wait_is_over_then_one_probe_does() -> None:
    breaker, _ = tripped()
    assert not breaker.passes(30 * NS - 1)
    assert breaker.passes(30 * NS)
    assert breaker.state is HALF_OPEN
    assert not breaker.passes(30 * NS + 1)
    breaker.succeed(31 * NS)
    assert breaker.state is CLOSED
    assert all(breaker.passes(31 * NS) for _ in range(3))


def test_a_failed_probe_opens_it_for_the_whole_wait_again() -> None:
    breaker, told = tripped()
    assert breaker.passes(40 * NS)
    breaker.fail(41 * NS, "still nan")
    assert breaker.state is OPEN
    assert not breaker.passes(71 * NS - 1)
    assert breaker.passes(71 * NS)
    assert breaker.trips == 2
    assert breaker.open_s(71 * NS) == 71.0
    assert [(t.before, t.after, t.t_ns) for t in told] == [
        (CLOSED, OPEN, 0),
        (OPEN, HALF_OPEN, 40 * NS),
        (HALF_OPEN, OPEN, 41 * NS),
        (OPEN, HALF_OPEN, 71 * NS),
    ]


def test_what_comes_in_late_while_it_is_open_changes_nothing() -> None:
    breaker, told = tripped()
    breaker.succeed(1 * NS)
    breaker.fail(2 * NS, "late", times=10)
    assert (breaker.state, breaker.since_ns, len(told)) == (OPEN, 0, 1)


def test_a_success_before_the_probe_is_none_of_its_answer() -> None:
    breaker, _ = tripped()
    breaker.passes(30 * NS)
    breaker.fail(30 * NS, "no")
    breaker.succeed(60 * NS)
    assert breaker.state is OPEN


def test_a_probe_that_nobody_answers_is_replaced() -> None:
    breaker, _ = tripped()
    assert breaker.passes(30 * NS)
    assert not breaker.passes(60 * NS - 1)
    assert breaker.passes(60 * NS)
    assert breaker.state is HALF_OPEN


def test_the_table_has_a_way_out_of_each_state_and_none_round_the_probe() -> None:
    assert {before for before, _ in TRANSITIONS} == set(BreakerState)
    assert {before for (before, _), after in TRANSITIONS.items() if after is CLOSED} == {HALF_OPEN}


@pytest.mark.parametrize("failures", [1, 2, 5])
def test_the_number_of_failures_is_an_option(failures: int) -> None:
    breaker = Breaker("orders", BreakerOptions(failures=failures, open_s=1.0))
    for count in range(failures):
        assert breaker.state is CLOSED, count
        breaker.fail(0, "refused")
    assert breaker.state is OPEN


class AnyOrder(RuleBasedStateMachine):
    """Beside the breaker a model that keeps the whole story and answers each question from the beginning of it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Transition] = []
        self.breaker = Breaker("any", BreakerOptions(failures=3, open_s=2.0), self.told.append)
        self.now = 0
        self.story: list[tuple[str, int, int]] = []

    def model(self) -> tuple[str, int, bool]:
        """State, trips, and what the last question was answered, by going through the story."""
        state, row, trips, since, probe, answer = "closed", 0, 0, 0, None, True
        for what, t, times in self.story:
            if what == "fail":
                row = row + times if state == "closed" else 0
                if row >= 3 or state == "half":
                    state, row, since, trips, probe = "open", 0, t, trips + 1, None
            elif what == "succeed":
                row = 0
                if state == "half" and probe is not None:
                    state, probe = "closed", None
            else:
                if state == "open" and t - since >= 2 * NS:
                    state, probe = "half", None
                answer = state == "closed" or (state == "half" and (probe is None or t - probe >= 2 * NS))
                if answer and state == "half":
                    probe = t
        return state, trips, answer

    @rule(seconds=st.sampled_from([0.0, 0.4, 1.0, 2.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += round(seconds * NS)

    @rule(times=st.integers(1, 4))
    def fail(self, times: int) -> None:
        self.story.append(("fail", self.now, times))
        self.breaker.fail(self.now, "failed", times)

    @rule()
    def succeed(self) -> None:
        self.story.append(("succeed", self.now, 1))
        self.breaker.succeed(self.now)

    @rule()
    def asks(self) -> None:
        self.story.append(("ask", self.now, 1))
        assert self.breaker.passes(self.now) == self.model()[2]

    @invariant()
    def is_in_the_models_state(self) -> None:
        state, trips, _ = self.model()
        assert {"closed": CLOSED, "half": HALF_OPEN, "open": OPEN}[state] is self.breaker.state
        assert trips == self.breaker.trips
        assert (self.breaker.open_s(self.now) == 0.0) or state != "closed"
        assert all(after.before is before.after for before, after in zip(self.told, self.told[1:], strict=False))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
