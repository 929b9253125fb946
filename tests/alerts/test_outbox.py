"""The outbox delivers at least once, in order for each alert, through outages and restarts."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import insert, select, update

from alerts.batch import Batch
from alerts.channels.email import EmailChannel
from alerts.channels.webhook import WebhookChannel
from alerts.courier import IDLE_S
from alerts.errors import ChannelError
from alerts.ledger import Recipient
from alerts.message import Message
from alerts.options import EmailOptions, OutboxOptions, WebhookOptions
from alerts.outbox import Outbox
from alerts.state import Reason
from metrics.clock import SystemClock
from storage.database import Database
from storage.health import StorageUnavailable
from storage.tables import notification, outbox
from tests.alerts.messages import message
from tests.alerts.receivers import MailServer, WebhookReceiver, wait_until
from tests.ports import free_port

FAST = OutboxOptions(retry_first_s=0.05, retry_max_s=1.0)


class Spy:
    """A channel that keeps what it is given; `verdict` may raise."""

    def __init__(self, name: str = "spy", verdict=lambda message: None, **limits) -> None:
        self.recipient = Recipient(name, **limits)
        self.verdict = verdict
        self.batches: list[Batch] = []
        self.taken: list[Message] = []
        self.tried: list[str] = []
        self.closed = False

    def send(self, batch: Batch) -> None:
        self.tried.append(batch.batch_id)
        for one in batch.messages:
            self.verdict(one)
        self.batches.append(batch)
        self.taken += batch.messages

    def close(self) -> None:
        self.closed = True


def webhook(url: str, name: str = "webhook", timeout_s: float = 5.0) -> WebhookChannel:
    options = WebhookOptions(url=url, name=name, allow=("127.0.0.1",), timeout_s=timeout_s)
    return WebhookChannel(options, SystemClock())


def put(database: Database, *messages: Message, channels=("spy",)) -> None:
    now_ms = time.time_ns() // 1_000_000
    rows = [
        {
            "event_id": one.message_id,
            "alert_id": one.alert_id,
            "channel": channel,
            "payload": one.to_payload(),
            "reason": one.reason.value,
            "created_ms": now_ms,
            "next_attempt_ms": now_ms,
            "attempts": 0,
            "status": "pending",
        }
        for one in messages
        for channel in channels
    ]
    with database.write() as connection:
        connection.execute(insert(outbox), rows)


@contextmanager
def running(database: Database, *channels, options: OutboxOptions = FAST) -> Iterator[Outbox]:
    box = Outbox(database, channels, options, SystemClock())
    box.start()
    try:
        yield box
    finally:
        box.stop()


def rows(database: Database, table=outbox):
    with database.read() as connection:
        return connection.execute(select(table).order_by(table.c.id)).all()


def statuses(database: Database) -> list[str]:
    return [row.status for row in rows(database)]


def test_what_waited_before_the_start_is_delivered_and_recorded(database):
    spy = Spy()
    put(database, message(1), message(2))
    with running(database, spy):
        wait_until(lambda: statuses(database) == ["sent", "sent"])
    assert [one.message_id for one in spy.taken] == ["msg_alert_1", "msg_alert_2"]
    assert spy.taken[0] == message(1)
    attempts = rows(database, notification)
    assert [(row.attempt, row.outcome, row.channel, row.reason) for row in attempts] == [
        (1, "sent", "spy", "first")
    ] * 2
    assert spy.closed


def test_a_new_row_is_delivered_at_once_when_woken(database):
    spy = Spy()
    with running(database, spy) as box:
        wait_until(lambda: box.waiting().pending == 0)
        began = time.monotonic()
        put(database, message(1))
        box.wake()
        wait_until(lambda: len(spy.taken) == 1)
        assert time.monotonic() - began < IDLE_S / 2  # not woken it would look again after this


def test_a_receiver_that_is_down_gets_everything_once_when_it_comes_back(database):
    port = free_port()
    put(database, *(message(n, alert=f"a{n}") for n in range(5)), channels=("webhook",))
    with running(database, webhook(f"http://127.0.0.1:{port}/hook")) as box:
        wait_until(lambda: box.stats()["webhook"].failed >= 3)
        with WebhookReceiver(port) as receiver:
            wait_until(lambda: statuses(database) == ["sent"] * 5)
            assert sorted(post.headers["webhook-id"] for post in receiver.posts) == [f"msg_a{n}_{n}" for n in range(5)]
    failed = [row for row in rows(database, notification) if row.outcome == "failed"]
    assert failed
    assert all("Connection refused" in row.error for row in failed)


def test_a_mail_server_that_is_down_gets_everything_once_when_it_comes_back(database):
    port = free_port()
    options = EmailOptions(host="127.0.0.1", port=port, security="none", to=("desk@example.com",))
    put(database, message(1), message(2, reason=Reason.RESOLVED), channels=("email",))
    with running(database, EmailChannel(options, SystemClock())) as box:
        wait_until(lambda: box.stats()["email"].failed >= 2)
        with MailServer(port) as server:
            wait_until(lambda: statuses(database) == ["sent", "sent"])
            assert [mail["X-Deskvigil-Reason"] for mail in server.mails] == ["first", "resolved"]


def test_server_errors_are_tried_again_and_a_refusal_is_dead_with_its_reason(database):
    verdicts = {"a": iter([500, 503, 200]), "b": iter([404])}
    with WebhookReceiver(answer=lambda post: next(verdicts[post.alert_id])) as receiver:
        put(database, message(1, alert="a"), message(2, alert="b"), channels=("webhook",))
        with running(database, webhook(receiver.url)) as box:
            wait_until(lambda: statuses(database) == ["sent", "dead"])
            assert box.stats()["webhook"].dead == 1
    sent, dead = rows(database)
    assert (sent.attempts, sent.last_error, dead.attempts, dead.last_error) == (3, None, 1, "answered 404")
    assert [row.outcome for row in rows(database, notification) if row.outbox_id == sent.id] == [
        "failed",
        "failed",
        "sent",
    ]


def test_a_resolved_never_overtakes_its_firing_while_other_alerts_pass(database):
    healed = threading.Event()

    def verdict(one: Message) -> None:
        if one.alert_id == "ill" and not healed.is_set():
            raise ChannelError("not now")

    spy = Spy(verdict=verdict)
    put(database, message(1, alert="ill"), message(2, alert="well"))
    put(database, message(3, alert="ill", reason=Reason.RESOLVED), message(4, alert="well", reason=Reason.RESOLVED))
    with running(database, spy):
        wait_until(lambda: [one.message_id for one in spy.taken] == ["msg_well_2", "msg_well_4"])
        wait_until(lambda: spy.tried.count("msg_ill_1") >= 3)
        assert "msg_ill_3" not in spy.tried
        healed.set()
        wait_until(lambda: statuses(database) == ["sent"] * 4)
    assert [one.message_id for one in spy.taken if one.alert_id == "ill"] == ["msg_ill_1", "msg_ill_3"]


def test_a_slow_or_failing_channel_does_not_delay_the_others(database):
    release = threading.Event()

    def explode(one: Message) -> None:
        raise RuntimeError("a fault of the channel's own")

    slow, faulty, good = Spy("slow", lambda one: release.wait(20)), Spy("faulty", explode), Spy("good")
    put(database, *(message(n, alert=f"a{n}") for n in range(20)), channels=("slow", "faulty", "good"))
    with running(database, slow, faulty, good) as box:
        wait_until(lambda: box.stats()["good"].sent == 20)
        assert len(slow.tried) == 1
        assert box.stats()["faulty"].sent == 0
        assert "a fault of the channel's own" in box.stats()["faulty"].last_error
        release.set()


def test_waits_double_up_to_the_limit_with_a_little_chance(database):
    moments: list[float] = []

    def verdict(one: Message) -> None:
        moments.append(time.monotonic())
        raise ChannelError("down")

    put(database, message(1))
    with running(database, Spy(verdict=verdict), options=OutboxOptions(retry_first_s=0.1, retry_max_s=1.0)):
        wait_until(lambda: len(moments) >= 4)
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert gaps[0] >= 0.078
    assert gaps[1] >= 0.158
    assert gaps[2] >= 0.318


def test_a_receivers_wish_to_be_left_alone_is_heeded(database):
    def verdict(one: Message) -> None:
        raise ChannelError("busy", retry_after_s=300.0)

    spy = Spy(verdict=verdict)
    put(database, message(1))
    with running(database, spy, options=OutboxOptions(retry_first_s=0.05, retry_max_s=200.0)):
        wait_until(lambda: rows(database)[0].attempts == 1)
    row = rows(database)[0]
    assert 190_000 < row.next_attempt_ms - time.time_ns() // 1_000_000 <= 200_000


def test_a_channel_that_is_down_is_not_tried_with_everything_that_waits(database):
    def verdict(one: Message) -> None:
        raise ChannelError("down")

    spy = Spy(verdict=verdict)
    put(database, *(message(n, alert=f"a{n}") for n in range(200)))
    with running(database, spy, options=OutboxOptions(retry_first_s=30.0, retry_max_s=60.0)):
        wait_until(lambda: all(row.next_attempt_ms > time.time_ns() // 1_000_000 for row in rows(database)))
    assert len(spy.tried) == 3


def test_a_message_nobody_takes_is_given_up_in_the_end(database):
    def verdict(one: Message) -> None:
        raise ChannelError("down")

    put(database, message(1))
    with database.write() as connection:
        connection.execute(update(outbox).values(created_ms=time.time_ns() // 1_000_000 - 100_000_000))
    with running(database, Spy(verdict=verdict), options=OutboxOptions(give_up_after_s=3600)):
        wait_until(lambda: statuses(database) == ["dead"])
    assert rows(database)[0].last_error == "given up after 27.8 h: down"


def test_rows_of_a_channel_that_is_gone_are_closed_with_the_reason(database):
    put(database, message(1), channels=("old",))
    with running(database, Spy()):
        wait_until(lambda: statuses(database) == ["dead"])
    assert rows(database)[0].last_error == "its channel is no longer configured"


def test_a_row_that_cannot_be_read_is_dead_and_does_not_block(database):
    spy = Spy()
    put(database, message(1), message(2))
    with database.write() as connection:
        connection.execute(update(outbox).where(outbox.c.event_id == "msg_alert_1").values(payload={"no": "message"}))
    with running(database, spy):
        wait_until(lambda: statuses(database) == ["dead", "sent"])
    assert "cannot be read" in rows(database)[0].last_error


@pytest.mark.parametrize("ahead_ms", [900, 3_600_000])
def test_a_restart_tries_again_at_once_what_waited_for_its_next_attempt(database, ahead_ms):
    spy = Spy()
    put(database, message(1))
    with database.write() as connection:
        connection.execute(update(outbox).values(next_attempt_ms=time.time_ns() // 1_000_000 + ahead_ms))
    with running(database, spy, options=OutboxOptions()):
        wait_until(lambda: len(spy.taken) == 1)


def test_a_wall_clock_set_back_delays_nothing(database):
    spy = Spy()
    with running(database, spy) as box:
        put(database, message(1))
        with database.write() as connection:
            connection.execute(update(outbox).values(next_attempt_ms=time.time_ns() // 1_000_000 + 3_600_000))
        box.wake()
        wait_until(lambda: len(spy.taken) == 1)


def test_a_message_in_flight_at_the_stop_is_sent_again_under_the_same_id_once_its_lease_is_over(database):
    release = threading.Event()
    slow = Spy(verdict=lambda one: release.wait(20))
    put(database, message(1))
    with running(database, slow, options=OutboxOptions(stop_timeout_s=0.1, lease_s=1.0)):
        wait_until(lambda: len(slow.tried) == 1)
    (row,) = rows(database)
    assert row.status == "pending"
    assert row.leased_until_ms > row.created_ms
    spy = Spy()
    with running(database, spy, options=OutboxOptions(lease_s=1.0)):
        wait_until(lambda: len(spy.taken) == 1)
    assert spy.taken[0].message_id == "msg_alert_1"
    release.set()


def test_a_message_that_cannot_be_stored_is_sent_all_the_same_and_not_twice(database):
    spy = Spy()
    with running(database, spy) as box:
        box.send_unstored(message(1), ["spy"])
        wait_until(lambda: len(spy.taken) == 1)
        put(database, message(1), message(2))
        box.wake()
        wait_until(lambda: statuses(database) == ["sent", "sent"])
    assert [one.message_id for one in spy.taken] == ["msg_alert_1", "msg_alert_2"]


def test_a_delivery_that_cannot_be_recorded_is_not_repeated(database):
    class Failing:
        """The database, whose writes fail for a while."""

        broken = False
        read = database.read

        @contextmanager
        def write(self):
            if self.broken:
                raise StorageUnavailable("the disk is full")
            with database.write() as connection:
                yield connection

    store = Failing()
    put(database, message(1))
    spy = Spy(verdict=lambda one: setattr(store, "broken", True))
    box = Outbox(store, [spy], FAST, SystemClock())
    box.start()
    wait_until(lambda: "the disk is full" in box.stats()["spy"].last_error)
    spy.verdict = lambda one: None
    store.broken = False
    wait_until(lambda: statuses(database) == ["sent"])
    box.stop()
    assert spy.tried == ["msg_alert_1"]


def test_stop_is_bounded_and_may_be_called_twice(database):
    release = threading.Event()
    slow = [Spy(f"slow{n}", lambda one: release.wait(20)) for n in range(3)]
    put(database, message(1), channels=[spy.recipient.name for spy in slow])
    box = Outbox(database, slow, OutboxOptions(stop_timeout_s=0.3), SystemClock())
    box.start()
    wait_until(lambda: all(spy.tried for spy in slow))
    began = time.monotonic()
    box.stop()
    box.stop()
    assert time.monotonic() - began < 10  # the channels would hold it for 20 s
    release.set()


def test_channels_need_different_names(database):
    with pytest.raises(ValueError, match="same name"):
        Outbox(database, [Spy(), Spy()], FAST, SystemClock())
