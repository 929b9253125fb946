"""FeedStatus: what the feed process shows of itself, in a telemetry block of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from engine.feeds.decoder import FeedState
from engine.live.socketfeed import SocketFeed
from engine.telemetry import BlockSpec, BlockWriter, TableSpec
from metrics.catalogue import series
from metrics.series import Series

STATES: Final = tuple(FeedState)
# What an instrument of a feed turned into, and when (wall clock); feed, instrument and state by number.
CHANGE: Final[list[Any]] = [
    ("t_ns", "<i8"),
    ("feed", "<i4"),
    ("instrument", "<i4"),
    ("state", "<i4"),
    ("live_feed", "<i4"),
]
KEPT_CHANGES: Final = 1024
_OF_A_FEED: Final = (
    "active", "age_seconds", "lag_seconds", "instruments_live", "messages_total", "skipped_total", "foreign_total",
    "duplicates_total", "gaps_total", "off_grid_total", "connections_total", "failures_total", "repairs_total",
)  # fmt: skip
_RESULTS: Final = ("ok", "bad")
_OF_ALL: Final = ("on_backup", "switches_total", "events_total", "events_lost_total", "handovers_total")


class FeedStatus:
    """The feed's block. feeds: names in order; info: constants in words."""

    def __init__(self, path: Path, feeds: Sequence[str], symbols: Sequence[str]) -> None:
        scalars: list[Series] = [series(f"deskvigil_feed_{what}") for what in _OF_ALL]
        for feed in feeds:
            scalars += [series(f"deskvigil_feed_{what}", feed=feed) for what in _OF_A_FEED]
            scalars += [series("deskvigil_feed_checksums_total", feed=feed, result=result) for result in _RESULTS]
            scalars += [series("deskvigil_feed_state", feed=feed, state=state.value) for state in STATES]
        info = {"feeds": list(feeds), "instruments": list(symbols)}
        self._block = BlockWriter(
            path, BlockSpec("feed", tuple(scalars), (), {"changes": TableSpec(CHANGE, KEPT_CHANGES)}, info)
        )

    def note(self, feed: int, instrument: int, state: FeedState, active: int) -> None:
        """Keep one change of state; seen from the next `publish` on."""
        table, written = self._block.tables["changes"], self._block.written
        table[int(written[0]) % len(table)] = time.time_ns(), feed, instrument, STATES.index(state), active
        written[0] += 1

    def publish(self, feeds: Sequence[SocketFeed], off_grid: Sequence[int], active: int, of_all: Sequence[int]) -> None:
        """Show how everything is now; of_all: on backup, switches, events, events lost, handovers."""
        now_ns = time.monotonic_ns()
        values: list[float] = [float(value) for value in of_all]
        for k, feed in enumerate(feeds):
            counters, state = feed.venue.decoder.counters, feed.state
            values += [
                float(k == active),
                (now_ns - feed.heard_ns) / 1e9 if feed.heard_ns else float("nan"),
                feed.lag_ns / 1e9 if feed.lag_ns != -1 else float("nan"),
                float(sum(one is FeedState.LIVE for one in feed.states)),
                float(counters.messages), float(counters.skipped), float(feed.foreign), float(counters.duplicates),
                float(counters.gaps), float(off_grid[k]), float(feed.connections), float(feed.failures), float(feed.repairs),
                float(counters.checksums_ok), float(counters.checksums_bad),
                *(float(one is state) for one in STATES),
            ]  # fmt: skip
        self._block.scalars[:] = values
        self._block.publish(time.time_ns())
