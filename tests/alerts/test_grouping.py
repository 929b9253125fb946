"""Messages of one group go as one, in order, what rises first, each batch the same at every attempt."""

import json
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from alerts.batch import Batch, common
from alerts.channels.email import EmailChannel
from alerts.courier import Courier
from alerts.errors import ChannelError, UnknownMessageError
from alerts.options import EmailOptions, OutboxOptions
from alerts.policy.decision import Priority
from alerts.queue import LeasedElsewhereError, Queue
from alerts.rate import TokenBucket
from alerts.sequence import Row, Timing, sequence
from alerts.state import Reason
from metrics.clock import ManualClock, SystemClock
from metrics.severity import Severity
from storage.health import StorageUnavailable
from storage.tables import audit, notification, outbox
from tests.alerts.messages import message
from tests.alerts.receivers import MailServer, WebhookReceiver, wait_until
from tests.alerts.test_outbox import Spy, rows, running, statuses, webhook

T0 = 1_700_000_000_000
MINUTE = 60_000


def put(database, clock, one, group="g", *, wait=0, interval=0, priority=Priority.PLAIN, target=None, channel="spy"):
    now_ms = clock.now_ns() // 1_000_000
    row = {
        "event_id": one.message_id,
        "alert_id": one.alert_id,
        "channel": channel,
        "payload": {**one.to_payload(), "group_interval_ms": interval, "group_labels": {"alertname": "Busy"}},
        "reason": one.reason.value,
        "created_ms": now_ms,
        "next_attempt_ms": now_ms + wait,
        "group_key": group,
        "priority": int(priority),
        "target": target,
    }
    with database.write() as connection:
        connection.execute(insert(outbox), [row])


