"""Pace: the market's events in time, which of them are taken, which is the next, and what engine time it is."""

from __future__ import annotations

import numpy as np

from engine import counters as at
from engine import deskarrays
from engine.deskarrays import Desk
from engine.events import EventArray, empty_events
from engine.histogram import BUCKETS, EDGES_NS, MAX_NS
from engine.journal import MARKET, JournalArray
from engine.livemarket import LiveMarket
from engine.market import Market
from engine.recorder import LONGEST
from engine.timeline import ORIGIN_ENGINE, ORIGIN_MONOTONIC

NS = 1_000_000_000
LOOKAHEAD_NS = NS // 4  # wall time for which events are generated ahead
_NO_EVENTS = empty_events(0)
_NO_EVENTS.flags.writeable = False


class Pace:
    """Engine time follows monotonic time at `speed`, from an origin that moves after a standstill."""

    def __init__(self, market: Market, speed: float, rebase_after_s: float) -> None:
        self.live = market if isinstance(market, LiveMarket) else None
        self.speed = speed
        self.timeline = np.zeros(2, dtype=np.int64)
        self.events = _NO_EVENTS
        self.cursor = 0  # the next of `events`
        self.known_until_ns = 0  # every event before this has been taken from the market
        self.served_ns = 0  # engine time of the last request served: the books' time must not fall behind it
        self._market = market
        self._rebase_ns = round(rebase_after_s * NS)

    @property
    def is_through(self) -> bool:
        """Whether every event that has been taken is applied."""
        return self.cursor == len(self.events)

    def begin(self, now_ns: int) -> None:
        """A session's first instant is now."""
        start_ns = self._market.start_ns
        self.timeline[:] = now_ns, start_ns
        self.put(_NO_EVENTS, 0, start_ns)
        self.served_ns = start_ns

    def go_on(self, now_ns: int, engine_ns: int) -> None:
        """Let time run on from an instant of the engine's."""
        if self.live is not None:
            self.live.begin(now_ns)
        self.timeline[:] = now_ns, max(engine_ns, self._market.start_ns)

    def put(self, events: EventArray, cursor: int, known_until_ns: int) -> None:
        """Stand at one of some events that the market gave."""
        self.events, self.cursor, self.known_until_ns = read_only(events), cursor, known_until_ns

    def put_new(self, events: EventArray) -> None:
        """Stand before events that the market gave, none of which has been applied."""
        self.put(events, 0, int(events["t_ns"][-1]) if len(events) else self._market.start_ns)

    def engine_ns(self, now_ns: int) -> int:
        """Engine time at a monotonic instant."""
        origin = int(self.timeline[ORIGIN_ENGINE])
        return origin + int((now_ns - int(self.timeline[ORIGIN_MONOTONIC])) * self.speed)

    def due_ns(self, engine_ns: int) -> int:
        """Monotonic time at an instant of the engine's."""
        distance = (engine_ns - int(self.timeline[ORIGIN_ENGINE])) / self.speed
        return int(self.timeline[ORIGIN_MONOTONIC]) + int(distance)

    def is_over(self, now_ns: int) -> bool:
        """Whether the market's session has ended and all of its events have been applied."""
        over = self.engine_ns(now_ns) >= self._market.end_ns
        return over and self.is_through and self.known_until_ns >= self._market.end_ns

    def refill(self, now_ns: int) -> bool:
        """Take the market's next events: those of a little while ahead, or more where it has them; False where it is not time."""
        until_ns = self.engine_ns(now_ns + (LOOKAHEAD_NS if self.live is None else 0))
        if self.known_until_ns >= until_ns or self.known_until_ns >= self._market.end_ns:
            return False
        events = self._market.take(until_ns)
        if self.live is not None:  # what came while the engine's time went on is taken as of now
            events["t_ns"] = np.maximum(events["t_ns"], max(self.known_until_ns, self.served_ns))
        self.put(events, 0, int(events["t_ns"][-1]) if len(events) else until_ns)
        return True

    def follow(self, records: JournalArray) -> bool:
        """Move on by the market events among some records; False where the market has others (a live one always)."""
        if self.live is not None:
            return True
        events = records[records["what"] == MARKET]
        done = 0
        while done < len(events):
            if self.is_through:
                self.events, self.cursor = read_only(self._market.take(self._market.end_ns)), 0
                if not len(self.events):
                    return False
                self.known_until_ns = int(self.events["t_ns"][-1])
            count = min(len(events) - done, len(self.events) - self.cursor)
            ours, theirs = self.events[self.cursor : self.cursor + count], events[done : done + count]
            if any((ours[name] != theirs[name]).any() for name in ("t_ns", "order_id", "price", "qty")):
                return False
            self.cursor += count
            done += count
        return True

    def rebase_if_far_behind(self, now_ns: int, desk: Desk) -> None:
        """After a standstill (a stopped process, a starved machine) go on from where we are, without a rush.

        The events that were due in it are due anew, but their wait so far is recorded: a standstill
        that moved the timeline and left no trace in the latencies would be coordinated omission.
        """
        if self.is_through or self.live is not None:  # a live market waits for nobody
            return
        behind_ns = now_ns - self.due_ns(int(self.events["t_ns"][self.cursor]))
        if behind_ns > self._rebase_ns:
            self._record_standstill(now_ns, behind_ns, desk)
            self.timeline[ORIGIN_MONOTONIC] += behind_ns
            desk.counts[at.REBASES] += 1

    def _record_standstill(self, now_ns: int, behind_ns: int, desk: Desk) -> None:
        """Record how long each event that is due by now has waited already; the first one the whole standstill."""
        due = self.events["t_ns"][self.cursor :]
        due = due[: max(int(np.searchsorted(due, self.engine_ns(now_ns), side="right")), 1)]
        waits_ns = np.maximum(behind_ns - ((due - due[0]) / self.speed).astype(np.int64), 0)
        which = at.LATENCY_MARKET_DATA
        bucket = np.searchsorted(EDGES_NS, np.minimum(waits_ns, MAX_NS), side="right") - 1
        desk.latencies[which] += np.bincount(bucket, minlength=BUCKETS)
        desk.latency_sums[which] += float(waits_ns.sum())
        desk.stages[LONGEST, which] = max(int(desk.stages[LONGEST, which]), behind_ns)
        desk.clockwork[deskarrays.WORST_LAG_NS] = max(int(desk.clockwork[deskarrays.WORST_LAG_NS]), behind_ns)


def read_only(events: EventArray) -> EventArray:
    """As a tape's events are: kernels are compiled for one of the two."""
    view = events.view()
    view.flags.writeable = False
    return view
