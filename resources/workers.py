"""Workers: threads that come with the work and go without it, never more than the processors leave beside the engine.

All take from one queue, so that whoever is free takes what waits, however unequal the tasks are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from metrics.errors import DeskvigilError
from resources.topology import Topology

ENGINE_CPUS = 1
MOST_HELPERS = 3
IDLE_S = 10.0

P = ParamSpec("P")
T = TypeVar("T")
_Task = tuple[Future[Any], Callable[[], Any]]


def most_workers(topology: Topology, wanted: int | None = None) -> int:
    """How many helpers the machine has room for beside the engine; wanted: what the settings say, None: nothing."""
    room = max(topology.usable - ENGINE_CPUS, 0)
    return min(room, MOST_HELPERS if wanted is None else wanted)


class WorkerPool(Executor):
    """At most `most` threads. One is started for a task that would have to wait; one that is idle for idle_s ends."""

    def __init__(self, most: int, name: str, idle_s: float = IDLE_S) -> None:
        if most < 0:
            raise DeskvigilError(f"a pool of {most} workers")
        self.most = most
        self._name, self._idle_s = name, idle_s
        self._waiting: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._started = 0
        self._closed = False

    @property
    def size(self) -> int:
        """Threads that there are now."""
        return len(self._threads)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See Executor. RuntimeError after `shutdown`, DeskvigilError of a pool without any worker."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if not self.most:
                raise DeskvigilError(f"the pool {self._name} has no workers")
            self._waiting.append((future, lambda: fn(*args, **kwargs)))
            if len(self._waiting) > self._idle and len(self._threads) < self.most:
                self._start()
            self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor."""
        with self._changed:
            self._closed = True
            while cancel_futures and self._waiting:
                self._waiting.popleft()[0].cancel()
            self._changed.notify_all()
            threads = list(self._threads)
        for thread in threads if wait else ():
            thread.join()

    def _start(self) -> None:
        self._started += 1
        thread = threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no threads left in the system: those there are do the work, or the caller hears of it
            self._threads.discard(thread)
            if not self._threads:
                self._waiting.pop()
                raise

    def _run(self) -> None:
        while (task := self._take()) is not None:
            future, work = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # it is the asker's, as with every Executor
                future.set_exception(error)
            del task, future, work  # what a task held is not kept until the next one comes

    def _take(self) -> _Task | None:
        """The next task; None, and this thread is one of the pool's no more, where none came for idle_s or it is closed."""
        with self._changed:
            self._idle += 1
            came = self._changed.wait_for(lambda: self._waiting or self._closed, self._idle_s)
            self._idle -= 1
            if came and self._waiting:
                return self._waiting.popleft()
            self._threads.discard(threading.current_thread())
            return None
