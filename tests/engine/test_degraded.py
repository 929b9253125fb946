"""Degraded mode: what it holds, when it cleans up, and an engine that enters it and goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.degraded import DegradedMode, Mode
from engine.gates import HOLD_CONTROL, HOLD_QUOTES
from engine.options import PressureOptions
from metrics.paths import RuntimePaths
from resources.pressure import Reading
from tests.engine.test_runner import OPTIONS, running, wait_for

SECOND = 1_000_000_000
NAN = float("nan")


class Rig:
    """The mode with a reading that the test sets; one look a second."""

    def __init__(self, **options: float) -> None:
        self.reading = Reading(0.1, 0.1, 0.1)
        self.cleaned = 0
        self.mode = DegradedMode(PressureOptions(**options), lambda now_ns: self.reading, self.clean_up)  # type: ignore[arg-type]
        self.now_s = 0

    def clean_up(self) -> None:
        self.cleaned += 1

    def changes(self, seconds: int, reading: Reading) -> list[tuple[int, Mode]]:
        self.reading = reading
        found = []
        for _ in range(seconds):
            self.now_s += 1
            if self.mode.look(self.now_s * SECOND):
                found.append((self.now_s, self.mode.mode))
        return found


def test_a_busy_machine_degrades_once_cleans_up_once_and_does_not_stop_quotes() -> None:
    rig = Rig()
    assert rig.changes(100, Reading(0.97, 0.3, 0.2)) == [(31, Mode.DEGRADED)]
    assert "processors 97%" in rig.mode.reason
    assert "mean of 30 s; most by " in rig.mode.reason
    assert rig.cleaned == 1
    assert rig.mode.hold == HOLD_CONTROL
    assert rig.changes(40, Reading(0.5, 0.3, 0.2)) == [(111, Mode.NORMAL)]  # the mean of 30 s is below 80 %
    assert rig.mode.hold == 0
    assert rig.cleaned == 1


@pytest.mark.parametrize(
    ("reading", "after_s"), [(Reading(0.5, 0.95, 0.2), 31), (Reading(0.1, 0.1, 1.2), 11), (Reading(NAN, NAN, 1.0), 11)]
)
def test_what_is_short_because_of_us_stops_quotes_after_a_while(reading: Reading, after_s: int) -> None:
    rig = Rig()
    assert rig.changes(80, reading) == [(after_s, Mode.DEGRADED), (after_s + 30, Mode.SHEDDING)]
    assert rig.mode.hold == HOLD_CONTROL | HOLD_QUOTES
    assert [mode for _, mode in rig.changes(40, Reading(0.1, 0.1, 0.1))] == [Mode.NORMAL]


def test_a_peak_of_the_own_core_does_not_stop_quotes() -> None:
    rig = Rig()
    assert rig.changes(31, Reading(0.97, 0.3, 0.2)) == [(31, Mode.DEGRADED)]
    assert rig.changes(28, Reading(0.97, 0.3, 0.2)) == []
    assert rig.changes(5, Reading(0.97, 1.0, 0.2)) == []


def test_switched_off_it_looks_at_nothing() -> None:
    rig = Rig(enabled=False)
    assert rig.changes(60, Reading(1.0, 1.0, 9.0)) == []
    assert rig.mode.status()["cpu_ratio"] is None


def test_it_looks_once_a_second_however_often_it_is_asked() -> None:
    looked = []
    mode = DegradedMode(PressureOptions(), lambda now_ns: looked.append(now_ns) or Reading(NAN, NAN, NAN), list)
    for k in range(100):
        mode.look(k * SECOND // 25)
    assert len(looked) == 4


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[RuntimePaths]:
    paths = RuntimePaths(tmp_path)
    yield paths
    for file in paths.block_dir.glob("*"):
        file.unlink()
    paths.block_dir.rmdir()


def test_an_engine_over_its_memory_limit_does_less_says_so_and_trades_on(paths: RuntimePaths) -> None:
    pressure = PressureOptions(memory_limit_mb=1, memory_s=0.0, shed_after_s=0.0)
    with running(replace(OPTIONS, pressure=pressure), paths) as (probe, _):
        wait_for(lambda: probe.value("degraded") == 2.0)
        assert probe.value("pressure_memory_ratio") > 1.0
        # Quotes go, parents go on.
        wait_for(lambda: probe.value("working_orders") <= 10)
        acked = probe.total("orders_acked_total")
        wait_for(lambda: probe.total("orders_acked_total") > acked)
        status = probe.client.send({"command": "status"})
        assert status["degraded"]["mode"] == "SHEDDING"
        assert {name: row["state"] for name, row in status["breakers"].items()} == dict.fromkeys(
            ("market_data", "decisions", "orders", "risk"), "CLOSED"
        )
        assert status["poison"] == 0
        assert 0.0 < status["recovery_s"] < 60.0
        for name, labels in (
            ("breaker_state", {"breaker": "orders"}),
            ("message_tokens", {"strategy": "maker"}),
            ("strategy_state", {"strategy": "parents"}),
            ("events_ahead", {}),
            ("client_requests_waiting", {}),
            ("client_answers_waiting", {}),
            ("recovery_seconds", {}),
        ):
            assert probe.value(name, **labels) >= 0.0, name
    entries = [json.loads(line) for line in paths.command_log.read_text().splitlines()]
    modes = [entry["answer"]["mode"] for entry in entries if entry.get("command") == "degraded"]
    assert modes[:2] == ["DEGRADED", "SHEDDING"]
