"""Health: whether the database can be written, since when not, and why."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from metrics.clock import Clock
from metrics.errors import TransientError


class StorageUnavailable(TransientError):  # noqa: N818 - a state of the outside world, not an error of ours
    """The database cannot be written or read just now; the message is a reason for a person."""


class CommitUnknown(StorageUnavailable):
    """The server went while it committed; `Database.committed(token)` tells later whether it did."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(message)
        self.token = token


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """ok, or degraded with a visible reason since `since_ms` (wall clock)."""

    ok: bool
    reason: str
    since_ms: int


class HealthMark:
    """The health of one database, set by whoever uses it; thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._health = StoreHealth(True, "", self._now_ms())

    @property
    def value(self) -> StoreHealth:
        return self._health

    def failed(self, reason: str) -> None:
        """Degraded from now on; `since_ms` stays where it is while the trouble lasts."""
        with self._lock:
            since_ms = self._now_ms() if self._health.ok else self._health.since_ms
            self._health = StoreHealth(False, reason, since_ms)

    def recovered(self) -> None:
        if self._health.ok:
            return
        with self._lock:
            self._health = StoreHealth(True, "", self._now_ms())

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000
