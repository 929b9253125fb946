"""Matching: the four label matchers of Prometheus, and the index of all series that answers them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import re2

from metrics.errors import DeskvigilError
from metrics.series import Series

NAME = "__name__"
_MOST_TESTED = 1_000
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
        self._versions: dict[str, int] = {}
        """How often the set of a label's values has changed."""
        self._tested: dict[tuple[str, str, str], tuple[int, list[set[int]]]] = {}
        self._unpersisted: dict[int, Series] = {}
        self._next_id = 1
        self.epoch = 0
        """Counts how often series were forgotten: ids that someone remembers hold within one epoch (`storage.keys`)."""

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
            self.epoch += 1
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
                        self._versions[name] = self._versions.get(name, 0) + 1
                    if not values:
                        del self._postings[name]
            self.generation.bump()

    def match(self, matchers: Sequence[MatcherLike]) -> list[int]:
        """Return the ids of the series that satisfy every matcher, ascending; no matcher matches all."""
        tests = [(name, op, value, predicate(op, value)) for name, op, value in matchers]
        with self._lock:
            # Equalities first, the rarest of them before all: they leave few series for the others to look at.
            tests.sort(
                key=lambda one: self._carrying(one[0], one[2]) if one[1] == "=" and one[2] else len(self._series)
            )
            found: set[int] | None = None
            for name, op, value, test in tests:
                found = self._narrow(found, name, op, value, test)
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

    def _carrying(self, name: str, value: str) -> int:
        return len(self._postings.get(name, {}).get(value, ()))

    def _narrow(self, found: set[int] | None, name: str, op: str, value: str, test: Predicate) -> set[int]:
        if op == "=" and value:
            carrying = self._postings.get(name, {}).get(value, set())
            return set(carrying) if found is None else found & carrying
        without = test("")
        chosen = self._chosen(name, op, value, test, not without)
        if found is None:
            ids = set().union(*chosen)
            return set(self._series) - ids if without else ids
        if 4 * len(found) < len(chosen):
            return {i for i in found if test(_value(self._series[i], name))}
        # Series by series of the smaller side each time, so the cost follows what was found and not what there is.
        ids = set().union(*(found & carrying for carrying in chosen))
        return found - ids if without else ids

    def _chosen(self, name: str, op: str, value: str, test: Predicate, wanted: bool) -> list[set[int]]:
        """The postings of a label whose value passes the test, or fails it; kept as long as its values do not change."""
        values = self._postings.get(name, {})
        version = self._versions.get(name, 0)
        kept = self._tested.get((name, op, value))
        if kept is None or kept[0] != version:
            if len(self._tested) >= _MOST_TESTED:
                self._tested.clear()
            kept = version, [carrying for text, carrying in values.items() if test(text) == wanted]
            self._tested[name, op, value] = kept
        return kept[1]

    def _add(self, series_id: int, series: Series) -> None:
        self._ids[series] = series_id
        self._series[series_id] = series
        for name, value in _labels(series):
            values = self._postings.setdefault(name, {})
            carrying = values.get(value)
            if carrying is None:
                carrying = values[value] = set()
                self._versions[name] = self._versions.get(name, 0) + 1
            carrying.add(series_id)
        self._next_id = max(self._next_id, series_id + 1)


def _labels(series: Series) -> Iterator[tuple[str, str]]:
    yield NAME, series.name
    yield from series.labels


def _value(series: Series, name: str) -> str:
    return series.name if name == NAME else series.label(name)
