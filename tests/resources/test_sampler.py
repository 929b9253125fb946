from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from resources import sampler as module
from resources.sampler import Sampler
from resources.stacks import OTHER


@contextmanager
def _running(name: str, body: object) -> Iterator[threading.Event]:
    """A thread that runs body(stop) until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=body, args=(stop,), name=name, daemon=True)  # type: ignore[arg-type]
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def _busy(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


def _waits(stop: threading.Event) -> None:
    stop.wait()


def _look_until(sampler: Sampler, name: str, cpu_s: float) -> None:
    while all(row.name != name or row.cpu_s < cpu_s for row in sampler.threads()):
        sampler.look()


def test_a_busy_thread_is_seen_at_work_and_a_waiting_one_is_not() -> None:
    sampler = Sampler()
    with _running("hog", _busy), _running("idler", _waits):
        _look_until(sampler, "hog", 0.05)
        threads = {row.name: row for row in sampler.threads()}
    assert threads["hog"].working == threads["hog"].samples > 0
    assert threads["idler"].working == 0
    assert threads["idler"].samples > 0
    assert threads["idler"].cpu_s < threads["hog"].cpu_s
    names = [row.name for row in sampler.functions()]
    assert any(name.startswith("hog: _busy (resources/test_sampler.py:") for name in names)
    assert not any(name.startswith("idler") for name in names)
    assert all(stack[0] != threading.current_thread().name for stack in sampler.stacks())


def test_a_thread_that_has_ended_stays_in_the_sums() -> None:
    sampler = Sampler()
    for _ in range(2):  # the second may get the number of the first
        with _running("short", _busy):
            before = next((row.cpu_s for row in sampler.threads() if row.name == "short"), 0.0)
            _look_until(sampler, "short", before + 0.02)
        sampler.look()
    (row,) = [row for row in sampler.threads() if row.name == "short"]
    assert row.cpu_s >= 0.04


def test_memory_is_bounded(monkeypatch: object) -> None:
    sampler = Sampler()
    sampler._stacks.most = 1
    sampler._stacks.add(("other", "f"), 1)
    with _running("hog", _busy):
        _look_until(sampler, "hog", 0.02)
    mine = {stack for stack in sampler.stacks() if stack[0] in ("other", "hog")}
    assert mine == {("other", "f"), ("hog", OTHER)}


def test_names_of_functions_are_bounded() -> None:
    sampler = Sampler()
    for number in range(module.MOST_CODES + 10):
        sampler._name(compile("", f"{number}.py", "exec"))
    assert len(sampler._names) <= module.MOST_CODES


def test_it_looks_by_itself_says_what_that_costs_and_ends() -> None:
    sampler = Sampler(hz=500.0)
    with _running("hog", _busy):
        sampler.start()
        sampler.start()
        while not any(row.samples > 3 for row in sampler.threads()):
            threading.Event().wait(0.001)
        sampler.stop()
        assert 0.0 < sampler.cost_ratio < 1.0
        assert sampler.take_late_s() >= 0.0
        assert sampler.take_late_s() == 0.0
    assert not any(thread.name == "sampler" for thread in threading.enumerate())


def test_time_in_a_thread_is_the_kernels() -> None:
    sampler = Sampler()
    with _running("hog", _busy):
        sampler.look()
        began = time.monotonic()
        _look_until(sampler, "hog", 0.1)
        passed = time.monotonic() - began
    (row,) = [row for row in sampler.threads() if row.name == "hog"]
    assert 0.1 <= row.cpu_s <= passed + 0.1


def test_a_thread_that_ended_during_a_look_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Thread(target=lambda: None, name="ended")
    ended.start()
    ended.join()
    while Path(f"/proc/self/task/{ended.native_id}").exists():  # the kernel's thread ends a little later than Python's
        time.sleep(0.001)
    here = sys._getframe()
    monkeypatch.setattr(sys, "_current_frames", lambda: {ended.ident: here})
    monkeypatch.setattr(threading, "enumerate", lambda: [ended])
    sampler = Sampler()
    sampler.look()
    assert sampler.looks == 1
    assert sampler.threads() == []


def test_a_pools_next_thread_with_the_number_and_the_name_of_the_last_is_another_thread() -> None:
    sampler = Sampler()
    idents: list[int | None] = []
    while len(idents) < 100 and len(set(idents)) == len(idents):
        with _running("worker", _waits):
            idents.append(next(thread.ident for thread in threading.enumerate() if thread.name == "worker"))
            sampler.look()
    assert len(set(idents)) < len(idents), "no number was given twice"
    assert sampler.looks == len(idents)


def test_time_is_that_of_the_thread_and_not_of_who_looks() -> None:
    me, there = threading.get_native_id(), threading.get_ident()
    assert ~me << 3 | 0b110 == time.pthread_getcpuclockid(there)
    assert module._cpu_s(0) == 0.0


def test_names_that_are_no_text_can_be_written() -> None:
    sampler, stop = Sampler(), threading.Event()
    body: dict[str, Any] = {}
    exec(compile("def busy(stop):\n    while not stop.is_set(): pass", "/x/\udcff.py", "exec"), body)
    thread = threading.Thread(target=body["busy"], args=(stop,), name="hog \udcff")
    thread.start()
    while not sampler.stacks():
        sampler.look()
    stop.set()
    thread.join()
    (stack,) = {stack for stack in sampler.stacks() if "hog" in stack[0]}
    assert stack[0] == "hog ?"
    assert "busy (x/?.py:1)" in stack
    assert [row.name for row in sampler.threads() if "hog" in row.name] == ["hog ?"]
