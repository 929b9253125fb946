"""The whole program: it starts, its numbers move, its children may die, it stops."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from metrics.kpi import KPIS
from tests.app.program import Program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("run") / "data") as running:
        running.wait_until_up()
        yield running
        assert running.stop() == 0


def test_it_is_healthy_and_ready_once_its_url_is_printed(program: Program) -> None:
    program.get("/-/healthy")
    program.get("/-/ready")


def test_every_key_figure_has_a_value_soon_after_the_start(program: Program) -> None:
    for kpi in KPIS:
        program.until(lambda series=str(kpi.series): program.value(series) is not None, f"{kpi.title} has a value")


def test_counters_of_every_process_move(program: Program) -> None:
    for process in ("supervisor", "console", "engine", "risk"):
        expr = f'deskvigil_process_cpu_seconds_total{{process="{process}",mode="user"}}'
        first = program.until(lambda expr=expr: program.value(expr), f"{process} has CPU time")
        program.until(lambda expr=expr, first=first: (program.value(expr) or 0) >= first, f"{process} is still read")


def test_no_gpu_is_a_state_and_not_an_error(program: Program) -> None:
    program.until(
        lambda: program.value("deskvigil_gpu_devices") is not None, "the GPU collector says how many there are"
    )


@pytest.mark.parametrize("child", ["engine", "risk"])
def test_a_killed_child_serves_again_and_the_console_tells(program: Program, child: str) -> None:
    up = f"deskvigil_{child}_up"
    program.until(lambda: program.value(up) == 1, f"{child} is up")
    before = program.child(child)
    os.kill(before.pid, signal.SIGKILL)
    program.until(lambda: program.child(child).restarts > before.restarts, f"{child} is restarted")
    program.until(lambda: program.value(up) == 1, f"{child} is up again")
    expr = f'deskvigil_process_restarts_total{{process="{child}"}}'
    program.until(lambda: program.value(expr) == before.restarts + 1, "the restart is counted")
    assert program.child(child).last_exit == "signal SIGKILL"


def test_a_stopped_engine_is_found_hanging_and_replaced(program: Program) -> None:
    before = program.until(
        lambda: program.value("deskvigil_engine_up") == 1 and program.child("engine"), "engine is up"
    )
    os.kill(before.pid, signal.SIGSTOP)
    program.until(lambda: program.child("engine").pid not in (0, before.pid), "the engine is replaced")
    assert program.child("engine").last_exit == "hung, killed"
    program.until(lambda: program.value("deskvigil_engine_up") == 1, "engine is up again")


def test_a_killed_console_comes_back_with_its_history(program: Program) -> None:
    program.until(
        lambda: (program.value('count_over_time(deskvigil_collector_ticks_total{collector="host"}[1m])') or 0) >= 3,
        "some history",
    )
    before = program.child("console")
    counted = program.value('count_over_time(deskvigil_collector_ticks_total{collector="host"}[1m])')
    os.kill(before.pid, signal.SIGKILL)
    program.until(lambda: program.child("console").pid not in (0, before.pid), "the console is restarted")
    program.until(lambda: program.get("/-/ready") is not None, "the console answers")
    assert (program.value('count_over_time(deskvigil_collector_ticks_total{collector="host"}[5m])') or 0) >= (
        counted or 0
    ) - 1


def test_halt_and_resume_from_the_command_line(program: Program) -> None:
    import json
    import subprocess
    import sys

    from tests.app.program import ROOT

    def order(name: str) -> dict[str, object]:
        line = [
            sys.executable,
            "app.py",
            name,
            "--data-dir",
            str(program.data_dir),
            "--who",
            "a tester",
            "--reason",
            "a test",
        ]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    program.until(lambda: program.value("deskvigil_engine_up") == 1, "engine is up")
    assert order("halt")["ok"] is True
    program.until(lambda: program.value("deskvigil_engine_trading_state") == 2, "trading is halted")
    program.until(lambda: program.value("sum(deskvigil_engine_working_orders)") == 0, "no order works")
    before = program.child("engine")
    os.kill(before.pid, signal.SIGKILL)
    program.until(lambda: program.child("engine").restarts > before.restarts, "the engine is restarted")
    # A block's start time tells the new engine from the last frames of the dead one.
    started = f"deskvigil_engine_start_time_seconds > {before.started_ns / 1e9 + 1}"
    program.until(lambda: program.value(started) and program.value("deskvigil_engine_up") == 1, "the new one is up")
    assert program.value("deskvigil_engine_trading_state") == 2, "a restart must not lift a halt"
    console = program.child("console")
    os.kill(console.pid, signal.SIGKILL)  # what is ordered while it is down is in the audit too, later
    assert order("resume")["ok"] is True
    program.until(lambda: program.value("deskvigil_engine_trading_state") == 0, "trading is active")
    program.until(lambda: _audited(program.paths.database) == ["halt", "resume"], "both orders are in the audit")


def _audited(database: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT action FROM audit WHERE who = 'a tester' AND object = 'engine' ORDER BY id")
        return [action for (action,) in rows]


def test_an_unknown_path_of_the_api_is_not_a_page(program: Program) -> None:
    import urllib.error

    with pytest.raises(urllib.error.HTTPError, match="404"):
        program.get("/api/v1/nothing")


def test_a_second_instance_on_the_same_folder_is_refused(program: Program, tmp_path: Path) -> None:
    with Program(program.data_dir) as second:
        assert second.process.wait(90) == 1
        assert "in use by another Deskvigil" in "\n".join(second.log)