class Simulation:
    """One courier on a clock of its own, without its thread: `run` lets time pass."""

    def __init__(self, database, spy, digest_s=900.0, **options) -> None:
        self.clock = ManualClock()
        self.database = database
        self.spy = spy
        self.log: list[tuple[float, tuple[str, ...]]] = []
        send = spy.send

        def timed(batch: Batch) -> None:
            send(batch)
            at_s = (self.clock.now_ns() // 1_000_000 - T0) / 1000
            self.log.append((at_s, tuple(one.alert_id for one in batch.messages)))

        spy.send = timed
        self.courier = Courier(database, spy, OutboxOptions(**options), self.clock, lambda: None, digest_s)

    def put(self, number, alert, *arguments, **keys) -> None:
        names = ("reason", "severity")
        facts = {name: keys.pop(name) for name in names if name in keys}
        put(self.database, self.clock, message(number, alert=alert, **facts), *arguments, **keys)

    def run(self, seconds: float) -> None:
        end_ns = self.clock.now_ns() + round(seconds * 1e9)
        while True:
            left_s = (end_ns - self.clock.now_ns()) / 1e9
            wait_s = self.courier.deliver()
            if wait_s > left_s:
                self.clock.advance(round(left_s * 1e9))
                return
            self.clock.advance(round(wait_s * 1e9))


def test_a_group_waits_for_company_and_goes_as_one_message(database):
    desk = Simulation(database, Spy())
    desk.put(1, "a", wait=30_000)
    desk.run(20)
    desk.put(2, "b", wait=30_000)
    desk.put(3, "c", "other", wait=30_000)
    desk.run(60)
    assert desk.log == [(30.0, ("a", "b")), (50.0, ("c",))]
    together = desk.spy.batches[0]
    assert (together.group_key, together.group_labels) == ("g", {"alertname": "Busy"})
    assert {row.batch_id for row in rows(database)[:2]} == {together.batch_id}
    assert rows(database)[2].batch_id == "msg_c_3"  # alone: its event's own id
    assert [row.batch_id for row in rows(database, notification)] == [row.batch_id for row in rows(database)]


def test_between_two_messages_of_a_group_is_its_interval_but_a_rising_tier_goes_at_once_with_all_that_waits(database):
    desk = Simulation(database, Spy())
    desk.put(1, "a", interval=5 * MINUTE)
    desk.run(10)
    desk.put(2, "b", interval=5 * MINUTE)
    desk.run(10)
    desk.put(3, "c", interval=5 * MINUTE, priority=Priority.RISEN, reason=Reason.ESCALATED)
    desk.run(10)
    desk.put(4, "d", interval=5 * MINUTE)
    desk.run(400)
    assert desk.log == [(0.0, ("a",)), (20.0, ("c", "b")), (320.0, ("d",))]


def test_a_restart_keeps_the_interval_and_a_clock_set_back_does_not_hold_a_group(database):
    desk = Simulation(database, Spy())
    desk.put(1, "a", interval=5 * MINUTE)
    desk.run(10)
    desk.courier = Courier(database, desk.spy, OutboxOptions(), desk.clock, lambda: None, 900.0)
    desk.put(2, "b", interval=5 * MINUTE)
    desk.run(10)
    assert len(desk.log) == 1
    desk.clock.step_wall(-3_600_000_000_000)
    desk.run(1)
    assert [alerts for _, alerts in desk.log] == [("a",), ("b",)]


def test_each_person_gets_a_message_of_their_own(database):
    desk = Simulation(database, Spy())
    ann, bob = {"person": "ann", "to": ["ann@desk.example"]}, {"person": "bob", "to": []}
    for number, (alert, target) in enumerate([("a", ann), ("b", bob), ("c", ann), ("d", None)]):
        desk.put(number, alert, target=target)
    desk.run(1)
    assert {(batch.target.person if batch.target else None, len(batch.messages)) for batch in desk.spy.batches} == {
        ("ann", 2),
        ("bob", 1),
        (None, 1),
    }
    assert next(batch for batch in desk.spy.batches if batch.target).target.to == ("ann@desk.example",)


def test_a_batch_that_failed_goes_again_as_it_was_whatever_came_meanwhile(database):
    healed = threading.Event()

    def verdict(one) -> None:
        if not healed.is_set():
            raise ChannelError("down")

    desk = Simulation(database, Spy(verdict=verdict))
    desk.put(1, "a")
    desk.put(2, "b")
    desk.run(0.5)
    desk.put(3, "c")
    desk.run(10)
    healed.set()
    desk.run(30)
    assert [alerts for _, alerts in desk.log] == [("a", "b"), ("c",)]
    assert len(set(desk.spy.tried)) == 2
    assert desk.spy.tried.index("msg_c_3") == len(desk.spy.tried) - 1  # it never overtook


def test_a_rise_overtakes_other_alerts_that_wait_for_another_attempt_but_not_its_own(database):
    healed = threading.Event()

    def verdict(one) -> None:
        if not healed.is_set():
            raise ChannelError("down")

    desk = Simulation(database, Spy(verdict=verdict), retry_first_s=60.0, retry_max_s=60.0)
    desk.put(1, "a")
    desk.run(0.1)
    desk.put(2, "b", "h")
    desk.run(0.1)
    healed.set()
    desk.put(3, "b", "h", priority=Priority.RISEN, reason=Reason.ESCALATED, severity=Severity.EMERGENCY)
    desk.run(120)
    assert [alerts for _, alerts in desk.log] == [("b",), ("b",), ("a",)]
    assert [one.message_id for one in desk.spy.taken] == ["msg_b_2", "msg_b_3", "msg_a_1"]


def test_info_gathers_for_a_digest_and_goes_along_when_its_alert_gets_worse(database):
    desk = Simulation(database, Spy(), digest_s=900.0)
    desk.put(1, "a", "", priority=Priority.DIGEST)
    desk.run(100)
    desk.put(2, "b", "x", priority=Priority.DIGEST)
    desk.put(3, "c", "x", priority=Priority.DIGEST)
    desk.run(100)
    desk.put(4, "c", "x", priority=Priority.RISEN, reason=Reason.ESCALATED)
    desk.run(1000)
    assert desk.log == [(200.0, ("c", "c")), (900.0, ("a", "b"))]


def test_what_is_over_the_rate_goes_as_one_digest_and_an_emergency_is_never_held(database):
    desk = Simulation(database, Spy(max_per_minute=1.0, burst=3))
    for number in range(10):
        desk.put(number, f"a{number}", "")
    desk.run(1)
    assert [len(alerts) for _, alerts in desk.log] == [1, 1, 8]
    for number in range(10, 20):
        desk.put(number, f"a{number}", f"g{number}")
    desk.run(10)
    assert len(desk.log) == 3
    assert desk.courier.stats.limited
    desk.put(20, "fire", "", severity=Severity.EMERGENCY)
    desk.run(1)
    assert desk.log[3][1] == ("fire",)
    desk.run(120)
    assert [len(alerts) for _, alerts in desk.log[4:]] == [10]
    assert statuses(database) == ["sent"] * 21


def test_more_alerts_than_a_message_may_hold_follow_in_further_ones_without_waiting_for_the_interval(database):
    desk = Simulation(database, Spy(), max_batch=4)
    for number in range(10):
        rises = number == 7
        priority = Priority.RISEN if rises else Priority.PLAIN
        desk.put(number, f"a{number}", interval=5 * MINUTE, priority=priority)
    desk.run(1)
    assert [alerts for _, alerts in desk.log] == [("a7", "a0", "a1", "a2"), ("a3", "a4", "a5", "a6"), ("a8", "a9")]
    assert len({batch.batch_id for batch in desk.spy.batches}) == 3


def test_two_queues_never_send_the_same_message_at_once(database):
    clock = ManualClock()
    put(database, clock, message(1))
    now_ms = clock.now_ns() // 1_000_000
    one, two = (Queue(database, "spy", OutboxOptions(lease_s=60.0), 900.0) for _ in range(2))
    (unit,) = one.look(now_ms).units
    assert two.look(now_ms).units == [unit]
    assert one.take(unit, now_ms)[0] is not None
    with pytest.raises(LeasedElsewhereError):
        two.take(unit, now_ms)
    waiting = two.look(now_ms)
    assert waiting.units == []
    assert waiting.next_ms == now_ms + 60_000
    assert len(two.look(now_ms + 60_000).units) == 1  # its holder is not heard of any more
    assert one.look(now_ms).units  # what is one's own may be tried again


def test_leases_of_a_process_that_died_are_void_at_the_start(database):
    spy = Spy()
    clock = SystemClock()
    put(database, clock, message(1))
    (unit,) = Queue(database, "spy", OutboxOptions(), 900.0).look(clock.now_ns() // 1_000_000).units
    Queue(database, "spy", OutboxOptions(), 900.0).take(unit, clock.now_ns() // 1_000_000)
    host = rows(database)[0].leased_by.rsplit(":", 3)[0]
    with database.write() as connection:
        connection.execute(update(outbox).values(leased_by=f"{host}:4194305:1:0"))
    with running(database, spy, options=OutboxOptions()):
        wait_until(lambda: len(spy.taken) == 1)


def test_what_is_stored_is_sent_while_the_database_cannot_be_written(database):
    class Full:
        read = database.read
        full = True

        @contextmanager
        def write(self):
            if self.full:
                raise StorageUnavailable("the disk is full")
            with database.write() as connection:
                yield connection

    store, spy, clock = Full(), Spy(), ManualClock()
    put(database, clock, message(1), "")
    courier = Courier(store, spy, OutboxOptions(), clock, lambda: None, 900.0)
    courier.deliver()
    courier.deliver()
    assert spy.tried == ["msg_alert_1"]
    store.full = False
    courier.deliver()
    assert statuses(database) == ["sent"]
    assert spy.tried == ["msg_alert_1"]


def test_a_row_that_cannot_be_read_does_not_take_its_group_along(database):
    desk = Simulation(database, Spy())
    desk.put(1, "a")
    desk.put(2, "b")
    with database.write() as connection:
        connection.execute(update(outbox).where(outbox.c.event_id == "msg_a_1").values(payload={"no": "message"}))
    desk.run(1)
    assert statuses(database) == ["dead", "sent"]
    assert desk.log == [(0.0, ("b",))]


def test_a_dead_letter_is_sent_again_under_its_id_and_that_is_on_record(database):
    refused = [True]
    with WebhookReceiver(answer=lambda post: 404 if refused[0] else 200) as receiver:
        clock = SystemClock()
        put(database, clock, message(1, alert="a"), channel="webhook")
        put(database, clock, message(2, alert="b"), channel="webhook")
        with running(database, webhook(receiver.url)) as box:
            wait_until(lambda: statuses(database) == ["dead", "dead"])
            refused[0] = False
            dead = rows(database)[0]
            assert box.replay(dead.id, "ann") == 2
            wait_until(lambda: statuses(database) == ["sent", "sent"])
            with pytest.raises(UnknownMessageError, match="no dead letter"):
                box.replay(dead.id, "ann")
            with pytest.raises(UnknownMessageError, match="no dead letter 999"):
                box.replay(999, "ann")
        assert receiver.posts[0].headers["webhook-id"] == dead.batch_id
    with database.read() as connection:
        (line,) = connection.execute(select(audit).where(audit.c.action == "notification.replay")).all()
    assert (line.who, line.object) == ("ann", str(dead.id))
    assert json.loads(line.detail)["notifications"] == 2


def test_a_webhook_of_several_alerts_is_alertmanagers_with_what_they_share(database):
    with WebhookReceiver() as receiver:
        clock = SystemClock()
        for number, (alert, host, severity) in enumerate([("a", "x", "warning"), ("b", "y", "critical")]):
            labels = {"alertname": "Busy", "host": host, "severity": severity}
            one = message(number, alert=alert, labels=labels, severity=Severity.parse(severity))
            put(database, clock, one, "{}:{alertname='Busy'}", channel="webhook")
        labels = {"alertname": "Busy", "host": "x", "severity": "warning"}
        gone = message(9, alert="a", reason=Reason.RESOLVED, severity=Severity.WARNING, labels=labels)
        put(database, clock, gone, "{}:{alertname='Busy'}", channel="webhook")
        with running(database, webhook(receiver.url)):
            wait_until(lambda: statuses(database) == ["sent"] * 3)
        (post,) = receiver.posts
    body = post.json
    assert (body["status"], body["groupKey"], body["groupLabels"]) == (
        "firing",
        "{}:{alertname='Busy'}",
        {"alertname": "Busy"},
    )
    assert body["commonLabels"] == {"alertname": "Busy"}
    assert [(one["status"], one["labels"]["host"]) for one in body["alerts"]] == [("firing", "y"), ("resolved", "x")]
    assert [event["id"] for event in body["deskvigil"]["events"]] == ["msg_a_0", "msg_b_1", "msg_a_9"]
    assert (body["deskvigil"]["alertId"], body["truncatedAlerts"]) == ("b", 0)


def test_a_mail_of_several_alerts_is_a_table_worst_first_to_the_person_it_is_for(database):
    tiers = ("warning", "emergency", "critical")
    with MailServer() as server:
        options = EmailOptions(
            host="127.0.0.1", port=server.port, security="none", to=("desk@example.com",), max_rows=2
        )
        clock = SystemClock()
        for number, tier in enumerate(tiers):
            one = message(number, alert=tier, severity=Severity.parse(tier), annotations={"summary": f"it is {tier}"})
            target = {"person": "ann", "to": ["ann@example.com"]}
            put(database, clock, one, channel="email", target=target)
        with running(database, EmailChannel(options, clock)):
            wait_until(lambda: statuses(database) == ["sent"] * 3)
        (mail,), (envelope,) = server.mails, server.envelopes
    assert envelope.rcpt_tos == ["ann@example.com"]
    assert mail["Subject"] == "■ 3 firing: it is emergency and 2 more"
    for part in ("plain", "html"):
        words = mail.get_body((part,)).get_content()
        assert words.index("it is emergency") < words.index("it is critical")
        assert "it is warning" not in words
        assert "and 1 more alerts." in words


def test_ten_thousand_alerts_at_once_all_arrive_in_few_messages(database):
    clock = SystemClock()
    count = 10_000
    made = []
    for number in range(count):
        one = message(number, alert=f"a{number}")
        made.append(
            {
                "event_id": one.message_id,
                "alert_id": one.alert_id,
                "channel": "webhook",
                "payload": one.to_payload(),
                "reason": one.reason.value,
                "created_ms": clock.now_ns() // 1_000_000,
                "next_attempt_ms": clock.now_ns() // 1_000_000,
                "group_key": f"g{number % 5}",
            }
        )
    with database.write() as connection:
        connection.execute(insert(outbox), made)
    with WebhookReceiver() as receiver:
        with running(database, webhook(receiver.url, timeout_s=30.0), options=OutboxOptions()) as box:
            wait_until(lambda: box.waiting().pending == 0)
        told = [event["id"] for post in receiver.posts for event in post.json["deskvigil"]["events"]]
        assert sorted(told) == sorted(row["event_id"] for row in made)
        assert len(receiver.posts) == 20
        assert max(len(post.json["alerts"]) for post in receiver.posts) == 500


def test_a_token_bucket_gives_its_burst_and_then_its_rate():
    bucket = TokenBucket(60.0, 2)
    assert bucket.left(0) == 2
    bucket.take(0)
    bucket.take(0)
    assert bucket.next_s(0) == pytest.approx(1.0)
    assert bucket.left(500_000_000) == pytest.approx(0.5)
    assert bucket.left(60_000_000_000) == 2
    assert not TokenBucket(0, 5).limited


def test_what_label_sets_share():
    assert common([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}]) == {"a": "1"}
    assert common([]) == {}


TIMING = Timing(digest_ms=900_000, retry_max_ms=300_000, lease_ms=60_000)


@st.composite
def waiting_rows(draw):
    made = []
    for number in range(draw(st.integers(1, 12))):
        attempts = draw(st.sampled_from([0, 0, 0, 1]))
        group = draw(st.sampled_from(["", "g", "h"]))
        priority = draw(st.sampled_from(list(Priority)))
        made.append(
            Row(
                id=number,
                event_id=f"e{number}",
                alert_id=draw(st.sampled_from("abc")),
                reason="first",
                group_key=group,
                target=draw(st.sampled_from(["", "ann"])),
                priority=int(priority),
                severity="critical",
                interval_ms=draw(st.sampled_from([0, 60_000])),
                batch_id=f"b{number}" if attempts else None,
                attempts=attempts,
                created_ms=T0 - draw(st.integers(0, 1_000_000)),
                next_ms=T0 + draw(st.integers(-50_000, 50_000)),
                held=bool(attempts),
                leased_until_ms=draw(st.sampled_from([0, T0 + 30_000])) if attempts else 0,
            )
        )
    return made


@given(waiting_rows(), st.dictionaries(st.tuples(st.sampled_from("gh"), st.just("")), st.integers(T0 - 90_000, T0)))
@settings(max_examples=200, deadline=None)
def test_every_alert_keeps_its_order_and_nothing_waits_for_ever(found, last_sent):
    order = sequence(found, last_sent, TIMING, T0)
    told = [row for unit in order.units for row in unit.rows]
    assert len({row.id for row in told}) == len(told)
    left = [row for row in found if row.id not in {one.id for one in told}]
    for alert in {(row.alert_id, row.target) for row in found}:
        ids = [row.id for row in told if (row.alert_id, row.target) == alert and row.priority >= 0]
        assert ids == sorted(ids)
        waits = [row.id for row in left if (row.alert_id, row.target) == alert and row.priority >= 0]
        assert not (ids and waits) or max(ids) < min(waits)
    assert not any(row.leased_until_ms > T0 for row in told)
    firsts = [unit.first for unit in order.units]
    assert firsts == sorted(firsts, reverse=True)
    if left and not told:
        assert order.next_ms is not None
        assert T0 < order.next_ms <= T0 + 1_000_000
    for _ in found:  # and in the end all is told
        later = sequence(
            [row._replace(next_ms=T0, leased_until_ms=0) for row in left], last_sent, TIMING, T0 + 2_000_000
        )
        left = [row for row in left if row.id not in {one.id for unit in later.units for one in unit.rows}]
    assert left == []
