"""Rest: a server that failed is left alone for a while, so that nobody waits for its timeouts."""

from __future__ import annotations

import random

from metrics.clock import Clock

_FIRST_PAUSE_S = 0.1


class Rest:
    """Pauses that double with each failure, up to a longest one. Safe to use from several threads: a lost
    update costs one attempt."""

    def __init__(self, clock: Clock, longest_s: float) -> None:
        self._clock = clock
        self._longest_s = longest_s
        self._until_ns = 0
        self._pause_s = 0.0
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why the server is left alone just now; empty where it may be asked."""
        return self._reason if self._pause_s and self._clock.monotonic_ns() < self._until_ns else ""

    def failed(self, reason: str) -> None:
        self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), self._longest_s)
        self._reason = reason
        self._until_ns = self._clock.monotonic_ns() + round(self._pause_s * random.uniform(0.8, 1.0) * 1e9)

    def worked(self) -> None:
        self._pause_s = 0.0
