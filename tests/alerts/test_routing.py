"""Who is told, who is not and why, and that a resolve reaches whom the firing reached: over a real database."""

import itertools
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import insert, select

from alerts.errors import SilenceError, UnknownSilenceError
from alerts.evaluate import RuleRun
from alerts.ledger import Ledger, Recipient
from alerts.options import AlertOptions
from alerts.policy.decide import Routing
from alerts.policy.decision import Priority, Target
from alerts.policy.file import PolicyFile, default_policy, parse_policy
from alerts.policy.matchers import parse_matchers
from alerts.policy.review import Review
from alerts.policy.silences import Silences, SilenceState
from alerts.rules import parse_rules
from alerts.state import Instant, Reason, acknowledge
from metrics.clock import ManualClock
from metrics.severity import Severity
from storage.audit import Audit
from storage.database import Database
from storage.options import DatabaseOptions
from storage.tables import METADATA, alert_event, alert_state, file_version, outbox, suppression
from storage.tables import silence as silence_table
from tests.alerts.desk import Desk, StillClock, rules_file
from tests.alerts.receivers import wait_until
from tests.alerts.test_outbox import Spy

RULES = """
groups:
- name: g
  rules:
  - alert: High
    expr: x > 1
    labels: {severity: warning}
    annotations: {deskvigil: "tiers: {critical: 2, emergency: 3}"}
"""
SECOND_MS = 1000
BOTH = ("mail", "hook")


class Contacts:
    """Two people; whoever of them the test says has the duty."""

    def __init__(self) -> None:
        self.on_duty = "ana"

    def person(self, name: str):
        return (("mail", Target(name, (f"{name}@desk",))),)

    def duty(self, rota: str, now_ms: int):
        return self.person(self.on_duty)


