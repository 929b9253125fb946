"""A waiting process: what it does ahead, when it begins, and that it never outlives whoever keeps it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from resources import standby
from resources.standby import Standby
from resources.supervisor import ChildSpec, Supervisor, _is_starved, process_state, read_status


def _body(said: Connection, wait: Callable[[], None]) -> None:
    said.send("ready")
    wait()
    said.send("begun")


def _failing(wait: Callable[[], None]) -> None:
    raise SystemExit(3)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "REFILL_AFTER_S", -1.0)


def test_it_is_ready_before_it_is_asked_and_begins_when_it_is() -> None:
    ours, theirs = multiprocessing.Pipe()
    spare = Standby(partial(_body, theirs), "child")
    spare.refill()
    assert ours.poll(60)
    assert ours.recv() == "ready"
    assert not ours.poll(0)
    process = spare.make()
    process.start()
    assert ours.poll(60)
    assert ours.recv() == "begun"
    process.join(60)
    assert process.exitcode == 0


def test_a_spare_that_died_is_replaced_and_one_that_fails_ahead_says_so_by_its_exit_status() -> None:
    ours, theirs = multiprocessing.Pipe()
    spare = Standby(partial(_body, theirs), "child")
    spare.refill()
    assert ours.recv() == "ready"
    waiting = spare._waiting
    assert waiting is not None
    waiting.kill()
    waiting.join(60)
    process = spare.make()
    assert ours.recv() == "ready"
    process.start()
    assert ours.recv() == "begun"
    process.join(60)
    failing = Standby(_failing, "child").make()
    failing.join(60)
    failing.start()
    assert failing.exitcode == 3


def test_a_spare_ends_with_its_keeper() -> None:
    ours, theirs = multiprocessing.Pipe()
    spare = Standby(partial(_body, theirs), "child")
    spare.refill()
    assert ours.recv() == "ready"
    waiting = spare._waiting
    assert waiting is not None
    waiting._pipe.close()  # as the kernel does when the keeper is killed
    waiting.join(60)
    assert waiting.exitcode == 0


def _beating(path: Path, wait: Callable[[], None]) -> None:
    wait()
    count = 0
    while True:
        count += 1
        path.with_suffix(".new").write_text(str(count))
        path.with_suffix(".new").replace(path)
        time.sleep(0.01)  # the child's own work


def _spinning() -> None:
    while True:
        pass


def _beat(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def test_a_supervised_spare_takes_over_and_a_stopped_one_is_found_within_a_second(tmp_path: Path) -> None:
    beat, status = tmp_path / "beat", tmp_path / "status.json"
    spare = Standby(partial(_beating, beat), "child")
    spec = ChildSpec("child", spare.make, lambda: _beat(beat), hang_after_s=0.5)
    stopped_at: list[float] = []
    found_at: list[float] = []
    supervisor = Supervisor([spec], status, young_s=0.0)

    def on_poll() -> None:
        spare.refill()
        child = read_status(status)[0]
        if _beat(beat) is not None and child.pid and not stopped_at:
            os.kill(child.pid, signal.SIGSTOP)
            stopped_at.append(time.monotonic())
        elif stopped_at and child.last_exit == "hung, killed":
            found_at.append(time.monotonic())
            supervisor.request_stop()

    supervisor.on_poll = on_poll
    try:
        assert supervisor.run() == 0
    finally:
        spare.close()
    assert read_status(status)[0].last_exit == "hung, killed"
    assert found_at


def test_a_child_that_wants_a_processor_and_gets_none_is_starved_and_one_that_spins_is_not() -> None:
    process: BaseProcess = multiprocessing.get_context("spawn").Process(target=_spinning)
    process.start()
    try:
        until = time.monotonic() + 60
        while process_state(process.pid)[1] < 0.3:
            assert time.monotonic() < until
        letters, used_s = process_state(process.pid)
        assert letters == "R"
        assert _is_starved(process.pid, used_s, silent_s=1000.0)  # it had next to nothing of all that time
        assert not _is_starved(process.pid, 0.0, silent_s=0.3)  # it had all of it, and showed no sign of life
        os.kill(process.pid or 0, signal.SIGSTOP)
        while process_state(process.pid)[0] != "T":
            assert time.monotonic() < until
        assert not _is_starved(process.pid, used_s, silent_s=1000.0)
    finally:
        process.kill()
        process.join(60)
    assert process_state(process.pid) == ("", 0.0)
