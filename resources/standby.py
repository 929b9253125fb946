"""Standby: a process that has done everything but begin, so that what dies is replaced within milliseconds."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess

REFILL_AFTER_S = 1.0  # what has just been started has the processors for itself first

Body = Callable[[Callable[[], None]], None]


class _Waiting(ForkServerProcess):
    """A process that runs `body(wait)` at once; `wait` returns in it when `start` is called here."""

    def __init__(self, body: Body, name: str) -> None:
        ours, theirs = multiprocessing.Pipe()
        super().__init__(target=_run, args=(body, theirs), name=name)
        super().start()
        theirs.close()
        self._pipe = ours

    def start(self) -> None:
        """Let it begin. Where it has ended already its exit status says why, as if it had begun."""
        with suppress(OSError):
            self._pipe.send_bytes(b"begin")
        self._pipe.close()


class Standby:
    """Makes processes of one kind and keeps one of them waiting.

    body: called in the process with a function `wait`; what it does before it calls that is done
    ahead of time. It must be picklable. `refill` is called again and again by whoever has the time.
    """

    def __init__(self, body: Body, name: str) -> None:
        self._body, self._name = body, name
        self._waiting: _Waiting | None = None
        self._taken_at = time.monotonic()

    def make(self) -> BaseProcess:
        """The waiting process, or a new one; its `start` lets it begin."""
        process, self._waiting = self._waiting, None
        self._taken_at = time.monotonic()
        if process is not None and process.exitcode is None:
            return process
        if process is not None:
            process.close()
        return _Waiting(self._body, self._name)

    def refill(self) -> None:
        """Have one wait again, a little after the last was taken."""
        if self._waiting is None and time.monotonic() - self._taken_at > REFILL_AFTER_S:
            with suppress(OSError, EOFError):  # no memory or no processes left: the next start makes its own
                self._waiting = _Waiting(self._body, self._name)

    def close(self) -> None:
        """End the waiting process."""
        process, self._waiting = self._waiting, None
        if process is not None:
            process.kill()
            process.join(timeout=1.0)


def _run(body: Body, pipe: Connection) -> None:
    def wait() -> None:
        try:
            pipe.recv_bytes()
        except EOFError:  # the supervisor has ended, and nobody will ever call
            raise SystemExit(0) from None
        pipe.close()

    body(wait)
