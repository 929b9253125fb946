"""Receivers away for ten minutes, and a program killed again and again: everything is told, in order."""

import multiprocessing
import os
import random
import signal
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from alerts.channels.email import EmailChannel
from alerts.options import EmailOptions, WebhookOptions
from alerts.policy.decision import Priority
from alerts.state import NOTIFIED, Reason
from metrics.clock import SystemClock
from storage.tables import alert_event, outbox
from tests.alerts import desk
from tests.alerts.messages import message
from tests.alerts.receivers import MailServer, WebhookReceiver, wait_until
from tests.alerts.test_grouping import Simulation, put
from tests.alerts.test_outbox import rows, running, statuses, webhook
from tests.ports import free_port

AWAY_S = 600.0
MINUTE = 60_000


def fill(simulation: Simulation, channel: str) -> list[str]:
    """Ten minutes of messages to a channel that is away; the ids of rises."""
    rises = []
    for minute in range(10):
        simulation.put(minute, f"a{minute}", f"g{minute % 3}", channel=channel, interval=MINUTE)
        simulation.put(100 + minute, f"s{minute}", "", channel=channel)
        if minute == 6:
            simulation.put(200, "a0", "g0", channel=channel, priority=Priority.RISEN, reason=Reason.ESCALATED)
            simulation.put(201, "s3", "", channel=channel, priority=Priority.RISEN, reason=Reason.ESCALATED)
            rises = ["msg_a0_200", "msg_s3_201"]
        if minute == 8:
            simulation.put(300, "a1", "g1", channel=channel, reason=Reason.RESOLVED)
        simulation.run(60)
    return rises


def check(simulation: Simulation, taken: list[str], rises: list[str]) -> None:
    """All is delivered once, in order for each alert and group, what rose before all but its own alert's older messages."""
    found = rows(simulation.database)
    assert [row.status for row in found] == ["sent"] * 23
    assert sorted(taken) == sorted(row.event_id for row in found)
    place = {event_id: number for number, event_id in enumerate(taken)}
    for keys in ({(row.alert_id,) for row in found}, {(row.group_key,) for row in found if row.group_key}):
        for (key,) in keys:
            plain = [row for row in found if key in (row.alert_id, row.group_key) and row.event_id not in rises]
            older = [place[row.event_id] for row in plain if row.attempts > 1 or key == row.alert_id]
            assert older == sorted(older)
    others = [row.event_id for row in found if row.alert_id not in ("a0", "s3")]
    lone = [row.event_id for row in found if row.alert_id == "s3"]
    assert [place[event_id] for event_id in lone] == sorted(place[event_id] for event_id in lone)
    alone = [event_id for event_id in others if not next(row for row in found if row.event_id == event_id).group_key]
    assert max(place[event_id] for event_id in rises) < min(place[event_id] for event_id in alone)


def test_a_webhook_receiver_away_for_ten_minutes_gets_everything_in_order(database):
    port = free_port()
    simulation = Simulation(database, webhook(f"http://127.0.0.1:{port}/"))
    rises = fill(simulation, "webhook")
    assert "sent" not in statuses(database)
    with WebhookReceiver(port) as receiver:
        simulation.run(AWAY_S)
        taken = [event["id"] for post in receiver.posts for event in post.json["deskvigil"]["events"]]
    check(simulation, taken, rises)


def test_a_mail_server_away_for_ten_minutes_gets_everything_in_order(database):
    port = free_port()
    options = EmailOptions(host="127.0.0.1", port=port, security="none", to=("desk@example.com",), max_per_minute=0.0)
    simulation = Simulation(database, EmailChannel(options, SystemClock()))
    taken: list[str] = []
    send = simulation.spy.send

    def noted(batch) -> None:
        send(batch)
        taken.extend(one.message_id for one in batch.messages)

    simulation.spy.send = noted
    rises = fill(simulation, "email")
    with MailServer(port) as server:
        simulation.run(AWAY_S)
        assert len(server.mails) == len(simulation.log)
    check(simulation, taken, rises)


def test_names_that_cannot_be_resolved_for_ten_minutes_delay_and_lose_nothing(database, monkeypatch):
    known = threading.Event()
    resolve = socket.getaddrinfo

    def sometimes(host, *arguments, **keys):
        if host != "receiver.example":
            return resolve(host, *arguments, **keys)
        if not known.is_set():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve("127.0.0.1", *arguments, **keys)

    monkeypatch.setattr(socket, "getaddrinfo", sometimes)
    with WebhookReceiver() as receiver:
        channel = webhook(f"http://receiver.example:{receiver.port}/")
        simulation = Simulation(database, channel)
        rises = fill(simulation, "webhook")
        assert "cannot be resolved" in rows(database)[0].last_error
        known.set()
        simulation.run(AWAY_S)
        taken = [event["id"] for post in receiver.posts for event in post.json["deskvigil"]["events"]]
    check(simulation, taken, rises)


