from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def test_a_thread_that_ends_while_it_is_looked_at_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler()
    with _running("short", _waits), _running("idler", _waits):
        sampler.look()
        clocks = {seen.clock for seen in sampler._threads.values() if seen.name == "short"}

        def gone(clock: int, read: Callable[[int], float] = time.clock_gettime) -> float:
            if clock in clocks:
                raise OSError(errno.EINVAL, "Invalid argument")  # what the kernel says of a thread that is no more
            return read(clock)

        monkeypatch.setattr(module.time, "clock_gettime", gone)
        sampler.look()
    samples = {row.name: row.samples for row in sampler.threads()}
    assert (samples["short"], samples["idler"]) == (1, 2)


def test_memory_is_bounded(monkeypatch: object) -> None:
    sampler = Sampler()
    sampler._stacks.most = 1
    sampler._stacks.add(("other", "f"), 1)
    with _running("hog", _busy):
        _look_until(sampler, "hog", 0.02)
    assert set(sampler.stacks()) == {("other", "f"), ("hog", OTHER)}


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
