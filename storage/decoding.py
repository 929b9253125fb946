"""Decoding: columns are decoded while further ones are still being read, in several threads where it is much."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType

_WORTH_A_THREAD = 250_000
_AHEAD = 64
"""Tasks that may wait; what is read and not decoded yet takes memory."""


@dataclass(frozen=True, slots=True)
class Task:
    """Decoding of one row: fills some float64 views; `samples` says how long it takes."""

    run: Callable[[], None]
    samples: int


class Decoders:
    """The threads that help with decoding, shared by all readers: pcodec lets go of the interpreter's lock.

    most: how many threads help the asking one; by default one for each processor but its own, three at most. They
    are started when there is that much to do, and take from one queue, so that whoever is free takes what waits.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = min(len(os.sched_getaffinity(0)) - 1, 3) if most is None else most
        self.pool = ThreadPoolExecutor(max(self.most, 1), "storage-decode")

    def begin(self) -> Decoding:
        """Return a place for tasks; all of them are done where its `with` ends."""
        return Decoding(self)

    def close(self) -> None:
        self.pool.shutdown()


class Decoding:
    """Tasks of one read: `add` them inside `with`. The caller's thread works too, as it would only wait."""

    def __init__(self, decoders: Decoders) -> None:
        self._decoders = decoders
        self._waiting: SimpleQueue[Task | None] = SimpleQueue()
        self._helpers: list[Future[None]] = []
        self._samples = 0

    def add(self, task: Task) -> None:
        """Have a task done; an error of one that another thread did comes up at the end."""
        self._waiting.put(task)
        self._samples += task.samples
        wanted = min(self._decoders.most, self._samples // _WORTH_A_THREAD)
        while len(self._helpers) < wanted:
            self._helpers.append(self._decoders.pool.submit(_help, self._waiting))
        if self._waiting.qsize() > _AHEAD:
            with suppress(Empty):
                _run(self._waiting.get_nowait())

    def __enter__(self) -> Decoding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(Empty):
                while True:
                    task = self._waiting.get_nowait()
                    if kind is None:  # else nobody will look at the rest
                        _run(task)
        finally:
            for _ in self._helpers:
                self._waiting.put(None)
            started = [helper for helper in self._helpers if not helper.cancel()]
            failed = [found for helper in started if (found := helper.exception()) is not None]
        if failed and error is None:
            raise failed[0]


def _run(task: Task | None) -> None:
    if task is not None:
        task.run()


def _help(waiting: SimpleQueue[Task | None]) -> None:
    while (task := waiting.get()) is not None:
        task.run()
