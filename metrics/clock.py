"""Clock: time is handed in, so that tests can hand in theirs."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Wall-clock and monotonic time in nanoseconds."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch; may step when the machine's clock is set."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that only ever grow; for ages, intervals and schedules."""
        ...

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait until the event is set or the time has passed; True where the event is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return event.wait(timeout_s)


class ManualClock:
    """A clock that moves only when told to: for tests and for replays of rules over old data."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = now_ns
        self._monotonic_ns = 0

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        if not event.is_set():
            self.advance(round(timeout_s * 1e9))
        return event.is_set()

    def advance(self, by_ns: int) -> None:
        """Let time pass: both clocks move."""
        self._now_ns += by_ns
        self._monotonic_ns += by_ns

    def step_wall(self, by_ns: int) -> None:
        """Set the wall clock as an administrator would: only it moves."""
        self._now_ns += by_ns
