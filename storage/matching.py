"""Matching: the four label matchers of Prometheus, and the index of all series that answers them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import re2

from metrics.errors import DeskvigilError
from metrics.series import Series

NAME = "__name__"
Predicate = Callable[[str], bool]


class Matcher(NamedTuple):
    """name op value, with op one of =, !=, =~, !~; the metric's name is the label `__name__`."""

    name: str
    op: str
    value: str


MatcherLike = tuple[str, str, str]


def predicate(op: str, value: str) -> Predicate:
    """Return the test of one label value; a missing label is tested as "".

    Regular expressions are RE2 (no exponential time) and match the whole value. Raises
    DeskvigilError for a wrong one.
    """
    if op == "=":
        return lambda text: text == value
    if op == "!=":
        return lambda text: text != value
    if op not in ("=~", "!~"):
        raise ValueError(f"matcher operator {op!r} is not one of = != =~ !~")
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        fullmatch = re2.compile(value, options).fullmatch
    except re2.error as error:
        raise DeskvigilError(f"invalid regular expression {value!r}: {error}") from None
    if op == "=~":
        return lambda text: fullmatch(text) is not None
    return lambda text: fullmatch(text) is None


class SeriesLimitError(DeskvigilError):
    """There are as many series as the options allow."""


class Generation:
    """Counts changes of what exists (series, rings, layouts): whoever resolved something keeps the number."""

    def __init__(self) -> None:
        self.value = 0

    def bump(self) -> None:
        self.value += 1


class SeriesIndex:
    """All series, their ids, and for each label value the ids that carry it. Thread-safe.

    Ids are given out here, in memory, and reach the database with the first transaction that uses
    them (`unpersisted`): one process owns the database.
    """

    def __init__(self, max_series: int, generation: Generation | None = None) -> None:
        self.generation = generation or Generation()
        self._max_series = max_series
        self._lock = threading.Lock()
        self._ids: dict[Series, int] = {}
        self._series: dict[int, Series] = {}
        self._postings: dict[str, dict[str, set[int]]] = {}
        self._unpersisted: dict[int, Series] = {}
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._series)

    def load(self, known: Iterable[tuple[int, Series]]) -> None:
        """Take over what the database holds."""
        with self._lock:
            for series_id, series in known:
                self._add(series_id, series)
            self.generation.bump()

    def intern(self, series: Series) -> int:
        """Return the id of a series, a new one for a new series; SeriesLimitError beyond the limit."""
        found = self._ids.get(series)
        if found is not None:
            return found
        with self._lock:
            found = self._ids.get(series)
            if found is not None:
                return found
            if len(self._series) >= self._max_series:
                raise SeriesLimitError(f"there are already {self._max_series} series (storage.max_series)")
            series_id = self._next_id
            self._add(series_id, series)
            self._unpersisted[series_id] = series
            self.generation.bump()
            return series_id

    def find(self, series: Series) -> int | None:
        return self._ids.get(series)

    def series(self, ids: Iterable[int]) -> dict[int, Series]:
        """Return series by their ids, without those that were forgotten meanwhile."""
        return {series_id: found for series_id in ids if (found := self._series.get(series_id)) is not None}

    def unpersisted(self) -> dict[int, Series]:
        """Series that the database has not got yet."""
        with self._lock:
            return dict(self._unpersisted)

    def persisted(self, ids: Iterable[int]) -> None:
        with self._lock:
            for series_id in ids:
                self._unpersisted.pop(series_id, None)

    def ids(self) -> set[int]:
        with self._lock:
            return set(self._series)

    def forget(self, ids: Collection[int]) -> None:
        """Drop series of which nothing is stored any more; their ids are never given out again."""
        with self._lock:
            for series_id in ids:
                series = self._series.pop(series_id, None)
                if series is None:
                    continue
                del self._ids[series]
                self._unpersisted.pop(series_id, None)
                for name, value in _labels(series):
                    values = self._postings[name]
                    values[value].discard(series_id)
                    if not values[value]:
                        del values[value]
                    if not values:
                        del self._postings[name]
            self.generation.bump()

    def match(self, matchers: Sequence[MatcherLike]) -> list[int]:
        """Return the ids of the series that satisfy every matcher, ascending; no matcher matches all."""
        tests = [(name, op, value, predicate(op, value)) for name, op, value in matchers]
        tests.sort(key=lambda test: test[1] != "=" or test[2] == "")  # equalities first: they leave the fewest
        with self._lock:
            found: set[int] | None = None
            for name, op, value, test in tests:
                found = self._narrow(found, name, value if op == "=" else None, test)
                if not found:
                    return []
            return sorted(self._series if found is None else found)

    def label_names(self, ids: Iterable[int] | None) -> list[str]:
        """Label names in use, by all series or by those with `ids`."""
        with self._lock:
            if ids is None:
                return sorted(self._postings)
            return sorted({name for i in ids if i in self._series for name, _ in _labels(self._series[i])})

    def label_values(self, name: str, ids: Iterable[int] | None) -> list[str]:
        """Values of one label, by all series or by those with `ids`."""
        with self._lock:
            if ids is None:
                return sorted(self._postings.get(name, ()))
            return sorted({_value(self._series[i], name) for i in ids if i in self._series} - {""})

    def _narrow(self, found: set[int] | None, name: str, exact: str | None, test: Predicate) -> set[int]:
        values = self._postings.get(name, {})
        if found is not None and len(found) <= len(values):
            return {i for i in found if test(_value(self._series[i], name))}
        if exact:
            carrying = values.get(exact, set())
            return set(carrying) if found is None else found & carrying
        wanted = not test("")
        ids: set[int] = set().union(*(carrying for value, carrying in values.items() if test(value) == wanted))
        everything = set(self._series) if found is None else found
        return everything & ids if wanted else everything - ids

    def _add(self, series_id: int, series: Series) -> None:
        self._ids[series] = series_id
        self._series[series_id] = series
        for name, value in _labels(series):
            self._postings.setdefault(name, {}).setdefault(value, set()).add(series_id)
        self._next_id = max(self._next_id, series_id + 1)


def _labels(series: Series) -> Iterator[tuple[str, str]]:
    yield NAME, series.name
    yield from series.labels


def _value(series: Series, name: str) -> str:
    return series.name if name == NAME else series.label(name)
