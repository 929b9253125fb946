"""LiveRing: where frames arrive, the newest stretch of every series, and who is told of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from metrics.frame import FloatArray, Frame, IntArray
from metrics.series import Schema, Series
from storage.layouts import Layout, Layouts
from storage.matching import SeriesIndex, SeriesLimitError
from storage.options import StorageOptions
from storage.ring import NEVER_MS, Ring
from storage.stale import STALE_NAN, mark_missing

log = logging.getLogger(__name__)

Callback = Callable[[Frame], None]
LEAST_FRAMES = 128  # what a ring keeps even where all rings together have used up their memory


@dataclass(eq=False, slots=True)
class LiveColumns:
    """One schema's ring together with its layout; `order` tells successive schemas of a collector apart."""

    ring: Ring
    layout: Layout
    order: int


class LiveRing:
    """The newest frames of every collector. Thread-safe; frames come from the collectors' threads.

    Frames of one collector with equal schemas share a ring. Where a collector's schema changes,
    its series that are not described any more end with a stale marker at the first frame without
    them. At most `ring_generations` schemas of a collector stay in memory.
    """

    def __init__(
        self,
        index: SeriesIndex,
        layouts: Layouts,
        options: StorageOptions,
        archived_until_ms: Callable[[str], int] = lambda collector: NEVER_MS,
    ) -> None:
        self._index = index
        self._layouts = layouts
        self._options = options
        self._archived_until_ms = archived_until_ms
        self._lock = threading.Lock()
        self._by_schema: dict[int, tuple[Schema, LiveColumns]] = {}
        self._current: dict[str, LiveColumns] = {}
        self._generations: dict[str, tuple[LiveColumns, ...]] = {}
        self._of_series: dict[int, tuple[tuple[LiveColumns, int], ...]] = {}
        self._last_frames: dict[str, Frame] = {}
        self._subscribers: tuple[Callback, ...] = ()
        self._schemas: Mapping[str, Schema] = MappingProxyType({})
        self._orders = 0
        self._refused: dict[str, str] = {}
        self.callback_errors = 0
        self.refused_frames = 0

    @property
    def schemas(self) -> Mapping[str, Schema]:
        """The current schema of each collector."""
        return self._schemas

    @property
    def refused(self) -> Mapping[str, str]:
        """The collectors whose frames are not taken at present, and why."""
        return self._refused

    @property
    def bytes(self) -> int:
        return sum(columns.ring.bytes for some in list(self._generations.values()) for columns in some)

    def append(self, frame: Frame) -> None:
        """Take one frame and tell the subscribers, in this thread. NaN is kept as the stale marker."""
        known = self._by_schema.get(id(frame.schema))
        if known is None or self._current.get(frame.schema.collector) is not known[1]:
            try:
                columns = self._switch(frame)
            except SeriesLimitError as error:
                self.refused_frames += 1
                if frame.schema.collector not in self._refused:
                    log.error("frames of collector %s are refused: %s", frame.schema.collector, error)
                self._refused = {**self._refused, frame.schema.collector: str(error)}
                return
            if self._refused:
                self._refused = {name: why for name, why in self._refused.items() if name != frame.schema.collector}
        else:
            columns = known[1]
        columns.ring.append(frame.t_ms, mark_missing(frame.values))
        self._last_frames[frame.schema.collector] = frame
        for callback in self._subscribers:
            try:
                callback(frame)
            except Exception:
                self.callback_errors += 1
                log.exception("a subscriber of live frames failed on a frame of %s", frame.schema.collector)

    def erase(self, series_ids: Iterable[int], t0_ms: int, t1_ms: int) -> None:
        """Forget the values of some series with t0 <= t <= t1."""
        for series_id in series_ids:
            for columns, row in self._of_series.get(series_id, ()):
                columns.ring.erase(row, t0_ms, t1_ms)

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Have `callback` called with each frame, in the collector's thread, after it can be read.

        It must be quick; what it raises is logged and counted. Returns what ends the subscription.
        """
        with self._lock:
            self._subscribers = (*self._subscribers, callback)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(other for other in self._subscribers if other is not callback)

        return unsubscribe

    def last_frame(self, collector: str) -> Frame | None:
        return self._last_frames.get(collector)

    def latest(self, series: Series) -> tuple[int, float] | None:
        """Return time and value of the newest frame that describes a series; NaN: the reading is missing."""
        found = self.of_series(self._index.find(series))
        if not found:
            return None
        columns, row = max(found, key=lambda one: one[0].order)
        newest = columns.ring.newest
        return None if newest is None else (newest.t_ms, float(newest.values[row]))

    def window(self, series: Series, t0_ms: int, t1_ms: int) -> tuple[IntArray, FloatArray]:
        """Return what the ring holds of a series: times int64 [n] ascending, values float64 [n]; t0 <= t <= t1."""
        found = self.of_series(self._index.find(series))
        if not found:
            return np.empty(0, np.int64), np.empty(0)
        columns, row = max(found, key=lambda one: one[0].order)
        times, values = columns.ring.window(slice(row, row + 1), t0_ms, t1_ms)
        return times, values[0]

    def table(self, collector: str, t0_ms: int, t1_ms: int) -> tuple[Schema, IntArray, FloatArray] | None:
        """Return all series of a collector's current schema: times int64 [n], values float64 [series, n]."""
        columns = self._current.get(collector)
        if columns is None:
            return None
        return columns.ring.schema, *columns.ring.window(slice(None), t0_ms, t1_ms)

    def of_series(self, series_id: int | None) -> tuple[tuple[LiveColumns, int], ...]:
        """The rings that hold a series, each with its row there, oldest schema first."""
        return () if series_id is None else self._of_series.get(series_id, ())

    def layout_ids(self) -> set[int]:
        return {columns.layout.id for some in list(self._generations.values()) for columns in some}

    def layout_of(self, schema: Schema) -> Layout:
        """The layout of a schema of which a frame was appended."""
        return self._by_schema[id(schema)][1].layout

    def _switch(self, frame: Frame) -> LiveColumns:
        """Find or make the ring of a schema that is not its collector's current one, and make it that."""
        schema = frame.schema
        with self._layouts.existence, self._lock:
            known = self._by_schema.get(id(schema))
            columns = known[1] if known else self._equal(schema)
            if columns is None:
                columns = self._make(schema)
            self._by_schema[id(schema)] = (schema, columns)
            before = self._current.get(schema.collector)
            if before is not columns:
                if before is not None and before.ring.newest is not None:
                    before.ring.append(frame.t_ms, np.full(len(before.ring.schema), STALE_NAN))
                    columns.ring.shadow_ms = max(columns.ring.shadow_ms, before.ring.max_ms)
                self._orders += 1
                columns.order = self._orders
                self._current[schema.collector] = columns
                self._schemas = MappingProxyType({**self._schemas, schema.collector: schema})
                self._index.generation.bump()
            self._bound(schema.collector)
        return columns

    def _equal(self, schema: Schema) -> LiveColumns | None:
        for columns in self._generations.get(schema.collector, ()):
            if columns.ring.schema.series == schema.series:
                return columns
        return None

    def _make(self, schema: Schema) -> LiveColumns:
        ids = np.array([self._index.intern(series) for series in schema.series], np.int64)
        layout = self._layouts.intern(schema.collector, ids)
        earlier = self._generations.get(schema.collector, ())
        shadow_ms = max([self._archived_until_ms(schema.collector), *(other.ring.max_ms for other in earlier)])
        frame_bytes = 8 * (len(schema) + 1)
        share = max((self._options.ring_total_bytes - self.bytes) // 8, LEAST_FRAMES * frame_bytes)
        capacity = min(self._options.ring_frames, min(self._options.ring_bytes, share) // frame_bytes)
        columns = LiveColumns(Ring(schema, max(capacity, 16), shadow_ms), layout, 0)
        self._generations[schema.collector] = (*earlier, columns)
        for row, series_id in enumerate(ids.tolist()):
            self._of_series[series_id] = (*self._of_series.get(series_id, ()), (columns, row))
        return columns

    def _bound(self, collector: str) -> None:
        """Let go of the schemas that were current longest ago, and of their second names."""
        generations = self._generations[collector]
        excess = sorted(generations, key=lambda columns: columns.order)[: -self._options.ring_generations]
        for gone in excess:
            for series_id in gone.layout.series_ids.tolist():
                rest = tuple(one for one in self._of_series[series_id] if one[0] is not gone)
                self._of_series[series_id] = rest
        self._generations[collector] = tuple(columns for columns in generations if columns not in excess)
        if excess:
            self._index.generation.bump()
        aliases = [key for key, (schema, _) in self._by_schema.items() if schema.collector == collector]
        stale = [key for key in aliases if self._by_schema[key][1] in excess]
        spare = [key for key in aliases if self._by_schema[key][1] not in excess][: -4 * self._options.ring_generations]
        for key in (*stale, *spare):
            del self._by_schema[key]


__all__ = ["Callback", "LiveColumns", "LiveRing"]