class Room:
    """Rules, routing, ledger and database as the service joins them, on a clock that only moves when told to."""

    def __init__(self, path: Path | str, policy: str = "", recipients=None, contacts=None) -> None:
        self.clock = ManualClock()
        self.database = Database.sqlite(Path(path) / "room.sqlite", DatabaseOptions(), self.clock)
        with self.database.write() as connection:
            METADATA.create_all(connection)
        self.recipients = recipients or [Recipient(name) for name in BOTH]
        self.options = AlertOptions(tier_fall_after_s=0.0)
        self.policy, self.contacts = policy, contacts
        self.start()

    def start(self) -> None:
        (group,) = parse_rules(RULES, "rules")
        self.run = RuleRun(group.rules[0], 0, 0, self.options)
        self.silences = Silences(self.database, self.clock)
        self.silences.load()
        self.use(self.policy)
        for one in self.ledger.restore(self.now, 10**9, self.now.wall_ms):
            self.run.alerts[one.tracked.fingerprint] = one.tracked
            self.routing.firing(one.tracked.fingerprint, self.run.shown_labels(one.tracked, one.tracked.live))

    def use(self, policy: str) -> None:
        self.routing = Routing(self.read(policy), self.recipients, self.silences, self.contacts)
        self.ledger = Ledger(self.database, self.recipients, self.options, self.routing)
        self.review = Review()

    def read(self, policy: str) -> PolicyFile:
        names, repeat_ms = [one.name for one in self.recipients], 14_400_000
        if not policy:
            return default_policy(names, repeat_ms)
        return parse_policy(policy, "policy", names, repeat_ms)

    @property
    def now(self) -> Instant:
        return Instant(self.clock.now_ns() // 1_000_000, self.clock.monotonic_ns() // 1_000_000)

    def wait(self, seconds: float) -> None:
        self.clock.advance(round(seconds * 1e9))

    def see(self, **values: float) -> None:
        """One pass: an alert per host."""
        self.wait(1)
        samples = [({"host": host}, value) for host, value in values.items()]
        changes = self.run.evaluate(samples, self.now, grace=False)
        late, moved = self.review.look(self.routing, [self.run], self.now)
        if changes or late:
            self.ledger.record([*changes, *late])
        if moved:
            self.ledger.note_suppressed(moved)

    def silence(self, matchers: str, seconds: float, **keys) -> str:
        ends_ms = self.now.wall_ms + round(seconds * 1000)
        return self.silences.add(parse_matchers(matchers), ends_ms, "ana", "works", **keys).silence_id

    def rows(self, table):
        with self.database.read() as connection:
            return connection.execute(select(table)).all()

    def told(self) -> list[tuple[str, str]]:
        return [(row.channel, row.reason) for row in self.rows(outbox)]

    def close(self) -> None:
        self.database.close()


@pytest.fixture
def room(tmp_path: Path):
    opened = []

    def make(*args, **keys) -> Room:
        opened.append(Room(tmp_path, *args, **keys))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_without_a_file_every_channel_is_told_of_everything_from_its_tier_on_at_once(room):
    desk = room(recipients=[Recipient("mail"), Recipient("pager", min_severity="critical")])
    desk.see(a=1.5)
    assert desk.told() == [("mail", "first")]
    desk.see(a=3.5)
    desk.see(a=0.0)
    assert desk.told()[1:] == [
        ("mail", "escalated"), ("pager", "escalated"), ("mail", "resolved"), ("pager", "resolved"),
    ]  # fmt: skip
    for row in desk.rows(outbox):
        assert (row.group_key, row.next_attempt_ms - row.created_ms, row.payload["group_interval_ms"]) == ("", 0, 0)
    assert [row.priority for row in desk.rows(outbox)] == [
        Priority.BAD_NEWS, Priority.RISEN, Priority.RISEN, Priority.PLAIN, Priority.PLAIN,
    ]  # fmt: skip


def test_what_no_channel_takes_leaves_a_record_and_is_told_once_it_becomes_worse(room):
    desk = room(recipients=[Recipient("pager", min_severity="critical")])
    desk.see(a=1.5)
    (row,) = desk.rows(suppression)
    assert (row.kind, row.by, row.kept, row.lifted_ms) == ("unrouted", "no channel of all takes warning", [], None)
    (state,) = desk.rows(alert_state)
    assert state.suppressed == [{"kind": "unrouted", "by": row.by, "until_ms": None}]
    desk.see(a=2.5)
    assert desk.told() == [("pager", "escalated")]
    assert desk.rows(suppression)[0].lifted_ms == desk.now.wall_ms
    assert desk.rows(alert_state)[0].suppressed is None


def test_a_silenced_alert_is_told_late_where_it_still_fires(room):
    desk = room()
    silence_id = desk.silence('host="a"', 60)
    desk.see(a=1.5, b=1.5)
    assert [row.payload["labels"]["host"] for row in desk.rows(outbox)] == ["b", "b"]
    (row,) = desk.rows(suppression)
    assert (row.kind, row.by, sorted(row.kept)) == ("silenced", silence_id, ["hook", "mail"])
    assert row.until_ms == desk.silences.get(silence_id).ends_ms
    desk.wait(60)
    desk.see(a=1.5, b=1.5)
    late = [row for row in desk.rows(outbox) if row.reason == "unsuppressed"]
    assert [(row.channel, row.payload["labels"]["host"]) for row in late] == [("mail", "a"), ("hook", "a")]
    assert desk.rows(suppression)[0].lifted_ms == desk.now.wall_ms
    assert Reason.UNSUPPRESSED.value in [row.reason for row in desk.rows(alert_event)]
    desk.see(a=0.0, b=1.5)
    assert desk.told()[-2:] == [("mail", "resolved"), ("hook", "resolved")]


def test_an_alert_that_ends_while_silenced_is_told_of_only_where_it_was_told_before(room):
    desk = room()
    desk.see(a=1.5)
    desk.silence('alertname="High"', 600)
    desk.see(a=1.5, b=1.5)
    states = {row.labels["host"]: row.suppressed for row in desk.rows(alert_state)}
    assert [one[0]["kind"] for one in states.values()] == ["silenced", "silenced"]
    desk.see(a=0.0, b=0.0)
    assert desk.told()[2:] == [("mail", "resolved"), ("hook", "resolved")]
    assert all(row.lifted_ms is not None for row in desk.rows(suppression))


def test_a_silenced_alert_is_not_repeated_and_is_when_the_silence_is_over(room):
    desk = room()
    desk.see(a=1.5)
    silence_id = desk.silence('host="a"', 10 * 3600)
    for _ in range(5):
        desk.see(a=1.5)
        desk.wait(3600)
    assert [reason for _, reason in desk.told()] == ["first", "first"]
    desk.silences.expire(silence_id, "ana")
    desk.see(a=1.5)
    desk.see(a=1.5)
    assert [reason for _, reason in desk.told()] == ["first", "first", "repeat", "repeat"]


def test_a_rise_while_silenced_is_made_good_and_not_told_twice_after_a_restart(room):
    desk = room()
    desk.see(a=1.5)
    desk.silence('host="a"', 30)
    desk.see(a=3.5)
    desk.start()
    desk.wait(30)
    desk.see(a=3.5)
    desk.start()
    desk.see(a=3.5)
    assert [reason for _, reason in desk.told()] == ["first", "first", "unsuppressed", "unsuppressed"]


def test_an_acknowledged_alert_is_not_told_late(room):
    desk = room()
    desk.silence('host="a"', 30)
    desk.see(a=1.5)
    (tracked,) = desk.run.alerts.values()
    tracked.live = acknowledge(tracked.live, "ana", "", desk.now).live
    desk.wait(30)
    desk.see(a=1.5)
    assert desk.told() == []
    desk.see(a=3.5)  # which re-arms it
    assert desk.told() == [("mail", "escalated"), ("hook", "escalated")]


NIGHT = """
route:
  receiver: all
  routes:
    - {receiver: mail, continue: true, mute_time_intervals: [night]}
    - {receiver: hook, repeat_interval: 30m}
receivers:
  - {name: all, channels: [mail, hook]}
  - {name: mail, channels: [mail]}
  - {name: hook, channels: [hook]}
time_intervals:
  - name: night
    time_intervals: [{times: [{start_time: '22:00', end_time: '24:00'}, {start_time: '00:00', end_time: '06:00'}]}]
"""


def test_one_receiver_sleeps_and_is_told_in_the_morning(room):
    desk = room(NIGHT)  # the clock begins at 22:13:20 UTC
    desk.see(a=1.5)
    assert desk.told() == [("hook", "first")]
    (row,) = desk.rows(suppression)
    assert (row.kind, row.by, row.kept) == ("muted", "night", ["mail"])
    desk.wait(8 * 3600)
    desk.see(a=1.5)
    assert ("mail", "unsuppressed") in desk.told()
    assert ("hook", "unsuppressed") not in desk.told()
    assert desk.rows(suppression)[0].lifted_ms is not None


def test_each_route_repeats_as_often_as_it_says(room):
    desk = room(NIGHT.replace("mute_time_intervals: [night]", "repeat_interval: 2h"))
    for _ in range(10):
        desk.see(a=1.5)
        desk.wait(1799)
    told = desk.told()
    assert told[:2] == [("mail", "first"), ("hook", "first")]
    assert (told.count(("hook", "repeat")), told.count(("mail", "repeat"))) == (9, 2)


GROUPED = """
route: {receiver: all, group_by: [alertname], group_wait: 5s, group_interval: 1m}
receivers: [{name: all, channels: [mail]}]
"""


def test_a_group_waits_for_company_but_neither_a_rise_nor_an_emergency_does(room):
    desk = room(GROUPED)
    desk.see(a=1.5, b=1.5, c=3.5)
    desk.see(a=2.5, b=1.5, c=3.5)
    first, second, emergency, risen = desk.rows(outbox)
    assert len({row.group_key for row in (first, second, emergency, risen)}) == 1
    waits = [row.next_attempt_ms - row.created_ms for row in (first, second, emergency, risen)]
    assert waits == [5000, 5000, 0, 0]
    assert [row.priority for row in (first, emergency, risen)] == [Priority.BAD_NEWS, Priority.RISEN, Priority.RISEN]
    assert first.payload["group_interval_ms"] == 60_000
    assert first.payload["group_labels"] == {"alertname": "High"}
    desk.see(b=1.5, c=3.5)
    assert desk.rows(outbox)[-1].group_key == first.group_key


INHIBITING = """
route: {receiver: all, group_by: ['...']}
receivers: [{name: all, channels: [mail]}]
inhibit_rules:
  - {source_matchers: [severity="emergency"], target_matchers: [severity="warning"]}
"""


def test_an_inhibited_alert_is_told_when_its_cause_is_over_and_it_is_not(room):
    desk = room(INHIBITING)
    desk.see(a=1.5, b=3.5)  # the cause comes last of its pass and counts all the same
    assert [row.payload["labels"]["host"] for row in desk.rows(outbox)] == ["b"]
    (row,) = desk.rows(suppression)
    (cause,) = (one.fingerprint for one in desk.run.alerts.values() if one.labels["host"] == "b")
    assert (row.kind, row.by) == ("inhibited", cause)
    desk.start()
    desk.see(a=1.5, b=3.5)
    assert len(desk.told()) == 1
    desk.see(a=1.5, b=0.0)
    desk.see(a=1.5, b=0.0)
    assert desk.told()[1:] == [("mail", "resolved"), ("mail", "unsuppressed")]


def test_another_policy_tells_what_the_one_before_told_nobody(room):
    desk = room("route: {receiver: none}\nreceivers: [{name: none}]")
    desk.see(a=1.5)
    assert desk.told() == []
    desk.policy = GROUPED
    desk.start()
    desk.see(a=1.5)
    assert desk.told() == [("mail", "unsuppressed")]


def test_people_are_told_by_name_and_hear_of_the_end_though_the_duty_has_passed_on(room):
    contacts = Contacts()
    desk = room(GROUPED, contacts=contacts)
    receiver = desk.routing.file.receivers["all"]
    object.__setattr__(receiver, "people", ("zoe",))
    object.__setattr__(receiver, "rotas", ("primary",))
    desk.see(a=1.5)
    contacts.on_duty = "ben"
    desk.see(a=0.0)
    found = [(row.channel, row.reason, (row.target or {}).get("person")) for row in desk.rows(outbox)]
    assert found == [
        ("mail", "first", None), ("mail", "first", "zoe"), ("mail", "first", "ana"),
        ("mail", "resolved", None), ("mail", "resolved", "zoe"), ("mail", "resolved", "ana"),
    ]  # fmt: skip
    assert desk.rows(outbox)[1].target == {"person": "zoe", "to": ["zoe@desk"]}
    assert desk.rows(outbox)[1].event_id == f"{desk.rows(outbox)[0].event_id}.zoe"


def test_info_waits_for_the_digest_and_its_end_does_too():
    routing = Routing(default_policy(BOTH, 0), [Recipient(name) for name in BOTH], Silences.__new__(Silences))
    routing._silences._all = {}
    labels = {"alertname": "A", "severity": "info"}
    one = routing.judge("f", labels, Severity.INFO, Reason.FIRST, 0)
    other = routing.judge("f", labels, Severity.EMERGENCY, Reason.REPEAT, 0)
    assert {address.priority for address in one.addresses} == {Priority.DIGEST}
    assert {address.priority for address in other.addresses} == {Priority.PLAIN}


# --- silences ------------------------------------------------------------------------------------


def test_a_silence_needs_a_reason_a_name_an_end_and_matchers_that_leave_something(room):
    silences, later = room().silences, 10**15
    for matchers, ends_ms, who, comment, words in (
        ("a=1", later, "ana", " ", "why"),
        ("a=1", later, "", "works", "who silences"),
        ("a=1", 1, "ana", "works", "past"),
        ("", later, "ana", "works", "matchers"),
        ('a=~".*",b=""', later, "ana", "works", "everything"),
    ):
        with pytest.raises(SilenceError, match=words):
            silences.add(parse_matchers(matchers), ends_ms, who, comment)
    with pytest.raises(SilenceError, match="before the end"):
        silences.add(parse_matchers("a=1"), later, "ana", "works", starts_ms=later)
    with pytest.raises(UnknownSilenceError):
        silences.add(parse_matchers("a=1"), later, "ana", "works", silence_id="nobody")


def test_a_silence_is_edited_in_place_only_while_it_stays_the_same(room):
    desk = room()
    now_ms = desk.now.wall_ms
    first = desk.silence("a=1", 100, starts_ms=now_ms + 50_000)
    assert desk.silences.get(first).state(desk.now.wall_ms) is SilenceState.PENDING
    assert desk.silence("a=1", 100, starts_ms=now_ms + 10_000, silence_id=first) == first
    desk.wait(10)
    assert desk.silences.get(first).state(desk.now.wall_ms) is SilenceState.ACTIVE
    assert desk.silence("a=1", 500, starts_ms=now_ms + 10_000, silence_id=first) == first
    second = desk.silence("a=2", 500, silence_id=first)
    assert second != first
    assert desk.silences.get(first).state(desk.now.wall_ms) is SilenceState.EXPIRED
    with pytest.raises(SilenceError, match="expired already"):
        desk.silences.expire(first, "ana")
    third = desk.silence("a=1", 500, silence_id=first)  # an expired one begins anew
    assert third not in (first, second)
    entries = Audit(desk.database, desk.clock).list()
    assert [entry.action for entry in entries] == [
        "silence.add", "silence.add", "silence.edit", "silence.edit", "silence.add",
    ]  # fmt: skip
    desk.start()
    assert {one.silence_id for one in desk.silences.list()} == {first, second, third}
    desk.wait(6 * 86_400)
    desk.silence("a=3", 1)
    assert len(desk.rows(silence_table)) == 1


# --- over random histories -----------------------------------------------------------------------

COUNTER = itertools.count()


class Histories(RuleBasedStateMachine):
    """Values, silences, their ends, restarts, other policies and forgotten deliveries, in any order."""

    folder: Path

    @initialize(policy=st.sampled_from(["", INHIBITING, NIGHT]))
    def begin(self, policy: str) -> None:
        path = self.folder / str(next(COUNTER))
        path.mkdir()
        self.room = Room(path, policy)
        self.values: dict[str, float] = {}

    @rule(host=st.sampled_from("abc"), value=st.sampled_from([0.0, 1.5, 2.5, 3.5]))
    def value(self, host: str, value: float) -> None:
        self.values[host] = value
        self.room.see(**self.values)

    @rule(seconds=st.sampled_from([1, 40, 4000, 30_000]))
    def passes(self, seconds: int) -> None:
        self.room.wait(seconds)
        self.room.see(**self.values)

    @rule(host=st.sampled_from(["a", "b", "a|b|c"]), seconds=st.sampled_from([10, 100, 5000]))
    def silence(self, host: str, seconds: int) -> None:
        self.room.silence(f'host=~"{host}"', seconds)

    @precondition(lambda self: any(one.ends_ms > self.room.now.wall_ms for one in self.room.silences.list()))
    @rule()
    def expire(self) -> None:
        self.room.silences.expire(self.room.silences.list()[0].silence_id, "ana")

    @rule()
    def restart(self) -> None:
        self.room.start()
        self.room.see(**self.values)

    @rule(policy=st.sampled_from(["", GROUPED, INHIBITING, NIGHT]))
    def other_policy(self, policy: str) -> None:
        self.room.policy = policy
        self.room.start()
        self.room.see(**self.values)

    @invariant()
    def what_fires_was_told_or_the_reason_is_on_record(self) -> None:
        if not hasattr(self, "room"):
            return
        recorded = {row.alert_id for row in self.room.rows(outbox)} | {
            row.alert_id for row in self.room.rows(suppression)
        }
        assert {row.id for row in self.room.rows(alert_state) if row.state == "firing"} <= recorded
        events = {row.event_id.partition(".")[0] for row in self.room.rows(outbox)}
        events |= {row.event_id for row in self.room.rows(suppression)}
        told = [row for row in self.room.rows(alert_event) if row.reason in ("first", "escalated", "unsuppressed")]
        assert len(told) <= len(events)  # each of them has a message or a record of its own

    @invariant()
    def the_end_is_told_once_to_whom_the_beginning_was_and_to_nobody_else(self) -> None:
        if not hasattr(self, "room"):
            return
        rows = self.room.rows(outbox)
        ended = {row.alert_id for row in self.room.rows(alert_event) if row.reason == "resolved"}
        for alert_id in ended:
            mine = [row for row in rows if row.alert_id == alert_id]
            assert sorted(row.channel for row in mine if row.reason == "resolved") == sorted(
                {row.channel for row in mine if row.reason != "resolved"}
            )
        assert all(row.alert_id in ended for row in rows if row.reason == "resolved")

    @invariant()
    def nobody_is_told_of_bad_news_that_is_silenced_and_nothing_stays_untold(self) -> None:
        if not hasattr(self, "room"):
            return
        for row in self.room.rows(suppression):
            if row.kind == "silenced":
                told = [one for one in self.room.rows(outbox) if one.event_id == row.event_id]
                assert told == []
        now_ms = self.room.now.wall_ms
        for tracked in self.room.run.alerts.values():
            labels = self.room.run.shown_labels(tracked, tracked.live)
            silenced = self.room.silences.matching(labels, now_ms)
            open_ = [row for row in self.room.rows(suppression) if row.alert_id == tracked.alert_id]
            assert bool(tracked.owed) == any(row.lifted_ms is None for row in open_)
            if tracked.owed and not tracked.suppressed:
                assert silenced  # it began a moment ago, and the next look sees it

    def teardown(self) -> None:
        if hasattr(self, "room"):
            self.room.close()


@pytest.mark.parametrize("examples", [12, pytest.param(400, marks=pytest.mark.prove)])
def test_over_any_history_nothing_is_silent_without_a_record_and_every_end_is_told_once(tmp_path: Path, examples: int):
    Histories.folder = tmp_path
    run_state_machine_as_test(
        Histories, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None)
    )


