"""Breaker: a circuit breaker. It opens after failures in a row, waits, and lets one probe through before it closes.

    from        what happened              to
    CLOSED      `failures` in a row        OPEN       nothing passes
    OPEN        `open_s` have passed       HALF_OPEN  one probe passes
    HALF_OPEN   the probe succeeded        CLOSED     everything passes
    HALF_OPEN   anything failed            OPEN       the wait begins anew

A success ends the row of failures. While it is open, what comes in late (from orders and events that
were under way) changes nothing. A probe that is never answered is replaced after another `open_s`.
Time is handed in, so that tests and standstills know no other clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from types import MappingProxyType
from typing import Final

from engine.options import BreakerOptions

MARKET_DATA, DECISIONS, ORDERS, RISK = BREAKERS = ("market_data", "decisions", "orders", "risk")
NS = 1_000_000_000
WORDS = 200  # of a reason, at most


class BreakerState(IntEnum):
    """The value of deskvigil_engine_breaker_state."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Happening(Enum):
    """What moves a breaker from one state to another."""

    FAILED_TOO_OFTEN = auto()
    WAITED = auto()
    PROBE_SUCCEEDED = auto()
    FAILED_AGAIN = auto()


TRANSITIONS: Final = MappingProxyType(
    {
        (BreakerState.CLOSED, Happening.FAILED_TOO_OFTEN): BreakerState.OPEN,
        (BreakerState.OPEN, Happening.WAITED): BreakerState.HALF_OPEN,
        (BreakerState.HALF_OPEN, Happening.PROBE_SUCCEEDED): BreakerState.CLOSED,
        (BreakerState.HALF_OPEN, Happening.FAILED_AGAIN): BreakerState.OPEN,
    }
)


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state: which breaker, when (the time that was handed in), why in words."""

    breaker: str
    before: BreakerState
    after: BreakerState
    t_ns: int
    reason: str


class Breaker:
    """One circuit breaker, for one thread. Times are ns of one monotonic clock, whichever the caller has.

    tell: called with each change of state, the moment it happens.
    """

    def __init__(
        self, name: str, options: BreakerOptions, tell: Callable[[Transition], None] = lambda transition: None
    ) -> None:
        self.name = name
        self.state = BreakerState.CLOSED
        self.reason = ""  # of the last change of state
        self.trips = 0  # how often it opened
        self.failures = 0  # in a row, while it is closed
        self.since_ns: int | None = None  # when its state began; None from the start
        self._options = options
        self._open_ns = round(options.open_s * NS)
        self._tell = tell
        self._probe_ns: int | None = None  # when the probe that is under way was let through
        self._opened_ns = 0  # when it was last closed no longer

    def fail(self, now_ns: int, reason: str, times: int = 1) -> None:
        """Something failed, so many times since the last call."""
        if self.state is BreakerState.CLOSED:
            self.failures += times
            if self.failures >= self._options.failures:
                self._opened_ns = now_ns
                self._move(Happening.FAILED_TOO_OFTEN, now_ns, reason)
        elif self.state is BreakerState.HALF_OPEN:
            self._move(Happening.FAILED_AGAIN, now_ns, reason)

    def succeed(self, now_ns: int) -> None:
        """Something went well: it ends a row of failures, or is the probe's answer where one is under way."""
        if self.state is BreakerState.CLOSED:
            self.failures = 0
        elif self.state is BreakerState.HALF_OPEN and self._probe_ns is not None:
            self._move(Happening.PROBE_SUCCEEDED, now_ns, "the probe went well")

    def passes(self, now_ns: int) -> bool:
        """Whether something may be tried now. In HALF_OPEN the answer is yes once: what then happens is the probe."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN and now_ns - (self.since_ns or 0) >= self._open_ns:
            self._move(Happening.WAITED, now_ns, f"{self._options.open_s:g} s have passed: one probe is let through")
        if self.state is BreakerState.OPEN:
            return False
        if self._probe_ns is not None and now_ns - self._probe_ns < self._open_ns:
            return False
        self._probe_ns = now_ns
        return True

    def open_s(self, now_ns: int) -> float:
        """For how long it has not been closed; 0 while it is."""
        return 0.0 if self.state is BreakerState.CLOSED else (now_ns - self._opened_ns) / NS

    def _move(self, happening: Happening, now_ns: int, reason: str) -> None:
        before, self.state = self.state, TRANSITIONS[self.state, happening]
        self.reason, self.since_ns, self.failures, self._probe_ns = reason[:WORDS], now_ns, 0, None
        if self.state is BreakerState.OPEN:
            self.trips += 1
        self._tell(Transition(self.name, before, self.state, now_ns, self.reason))
