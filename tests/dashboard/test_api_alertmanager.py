"""Alertmanager's API v2: what a client gets, and that the real amtool and a real Prometheus work with it."""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from alerts.state import Reason
from dashboard.api.alertmanager import MOST_ALERTS, MOST_BODY_BYTES, alertmanager_router
from dashboard.api.gate import Gate
from dashboard.api.meter import ApiMeter
from tests.alerts.desk import Desk, rules_file
from tests.alerts.receivers import wait_until
from tests.alerts.test_outbox import Spy
from tests.ports import free_port

RULES = "- alert: High\n  expr: x > 1\n  labels: {severity: critical, team: desk}\n"
POLICY = """
route:
  receiver: all
  group_by: [alertname]
  routes: [{receiver: risk, matchers: [team="risk"]}]
receivers: [{name: all, channels: [spy]}, {name: risk, channels: [spy]}]
inhibit_rules: [{source_matchers: [alertname="High"], target_matchers: [alertname="Low"]}]
"""


@dataclass
class Served:
    url: str
    client: httpx2.Client
    desk: Desk
    spy: Spy

    def get(self, path: str, **parameters):
        answer = self.client.get(f"/api/v2{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, content) -> httpx2.Response:
        return self.client.post(
            f"/api/v2{path}", content=content if isinstance(content, bytes) else json.dumps(content)
        )

    def amtool(self, *words: str) -> str:
        command = ["amtool", f"--alertmanager.url={self.url}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    policy = folder / "policy.yml"
    policy.write_text(POLICY)
    spy = Spy()
    with Desk(folder, rules_file(folder, RULES), [spy], policy=policy) as desk:
        app, meter = FastAPI(openapi_url=None), ApiMeter(desk.clock)
        app.include_router(
            alertmanager_router(desk.service, desk.clock, gate=Gate(meter), meter=meter, version="0.1.0")
        )
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            wait_until(lambda: server.started)
            with httpx2.Client(base_url=url, timeout=30) as client:
                yield Served(url, client, desk, spy)
        finally:
            server.should_exit = True
            thread.join(30)
            listener.close()


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("room")) as one:
        one.desk.frame("engine", {"x": 2.0})
        wait_until(lambda: len(one.desk.service.active()) == 1)
        yield one


def silence(matchers, minutes: float = 60, **keys):
    now = datetime.now(UTC)
    return {
        "matchers": [{"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in matchers.items()],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(minutes=minutes)).isoformat(),
        "createdBy": "ana",
        "comment": "works",
        **keys,
    }  # fmt: skip


def named(alerts) -> list[str]:
    return sorted(one["labels"]["alertname"] for one in alerts)


def test_alerts_are_listed_filtered_and_grouped(room: Served):
    assert room.post("/alerts", [{"labels": {"alertname": "Low", "team": "risk"}}]).status_code == 200
    wait_until(lambda: [one["status"]["state"] for one in room.get("/alerts", receiver="risk")] == ["suppressed"])
    (high,) = room.get("/alerts", filter=["team=desk", 'severity=~"crit.*"'])
    assert high["labels"] == {"alertname": "High", "severity": "critical", "team": "desk"}
    assert high["status"] == {"inhibitedBy": [], "silencedBy": [], "state": "active"}
    assert high["receivers"] == [{"name": "all"}]
    (low,) = room.get("/alerts", filter="alertname=Low")
    assert low["status"]["inhibitedBy"] == [high["fingerprint"]]
    assert named(room.get("/alerts", inhibited="false")) == ["High"]
    assert named(room.get("/alerts", active="false")) == ["Low"]
    found = {group["receiver"]["name"]: group for group in room.get("/alerts/groups")}
    assert {name: (group["labels"], named(group["alerts"])) for name, group in found.items()} == {
        "all": ({"alertname": "High"}, ["High"]),
        "risk": ({"alertname": "Low"}, ["Low"]),
    }
    assert room.get("/receivers") == [{"name": "all"}, {"name": "risk"}]
    status = room.get("/status")
    assert (status["cluster"]["status"], status["config"]["original"]) == ("disabled", POLICY)


def test_silences_are_added_shown_edited_and_ended(room: Served):
    answer = room.post("/silences", silence({"team": "nobody"}))
    silence_id = answer.json()["silenceID"]
    shown = room.get(f"/silence/{silence_id}")
    assert (shown["status"]["state"], shown["createdBy"], shown["comment"]) == ("active", "ana", "works")
    assert [one["id"] for one in room.get("/silences", filter="team=nobody")] == [silence_id]
    assert room.get("/silences", filter="team=somebody") == []
    edit = {**shown, "endsAt": (datetime.now(UTC) + timedelta(hours=5)).isoformat()}
    assert room.post("/silences", edit).json() == {"silenceID": silence_id}
    assert room.client.delete(f"/api/v2/silence/{silence_id}").status_code == 200
    assert room.get(f"/silence/{silence_id}")["status"]["state"] == "expired"
    assert room.client.delete(f"/api/v2/silence/{silence_id}").status_code == 400
    assert room.client.get("/api/v2/silence/none").status_code == 404


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("/silences", b"{", 400, "parsing body"),
        ("/silences", [], 400, "must be a silence"),
        ("/silences", {**silence({}), "matchers": []}, 400, "matchers"),
        ("/silences", silence({"a": "1"}, comment=""), 400, "comment"),
        ("/silences", silence({"a": "1"}, minutes=-5), 400, "past"),
        ("/silences", silence({"a": "1"}, id="none"), 404, "no silence"),
        ("/silences", silence({"a": "1"}, startsAt="soon"), 400, "startsAt"),
        ("/silences", {**silence({}), "matchers": [{"name": "a", "value": "(", "isRegex": True}]}, 400, "regular"),
        ("/alerts", {}, 400, "must be a list"),
        ("/alerts", [{"labels": {"a": 1}}], 400, "labels must be texts"),
        ("/alerts", [{"labels": {}}], 400, "at least one label"),
        ("/alerts", [7], 400, "must be an object"),
        ("/alerts", [{"labels": {"a": "1"}}] * (MOST_ALERTS + 1), 400, "more than"),
        ("/alerts", b" " * (MOST_BODY_BYTES + 1), 413, "larger"),
    ],
)
def test_what_cannot_be_is_told_as_alertmanager_does(room: Served, path, content, status, words):
    answer = room.post(path, content)
    assert answer.status_code == status
    assert words in answer.json()


def test_parameters_that_cannot_be_are_told(room: Served):
    for parameters in ({"filter": "=x"}, {"receiver": "("}, {"active": "perhaps"}):
        assert room.client.get("/api/v2/alerts", params=parameters).status_code == 400


def test_of_several_alerts_the_sound_ones_are_taken(room: Served):
    answer = room.post("/alerts", [{"labels": {"alertname": "Sound"}}, {"labels": {"b ad": "x"}}])
    assert answer.status_code == 400
    assert "Sound" in named(room.get("/alerts"))


needs_amtool = pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not installed")


@needs_amtool
def test_amtool_queries_silences_and_ends(room: Served):
    assert "High" in room.amtool("alert", "query", "alertname=High")
    silence_id = room.amtool("silence", "add", "--author=ana", "--comment=works", "--duration=1h", "alertname=High")
    assert silence_id in room.amtool("silence", "query", "alertname=High")
    wait_until(lambda: room.amtool("alert", "query", "alertname=High").count("High") == 0)
    assert "High" in room.amtool("alert", "query", "--silenced", "alertname=High")
    assert silence_id in room.amtool("silence", "update", "--duration=2h", silence_id)
    kept = json.loads(room.amtool("-o", "json", "silence", "query"))
    assert [one["comment"] for one in kept if one["id"] == silence_id] == ["works"]
    room.amtool("silence", "expire", silence_id)
    assert silence_id not in room.amtool("silence", "query")
    assert silence_id in room.amtool("silence", "query", "--expired", "--within=1h")
    assert "High" in room.amtool("alert", "query")
    assert "receiver: risk" in room.amtool("config", "show")
    assert "disabled" in room.amtool("cluster", "show")
    assert room.amtool("alert", "add", "Added", "team=risk", "--annotation=summary=by hand") == ""
    assert "by hand" in room.amtool("-o", "json", "alert", "query", "alertname=Added")


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_a_prometheus_sends_us_its_alerts_and_their_end(tmp_path: Path):
    rules, config, port = tmp_path / "up.yml", tmp_path / "prometheus.yml", free_port()
    rule = (
        "groups:\n- name: g\n  rules:\n  - {{alert: Theirs, expr: 'vector(1) > {}', labels: {{severity: critical}}}}\n"
    )
    rules.write_text(rule.format(0))
    with served(tmp_path) as room:
        target = room.url.removeprefix("http://")
        config.write_text(
            "global: {evaluation_interval: 200ms}\n"
            f"rule_files: [{rules}]\n"
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{target}']}}]}}]}}\n"
        )
        command = [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle", "--log.level=error",
            "--rules.alert.resend-delay=1s",  # what it sends before it has found us is lost, and else comes a minute later
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: [view.name for view in room.desk.service.active()] == ["Theirs"])
            wait_until(lambda: [one.reason for one in room.spy.taken] == [Reason.FIRST])
            (alert,) = room.get("/alerts")
            assert alert["generatorURL"].startswith("http://")
            rules.write_text(rule.format(2))
            httpx2.post(f"http://127.0.0.1:{port}/-/reload")
            wait_until(lambda: [one.reason for one in room.spy.taken] == [Reason.FIRST, Reason.RESOLVED])
            assert room.desk.service.active() == ()
        finally:
            process.terminate()
            process.wait(30)