def test_a_policy_is_read_again_when_it_changes_and_a_wrong_one_changes_nothing(tmp_path: Path):
    policy, spy = tmp_path / "policy.yml", Spy()
    nobody = "route: {receiver: none}\nreceivers: [{name: none}, {name: all, channels: [spy]}]\n"
    policy.write_text(nobody)
    rules = rules_file(tmp_path, "- alert: High\n  expr: x > 1\n")
    with Desk(tmp_path, rules, [spy], policy=policy) as desk:
        desk.frame("a", {"x": 2.0})
        wait_until(lambda: desk.states() == {"High": "firing"})
        assert [row.kind for row in rows(desk, suppression)] == ["unrouted"]
        policy.write_text(nobody.replace("receiver: none", "receiver: nobody"))
        wait_until(lambda: "there is no receiver 'nobody'" in desk.service.policy_problem)
        assert desk.service.routing.file.route.receiver == "none"
        policy.write_text(nobody.replace("receiver: none", "receiver: all"))
        wait_until(lambda: [one.reason for one in spy.taken] == [Reason.UNSUPPRESSED])
        assert desk.service.policy_problem == ""
        assert [(row.kind, row.who, row.outcome) for row in rows(desk, file_version) if row.kind == "policy"] == [
            ("policy", "start", "loaded"), ("policy", "reload", "refused"), ("policy", "reload", "loaded"),
        ]  # fmt: skip


def test_whom_an_alert_was_told_to_outlives_what_retention_takes(tmp_path: Path):
    clock = StillClock()
    rules = rules_file(tmp_path, "- alert: High\n  expr: x > 1\n")
    with Desk(tmp_path, rules, [Spy()], clock) as desk:
        desk.frame("a", {"x": 2.0})
        wait_until(lambda: [row.status for row in rows(desk, outbox)] == ["sent"])
        with desk.store.write() as connection:
            gone = {**rows(desk, outbox)[0]._asdict(), "id": 99, "event_id": "x", "alert_id": "gone"}
            connection.execute(insert(outbox), [gone])
    clock.advance(4000 * 86_400 * 10**9)
    spy = Spy()
    with Desk(tmp_path, rules, [spy], clock) as desk:
        desk.store.retention.run(clock.now_ns() // 1_000_000)
        assert [row.event_id == "x" for row in rows(desk, outbox) if row.reason == "first"] == [False]
        wait_until(lambda: desk.frame("a", {"x": 0.0}) or not desk.states())
        wait_until(lambda: Reason.RESOLVED in [one.reason for one in spy.taken])


def rows(desk: Desk, table):
    with desk.store.read() as connection:
        return connection.execute(select(table)).all()
