"""LiveMarket: a venue's public feed as the engine's market; the market is real, the orders are simulated.

Of the market itself nothing can be restored: an engine that comes back from its journal has its positions,
asks the feed process for every book, and trades on none before it has come. Until then, and whenever the feed process says that
a book is not LIVE or gives no sign of life itself, an instrument is BLIND: halted, its quotes and children
withdrawn (they would rest on prices that nobody sees), and no order of anybody is accepted. Clients' own
orders stay, as they would at a venue whose data are lost, and cannot trade before the book is back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.events import BLIND, HALT, EventArray, empty_events
from engine.feeds.decoder import FeedState
from engine.live.eventring import ACTIVE, CAUSE, SWITCHES, EventConsumer, read_grid
from engine.live.feedstatus import STATES
from engine.live.options import LiveOptions
from metrics.errors import TransientError
from metrics.paths import RuntimePaths

LOG = logging.getLogger("deskvigil.engine.live")
DAY_NS: Final = 86_400 * 10**9
OPEN_END_NS: Final = 365 * DAY_NS  # of a session that does not end by itself: further than any run
DEAD_AFTER_NS: Final = 10**9  # without a sign of life from the feed process
LOOK_S: Final = 0.02
MIN_LEVELS, MAX_LEVELS = 1 << 16, 1 << 20


class LiveMarket:
    """A market in sessions by the wall clock (UTC days, or one without an end); see `engine.market.Market`.

    Raises TransientError where the feed process has told nothing within wait_s (None: waits for ever).
    """

    def __init__(self, options: LiveOptions, paths: RuntimePaths, wait_s: float | None = None) -> None:
        until = None if wait_s is None else time.monotonic() + wait_s
        while (grid := read_grid(paths.feed_grid)) is None or grid.symbols != options.symbols:
            if until is not None and time.monotonic() > until:
                raise TransientError("the feed process has not told yet what is traded")
            time.sleep(LOOK_S)
        self._grid, self._options = grid, options
        self._ring = EventConsumer(paths.feed_ring, paths.feed_bell)
        self.instruments = grid.instruments()
        self.source = grid.source
        self.name: str | None = None
        self.simulated = False
        self.level_book = True
        self.starts_empty = False  # the books go on through midnight
        self.max_orders = min(max(len(grid.symbols) * grid.levels, MIN_LEVELS), MAX_LEVELS)
        self.faults = 0  # times that the feed process was missed; gaps and checksums are its own, and blind the book
        self._is_dead = False
        self._is_told = False  # that nothing may be traded on yet
        self._switches = int(self._ring.words[SWITCHES])
        self.begin(time.monotonic_ns())

    def now_ns(self, monotonic_ns: int) -> int:
        """The market's time at a monotonic instant."""
        return self._grid.now_ns(monotonic_ns)

    def begin(self, monotonic_ns: int) -> None:
        """A session begins at this instant."""
        self.start_ns = self.now_ns(monotonic_ns)
        midnight_ns = (self.start_ns // DAY_NS + 1) * DAY_NS
        self.end_ns = midnight_ns if self._options.session == "day" else self.start_ns + OPEN_END_NS

    def take(self, until_ns: int) -> EventArray:
        """What has come; first of all, and where the feed process is gone, that every instrument is BLIND."""
        is_dead = self._look(time.monotonic_ns())
        if not self._is_told:
            self._is_told = True
            return self._blind(until_ns)
        return empty_events(0) if is_dead else self._ring.take()

    def restart(self) -> None:
        """The next session follows at once (`begin` says when)."""

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Nothing of a live market can be kept."""
        return {"nothing": np.zeros(1, dtype=np.int64)}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> EventArray:
        """Nothing of a live market can be restored: every book is asked for anew."""
        self._ring.ask()
        self._is_told = False
        return empty_events(0)

    def news(self) -> list[tuple[str, dict[str, Any]]]:
        """What an operator should know since the last call, in words and as it goes into the audit."""
        switches = int(self._ring.words[SWITCHES])
        if switches == self._switches:
            return []
        feeds, active = self._options.names, int(self._ring.words[ACTIVE])
        cause = STATES[int(self._ring.words[CAUSE])].value
        self._switches = switches
        why = "it is live again" if cause == FeedState.LIVE.value else f"{feeds[1 - active]} is {cause}"
        words = f"market data now from {feeds[active]}: {why}"
        return [(words, {"feed": feeds[active], "before": feeds[1 - active], "before_is": cause, "switches": switches})]

    # For the loop's sleep.

    @property
    def bell(self) -> int:
        """A descriptor that is readable once events have come while parked."""
        return self._ring.bell

    def park(self) -> bool:
        """The loop is about to sleep; False where events have come and it must not."""
        return self._is_dead or self._ring.park()

    def unpark(self) -> None:
        """The loop is awake again."""
        self._ring.unpark()

    def close(self) -> None:
        """Let go of the ring."""
        self._ring.close()

    def _look(self, now_ns: int) -> bool:
        """Whether the feed process gives no sign of life; where that is new the books are to be told, and asked for."""
        is_dead = self._ring.age_ns(now_ns) > DEAD_AFTER_NS
        if is_dead and self._ring.is_replaced():
            raise TransientError("the feed process has begun a new ring: the engine must begin anew with it")
        if is_dead and not self._is_dead:
            LOG.error("the feed process gives no sign of life: nothing is traded until it does")
            self.faults += 1
            self._ring.ask()
            self._is_told = False
        elif self._is_dead and not is_dead:
            LOG.warning("the feed process is back")
        self._is_dead = is_dead
        return is_dead

    def _blind(self, t_ns: int) -> EventArray:
        events = empty_events(len(self.instruments))
        events["t_ns"], events["kind"], events["flags"] = t_ns, HALT, BLIND
        events["instrument"] = np.arange(len(events))
        return events