@pytest.mark.prove
@pytest.mark.timeout(1500)
def test_receivers_away_for_ten_real_minutes_get_everything(database):
    hook_port, mail_port, clock = free_port(), free_port(), SystemClock()
    options = EmailOptions(host="127.0.0.1", port=mail_port, security="none", to=("desk@example.com",))
    for number in range(30):
        for channel in ("webhook", "email"):
            put(database, clock, message(number, alert=f"a{number}"), f"g{number % 3}", channel=channel)
    with running(database, webhook(f"http://127.0.0.1:{hook_port}/"), EmailChannel(options, clock)) as box:
        threading.Event().wait(AWAY_S)
        assert box.waiting().pending == 60
        with WebhookReceiver(hook_port) as receiver, MailServer(mail_port):
            wait_until(lambda: box.waiting().pending == 0, 700)
            told = [event["id"] for post in receiver.posts for event in post.json["deskvigil"]["events"]]
    assert sorted(told) == sorted(f"msg_a{number}_{number}" for number in range(30))


class Careless:
    """A receiver that fails three times in ten: half of those before it has taken the message, half after."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self.seen: list[tuple[str, str, str]] = []

    def __call__(self, post) -> int:
        with self._lock:
            luck = self._chance.random()
            if luck < 0.15:
                return 503
            told = post.json["deskvigil"]
            self.seen.append((post.headers["webhook-id"], told["alertId"], told["reason"]))
            return 500 if luck < 0.30 else 200


def kill_again_and_again(folder: Path, kills: int, seed: int = 7, series: int = 6) -> Counter:
    """Kill a desk whose alerts come and go at random moments, then let it settle; what became of it."""
    rules = desk.rules_file(folder, "- alert: High\n  expr: x > 1\n", interval="10ms")
    chance = random.Random(seed)
    # Children of a process that has the program loaded start in a moment.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.alerts.desk", "alerts.channels.webhook"])
    careless = Careless(seed)
    with WebhookReceiver(answer=careless) as receiver:
        for number in range(kills):
            before = len(careless.seen)
            arguments = (str(folder), str(rules), receiver.url, seed * 1000 + number, series)
            child = context.Process(target=desk.churn, args=arguments)
            child.start()
            wait_until(lambda before=before: len(careless.seen) > before)
            threading.Event().wait(chance.uniform(0.0, 0.15))
            os.kill(child.pid, signal.SIGKILL)
            child.join(30)
            assert child.exitcode == -signal.SIGKILL
        hook = WebhookOptions(url=receiver.url, allow=("127.0.0.1",), max_per_minute=0.0)
        with desk.Desk(folder, rules, webhook=hook, restore_grace_s=0.0) as last:
            for value in (2.0, 0.0):
                last.frame("engine", {f"x{{i={n}}}": value for n in range(series)})
                wanted = series if value else 0
                wait_until(lambda wanted=wanted: len(last.service.active()) == wanted)
            wait_until(lambda: last.service.stats().waiting.pending == 0)
            with last.store.read() as connection:
                events = connection.execute(select(alert_event)).all()
                sent = connection.execute(select(outbox)).all()
    told = [event for event in events if Reason(event.reason) in NOTIFIED]
    changes = Counter((event.alert_id, event.reason) for event in told)
    assert {row.status for row in sent} == {"sent"}
    assert Counter((row.alert_id, row.reason) for row in sent) == changes  # each change has its message
    assert {event_id for event_id, *_ in careless.seen} == {row.event_id for row in sent}  # and each arrived
    first_seen = {event_id: (alert, reason) for event_id, alert, reason in careless.seen}
    assert Counter(first_seen.values()) == changes  # whatever came twice came under the same id
    for alert in {row.alert_id for row in sent}:  # in order, and every alert that fired is also resolved
        assert [reason for one, reason in first_seen.values() if one == alert] == ["first", "resolved"]
    return Counter(kills=kills, changes=len(told), posts=len(careless.seen), repeats=len(careless.seen) - len(sent))


def test_killed_ten_times_at_random_nothing_is_lost_and_repeats_have_the_same_id(tmp_path):
    assert kill_again_and_again(tmp_path, 10)["changes"] >= 20


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_killed_two_hundred_times_at_random_nothing_is_lost(tmp_path):
    found = kill_again_and_again(tmp_path, 200, seed=11)
    assert found["changes"] >= 400
    assert found["repeats"] > 0
