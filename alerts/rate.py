"""TokenBucket: how many messages a channel may send, on the monotonic clock."""

from __future__ import annotations

import math


class TokenBucket:
    """`burst` messages at once, then `per_minute`; 0 a minute means no limit. Used by one thread."""

    def __init__(self, per_minute: float, burst: int) -> None:
        self._per_ns = per_minute / 60e9
        self._burst = float(max(burst, 1))
        self._tokens = self._burst
        self._at_ns: int | None = None

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self._per_ns > 0

    def left(self, now_ns: int) -> float:
        """How many messages may go now."""
        if not self.limited:
            return math.inf
        if self._at_ns is not None:
            self._tokens = min(self._burst, self._tokens + (now_ns - self._at_ns) * self._per_ns)
        self._at_ns = now_ns
        return self._tokens

    def take(self, now_ns: int) -> None:
        """Count one message, also one that went although none was left."""
        self._tokens = max(self.left(now_ns) - 1.0, 0.0) if self.limited else self._tokens

    def next_s(self, now_ns: int) -> float:
        """Seconds until a message may go."""
        missing = 1.0 - self.left(now_ns)
        return missing / self._per_ns / 1e9 if missing > 0 else 0.0
