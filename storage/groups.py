"""Groups: series that lie side by side everywhere, so that they can be read as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.frame import IntArray
from metrics.series import Series
from storage.ingest import Ingest
from storage.layouts import Layout, Layouts
from storage.live import LiveColumns, LiveRing
from storage.matching import SeriesIndex
from storage.ring import Ring, Rows


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Series with the same rings and the same layouts.

    ring, rows: the current ring of their only collector and their rows in it, where that alone can
    answer for recent times; None where other places hold recent samples too.
    rings, layouts: all places, each with the series' rows there; later ones were current later.
    """

    series: tuple[Series, ...]
    ids: IntArray
    ring: Ring | None
    rows: Rows
    rings: tuple[tuple[LiveColumns, Rows], ...]
    layouts: tuple[tuple[Layout, Rows], ...]
    ingested: bool


class Groups:
    """Sorts series into groups."""

    def __init__(self, index: SeriesIndex, live: LiveRing, layouts: Layouts, ingest: Ingest) -> None:
        self._index = index
        self._layouts = layouts
        self._ingest = ingest
        self.live = live

    def make(self, series_ids: Sequence[int]) -> list[Group]:
        """Return the groups of some series; series order within a group is that of its newest place."""
        members: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        places: dict[tuple[object, ...], tuple[list[LiveColumns], tuple[Layout, ...], bool]] = {}
        series = self._index.series(series_ids)
        for series_id in series:
            found = self.live.of_series(series_id)
            layouts = self._layouts.of_series(series_id)
            ingested = self._ingest.has(series_id)
            key = (*(id(one[0]) for one in found), None, *(layout.id for layout in layouts), ingested)
            if key not in places:
                places[key] = (sorted((one[0] for one in found), key=lambda c: c.order), layouts, ingested)
                members[key] = []
            members[key].append((found[-1][1] if found else 0, series_id))
        return [self._group(series, sorted(members[key]), *places[key]) for key in places]

    def _group(
        self,
        series: dict[int, Series],
        members: list[tuple[int, int]],
        columns: list[LiveColumns],
        layouts: tuple[Layout, ...],
        ingested: bool,
    ) -> Group:
        ids = [series_id for _, series_id in members]
        rings = tuple((one, _rows(one.layout, ids)) for one in columns)
        collectors = {one.layout.collector for one in columns} | {layout.collector for layout in layouts}
        alone = len(rings) > 0 and len(collectors) == 1 and not ingested
        return Group(
            series=tuple(series[series_id] for series_id in ids),
            ids=np.array(ids, np.int64),
            ring=rings[-1][0].ring if alone else None,
            rows=rings[-1][1] if alone else slice(0),
            rings=rings,
            layouts=tuple((layout, _rows(layout, ids)) for layout in layouts),
            ingested=ingested,
        )


def _rows(layout: Layout, ids: Sequence[int]) -> Rows:
    """Rows of some series in a layout; a slice, which reads without a copy, where they lie together."""
    rows = [layout.position[series_id] for series_id in ids]
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return np.array(rows, np.int64)
