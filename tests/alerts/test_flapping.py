"""An alert that comes and goes is told once as that, and again once it is quiet."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from sqlalchemy import select

from alerts.damping import Damper
from alerts.evaluate import RuleRun
from alerts.flapping import COUNTED, Course, FlappingOptions, Verdict, judge
from alerts.options import AlertOptions
from alerts.rules import parse_rules
from alerts.state import Reason
from metrics.severity import Severity
from storage.tables import alert_event, alert_state, outbox, suppression
from tests.alerts.desk import Desk, rules_file
from tests.alerts.receivers import wait_until
from tests.alerts.test_evaluate import at
from tests.alerts.test_outbox import Spy

OPTIONS = FlappingOptions(changes=5, window_ms=600_000)
RULE = parse_rules(
    "groups: [{name: g, rules: [{alert: A, expr: x > 1, labels: {severity: warning},"
    " annotations: {deskvigil: 'tiers: {critical: 5, emergency: 9}'}}]}]",
    "t",
)[0].rules[0]


class Alert:
    """One rule, its alert and the damper, told what time it is."""

    def __init__(self) -> None:
        options = AlertOptions(repeat_interval_s=0, tier_fall_after_s=0)
        self.run, self.damper = RuleRun(RULE, 0, 0, options), Damper(options)

    def sees(self, second: float, value: float) -> list[tuple[Reason, Verdict]]:
        changes = self.damper.damp(self.run.evaluate([({}, value)], at(second), grace=False))
        return [(one.reason, one.verdict) for one in changes]

    def settles(self, second: float) -> list[tuple[Reason, bool]]:
        def find(key: str):
            return (self.run, self.run.alerts[key]) if key in self.run.alerts else None

        return [(one.reason, one.after is not None) for one in self.damper.settled(at(second), find)]

    def flap(self, times: int, start: float = 0) -> list[Verdict]:
        return [
            verdict
            for n in range(times)
            for _, verdict in (*self.sees(start + 20 * n, 2.0), *self.sees(start + 20 * n + 10, 0.0))
        ]


def test_the_sixth_change_within_ten_minutes_is_told_as_flapping_and_the_next_ones_are_not():
    alert = Alert()
    assert alert.flap(4) == [Verdict.TOLD] * 5 + [Verdict.BEGINS] + [Verdict.DAMPED] * 2


def test_slow_changes_are_no_flapping():
    alert = Alert()
    assert {verdict for n in range(20) for verdict in alert.flap(1, 300 * n)} == {Verdict.TOLD}


def test_a_rise_to_critical_or_worse_is_told_while_it_flaps_each_tier_once():
    alert = Alert()
    alert.flap(4)
    assert alert.sees(100, 2.0) == [(Reason.FIRST, Verdict.DAMPED)]
    assert alert.sees(101, 6.0) == [(Reason.ESCALATED, Verdict.TOLD)]
    assert alert.sees(110, 0.0) == [(Reason.RESOLVED, Verdict.DAMPED)]
    assert alert.sees(120, 6.0) == [(Reason.FIRST, Verdict.DAMPED)]
    assert alert.sees(130, 0.0) == [(Reason.RESOLVED, Verdict.DAMPED)]
    assert alert.sees(140, 10.0) == [(Reason.FIRST, Verdict.TOLD)]  # emergency, which nobody was told of


def test_once_quiet_it_is_told_as_what_it_is():
    alert = Alert()
    alert.flap(4)
    alert.sees(100, 2.0)
    assert alert.settles(200) == []
    assert alert.settles(900) == [(Reason.SETTLED, True)]
    assert alert.settles(902) == []
    assert alert.sees(1000, 0.0) == [(Reason.RESOLVED, Verdict.TOLD)]


def test_an_end_that_was_damped_is_told_once_quiet_to_those_who_know_of_the_firing():
    alert = Alert()
    alert.flap(3)
    alert.sees(100, 6.0)  # told: a rise
    alert.sees(110, 0.0)  # damped
    assert alert.settles(900) == [(Reason.SETTLED, False)]


def test_an_end_that_was_told_is_not_told_again():
    alert = Alert()
    alert.flap(4)  # begins with a resolve, which is told
    assert alert.settles(900) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 400_000), st.sampled_from(list(Reason)), st.sampled_from(list(Severity))), max_size=60
    )
)
def test_whatever_happens_flapping_begins_only_beyond_the_limit_and_only_known_reasons_are_damped(steps):
    course, now_ms, counted = Course(), 0, []
    for wait_ms, reason, severity in steps:
        now_ms += wait_ms
        before = course
        course, verdict = judge(course, reason, severity, now_ms, OPTIONS)
        if reason in COUNTED:
            counted.append(now_ms)
        lately = [one for one in counted if now_ms - one < OPTIONS.window_ms]
        if verdict is Verdict.BEGINS:
            assert len(lately) > OPTIONS.changes
            assert reason in COUNTED
        if verdict is Verdict.DAMPED:
            assert before.flapping
            assert reason in (Reason.FIRST, Reason.RESOLVED, Reason.ESCALATED, Reason.TIER_FELL)
        if len(lately) <= OPTIONS.changes // 2 and verdict is not Verdict.DAMPED:
            assert not course.flapping or reason not in COUNTED


def test_nothing_flaps_where_it_is_switched_off():
    course = Course()
    for n in range(50):
        course, verdict = judge(course, Reason.FIRST, Severity.INFO, n, FlappingOptions(changes=0))
        assert verdict is Verdict.TOLD


RULES = "- {alert: High, expr: x > 1, labels: {severity: warning}}"


def toggle(desk: Desk, times: int) -> None:
    for _ in range(times):
        for value in (2.0, 0.0):
            count = len(desk.service.history(1000))

            def changed(value=value, count=count) -> bool:
                desk.frame("engine", {"x": value})
                return len(desk.service.history(1000)) > count

            wait_until(changed)


@pytest.fixture
def rules(tmp_path):
    return rules_file(tmp_path, RULES, interval="10ms")


def test_every_change_has_a_message_or_a_suppression_and_a_restart_forgets_nothing(tmp_path, rules):
    with Desk(tmp_path, rules, [Spy()], flapping_changes=3) as desk:
        toggle(desk, 4)
        with desk.store.read() as connection:
            events = connection.execute(select(alert_event.c.id)).all()
            damped = connection.execute(select(suppression)).all()
            sent = connection.execute(select(outbox)).all()
        assert (len(events), len(sent), len(damped)) == (8, 4, 4)
        assert {row.kind for row in damped} == {"flapping"}
        assert not {row.event_id for row in damped} & {row.event_id for row in sent}
        assert "comes and goes" in sent[-1].payload["annotations"]["flapping"]
    with Desk(tmp_path, rules, [Spy()], flapping_changes=3) as desk:

        def firing() -> bool:
            desk.frame("engine", {"x": 2.0})
            return bool(desk.service.active()) and desk.service.active()[0].flapping

        wait_until(firing)
        with desk.store.read() as connection:
            assert connection.execute(select(alert_state.c.flapping)).scalars().all() == [1]
            assert len(connection.execute(select(outbox)).all()) == 4
            assert len(connection.execute(select(suppression)).all()) == 5


def test_what_flapped_through_a_restart_is_told_when_quiet(tmp_path, rules):
    with Desk(tmp_path, rules, [Spy()], flapping_changes=2, flapping_window_s=2) as desk:
        toggle(desk, 2)
        wait_until(lambda: desk.frame("engine", {"x": 2.0}) or desk.states())
    with Desk(tmp_path, rules, [Spy()], flapping_changes=2, flapping_window_s=2) as desk:
        wait_until(lambda: desk.frame("engine", {"x": 2.0}) or desk.service.history(1)[0].reason is Reason.SETTLED)
        with desk.store.read() as connection:
            last = connection.execute(select(outbox).order_by(outbox.c.id.desc())).first()
            assert all(connection.execute(select(suppression.c.lifted_ms)).scalars())
        assert last.reason == "settled"
        wait_until(lambda: not desk.service.active()[0].flapping)
