"""Breakers of a running engine: what it does, says and writes down when its strategies or the risk process fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from engine.options import BreakerOptions, BreakersOptions, MakerOptions
from metrics.paths import RuntimePaths
from tests.engine.test_fusebox import Risk
from tests.engine.test_runner import OPTIONS, running, wait_for

QUICK = BreakerOptions(failures=3, open_s=0.5)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[RuntimePaths]:
    paths = RuntimePaths(tmp_path)
    yield paths
    for file in paths.block_dir.glob("*"):
        file.unlink()
    paths.block_dir.rmdir()


def changes(paths: RuntimePaths, breaker: str) -> list[str]:
    entries = [json.loads(line) for line in paths.command_log.read_text().splitlines()]
    return [e["answer"]["state"] for e in entries if e.get("command") == "breaker" and e["scope"] == breaker]


def test_a_maker_that_computes_nonsense_is_stopped_and_parents_at_work_go_on(paths: RuntimePaths) -> None:
    options = replace(
        OPTIONS,
        maker=MakerOptions(order_usd=float("inf")),
        breakers=BreakersOptions(decisions=BreakerOptions(failures=3, open_s=300.0)),
    )
    with running(options, paths) as (probe, _):
        wait_for(lambda: probe.value("breaker_state", breaker="decisions") == 2.0)
        assert probe.value("decision_faults_total") >= 3
        assert probe.value("breaker_trips_total", breaker="decisions") == 1.0
        wait_for(lambda: probe.value("breaker_open_seconds", breaker="decisions") > 0.3)
        faults = probe.value("decision_faults_total")
        started = probe.value("parents_started_total")
        wait_for(lambda: probe.value("breaker_open_seconds", breaker="decisions") > 1.5)
        assert probe.value("decision_faults_total") == faults, "nothing is decided any more"
        assert probe.value("parents_started_total") == started
        assert probe.value("trading_state") == 0.0
        row = probe.client.send({"command": "status"})["breakers"]["decisions"]
        assert row["state"] == "OPEN"
        assert "not finite" in row["reason"]
    assert changes(paths, "decisions") == ["OPEN"]


@contextmanager
def pricing(risk: Risk) -> Iterator[None]:
    """A risk process that gives a sign of life ten times a second."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.1):
            risk.run()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_without_the_risk_process_only_what_reduces_is_sent_until_it_is_back(paths: RuntimePaths) -> None:
    paths.block_dir.mkdir(parents=True, exist_ok=True)
    risk = Risk(paths.risk_block)
    with running(replace(OPTIONS, breakers=BreakersOptions(risk=QUICK)), paths) as (probe, _):
        with pricing(risk):
            wait_for(lambda: risk.beat >= 20 and probe.total("fills_total") > 0)
            assert probe.value("trading_state") == 0.0
        wait_for(lambda: probe.value("trading_state") == 1.0)
        causes = probe.client.send({"command": "status"})["causes"]
        assert "no sign of life from the risk process" in causes["risk"]["reason"]
        assert probe.client.send({"command": "resume", "who": "anna", "reason": "now"})["lifted"] == []
        with pricing(risk):
            wait_for(lambda: probe.value("trading_state") == 0.0)
            assert probe.value("breaker_state", breaker="risk") == 0.0
    assert changes(paths, "risk")[0] == "OPEN"
    assert changes(paths, "risk")[-1] == "CLOSED"


def test_with_a_limit_on_the_value_at_risk_no_order_is_sent_before_there_is_one(paths: RuntimePaths) -> None:
    options = replace(OPTIONS, speed=20.0, publish_hz=20.0, gates=replace(OPTIONS.gates, max_var_usd=1e9))
    with running(options, paths) as (probe, _):
        wait_for(lambda: probe.value("orders_rejected_total", reason="var_limit") >= 20.0)
        assert probe.value("orders_acked_total") == 0.0
