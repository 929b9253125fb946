"""The pool of workers: it grows for what would have to wait, shrinks when nothing comes, and is bounded."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from dataclasses import replace

import pytest

from metrics.errors import DeskvigilError
from resources.workers import WorkerPool, most_workers
from tests.resources.machines import topology_of

LONG_S = 60.0


@pytest.mark.parametrize(
    ("cores", "quota", "wanted", "most"),
    [(1, None, None, 0), (2, None, None, 1), (4, None, None, 3), (64, None, None, 3), (64, 2.0, None, 1),
     (64, 0.5, None, 0), (64, None, 8, 8), (4, None, 8, 3), (4, None, 0, 0)],
)  # fmt: skip
def test_helpers_are_bounded_by_what_the_engine_leaves(
    cores: int, quota: float | None, wanted: int | None, most: int
) -> None:
    machine = topology_of(cores)
    if quota is not None:
        machine = replace(machine, quota=quota)
    assert most_workers(machine, wanted) == most


def test_it_grows_with_what_waits_up_to_its_bound() -> None:
    pool, gate = WorkerPool(2, "test", LONG_S), threading.Event()
    sizes, futures = [], []
    for _ in range(4):
        futures.append(pool.submit(gate.wait, LONG_S))
        sizes.append(pool.size)
    assert sizes == [1, 2, 2, 2]
    gate.set()
    assert all(future.result(LONG_S) for future in futures)
    pool.shutdown()
    assert pool.size == 0


def test_an_idle_worker_is_used_again_rather_than_a_new_one_started() -> None:
    pool = WorkerPool(4, "test", LONG_S)
    names = set()
    for _ in range(20):
        names.add(pool.submit(lambda: threading.current_thread().name).result(LONG_S))
        until_idle(pool)
    assert (len(names), pool.size) == (1, 1)
    pool.shutdown()


def until_idle(pool: WorkerPool) -> None:
    """Until a worker waits for work again, which it does a moment after its last result is there."""
    for _ in range(100_000):
        if pool._idle == pool.size:
            return
        threading.Event().wait(0.0005)
    raise AssertionError("no worker becomes idle")


def test_it_shrinks_when_nothing_comes_and_works_again_afterwards() -> None:
    pool = WorkerPool(3, "test", idle_s=0.01)
    for _ in range(3):
        assert pool.submit(int, "7").result(LONG_S) == 7
        for thread in list(pool._threads):
            thread.join(LONG_S)
        assert pool.size == 0
    pool.shutdown()


def test_errors_are_the_asker_s_and_the_worker_lives_on() -> None:
    pool = WorkerPool(1, "test", LONG_S)
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(LONG_S)
    assert pool.submit(int, "3").result(LONG_S) == 3
    assert pool.size == 1
    pool.shutdown()


def test_what_was_cancelled_is_not_done() -> None:
    pool, gate, done = WorkerPool(1, "test", LONG_S), threading.Event(), []
    first = pool.submit(gate.wait, LONG_S)
    second = pool.submit(done.append, 1)
    assert second.cancel()
    gate.set()
    assert first.result(LONG_S)
    pool.shutdown()
    assert done == []


def test_shutdown_does_what_waits_or_drops_it_if_told() -> None:
    for drop in (False, True):
        pool, gate = WorkerPool(1, "test", LONG_S), threading.Event()
        futures: list[Future[bool]] = [pool.submit(gate.wait, LONG_S) for _ in range(3)]
        pool.shutdown(wait=False, cancel_futures=drop)
        gate.set()
        wait(futures, LONG_S)
        pool.shutdown()
        assert sum(future.cancelled() for future in futures) in ((2, 3) if drop else (0,))
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(int)


def test_a_pool_without_workers_refuses() -> None:
    pool = WorkerPool(0, "nobody")
    with pytest.raises(DeskvigilError, match="nobody has no workers"):
        pool.submit(int)
    with pytest.raises(DeskvigilError, match="a pool of -1 workers"):
        WorkerPool(-1, "test")


def test_many_tasks_from_many_threads_are_each_done_once() -> None:
    pool, results = WorkerPool(3, "test", idle_s=0.001), []

    def ask() -> None:
        results.extend(future.result(LONG_S) for future in [pool.submit(lambda i=i: i) for i in range(200)])

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(LONG_S)
    assert sorted(results) == sorted(list(range(200)) * 4)
    pool.shutdown()
    assert pool.size == 0
