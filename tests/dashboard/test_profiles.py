"""The Profiler's API over real parts: store, sampler, py-spy, audit."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from collectors.engine import EngineCollector
from console.bottlenecks import FIRST_S, KEPT_S, BottleneckCollector
from console.profiling import Profiling
from console.readings import Readings
from console.views import engine_info
from console.wiring import _trades
from resources.attach import Taken
from resources.bottleneck import Cause, Column
from resources.sampler import Sampler
from tests.dashboard.demo_services import Desk, serving

HOSTILE = "</title><script>alert(1)</script> (x.py:1)"


@dataclass
class Profiled:
    desk: Desk
    url: str
    profiling: Profiling
    bottlenecks: BottleneckCollector
    trades: bool = False

    def post(self, **said: Any) -> httpx2.Response:
        headers = {"X-Deskvigil-Action": "1", "Origin": self.url}
        return httpx2.post(f"{self.url}/api/desk/profiles", json=said, headers=headers)

    def get(self, path: str = "") -> Any:
        return httpx2.get(f"{self.url}/api/desk/profiles{path}").json()

    def finish(self) -> None:
        thread = self.profiling._thread
        assert thread is not None
        thread.join(60)


@pytest.fixture
def profiled(tmp_path: Path) -> Iterator[Profiled]:
    desk = Desk(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", "print('on', flush=True)\nwhile True: sum(range(999))"], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    pids = [("console", os.getpid()), ("engine", child.pid), ("risk", 0)]
    sampler = Sampler()
    readings = Readings(desk.store.live, sampler, lambda: pids)
    bottlenecks = BottleneckCollector(
        readings, sampler, lambda words, t_ms: desk.store.annotations.add("bottleneck", words, t_ms=t_ms)
    )
    made = Profiled(desk, "", None, bottlenecks)  # type: ignore[arg-type]
    made.profiling = Profiling(desk.store.profiles, sampler, bottlenecks, lambda: pids, lambda: made.trades, desk.clock)
    desk.services = replace(desk.services, profiles=made.profiling)
    try:
        with serving(desk.services) as url:
            made.url = url
            yield made
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        made.profiling.stop()
        bottlenecks.close()


def test_a_profile_is_taken_kept_shown_and_audited(profiled: Profiled) -> None:
    answer = profiled.post(process="engine", kind="cpu", seconds=1, reason="p99 rose")
    assert (answer.status_code, answer.json()) == (200, {"message": "engine is watched for 1 s"})
    assert "one at a time" in profiled.post(process="engine", kind="cpu", seconds=1, reason="again").json()["error"]
    profiled.finish()
    body = profiled.get()
    (row,) = body["profiles"]
    assert (row["process"], row["kind"], row["reason"], row["unit"]) == ("engine", "cpu", "p99 rose", "samples")
    assert row["who"].startswith("operator at ")
    assert (body["running"], body["failed"]) == (None, "")
    shown = profiled.get(f"/{row['id']}")
    assert shown["boxes"][0] == ["all", 0, 0, row["total"], 0]
    assert any("<module>" in name for name, *_ in shown["functions"])
    text = httpx2.get(f"{profiled.url}/api/desk/profiles/{row['id']}/collapsed")
    assert text.headers["content-disposition"].startswith("attachment")
    assert sum(int(line.rpartition(" ")[2]) for line in text.text.splitlines()) == row["total"]
    actions = [(entry.action, entry.object) for entry in profiled.desk.store.audit.list()]
    assert actions == [("profile_stored", "engine"), ("profile", "engine")]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"process": "mars", "reason": "x"}, "there is no process 'mars' now; there are: console, engine"),
        ({"process": "risk", "reason": "x"}, "there is no process 'risk' now"),
        ({"process": "engine", "kind": "heap", "reason": "x"}, "no profile of kind 'heap'"),
        ({"process": "engine", "seconds": 600, "reason": "x"}, "takes 1 to 60 seconds, not 600"),
        ({"process": "engine", "seconds": "ten", "reason": "x"}, "seconds must be a number, not 'ten'"),
        ({"process": "engine"}, "why is the profile taken?"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_words(profiled: Profiled, said: dict[str, Any], words: str) -> None:
    answer = profiled.post(**said)
    assert answer.status_code == 409
    assert words in answer.json()["error"]
    assert profiled.desk.store.audit.list() == []


def test_a_trading_engine_is_not_stopped_for_its_memory(profiled: Profiled) -> None:
    profiled.trades = True
    answer = profiled.post(process="engine", kind="memory", seconds=1, reason="x")
    assert answer.json()["error"].endswith("halt trading first")


def test_a_profile_whose_thread_cannot_start_is_none_under_way(
    profiled: Profiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        with pytest.raises(RuntimeError):
            profiled.profiling.start("anna", "engine", "cpu", 1.0, "x")
    assert profiled.get()["running"] is None


def test_a_console_that_does_not_watch_itself_says_so_and_shows_no_figure(
    profiled: Profiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiled.profiling, "_watches", False)
    body = profiled.get()
    assert body["bottleneck"] is None
    assert body["overhead"] is None
    assert "collectors.sampler_hz is 0" in profiled.get("/sampler")["error"]


def test_an_engine_that_cannot_be_read_counts_as_trading(profiled: Profiled, tmp_path: Path) -> None:
    collector = EngineCollector(tmp_path / "none.block", "engine", profiled.desk.clock)
    collector.collect(profiled.desk.clock.now_ns())
    assert engine_info(collector, profiled.desk.store).state == "DOWN"
    assert _trades(collector, profiled.desk.store)


def test_an_order_needs_the_header_of_an_action(profiled: Profiled) -> None:
    answer = httpx2.post(f"{profiled.url}/api/desk/profiles", json={"process": "engine", "reason": "x"})
    assert answer.status_code == 403


def test_what_fails_is_told_and_audited(profiled: Profiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.profiling.take", lambda *_: Taken({}, "samples"))
    profiled.post(process="engine", kind="cpu", seconds=1, reason="x")
    profiled.finish()
    assert profiled.get()["failed"] == "engine ran no Python in these 1 s"
    assert profiled.desk.store.audit.list()[0].action == "profile_failed"


def test_names_that_are_markup_stay_words(profiled: Profiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.profiling.take", lambda *_: Taken({(HOSTILE, "f"): 3}, "samples"))
    profiled.post(process="engine", kind="cpu", seconds=1, reason="x")
    profiled.finish()
    (row,) = profiled.get()["profiles"]
    answer = httpx2.get(f"{profiled.url}/api/desk/profiles/{row['id']}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["boxes"][1][0] == HOSTILE


def test_what_is_not_there_is_404(profiled: Profiled) -> None:
    for name in ("17", "latest", "9" * 30):
        assert httpx2.get(f"{profiled.url}/api/desk/profiles/{name}").status_code == 404


def test_the_consoles_own_threads_are_there_without_asking(profiled: Profiled) -> None:
    stop = threading.Event()

    def hog() -> None:
        while not stop.is_set():
            sum(range(999))

    thread = threading.Thread(target=hog, name="hog")
    thread.start()
    sampler = profiled.profiling._sampler
    while not any(stack[0] == "hog" for stack in sampler.stacks()):
        sampler.look()
    stop.set()
    thread.join()
    assert any(box[0] == "hog" for box in profiled.get("/sampler")["boxes"])


def test_a_bottleneck_is_said_once_it_has_held_and_marks_the_charts(profiled: Profiled) -> None:
    collector = profiled.bottlenecks
    usual = np.full(len(Column), 1e-4)
    for second in range(400):
        collector.take(usual, second * 1_000)
    assert profiled.get()["bottleneck"]["sentence"] == ""
    slow = usual.copy()
    slow[[Column.CONSOLE_LATE_S, Column.GC_RATIO]] = 0.5
    for second in range(400, 420):
        collector.take(slow, second * 1_000)
    said = profiled.get()["bottleneck"]
    assert said["cause"] == Cause.GC.value
    assert said["sentence"].startswith(
        "The console answers late (100 µs to 500 ms) because Python's garbage collection"
    )
    notes = [row.kind for row in profiled.desk.store.annotations.list(0, 10**12)]
    assert notes == ["bottleneck"]
    for second in range(420, 440):
        collector.take(usual, second * 1_000)
    assert profiled.get()["bottleneck"]["cause"] is None


def test_after_an_hour_of_trouble_it_is_still_named(profiled: Profiled) -> None:
    collector = profiled.bottlenecks
    usual = np.full(len(Column), 1e-4)
    assert profiled.get()["bottleneck"]["waits_s"] == FIRST_S
    for second in range(400):
        collector.take(usual, second * 1_000)
    slow = usual.copy()
    slow[[Column.CONSOLE_LATE_S, Column.GC_RATIO]] = 0.5
    for second in range(400, 400 + KEPT_S + 300):
        collector.take(slow, second * 1_000)
    assert collector.said.finding.cause is Cause.GC
    assert collector.said.since_ms < 420_000


def test_a_console_that_watches_nothing_says_so(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with serving(desk.services) as url:
        answer = httpx2.get(f"{url}/api/desk/profiles")
    assert (answer.status_code, answer.json()) == (200, {"error": "this console takes no profiles"})
