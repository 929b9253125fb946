"""Failover: which of two feeds the engine trades on.

    first   -> backup   the first has not been LIVE for switch_after, and the backup is
    backup  -> first    the first has been LIVE for return_after without a break,
                        or is LIVE while the backup has not been for switch_after

The way back takes longer than the way there: a feed that flaps must not take the books with it.
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST, BACKUP = 0, 1


class Failover:
    """For one thread; time (monotonic, ns) is handed in and never falls. A desk without a backup stays with the first."""

    def __init__(self, switch_after_ns: int, return_after_ns: int, now_ns: int) -> None:
        self.active = FIRST
        self.switches = 0
        self._switch_after_ns, self._return_after_ns = switch_after_ns, return_after_ns
        self._live = [False, False]
        self._since_ns = [now_ns, now_ns]

    def decide(self, live: Sequence[bool], now_ns: int) -> bool:
        """Take in which feeds are LIVE now; True where the active one has changed."""
        for k, is_live in enumerate(live):
            if is_live != self._live[k]:
                self._live[k], self._since_ns[k] = is_live, now_ns
        if len(live) < 2:
            return False
        other = FIRST if self.active == BACKUP else BACKUP
        lost = not self._live[self.active] and now_ns - self._since_ns[self.active] >= self._switch_after_ns
        mended = other == FIRST and now_ns - self._since_ns[FIRST] >= self._return_after_ns
        if self._live[other] and (lost or mended):
            self.active = other
            self.switches += 1
            return True
        return False
