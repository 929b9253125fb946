"""Layouts: which series lie side by side in frames and blocks, and in which layouts a series is."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from metrics.frame import IntArray
from storage import series_pages
from storage.columns import decode_times, encode_times
from storage.matching import SeriesIndex
from storage.tables import layout as layout_table

INGESTED = ""
"""The collector of layouts whose series came in by ingest."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The series ids of one collector's frames, in the order of their values: int64, shape (n,)."""

    id: int
    collector: str
    series_ids: IntArray

    @cached_property
    def position(self) -> dict[int, int]:
        """Row of each series id."""
        return {int(series_id): row for row, series_id in enumerate(self.series_ids)}


class Layouts:
    """All layouts; equal ones are one. Thread-safe."""

    def __init__(self, index: SeriesIndex) -> None:
        self._index = index
        self._lock = threading.Lock()
        self.existence = threading.RLock()
        """Held by whoever begins to use a series or layout, and by who drops unused ones."""
        self._by_key: dict[tuple[str, bytes], Layout] = {}
        self._by_id: dict[int, Layout] = {}
        self._of_series: dict[int, tuple[Layout, ...]] = {}
        self._unpersisted: dict[int, Layout] = {}
        self._next_id = 1

    def load(self, connection: Connection) -> None:
        """Read series and layouts from the database."""
        self._index.load(series_pages.read(connection))
        with self._lock:
            for row in connection.execute(select(layout_table)).all():
                self._add(Layout(row.id, row.collector, _ids(row.series_ids)))

    def intern(self, collector: str, series_ids: IntArray) -> Layout:
        """Return the layout of these series, a new one where there is none."""
        key = (collector, series_ids.astype("<i8").tobytes())
        with self._lock:
            found = self._by_key.get(key)
            if found is None:
                found = Layout(self._next_id, collector, np.frombuffer(key[1], np.dtype("<i8")))
                self._add(found)
                self._unpersisted[found.id] = found
                self._index.generation.bump()
            return found

    def of_series(self, series_id: int) -> tuple[Layout, ...]:
        """The layouts that hold a series, oldest first."""
        return self._of_series.get(series_id, ())

    def of_collector(self, collector: str) -> list[Layout]:
        with self._lock:
            return [layout for layout in self._by_id.values() if layout.collector == collector]

    def get(self, layout_id: int) -> Layout:
        return self._by_id[layout_id]

    def persist(self, connection: Connection) -> tuple[list[int], list[int]]:
        """Write what the database has not got yet; hand the result to `persisted` after the commit.

        Two threads may come one after the other with the same rows, hence OR IGNORE; series may be written twice.
        """
        new_series = self._index.unpersisted()
        with self._lock:
            new_layouts = list(self._unpersisted.values())
        series_pages.write(connection, list(new_series.items()))
        if new_layouts:
            connection.execute(
                insert(layout_table).prefix_with("OR IGNORE"),
                [{"id": x.id, "collector": x.collector, "series_ids": _bytes(x.series_ids)} for x in new_layouts],
            )
        return list(new_series), [x.id for x in new_layouts]

    def persisted(self, written: tuple[list[int], list[int]]) -> None:
        self._index.persisted(written[0])
        with self._lock:
            for layout_id in written[1]:
                self._unpersisted.pop(layout_id, None)

    def unused(self, in_use: Collection[int]) -> list[int]:
        """Layouts in the database that are not among `in_use`."""
        with self._lock:
            return [i for i in self._by_id if i not in in_use and i not in self._unpersisted]

    def drop(self, connection: Connection, layout_ids: Collection[int], keep_series: Collection[int]) -> list[int]:
        """Delete layouts and the series that no layout holds any more; `forget` them after the commit."""
        with self._lock:
            left = {i for key, x in self._by_id.items() if key not in layout_ids for i in x.series_ids.tolist()}
            gone = {i for key in layout_ids for i in self._by_id[key].series_ids.tolist()} - left - set(keep_series)
        for some in _batches(sorted(layout_ids), 5_000):
            connection.execute(delete(layout_table).where(layout_table.c.id.in_(some)))
        if gone:
            series_pages.remove(connection, gone)
        return sorted(gone)

    def forget(self, layout_ids: Collection[int], series_ids: Collection[int]) -> None:
        with self._lock:
            for layout_id in layout_ids:
                gone = self._by_id.pop(layout_id)
                del self._by_key[gone.collector, gone.series_ids.tobytes()]
                for series_id in gone.series_ids.tolist():
                    rest = tuple(x for x in self._of_series.get(series_id, ()) if x is not gone)
                    self._of_series[series_id] = rest
            for series_id in series_ids:
                self._of_series.pop(series_id, None)
        self._index.forget(series_ids)

    def _add(self, layout: Layout) -> None:
        self._by_key[layout.collector, layout.series_ids.tobytes()] = layout
        self._by_id[layout.id] = layout
        for series_id in layout.series_ids.tolist():
            self._of_series[series_id] = (*self._of_series.get(series_id, ()), layout)
        self._next_id = max(self._next_id, layout.id + 1)


def _bytes(series_ids: IntArray) -> bytes:
    return encode_times(series_ids) if len(series_ids) else b""


def _ids(data: bytes) -> IntArray:
    """Series ids as `persist` writes them, or side by side as version 0.1 did."""
    return decode_times(data) if data.startswith(b"pco!") else np.frombuffer(data, np.dtype("<i8"))


def _batches(items: list[int], size: int) -> Iterable[list[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))
