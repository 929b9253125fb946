"""SourceQuota: how many series each source of samples keeps active, and which are too many."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from metrics.clock import Clock
from metrics.series import Series
from storage.keys import SeriesKey

log = logging.getLogger(__name__)

WINDOW_S = 3_600.0
MOST_SOURCES = 1_000


class _Source:
    """The series that a source sent in this window, and those that it sent only in the one before."""

    __slots__ = ("before", "keys", "now", "told", "window")

    def __init__(self, window: int) -> None:
        self.keys: set[SeriesKey] = set()  # of `now`; a key is found without hashing labels
        self.now: set[Series] = set()
        self.before: set[Series] = set()
        self.window = window
        self.told = False

    def turn(self, window: int) -> None:
        if window != self.window:
            self.before = self.now if window == self.window + 1 else set()
            self.now, self.keys = set(), set()
            self.window, self.told = window, False

    def has_room(self, series: Series, most: int) -> bool:
        return series in self.now or series in self.before or len(self.now) + len(self.before) < most

    def add(self, key: SeriesKey, most: int) -> None:
        self.now.add(key.series)
        self.before.discard(key.series)
        if len(self.keys) > 2 * most:  # keys of a cache that was emptied meanwhile
            self.keys.clear()
        self.keys.add(key)


class SourceQuota:
    """Admits at most `most` active series per source. Thread-safe.

    A source is a sender's address, or a value of the label `job`. A series is active for one to two hours after its
    last sample, so that a sender whose series change with each restart is not locked out for good. A sender that
    makes up new series without end is refused those; what it sent before goes on.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._sources: dict[str, _Source] = {}

    def admit(self, client: str, keys: Sequence[SeriesKey]) -> tuple[list[bool] | None, str, str]:
        """Which of the series may be stored (None: all), and where not all: the source with too many, and why."""
        window = int(self._clock.monotonic_ns() / 1e9 / WINDOW_S) + 1
        with self._lock:
            sender = self._source(f"client {client}", window)
            if sender.keys.issuperset(keys):  # every request but the first of the hour
                return None, "", ""
            refused: set[SeriesKey] = set()
            full = ""
            for key in keys:
                if key not in sender.keys:
                    refusing = self._refusing(sender, client, key, window)
                    if refusing:
                        refused.add(key)
                        full = refusing
            if not full:
                return None, "", ""
            return [key not in refused for key in keys], full, self._tell(full, window)

    def active(self, source: str) -> int:
        """How many series of a source ("client ADDRESS", "job NAME") are active."""
        with self._lock:
            found = self._sources.get(source)
            return 0 if found is None else len(found.now) + len(found.before)

    def _refusing(self, sender: _Source, client: str, key: SeriesKey, window: int) -> str:
        """Take note of a series, or return the source that has no room for it."""
        job = key.series.label("job")
        owner = self._source(f"job {job}", window) if job else None
        if not sender.has_room(key.series, self._most):
            return f"client {client}"
        if owner is not None:
            if not owner.has_room(key.series, self._most):
                return f"job {job}"
            owner.add(key, self._most)
        sender.add(key, self._most)
        return ""

    def _tell(self, full: str, window: int) -> str:
        reason = (
            f"{full} has {self._most} active series already (web.ingest.most_series_per_source): "
            "samples of further series are refused"
        )
        source = self._source(full, window)
        if not source.told:
            source.told = True
            log.warning("%s", reason)
        return reason

    def _source(self, name: str, window: int) -> _Source:
        found = self._sources.get(name)
        if found is None:
            if len(self._sources) >= MOST_SOURCES:
                # Room for one more: of all sources the one longest idle, and among these the smallest.
                del self._sources[
                    min(self._sources, key=lambda n: (self._sources[n].window, len(self._sources[n].now)))
                ]
            found = self._sources[name] = _Source(window)
        found.turn(window)
        return found
