"""Columns: which of a target's series its frames hold, and when that changes.

A new set of series is a new Schema, which costs storage a ring, a layout and a block. So a set is not given up
lightly: a series that vanishes keeps its column, empty, and newcomers go by way of `late` (ingest, one sample at a
time) until the set is made anew, which is soon the first time and ever more seldom for a target that keeps changing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collectors.scrape.page import Entry, Page
from metrics.frame import FloatArray, Frame, IntArray
from metrics.series import Schema, Series

NORMAL_NAN = float(np.array([0x7FF8_0000_0000_0001], np.uint64).view(np.float64)[0])
"""Prometheus's NaN that is a value: storage takes any other NaN of a frame for "no reading"."""
STALE_NAN = float(np.array([0x7FF0_0000_0000_0002], np.uint64).view(np.float64)[0])
FIRST_GAP_S, LAST_GAP_S = 10.0, 1_800.0
DAY_S = 86_400.0
SPARE = 0.25  # so many columns may be empty before the set is made anew for that alone


class SeriesBudget:
    """How many different series all targets together may have in a day."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


@dataclass(frozen=True, eq=False, slots=True)
class Placed:
    """A page as a frame, and what goes another way: late [n] newcomers and their values, gone: their ends."""

    frame: Frame
    late: list[Series]
    late_values: FloatArray
    gone: list[Series]
    duplicates: int


class Columns:
    """Places the samples of one target's pages. Used by one thread.

    reports: the series that every frame has, before the page's own.
    """

    def __init__(self, collector: str, reports: Sequence[Series], series_limit: int, budget: SeriesBudget) -> None:
        self._reports = tuple(reports)
        self._report_set = frozenset(reports)
        self._schema = Schema(collector, self._reports)
        self._position: dict[Series, int] = {}
        self._series_limit = series_limit
        self._budget = budget
        self._version = 0
        self._entries: list[Entry] | None = None
        self._columns: IntArray = np.empty(0, np.int64)
        self._late: dict[Series, None] = {}
        self._seen: dict[Series, float] = {}
        self._not_before_s = float("-inf")
        self._made_s = float("-inf")
        self._gap_s = FIRST_GAP_S
        self.refused = 0
        """Series of the last page that a limit left out."""
        self.limit = ""
        """Which limit that was, "" where none."""
        self.rebuilt = 0

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def late(self) -> int:
        """Series that go by way of ingest."""
        return len(self._late)

    def empty(self, t_ns: int, reports: Sequence[float]) -> Placed:
        """The frame of a failed scrape: every series ends. reports: float64 of each report series."""
        values = np.full(len(self._schema), np.nan)
        values[: len(self._reports)] = reports
        gone, self._late, self._entries = list(self._late), {}, None
        self.refused, self.limit = 0, ""
        return Placed(Frame(self._schema, t_ns, values), [], np.empty(0), gone, 0)

    def place(self, page: Page, t_ns: int, mono_s: float, reports: Sequence[float]) -> Placed:
        """The frame of a page read at t_ns (wall clock) and mono_s (monotonic seconds)."""
        numbers = page.values
        if np.isnan(numbers).any():
            numbers = np.where(np.isnan(numbers), NORMAL_NAN, numbers)
        if self._entries is page.entries and not self._late:
            columns, kept, duplicates = self._columns, None, 0
        else:
            columns, kept, duplicates = self._find(page.entries, mono_s)
        values = np.full(len(self._schema), np.nan)
        values[: len(self._reports)] = reports
        late: list[Series] = []
        late_values = np.empty(0)
        gone: list[Series] = []
        if kept is None:
            values[columns] = numbers
        else:
            inside = kept[columns[kept] >= 0]
            values[columns[inside]] = numbers[inside]
            late, late_values, gone = self._newcomers(page, numbers, columns, kept)
        return Placed(Frame(self._schema, t_ns, values), late, late_values, gone, duplicates)

    def _find(self, entries: list[Entry], mono_s: float) -> tuple[IntArray, IntArray | None, int]:
        """The column of each entry (-1: late, -2: refused); which of them count, None where all; how many are double."""
        self._entries, self.limit = None, ""
        new = [entry for entry in entries if entry.version != self._version or entry.column == -2]
        if new:
            self._resolve(new, mono_s)
        columns = np.array([entry.column for entry in entries], np.int64)
        if self._due(entries, columns, mono_s):
            self._make(entries, mono_s)
            columns = np.array([entry.column for entry in entries], np.int64)
        self.refused = int((columns == -2).sum())
        if (columns >= 0).all():
            _, kept = np.unique(columns, return_index=True)
            duplicates = len(columns) - len(kept)
            if not duplicates:
                self._entries, self._columns = entries, columns
                return columns, (np.arange(len(columns)) if self._late else None), 0
            return columns, kept, duplicates
        seen: set[Series | None] = set()
        first = []
        duplicates = 0
        for row, entry in enumerate(entries):
            if entry.series in seen:
                duplicates += 1
            else:
                seen.add(entry.series)
                if entry.column != -2:
                    first.append(row)
        return columns, np.array(first, np.int64), duplicates

    def _resolve(self, new: list[Entry], mono_s: float) -> None:
        """Give entries their column; refuse those beyond a limit."""
        for entry in new:
            series = entry.series
            if series is None:
                continue
            entry.version = self._version
            column = self._position.get(series)
            entry.column = column if column is not None else -1 if self._admit(series, mono_s) else -2

    def _admit(self, series: Series, mono_s: float) -> bool:
        if series in self._seen:
            return True
        if series in self._report_set:
            self.limit = f"{series} is a series that scraping itself writes"
            return False
        if len(self._seen) >= self._series_limit or self._budget.used >= self._budget.limit:
            self._forget(mono_s)
        if len(self._seen) >= self._series_limit:
            self.limit = f"more than {self._series_limit} different series in a day (series_limit)"
            return False
        if self._budget.used >= self._budget.limit:
            self.limit = f"all targets have more than {self._budget.limit} different series in a day (collectors.scrape_max_series)"
            return False
        self._seen[series] = mono_s
        self._budget.used += 1
        return True

    def _forget(self, mono_s: float) -> None:
        """Let go of series that were first seen a day ago and are not here any more."""
        old = [
            series
            for series, since_s in self._seen.items()
            if since_s < mono_s - DAY_S and series not in self._position and series not in self._late
        ]
        for series in old:
            del self._seen[series]
        self._budget.used -= len(old)

    def _due(self, entries: list[Entry], columns: IntArray, mono_s: float) -> bool:
        if mono_s < self._not_before_s:
            return False
        if (columns == -1).any():
            return True
        return len(self._position) - len(entries) > SPARE * len(self._position)

    def _make(self, entries: list[Entry], mono_s: float) -> None:
        """Make the set anew, of what is on the page."""
        self._version += 1
        position: dict[Series, int] = {}
        for entry in entries:
            entry.version = self._version
            if entry.column != -2 and entry.series is not None:
                entry.column = position.setdefault(entry.series, len(self._reports) + len(position))
        self._position = position
        self._schema = Schema(self._schema.collector, self._reports + tuple(position))
        quiet = mono_s - self._made_s > 4 * self._gap_s
        self._gap_s = FIRST_GAP_S if quiet else min(2 * self._gap_s, LAST_GAP_S)
        self._made_s, self._not_before_s = mono_s, mono_s + self._gap_s
        self.rebuilt += 1

    def _newcomers(
        self, page: Page, numbers: FloatArray, columns: IntArray, kept: IntArray
    ) -> tuple[list[Series], FloatArray, list[Series]]:
        """Late series with their values, and those that are late no more and have no column either."""
        rows = kept[columns[kept] == -1].tolist()
        late = [series for row in rows if (series := page.entries[row].series) is not None]
        now = dict.fromkeys(late)
        gone = [series for series in self._late if series not in now and series not in self._position]
        self._late = now
        return late, numbers[rows], gone

    def close(self) -> None:
        """Give the budget back."""
        self._budget.used -= len(self._seen)
        self._seen.clear()
