"""Decoding with any number of helpers: every task is done once, and no more threads help than may."""

from __future__ import annotations

import threading

import pytest

from storage.decoding import Decoders, Task

MUCH = 300_000  # samples: worth a thread


@pytest.mark.parametrize("most", [0, 1, 3])
def test_every_task_is_done_once_by_the_asker_and_at_most_so_many_helpers(most: int) -> None:
    decoders, done = Decoders(most), []

    def task(number: int) -> Task:
        return Task(lambda: done.append((number, threading.current_thread().name)), MUCH)

    for _ in range(3):
        done.clear()
        with decoders.begin() as work:
            for number in range(200):
                work.add(task(number))
        assert sorted(number for number, _ in done) == list(range(200))
        assert len({name for _, name in done} - {threading.current_thread().name}) <= most
    decoders.close()


def test_a_small_question_starts_no_thread() -> None:
    decoders, names = Decoders(3), []
    with decoders.begin() as work:
        for _ in range(3):
            work.add(Task(lambda: names.append(threading.current_thread().name), 1000))
    assert names == [threading.current_thread().name] * 3
    decoders.close()


@pytest.mark.parametrize("most", [0, 2])
def test_an_error_comes_up_whoever_meets_it(most: int) -> None:
    decoders = Decoders(most)

    def fail() -> None:
        raise ValueError("damaged")

    def ask() -> None:
        with decoders.begin() as work:
            for _ in range(20):
                work.add(Task(fail, MUCH))

    with pytest.raises(ValueError, match="damaged"):
        ask()
    decoders.close()
