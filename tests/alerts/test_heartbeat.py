"""The dead man's switch: a request to a real receiver while alerting is proven to work, and only then."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from alerts.heartbeat import Heartbeat
from alerts.options import HeartbeatOptions
from metrics.clock import SystemClock
from metrics.errors import ConfigError
from tests.alerts.desk import Desk, rules_file
from tests.alerts.receivers import wait_until
from tests.alerts.test_outbox import Spy
from tests.ports import free_port

HIGH = "- alert: High\n  expr: x > 1\n"


class Watcher:
    """Whoever watches from outside: keeps the paths that were asked for, answers `status`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 200
        watcher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                watcher.asked.append(self.path)
                self.send_response(watcher.status)
                if watcher.status in (301, 302):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"OK")

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/ping/secret"


@contextmanager
def watching() -> Iterator[Watcher]:
    watcher = Watcher()
    thread = threading.Thread(target=watcher.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield watcher
    watcher.server.shutdown()
    watcher.server.server_close()
    thread.join(5)


def heartbeat(url: str, why: list[str], **keys) -> Heartbeat:
    options = HeartbeatOptions(url=url, **{"allow": ("127.0.0.1",), "timeout_s": 2.0, **keys})
    return Heartbeat(options, SystemClock(), lambda: why[0])


def test_it_is_sent_while_alerting_is_proven_to_work_and_only_then():
    why = [""]
    with watching() as watcher:
        beats = heartbeat(watcher.url, why)
        beats.beat()
        beats.beat()
        assert watcher.asked == ["/ping/secret"] * 2
        assert (beats.stats.sent, beats.stats.problem) == (2, "")
        before = beats.stats.age_s
        why[0] = "rules were last looked at 90 s ago"
        beats.beat()
        assert (len(watcher.asked), beats.stats.withheld) == (2, 1)
        assert beats.stats.problem == "withheld: rules were last looked at 90 s ago"
        assert beats.stats.age_s > before
        why[0] = ""
        beats.beat()
        assert (len(watcher.asked), beats.stats.problem) == (3, "")


@pytest.mark.parametrize("status", [404, 500, 301])
def test_an_answer_that_is_no_success_counts_as_failed_and_no_redirect_is_followed(status: int):
    with watching() as watcher:
        watcher.status = status
        beats = heartbeat(watcher.url, [""])
        beats.beat()
        assert (beats.stats.failed, beats.stats.problem) == (1, f"answered {status}")
        assert watcher.asked == ["/ping/secret"]


def test_nobody_there_counts_as_failed_and_the_address_is_in_no_word_and_no_log(caplog: pytest.LogCaptureFixture):
    beats = heartbeat(f"http://127.0.0.1:{free_port()}/ping/secret", [""])
    beats.beat()
    beats.beat()
    assert beats.stats.failed == 2
    assert "ConnectError" in beats.stats.problem
    assert len(caplog.records) == 1  # said once
    assert "secret" not in caplog.text + beats.stats.problem + repr(HeartbeatOptions(url="http://a/secret"))


def test_private_addresses_are_refused_as_for_webhooks():
    with watching() as watcher:
        beats = heartbeat(watcher.url, [""], allow=())
        beats.beat()
        assert watcher.asked == []
        assert "not a public address" in beats.stats.problem


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"url": "ftp://example.com"}, "must be http"),
        ({"url": "https://user@example.com/"}, "without a user name"),
        ({"url": "https://example.com/", "allow": ("10.0.0.0/99",)}, "is no host, address or network"),
        ({"url": "https://example.com/", "ca_file": "/nowhere.pem"}, "No such file"),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_start(keys, words):
    with pytest.raises(ConfigError, match=rf"alerts\.heartbeat.*{words}"):
        Heartbeat(HeartbeatOptions(**keys), SystemClock(), lambda: "")


def test_without_an_address_there_is_none():
    beats = Heartbeat(HeartbeatOptions(), SystemClock(), lambda: "")
    beats.start()
    assert math.isnan(beats.stats.age_s)
    beats.stop()


def test_a_running_desk_sends_it_and_stops_once_its_thread_stands_still(tmp_path: Path):
    with watching() as watcher:
        options = HeartbeatOptions(url=watcher.url, allow=("127.0.0.1",), interval_s=1.0)
        with Desk(tmp_path, rules_file(tmp_path, HIGH), [Spy()], heartbeat=options) as desk:
            wait_until(lambda: desk.service.stats().heartbeat.sent >= 2)
            assert desk.service.stats().audit.audits >= 1
            with desk.service._turn:  # the alert thread is held up
                wait_until(lambda: desk.service.stats().heartbeat.withheld >= 1)
                assert "rules were last looked at" in desk.service.stats().heartbeat.problem
            sent = desk.service.stats().heartbeat.sent
            wait_until(lambda: desk.service.stats().heartbeat.sent > sent)
        asked = len(watcher.asked)
    assert asked >= 3
