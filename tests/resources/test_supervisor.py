"""The supervisor: children that die, hang or cannot run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

from resources.supervisor import EXIT_PERMANENT, ChildSpec, Supervisor, read_status

SPAWN = multiprocessing.get_context("spawn")


def _live(beat: Path) -> None:
    count = 0
    while True:
        count += 1
        beat.with_suffix(".new").write_text(str(count))
        beat.with_suffix(".new").replace(beat)
        time.sleep(0.02)  # the child's own work


def _exit(code: int) -> None:
    raise SystemExit(code)


def _beat(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


class _Running:
    """A supervisor in a thread, stopped at the end."""

    def __init__(self, spec: ChildSpec, folder: Path) -> None:
        self.status = folder / "status.json"
        self.polled = threading.Condition()
        self.supervisor = Supervisor([spec], self.status, on_poll=self._notify)
        self.result: list[int] = []
        self.thread = threading.Thread(target=lambda: self.result.append(self.supervisor.run()))

    def _notify(self) -> None:
        with self.polled:
            self.polled.notify_all()

    def __enter__(self) -> _Running:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.supervisor.request_stop()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def until(self, condition: object) -> None:
        with self.polled:
            assert self.polled.wait_for(condition, timeout=60)  # type: ignore[arg-type]


def _spec(folder: Path, hang_after_s: float = 5.0) -> ChildSpec:
    beat = folder / "beat"
    return ChildSpec("child", lambda: SPAWN.Process(target=_live, args=(beat,)), lambda: _beat(beat), hang_after_s)


def test_a_killed_child_is_restarted_and_the_status_says_why(tmp_path: Path) -> None:
    with _Running(_spec(tmp_path), tmp_path) as running:
        running.until(lambda: _beat(tmp_path / "beat") is not None)
        first = read_status(running.status)[0]
        os.kill(first.pid, signal.SIGKILL)
        running.until(lambda: read_status(running.status)[0].restarts == 1)
        second = read_status(running.status)[0]
        assert second.pid != first.pid
        assert second.last_exit == "signal SIGKILL"


def test_a_child_that_hangs_is_killed_and_restarted(tmp_path: Path) -> None:
    with _Running(_spec(tmp_path, hang_after_s=0.5), tmp_path) as running:
        running.until(lambda: _beat(tmp_path / "beat") is not None)
        os.kill(read_status(running.status)[0].pid, signal.SIGSTOP)
        running.until(lambda: read_status(running.status)[0].restarts == 1)
        assert read_status(running.status)[0].last_exit == "hung, killed"


def test_a_child_that_says_it_can_never_run_ends_the_program(tmp_path: Path) -> None:
    spec = ChildSpec("child", lambda: SPAWN.Process(target=_exit, args=(EXIT_PERMANENT,)), lambda: None)
    with _Running(spec, tmp_path) as running:
        running.thread.join(60)
        assert running.result == [1]


def test_stopping_ends_children_that_are_stopped_themselves(tmp_path: Path) -> None:
    with _Running(_spec(tmp_path), tmp_path) as running:
        running.until(lambda: _beat(tmp_path / "beat") is not None)
        pid = read_status(running.status)[0].pid
        os.kill(pid, signal.SIGSTOP)
    assert running.result == [0]
    assert not Path(f"/proc/{pid}").exists()


def test_no_status_file_means_no_children(tmp_path: Path) -> None:
    assert read_status(tmp_path / "none.json") == []
