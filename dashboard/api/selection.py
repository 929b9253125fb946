"""Which series there are: /series, /labels, /label/<name>/values, /metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from dashboard.api import answers
from dashboard.api.endpoint import Call
from dashboard.api.names import unescaped
from dashboard.api.parameters import Parameters
from dashboard.api.queries import TRUNCATED
from dashboard.api.targets import ScrapeView
from metrics.catalogue import CATALOGUE, metric_of
from metrics.series import Series
from query.engine import QueryEngine
from query.errors import QueryError, bad_data
from query.labels import get, labels_of
from query.matchers import Matcher
from query.plan import matchers_of

T = TypeVar("T")
Selections = Sequence[tuple[Matcher, ...]]
Metadata = dict[str, str]


class SeriesApi:
    """One method per endpoint: parameters in, JSON bytes out."""

    def __init__(self, query: QueryEngine, scrapes: ScrapeView | None) -> None:
        self._query = query
        self._scrapes = scrapes

    def series(self, parameters: Parameters, _: Call) -> bytes:
        """match[], start, end, limit."""
        selections = self._selections(parameters)
        if not selections:
            raise bad_data("no match[] parameter provided")
        limit, (start, end) = parameters.limit(), parameters.time_range()
        found = sorted(self._matching(selections, start, end), key=labels_of)
        most = self._query.options.max_series
        if min(len(found), limit or len(found)) > most:
            raise QueryError("execution", f"{len(found)} series match, the limit is {most} (query.max_series)")
        return _limited([dict(labels_of(one)) for one in found[: None if limit is None else limit + 1]], limit)

    def labels(self, parameters: Parameters, _: Call) -> bytes:
        """match[], start, end, limit: the label names."""
        selections, limit, (start, end) = self._selections(parameters), parameters.limit(), parameters.time_range()
        if not selections and start is None and end is None:
            return _limited(self._query.source.label_names(), limit)
        found = self._matching(selections or [()], start, end)
        return _limited(sorted({name for one in found for name, _ in labels_of(one)}), limit)

    def label_values(self, parameters: Parameters, _: Call) -> bytes:
        """match[], start, end, limit: the values of one label."""
        name = unescaped(parameters.path["name"])
        if not name:
            raise bad_data('invalid label name: ""')
        selections, limit, (start, end) = self._selections(parameters), parameters.limit(), parameters.time_range()
        if not selections and start is None and end is None:
            return _limited(self._query.source.label_values(name), limit)
        values = {get(labels_of(one), name) for one in self._matching(selections or [()], start, end)}
        return _limited(sorted(values - {""}), limit)

    def metadata(self, parameters: Parameters, _: Call) -> bytes:
        """metric, limit, limit_per_metric: type, help and unit of every metric; `unknown` where nobody told."""
        wanted, limit = parameters.text("metric", ""), parameters.limit()
        per_metric = parameters.limit("limit_per_metric")
        known = self._known_metadata()
        names = [wanted] if wanted in known else [] if wanted else sorted(known)
        return answers.success({name: known[name][:per_metric] for name in names[:limit]})

    def _known_metadata(self) -> dict[str, list[Metadata]]:
        known: dict[str, list[Metadata]] = {
            metric.name: [{"type": metric.kind, "unit": metric.unit, "help": metric.help}]
            for metric in CATALOGUE.values()
        }
        scraped: Mapping[str, Sequence[tuple[str, str, str]]] = (
            {} if self._scrapes is None else self._scrapes.metadata()
        )
        for name, told in scraped.items():
            entries = known.setdefault(name, [])
            entries += [{"type": kind, "unit": unit, "help": text} for kind, text, unit in told]
        for name in self._query.source.label_values("__name__"):
            if name not in known and metric_of(name) is None and _family(name) not in scraped:
                known[name] = [{"type": "unknown", "unit": "", "help": ""}]
        return known

    def _selections(self, parameters: Parameters) -> Selections:
        return selections_of(parameters, self._query)

    def _matching(self, selections: Iterable[tuple[Matcher, ...]], start: int | None, end: int | None) -> set[Series]:
        return {one for matchers in selections for one in self._query.source.series(matchers, start, end)}


def selections_of(parameters: Parameters, query: QueryEngine) -> list[tuple[Matcher, ...]]:
    """The series selectors in match[]."""
    found = []
    for text in parameters.all("match[]"):
        try:
            found.append(matchers_of(text, query.options))
        except QueryError as error:
            raise bad_data(f'invalid parameter "match[]": {error.message}') from None
    return found


def _family(name: str) -> str:
    """The metric that a part of a histogram, summary or counter belongs to."""
    for suffix in ("_bucket", "_count", "_sum", "_total", "_created", "_info"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _limited(items: Sequence[T], limit: int | None) -> bytes:
    if limit is None or len(items) <= limit:
        return answers.success(items)
    return answers.success(items[:limit], [TRUNCATED])
