"""The program killed at its worst moments: what fired is told, once, and hold times go on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from storage.tables import notification, outbox
from tests.alerts.desk import Desk, rules_file
from tests.alerts.receivers import WebhookReceiver, wait_until
from tests.alerts.test_outbox import Spy
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
NOW = "- alert: High\n  expr: x > 1\n"
HELD = "- alert: High\n  expr: x > 1\n  for: 6s\n"


class Program:
    """The small desk in a process of its own, and what it says."""

    def __init__(self, folder: Path, rules: Path, url: str, *values: float) -> None:
        command = [sys.executable, "-m", "tests.alerts.desk", str(folder), str(rules), url, *map(str, values)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
        self.line: str | None = "started"

    def says(self, *words: str) -> str:
        """Read on until a line (the last one read counts too) has all the words; return it."""
        assert self.process.stdout is not None
        while self.line is not None:
            if all(word in self.line for word in words):
                return self.line
            self.line = self.process.stdout.readline().strip() or None
        raise AssertionError(f"the program ended without saying {words}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@contextmanager
def program(folder: Path, rules: Path, url: str, *values: float) -> Iterator[Program]:
    started = Program(folder, rules, url, *values)
    try:
        yield started
    finally:
        started.kill()
        assert started.process.stdout is not None
        started.process.stdout.close()


def test_killed_between_firing_and_sending_the_message_goes_out_once_after_the_restart(tmp_path: Path):
    rules, port = rules_file(tmp_path, NOW), free_port()
    url = f"http://127.0.0.1:{port}/hook"
    with program(tmp_path, rules, url, 0, 2) as first:
        first.says("firing", "sent=0")
    with WebhookReceiver(port) as receiver:
        with program(tmp_path, rules, url, 2) as second:
            assert second.says("firing").startswith("firing")
            second.says("sent=1")
        with program(tmp_path, rules, url, 2) as third:
            third.says("firing", "sent=0")
        assert [post.reason for post in receiver.posts] == ["first"]


def test_killed_while_a_message_is_in_flight_it_goes_out_again_under_the_same_id(tmp_path: Path):
    rules = rules_file(tmp_path, NOW)
    reached: list[str] = []

    def hang(post) -> int:
        reached.append(post.headers["webhook-id"])
        time.sleep(30 if len(reached) == 1 else 0)
        return 200

    with WebhookReceiver(answer=hang) as receiver:
        with program(tmp_path, rules, receiver.url, 0, 2) as first:
            wait_until(lambda: len(reached) == 1)
            first.kill()
        with program(tmp_path, rules, receiver.url, 2) as second:
            second.says("sent=1")
    assert reached[0] == reached[1]


def test_killed_again_and_again_every_change_is_told_at_least_once_and_in_order(tmp_path: Path):
    rules = rules_file(tmp_path, NOW)
    with WebhookReceiver() as receiver:
        for value in (2, 0, 2):
            with program(tmp_path, rules, receiver.url, value) as one:
                one.says("firing" if value else "inactive")
        with program(tmp_path, rules, receiver.url, 2):
            wait_until(lambda: len({post.headers["webhook-id"] for post in receiver.posts}) == 3)
        first_seen = {post.headers["webhook-id"]: post.reason for post in receiver.posts}
        assert list(first_seen.values()) == ["first", "resolved", "first"]
    with Desk(tmp_path, rules, [Spy("webhook")]) as desk, desk.store.read() as connection:
        delivered = connection.execute(select(outbox.c.event_id)).scalars().all()
        attempts = connection.execute(select(notification.c.outcome)).scalars().all()
    assert len(delivered) == 3
    assert set(attempts) == {"sent"}


def test_a_hold_time_goes_on_after_a_short_outage(tmp_path: Path):
    rules = rules_file(tmp_path, HELD)
    url = f"http://127.0.0.1:{free_port()}/"
    with program(tmp_path, rules, url, 2) as first:
        since = first.says("pending").split()[1]
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 5.6, 20)  # recorded after five seconds of holding
        first.kill()
    with program(tmp_path, rules, url, 2) as second:
        second.says("pending", since)
        restarted = time.monotonic()
        second.says("firing", since)
        assert time.monotonic() - restarted < 5
