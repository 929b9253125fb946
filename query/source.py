"""Where samples come from: the contract between queries and storage, and a source in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Labels, Series
from query.labels import NAME, get, labels_of
from query.matchers import Matcher, predicate


class Block(Protocol):
    """Series that share their time axis.

    series: the same tuple object as long as nothing changed, so that label work can be kept.
    t_ms: int64 [n], strictly ascending. values: float64 [series, n]; stale markers kept.
    """

    @property
    def series(self) -> tuple[Series, ...]: ...

    @property
    def t_ms(self) -> IntArray: ...

    @property
    def values(self) -> FloatArray: ...


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A Block by itself."""

    series: tuple[Series, ...]
    t_ms: IntArray
    values: FloatArray


class Cursor(Protocol):
    """The series that match one selector, resolved once and again only when the set of series changed."""

    def blocks(self, t0_ms: int, t1_ms: int, steps_ms: tuple[int, int] | None = None) -> Sequence[Block]:
        """Samples with t0 <= t <= t1; series without any may be missing.

        steps_ms: (first, every) step; samples that are not the newest at or before one of the steps may be missing.
        """
        ...

    def last(self, t0_ms: int, t1_ms: int) -> Sequence[Block]:
        """Of each series the newest sample with t0 <= t <= t1: blocks of one column."""
        ...


class Source(Protocol):
    """What a query engine reads."""

    def cursor(self, matchers: Sequence[Matcher]) -> Cursor: ...

    def series(
        self, matchers: Sequence[Matcher] = (), t0_ms: int | None = None, t1_ms: int | None = None
    ) -> list[Series]: ...

    def label_names(self, matchers: Sequence[Matcher] = ()) -> list[str]: ...

    def label_values(self, name: str, matchers: Sequence[Matcher] = ()) -> list[str]: ...


@dataclass(frozen=True, slots=True, eq=False)
class MinuteColumns:
    """A query.rollups.MinuteBlock by itself."""

    series: tuple[Series, ...]
    t_ms: IntArray
    columns: FloatArray


class MemorySource:
    """Series held in memory: for tests, conformance runs and backtests over loaded data."""

    def __init__(self, columns: Mapping[Series, tuple[IntArray, FloatArray]] | None = None) -> None:
        self.since_ms: int | None = None  # samples before are taken for gone, their minutes are there
        self._columns: dict[Series, tuple[IntArray, FloatArray]] = dict(columns or {})
        self.generation = 0

    def put(self, series: Series, t_ms: Iterable[int], values: Iterable[float]) -> None:
        """Replace the samples of one series; times ascend."""
        t = np.asarray(list(t_ms), dtype=np.int64)
        v = np.asarray(list(values), dtype=np.float64)
        if t.shape != v.shape or (np.diff(t) <= 0).any():
            raise ValueError(f"samples of {series} must be pairs of ascending times and values")
        self.generation += series not in self._columns
        self._columns[series] = (t, v)

    def raw_since_ms(self) -> int | None:
        return self.since_ms

    def has(self, series: Series) -> bool:
        return series in self._columns

    def column(self, series: Series) -> tuple[IntArray, FloatArray]:
        return self._columns[series]

    def cursor(self, matchers: Sequence[Matcher]) -> MemoryCursor:
        return MemoryCursor(self, matchers)

    def series(
        self, matchers: Sequence[Matcher] = (), t0_ms: int | None = None, t1_ms: int | None = None
    ) -> list[Series]:
        tests = [(matcher.name, predicate(matcher)) for matcher in matchers]
        found = [series for series in self._columns if _matches(labels_of(series), tests)]
        return [series for series in found if self._inside(series, t0_ms, t1_ms)]

    def _inside(self, series: Series, t0_ms: int | None, t1_ms: int | None) -> bool:
        t, _ = self._columns[series]
        low = 0 if t0_ms is None else int(np.searchsorted(t, t0_ms))
        high = len(t) if t1_ms is None else int(np.searchsorted(t, t1_ms, side="right"))
        return high > low

    def label_names(self, matchers: Sequence[Matcher] = ()) -> list[str]:
        return sorted({name for series in self.series(matchers) for name, _ in labels_of(series)})

    def label_values(self, name: str, matchers: Sequence[Matcher] = ()) -> list[str]:
        return sorted({get(labels_of(series), name) for series in self.series(matchers)} - {""})


class MemoryCursor:
    """A cursor over a MemorySource: series with equal time axes form one block."""

    def __init__(self, source: MemorySource, matchers: Sequence[Matcher]) -> None:
        self._source = source
        self._matchers = tuple(matchers)
        self._generation = -1
        self._series: list[Series] = []
        self._tuples: dict[tuple[Series, ...], tuple[Series, ...]] = {}

    def _resolved(self) -> list[Series]:
        if self._generation != self._source.generation:
            self._series = self._source.series(self._matchers)
            self._tuples = {}
            self._generation = self._source.generation
        return self._series

    def blocks(self, t0_ms: int, t1_ms: int, steps_ms: tuple[int, int] | None = None) -> Sequence[Block]:
        groups: dict[bytes, list[tuple[Series, IntArray, FloatArray]]] = {}
        t0_ms = max(t0_ms, self._source.since_ms if self._source.since_ms is not None else t0_ms)
        for series in self._resolved():
            t, v = self._source.column(series)
            low, high = np.searchsorted(t, t0_ms), np.searchsorted(t, t1_ms, side="right")
            if high > low:
                groups.setdefault(t[low:high].tobytes(), []).append((series, t[low:high], v[low:high]))
        return [self._block(group) for group in groups.values()]

    def series(self) -> list[Series]:
        return self._resolved()

    def minutes(self, t0_ms: int, t1_ms: int, wanted: Sequence[int] = ()) -> list[MinuteColumns]:
        """The minutes that start in t0 <= t <= t1, from the samples."""
        found = []
        for series in self._resolved():
            t, v = self._source.column(series)
            start = t // 60_000 * 60_000
            kept = (start >= t0_ms) & (start <= t1_ms) & ~np.isnan(v)
            minutes, first = np.unique(start[kept], return_index=True)
            if len(minutes):
                v = v[kept]
                count = np.diff([*first, len(v)])
                last = v[np.append(first[1:], len(v)) - 1]
                reductions = [ufunc.reduceat(v, first) for ufunc in (np.minimum, np.maximum, np.add)]
                found.append(MinuteColumns((series,), minutes, np.stack([*reductions, count, last])[:, None]))
        return found

    def last(self, t0_ms: int, t1_ms: int) -> Sequence[Block]:
        return [Columns(b.series, b.t_ms[-1:], b.values[:, -1:]) for b in self.blocks(t0_ms, t1_ms)]

    def _block(self, group: list[tuple[Series, IntArray, FloatArray]]) -> Columns:
        key = tuple(series for series, _, _ in group)
        return Columns(self._tuples.setdefault(key, key), group[0][1], np.stack([v for _, _, v in group]))


def _matches(labels: Labels, tests: Sequence[tuple[str, Callable[[str], bool]]]) -> bool:
    return all(test(get(labels, name)) for name, test in tests)


def name_matcher(name: str) -> Matcher:
    return Matcher(NAME, "=", name)
