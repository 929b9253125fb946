"""Gate: database and NumPy work off the event loop, a few at a time, the rest waiting or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from dashboard.api.meter import ApiMeter
from metrics.errors import TransientError

T = TypeVar("T")


class BusyError(TransientError):
    """Too much work is waiting already."""


class Gate:
    """At most `running` calls in threads at once and `waiting` behind them."""

    def __init__(self, meter: ApiMeter, *, running: int = 4, waiting: int = 64) -> None:
        self._meter = meter
        self._running = running
        self._most = running + waiting
        self._inside = 0
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return its result; BusyError where the queue is full."""
        if self._inside >= self._most:
            self._meter.count_refused()
            raise BusyError(f"{self._inside} requests are running or waiting already; try again")
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._running)
        self._inside += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._inside -= 1
