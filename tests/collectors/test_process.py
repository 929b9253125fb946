from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from collectors.options import CollectorOptions
from collectors.process import ChildStatus, ProcessCollector
from metrics.catalogue import series
from metrics.clock import SystemClock
from metrics.frame import Frame

SLEEPER = "import sys; print('up', flush=True); sys.stdin.read()"


def value(frame: Frame, name: str, /, **labels: str) -> float:
    return float(frame.values[frame.schema.index[series(f"deskvigil_process_{name}", **labels)]])


class Desk:
    """The collector over a list of children that the test changes."""

    def __init__(self) -> None:
        self.children: list[ChildStatus] = []
        self.collector = ProcessCollector(SystemClock(), CollectorOptions(), lambda: self.children)

    def tick(self) -> Frame:
        return self.collector.collect(time.time_ns())


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.collector.close()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def status(name: str, pid: int, restarts: int = 0) -> ChildStatus:
    return ChildStatus(name, pid, restarts, 0, "")


def test_the_console_itself_is_always_among_the_processes(desk: Desk) -> None:
    frame = desk.tick()
    assert value(frame, "up", process="console") == 1
    assert value(frame, "resident_memory_bytes", process="console") > 2**20
    assert value(frame, "threads", process="console") >= 1
    assert value(frame, "open_fds", process="console") >= 3
    assert value(frame, "open_fds", process="console") <= value(frame, "max_fds", process="console")


def test_a_console_that_the_supervisor_names_is_not_listed_twice(desk: Desk) -> None:
    desk.children = [status("console", os.getpid(), restarts=3)]
    frame = desk.tick()
    assert value(frame, "restarts_total", process="console") == 3


def test_cpu_time_burnt_shows_in_seconds_and_as_a_ratio(desk: Desk) -> None:
    desk.tick()
    began, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.05:
        pass
    frame = desk.tick()
    assert value(frame, "cpu_ratio", process="console") * (time.monotonic() - began) >= 0.045


def test_context_switches_and_page_faults_are_counted(desk: Desk) -> None:
    frame = desk.tick()
    assert value(frame, "context_switches_total", process="console", kind="voluntary") >= 0
    assert value(frame, "page_faults_total", process="console", kind="minor") > 0


def test_a_childs_readings_are_its_own(desk: Desk, child: subprocess.Popen[bytes]) -> None:
    desk.children = [status("engine", child.pid, restarts=2)]
    frame = desk.tick()
    assert value(frame, "up", process="engine") == 1
    assert value(frame, "restarts_total", process="engine") == 2
    assert value(frame, "threads", process="engine") == 1
    assert abs(value(frame, "start_time_seconds", process="engine") - time.time()) < 120


def test_a_killed_child_is_down_with_missing_readings_and_its_schema_stays(
    desk: Desk, child: subprocess.Popen[bytes]
) -> None:
    desk.children = [status("engine", child.pid)]
    before = desk.tick()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still there as a zombie
    zombie = desk.tick()
    child.wait()
    after = desk.tick()
    for frame in (zombie, after):
        assert value(frame, "up", process="engine") == 0
        assert math.isnan(value(frame, "resident_memory_bytes", process="engine"))
        assert value(frame, "restarts_total", process="engine") == 0
        assert frame.schema is before.schema


def test_a_restarted_child_is_read_under_its_new_pid(desk: Desk, child: subprocess.Popen[bytes]) -> None:
    desk.children = [status("engine", os.getppid())]
    first = desk.tick()
    desk.children = [status("engine", child.pid, restarts=1)]
    second = desk.tick()
    assert value(second, "up", process="engine") == 1
    assert value(first, "start_time_seconds", process="engine") < value(second, "start_time_seconds", process="engine")
    assert math.isnan(value(second, "cpu_ratio", process="engine"))


def test_a_child_that_is_not_running_yet_is_down(desk: Desk) -> None:
    desk.children = [status("risk", 0)]
    assert value(desk.tick(), "up", process="risk") == 0


def test_a_new_child_makes_a_new_schema(desk: Desk, child: subprocess.Popen[bytes]) -> None:
    before = desk.tick()
    desk.children = [status("feed", child.pid)]
    after = desk.tick()
    assert before.schema is not after.schema
    assert value(after, "up", process="feed") == 1


def test_garbage_collections_are_counted_and_timed(desk: Desk) -> None:
    gc.disable()
    try:
        before = desk.tick()
        gc.collect()
        after = desk.tick()
        quiet = desk.tick()
    finally:
        gc.enable()
    counted = [value(frame, "gc_collections_total", process="console", generation="2") for frame in (before, after)]
    assert counted[1] >= counted[0] + 1
    paused = [value(frame, "gc_pause_seconds_total", process="console") for frame in (before, after)]
    assert 0 < value(after, "gc_pause_max_seconds", process="console") <= paused[1] - paused[0] + 1e-9
    assert value(quiet, "gc_pause_max_seconds", process="console") == 0
    longest = [value(frame, "gc_pause_longest_seconds", process="console") for frame in (after, quiet)]
    assert longest[0] == longest[1] >= value(after, "gc_pause_max_seconds", process="console")


def test_closing_leaves_the_garbage_collector_alone() -> None:
    before = list(gc.callbacks)
    desk = Desk()
    assert len(gc.callbacks) == len(before) + 1
    desk.collector.close()
    desk.collector.close()
    assert gc.callbacks == before


def test_pauses_for_garbage_are_counted_by_their_length(desk: Desk) -> None:
    before = desk.tick()
    gc.collect()
    gc.collect()
    after = desk.tick()

    def grown(part: str, **labels: str) -> float:
        return sum(
            sign * value(frame, f"gc_pause_duration_seconds_{part}", process="console", **labels)
            for sign, frame in ((1, after), (-1, before))
        )

    assert grown("count") >= 2
    assert grown("bucket", le="+Inf") == grown("count")
    assert 0 <= grown("bucket", le="0.001") <= grown("bucket", le="0.1") <= grown("count")
    assert grown("sum") > 0
