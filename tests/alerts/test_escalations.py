"""Escalations: who is told next while nobody acknowledges, and that nothing is lost, doubled or contradictory."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Table, select

from alerts.errors import (
    AlreadyAcknowledgedError,
    BulkRefusedError,
    NotAcknowledgedError,
    UnknownAlertError,
    UnknownPersonError,
)
from alerts.options import WebhookOptions
from alerts.state import Reason
from metrics.errors import ConfigError
from metrics.severity import Severity
from storage.health import StorageUnavailable
from storage.tables import alert_event, alert_state, audit, escalation, outbox
from tests.alerts.desk import Desk, rules_file
from tests.alerts.nightdesk import DAY_NS, POLICY, TIERS, NightDesk
from tests.alerts.receivers import WebhookReceiver, wait_until

CRITICAL, EMERGENCY = 2.5, 3.5


@pytest.fixture
def night(tmp_path: Path) -> Iterator[NightDesk]:
    desk = NightDesk(tmp_path)
    yield desk
    desk.close()


def test_steps_follow_each_other_until_somebody_acknowledges(night: NightDesk):
    night.x = CRITICAL
    night.go()
    assert night.told("first") == [("mail", None), ("pager", None)]
    (view,) = night.service.escalations()
    assert (view.policy, view.state, view.step, view.steps, view.words) == ("critical", "running", 1, 2, "ana")
    assert view.due_ms - night.now().wall_ms == 60_000
    night.go(59)
    assert night.steps() == []
    night.go(1)
    assert night.steps() == ["step 1 of 2: ana"]
    night.go(120)
    assert night.steps() == ["step 1 of 2: ana", "step 2 of 2: ben"]
    assert night.told("escalation_step") == [("mail", "ana"), ("pager", "ben")]
    (first, second) = [row for row in night.rows(outbox) if row.reason == "escalation_step"]
    assert first.target == {"person": "ana", "to": ["ana@desk.example"]}
    assert (first.priority, first.event_id.endswith(".ana"), second.target["to"]) == (2, True, [])
    night.service.acknowledge(night.alert_id, "cem", "on it")
    assert night.service.escalations()[0].state == "acknowledged"
    assert night.told("acknowledged") == [("mail", "ana"), ("pager", "ben")]
    assert [row.payload["who"] for row in night.rows(outbox) if row.reason == "acknowledged"] == ["cem", "cem"]
    night.go(3600)
    assert len(night.steps()) == 2


def test_a_chain_begins_anew_as_often_as_it_says_and_is_then_exhausted(night: NightDesk):
    night.x = CRITICAL
    night.go()
    for wait in (60, 120, 240, 120, 86_400, 86_400):
        night.go(wait)
    assert night.steps() == [
        "step 1 of 2: ana",
        "step 2 of 2: ben",
        "step 1 of 2, time 2: ana",
        "step 2 of 2, time 2: ben",
    ]
    assert night.service.escalations()[0].state == "exhausted"


def test_an_emergency_begins_at_once_and_repeats_its_last_step_until_acknowledged(night: NightDesk):
    night.x = EMERGENCY
    night.go()
    assert night.steps() == ["step 1 of 2: ben"]
    night.go(60)
    for _ in range(5):
        night.go(120)
    assert night.steps()[-1] == "step 2 of 2, time 6: rota desk, channel pager"
    assert len(night.steps()) == 7
    night.service.acknowledge(night.alert_id, "ana", "")
    night.go(1000)
    assert len(night.steps()) == 7


def test_a_tier_that_rises_begins_the_new_tiers_chain_although_the_old_one_was_acknowledged(night: NightDesk):
    night.x = CRITICAL
    night.go()
    night.go(60)
    night.service.acknowledge(night.alert_id, "ana", "")
    night.x = EMERGENCY
    night.go()
    assert night.steps() == ["step 1 of 2: ana", "step 1 of 2: ben"]
    (view,) = night.service.escalations()
    assert (view.policy, view.state) == ("emergency", "running")


def test_a_tier_that_falls_below_every_policy_ends_the_escalation(night: NightDesk):
    night.x = CRITICAL
    night.go()
    night.x = 1.5
    night.go()
    night.go(1)
    assert night.reasons()[-1] == "tier_fell"
    assert night.service.escalations() == []
    night.go(600)
    assert night.steps() == []


def test_an_emergency_that_falls_to_critical_goes_on_but_no_longer_for_ever(night: NightDesk):
    night.x = EMERGENCY
    night.go()
    night.x = CRITICAL
    night.go()
    night.go(1)
    for _ in range(4):
        night.go(120)
    assert night.steps() == ["step 1 of 2: ben", "step 2 of 2: rota desk, channel pager"]


def test_a_resolve_ends_it_and_is_told_to_everybody_who_was_told(night: NightDesk):
    night.x = CRITICAL
    night.go()
    night.go(60)
    night.x = 0.0
    night.go()
    assert sorted(night.told("resolved"), key=str) == [("mail", "ana"), ("mail", None), ("pager", None)]
    assert night.rows(escalation) == []
    night.go(600)
    assert len(night.steps()) == 1


@pytest.mark.parametrize("away_s", [1, 30, 59, 61, 3600, 10 * 86_400])
def test_a_step_that_falls_due_while_the_program_is_down_runs_once_at_the_start(night: NightDesk, away_s: int):
    night.x = CRITICAL
    night.go()
    night.close()
    night.clock.advance(away_s * 10**9)
    night._open()
    for _ in range(3):
        night.go(0)
    assert len(night.steps()) == (away_s >= 60)
    night.go(max(0, 60 - away_s))
    night.go(0)
    assert len(night.steps()) == 1
    night.restart()
    night.go(0)
    assert len(night.steps()) == 1
    night.go(120)
    assert night.steps() == ["step 1 of 2: ana", "step 2 of 2: ben"]


@pytest.mark.parametrize("step_s", [-86_400, -30, 30, 86_400])
def test_a_wall_clock_that_is_set_neither_hastens_nor_delays_a_step(night: NightDesk, step_s: int):
    night.x = CRITICAL
    night.go()
    night.clock.step_wall(step_s * 10**9)
    night.go(59)
    assert night.steps() == []
    night.go(1)
    assert len(night.steps()) == 1


def test_a_wall_clock_set_back_while_the_program_is_down_makes_nobody_wait_longer_than_the_step(night: NightDesk):
    night.x = CRITICAL
    night.go()
    night.close()
    night.clock.step_wall(-DAY_NS)
    night._open()
    night.go(61)
    assert len(night.steps()) == 1


@pytest.mark.parametrize("kind", ["silenced", "inhibited", "muted", "flapping"])
def test_what_is_suppressed_does_not_escalate_until_it_is_told_again(night: NightDesk, kind: str):
    night.x = CRITICAL
    night.go()
    night.suppress(kind)
    for _ in range(20):
        night.go(30)
    assert night.steps() == []
    night.suppress()
    night.go(11)
    assert night.steps() == ["step 1 of 2: ana"]


def test_that_no_route_leads_anywhere_holds_no_escalation_up(night: NightDesk):
    night.x = CRITICAL
    night.go()
    night.suppress("unrouted")
    night.go(60)
    assert night.steps() == ["step 1 of 2: ana"]


def test_whoever_is_on_duty_when_the_step_runs_is_told_overrides_first(night: NightDesk):
    night.x = EMERGENCY
    night.go()
    now_ms = night.now().wall_ms
    on_duty = night.service.oncall.rotas()[0].duties[0].person
    other = {"ana": "ben", "ben": "ana"}[on_duty]
    night.go(60)
    assert (night.told("escalation_step")[-1][1]) == on_duty
    made = night.service.oncall.add("desk", other, now_ms, now_ms + 3_600_000, "cem", "swapped")
    night.go(120)
    assert (night.told("escalation_step")[-1][1]) == other
    night.service.oncall.remove(made.id, "cem")
    night.go(120)
    assert (night.told("escalation_step")[-1][1]) == on_duty
    assert [row.action for row in night.rows(audit)] == ["oncall.override", "oncall.remove"]


def test_the_chain_is_the_one_of_when_it_began(night: NightDesk):
    night.x = CRITICAL
    night.go()
    night.policy.write_text(POLICY.replace("after: 1m, people: [ana]", "after: 9m, people: [ben]"))
    night.restart()
    night.go(61)
    assert night.steps() == ["step 1 of 2: ana"]


def test_a_chain_goes_on_without_its_policy_and_tells_every_channel_where_a_person_is_gone(night: NightDesk):
    night.x = CRITICAL
    night.go()
    night.policy.write_text("")
    night.restart()
    night.go(61)
    assert night.told("escalation_step") == [("mail", None), ("pager", None)]


def test_while_the_database_cannot_be_written_steps_wait_and_then_run_once(night: NightDesk):
    night.x = CRITICAL
    night.go()
    real = night.desk.store.write

    def write():
        raise StorageUnavailable("the disk is full")

    night.desk.store.write = write  # the disk is the world's edge here
    night.go(61)
    night.go(5)
    assert night.steps() == []
    night.desk.store.write = real
    night.go(2)
    night.go(2)
    assert night.steps() == ["step 1 of 2: ana"]


def test_while_the_database_cannot_be_read_no_step_runs_twice_and_that_is_said_once(
    night: NightDesk, caplog: pytest.LogCaptureFixture
):
    night.x = CRITICAL
    night.go()
    real = night.desk.store.read

    def read():
        raise StorageUnavailable("the disk is gone")

    night.desk.store.read = read  # the disk is the world's edge here
    for wait in (61, 1, 1, 130, 1, 1):
        night.go(wait)
    night.desk.store.read = real
    assert night.steps() == ["step 1 of 2: ana"]
    assert caplog.text.count("escalations cannot be read and wait") == 1
    night.go(2)
    night.go(120)
    assert night.steps() == ["step 1 of 2: ana", "step 2 of 2: ben"]


def test_one_step_that_cannot_be_run_holds_no_other_up(tmp_path: Path):
    night = NightDesk(tmp_path, rules=TIERS.replace("x > 1", "sum by (n) (x) > 1"))
    for _ in range(2):
        night.clock.advance(10**9)
        night.desk.frame("engine", {"x{n=1}": CRITICAL, "x{n=2}": CRITICAL})
        night.service._pass()
    assert len(night.rows(escalation)) == 2
    bad = night.rows(escalation)[0].alert_id
    real = night.service._ledger.note

    def note(connection, change):
        if change.tracked.alert_id == bad:
            raise RuntimeError("a fault of ours")
        real(connection, change)

    night.service._ledger.note = note
    night.clock.advance(61 * 10**9)
    night.desk.frame("engine", {"x{n=1}": CRITICAL, "x{n=2}": CRITICAL})
    night.service._pass()
    assert len(night.steps()) == 1
    night.service._ledger.note = real
    night.clock.advance(61 * 10**9)
    night.service._pass()
    assert len(night.steps()) == 2
    night.close()


# --- what people do -----------------------------------------------------------------------------


def test_an_acknowledgement_that_lapses_is_told_and_escalates_anew(night: NightDesk):
    night.x = CRITICAL
    night.go()
    view = night.service.acknowledge(night.alert_id, "ana", "on it")
    assert view.ack_until_ms - view.acked_at_ms == 7_200_000
    night.go(7199)
    assert night.service.active()[0].acked_by == "ana"
    night.go(2)
    assert night.service.active()[0].acked_by is None
    assert night.told("ack_lapsed") == [("mail", None), ("pager", None)]
    (event,) = [row for row in night.rows(alert_event) if row.reason == "ack_lapsed"]
    assert event.comment.startswith("ana acknowledged it at 20")
    night.go(60)
    assert night.steps() == ["step 1 of 2: ana"]


def test_the_time_that_an_acknowledgement_has_survives_restarts_and_clock_steps(night: NightDesk):
    night.x = CRITICAL
    night.go()
    night.service.acknowledge(night.alert_id, "ana", "")
    night.go(3600)
    night.restart()
    night.clock.step_wall(-DAY_NS)
    night.go(3590)
    assert night.service.active()[0].acked_by == "ana"
    night.go(20)
    assert night.service.active()[0].acked_by is None


@pytest.mark.parametrize(("x", "lapses_s"), [(1.5, None), (2.5, 7200), (3.5, 1800)])
def test_how_long_an_acknowledgement_lasts_depends_on_the_tier(night: NightDesk, x: float, lapses_s: int | None):
    night.x = x
    night.go()
    view = night.service.acknowledge(night.alert_id, "ana", "")
    until_s = None if view.ack_until_ms is None else (view.ack_until_ms - view.acked_at_ms) / 1000
    assert until_s == lapses_s


def test_taking_an_acknowledgement_back_is_told_audited_and_escalates_anew(night: NightDesk):
    night.x = CRITICAL
    night.go()
    with pytest.raises(NotAcknowledgedError):
        night.service.unacknowledge(night.alert_id, "ben")
    night.service.acknowledge(night.alert_id, "ana", "")
    view = night.service.unacknowledge(night.alert_id, "ben", "I cannot")
    assert (view.acked_by, view.ack_until_ms) == (None, None)
    assert night.told("unacknowledged") == [("mail", None), ("pager", None)]
    assert [row.action for row in night.rows(audit)] == ["alert.acknowledge", "alert.unacknowledge"]
    night.go(60)
    assert night.steps() == ["step 1 of 2: ana"]


def test_whoever_is_assigned_an_alert_is_told_and_told_of_its_end(night: NightDesk):
    night.x = 1.5
    night.go()
    with pytest.raises(UnknownPersonError, match=r"there is no person 'eve' .there are: ana, ben"):
        night.service.assign(night.alert_id, "eve", "cem")
    assert night.service.assign(night.alert_id, "ana", "cem", "yours").assigned_to == "ana"
    assert night.told("assigned") == [("mail", "ana")]
    (row,) = [row for row in night.rows(audit) if row.action == "alert.assign"]
    assert '"person":"ana"' in row.detail
    night.restart()
    assert night.service.active()[0].assigned_to == "ana"
    night.x = 0.0
    night.go()
    assert ("mail", "ana") in night.told("resolved")


def test_several_are_acknowledged_at_once_only_where_none_is_critical(tmp_path: Path):
    night = NightDesk(tmp_path, rules=TIERS.replace("x > 1", "sum by (n) (x) > 1"))
    for _ in range(2):
        night.clock.advance(10**9)
        night.desk.frame("engine", {"x{n=1}": 1.5, "x{n=2}": 1.6, "x{n=3}": CRITICAL})
        night.service._pass()
    by_tier = {view.labels["n"]: view.alert_id for view in night.service.active()}
    with pytest.raises(BulkRefusedError, match="High is critical: such alerts are acknowledged one by one; none was"):
        night.service.acknowledge_all(list(by_tier.values()), "ana", "all fine")
    with pytest.raises(UnknownAlertError):
        night.service.acknowledge_all([by_tier["1"], "nothing"], "ana")
    assert [view.acked_by for view in night.service.active()] == [None, None, None]
    assert night.rows(audit) == []
    done = night.service.acknowledge_all([by_tier["1"], by_tier["2"], by_tier["1"]], "ana", "all fine")
    assert [view.acked_by for view in done] == ["ana", "ana"]
    assert len(night.rows(audit)) == 2
    with pytest.raises(AlreadyAcknowledgedError):
        night.service.acknowledge_all([by_tier["1"]], "ben")
    night.close()


def test_a_policy_file_that_names_what_is_not_there_stops_the_start(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r"policy\.yml: people: ana: there is no channel 'mails' .there are: mail, pager"
    ):
        NightDesk(tmp_path, policy=POLICY.replace("mail:", "mails:"))


# --- with threads and a receiver -----------------------------------------------------------------


def test_steps_reach_a_real_receiver_beside_the_message_of_the_routes_until_somebody_acknowledges(tmp_path: Path):
    policy = tmp_path / "policy.yml"
    policy.write_text(
        "people: {ana: {channels: {webhook: }}}\n"
        "escalations: {all: {severity: warning, steps: [{people: [ana]}], repeat: 100, repeat_interval: 1s}}\n"
    )
    with WebhookReceiver() as receiver:
        hook = WebhookOptions(url=receiver.url, allow=("127.0.0.1",), timeout_s=5.0)
        with Desk(tmp_path, rules_file(tmp_path, TIERS), webhook=hook, policy=policy) as desk:
            desk.frame("engine", {"x": 1.5})
            wanted = ["escalation_step", "escalation_step", "first"]  # a step waits for no message to somebody else
            wait_until(lambda: sorted(post.reason for post in receiver.posts)[-3:] == wanted)
            refused = []

            def acknowledge(who: str) -> None:
                try:
                    desk.service.acknowledge(desk.service.active()[0].alert_id, who)
                except AlreadyAcknowledgedError:
                    refused.append(who)

            people = [threading.Thread(target=acknowledge, args=(f"p{number}",)) for number in range(4)]
            for one in people:
                one.start()
            for one in people:
                one.join(60)
            assert len(refused) == 3
            wait_until(lambda: [row.status for row in desk_rows(desk, outbox) if row.status == "pending"] == [])
            ids = [post.headers["webhook-id"] for post in receiver.posts]
            assert len(set(ids)) == len(ids)
            assert receiver.posts[-1].reason == "acknowledged"
            steps = [row for row in desk_rows(desk, alert_event) if row.reason == "escalation_step"]
            (acked,) = [row for row in desk_rows(desk, alert_event) if row.reason == "acknowledged"]
            assert all(row.id < acked.id for row in steps)
            assert len(steps) == len([row for row in desk_rows(desk, outbox) if row.reason == "escalation_step"])


def desk_rows(desk: Desk, table: Table) -> list[Any]:
    with desk.store.read() as connection:
        return list(connection.execute(select(table).order_by(table.c.id)).all())


# --- any order of events ------------------------------------------------------------------------


class Nights(RuleBasedStateMachine):
    """Random values, waits, people, clock steps, suppressions and restarts against what must always hold."""

    desk: NightDesk

    @initialize()
    def begin(self) -> None:
        self.desk = DESK[0]
        self.desk.clean()
        self.acked = False

    @rule(
        x=st.sampled_from([0.0, 1.5, CRITICAL, CRITICAL, EMERGENCY, EMERGENCY]),
        seconds=st.sampled_from([0, 1, 59, 60, 61, 130, 2000, 8000]),
    )
    def time_passes(self, x: float, seconds: int) -> None:
        self.desk.x = x
        self.desk.go(seconds)
        self.nothing_is_overdue()

    @rule(seconds=st.integers(0, 400))
    def time_passes_quietly(self, seconds: int) -> None:
        self.desk.go(seconds)
        self.nothing_is_overdue()

    @precondition(lambda self: self.firing())
    @rule(who=st.sampled_from(["ana", "ben"]))
    def somebody_acknowledges(self, who: str) -> None:
        try:
            self.desk.service.acknowledge(self.desk.alert_id, who, "")
        except AlreadyAcknowledgedError:
            assert self.desk.service.active()[0].acked_by is not None

    @precondition(lambda self: self.firing())
    @rule()
    def somebody_takes_it_back(self) -> None:
        try:
            self.desk.service.unacknowledge(self.desk.alert_id, "ben")
        except NotAcknowledgedError:
            assert self.desk.service.active()[0].acked_by is None

    @precondition(lambda self: self.firing())
    @rule(person=st.sampled_from(["ana", "ben"]))
    def somebody_assigns_it(self, person: str) -> None:
        self.desk.service.assign(self.desk.alert_id, person, "cem")

    @rule(by_s=st.sampled_from([-90_000, -3600, -60, 60, 3600, 90_000]))
    def the_wall_clock_is_set(self, by_s: int) -> None:
        self.desk.clock.step_wall(by_s * 10**9)

    @rule(away_s=st.sampled_from([0, 1, 60, 300, 10_000]))
    def the_program_is_killed_and_started_again(self, away_s: int) -> None:
        self.desk.close()
        self.desk.clock.advance(away_s * 10**9)
        self.desk._open()
        self.desk.go(0)

    @precondition(lambda self: self.firing())
    @rule(kinds=st.sampled_from([(), ("silenced",), ("unrouted",), ("muted", "unrouted")]))
    def it_is_suppressed_or_told_again(self, kinds: tuple[str, ...]) -> None:
        self.desk.suppress(*kinds)

    def firing(self) -> bool:
        return bool(self.desk.service.active())

    def nothing_is_overdue(self) -> None:
        (due, service) = (self.desk.service._escalations.due(self.desk.now()), self.desk.service)
        assert due == [], [service.escalations()]

    @invariant()
    def nothing_is_both_acknowledged_and_escalating(self) -> None:
        alerts = {row.id: row for row in self.desk.rows(alert_state)}
        running = {row.alert_id: row for row in self.desk.rows(escalation)}
        assert set(running) <= set(alerts)
        for alert_id, row in alerts.items():
            state = running[alert_id].state if alert_id in running else None
            assert row.state == "firing"
            if row.acked_by is not None:
                assert state in (None, "acknowledged")
                assert state is None or running[alert_id].due_ms is None
            elif Severity.parse(row.severity) >= Severity.CRITICAL:
                assert state in ("running", "exhausted")
                assert (state == "running") == (running[alert_id].due_ms is not None)
                if Severity.parse(row.severity) is Severity.EMERGENCY and running[alert_id].policy == "emergency":
                    assert state == "running"
            else:
                assert state is None

    @invariant()
    def every_transition_has_a_reason_and_no_step_runs_after_an_acknowledgement_or_twice(self) -> None:
        acked, state, run = False, "inactive", set()
        told = {row.event_id for row in self.desk.rows(outbox)}
        assert len(told) > 0 or not self.desk.rows(alert_event)
        for row in self.desk.rows(alert_event):
            reason = Reason(row.reason)
            assert row.from_state == state
            state = row.to_state
            match reason:
                case Reason.FIRST | Reason.ESCALATED | Reason.UNACKNOWLEDGED | Reason.ACK_LAPSED:
                    acked, run = False, set()
                case Reason.ACKNOWLEDGED:
                    assert not acked
                    acked = True
                case Reason.ESCALATION_STEP:
                    assert not acked
                    assert row.comment not in run
                    run.add(row.comment)
                case Reason.RESOLVED:
                    acked = False
        stored = self.desk.rows(alert_state)
        assert state == (stored[0].state if stored else "inactive")
        assert acked == bool(stored and stored[0].acked_by is not None)

    @invariant()
    def memory_agrees_with_the_record(self) -> None:
        stored = {row.id: row for row in self.desk.rows(alert_state)}
        shown = {view.alert_id: view for view in self.desk.service.active()}
        assert set(stored) == set(shown)
        for alert_id, row in stored.items():
            view = shown[alert_id]
            assert (row.acked_by, row.ack_until_ms, row.assigned_to, row.severity) == (
                view.acked_by,
                view.ack_until_ms,
                view.assigned_to,
                view.severity.label,
            )


DESK: list[NightDesk] = []


@pytest.fixture(scope="module", autouse=True)
def _one_desk_for_all_nights() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        DESK.append(NightDesk(Path(folder)))
        yield
        DESK.pop().close()


QUICK = settings(max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class TestNights(Nights.TestCase):
    settings = QUICK


@pytest.mark.prove
@pytest.mark.timeout(3600)
class TestManyNights(Nights.TestCase):
    settings = settings(QUICK, max_examples=150, stateful_step_count=50)
