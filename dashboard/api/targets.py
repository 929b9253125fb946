"""Where the numbers come from: /targets, /targets/metadata, /scrape_pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from dashboard.api import answers
from dashboard.api.endpoint import Call
from dashboard.api.parameters import Parameters
from metrics.catalogue import metric_of
from metrics.clock import Clock
from metrics.frame import Frame
from metrics.series import Schema
from query.errors import bad_data
from query.matchers import predicate
from query.options import QueryOptions
from query.plan import matchers_of

STALE_AFTER_S = 5.0  # collectors tick at 1 Hz or faster; without a frame for so long one counts as down
SCRAPED = "scrape/"
"""Collectors with this prefix carry a scraped endpoint's series: they are the scraper's targets, not ours."""


class LiveView(Protocol):
    """The live ring, as far as the API shows it."""

    @property
    def schemas(self) -> Mapping[str, Schema]: ...

    def last_frame(self, collector: str) -> Frame | None: ...


class ScrapeTarget(Protocol):
    """One scraped endpoint; health is "up", "down" or "unknown", last_scrape_ns 0 before the first."""

    @property
    def pool(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def discovered(self) -> Mapping[str, str]: ...
    @property
    def health(self) -> str: ...
    @property
    def last_error(self) -> str: ...
    @property
    def last_scrape_ns(self) -> int: ...
    @property
    def last_duration_s(self) -> float: ...
    @property
    def interval_s(self) -> float: ...
    @property
    def timeout_s(self) -> float: ...


class ScrapeView(Protocol):
    """What the scraper tells of its targets; metadata: metric name -> (type, help, unit)."""

    def targets(self) -> Sequence[ScrapeTarget]: ...

    def dropped(self) -> Sequence[Mapping[str, str]]: ...

    def metadata(self) -> Mapping[str, Sequence[tuple[str, str, str]]]: ...


class TargetsApi:
    """One method per endpoint: parameters in, JSON bytes out."""

    def __init__(self, live: LiveView, scrapes: ScrapeView | None, clock: Clock) -> None:
        self._live = live
        self._scrapes = scrapes
        self._clock = clock

    def targets(self, parameters: Parameters, _: Call) -> bytes:
        """state, scrapePool: our collectors, and the endpoints that are scraped."""
        state, pool = parameters.text("state", "any").lower(), parameters.text("scrapePool", "")
        if state not in ("any", "active", "dropped"):
            raise bad_data(f'invalid parameter "state": {state!r} is not one of active, dropped, any')
        active = [one for one in self._active() if not pool or one["scrapePool"] == pool]
        dropped = [] if self._scrapes is None else [{"discoveredLabels": dict(one)} for one in self._scrapes.dropped()]
        return answers.success(
            {
                "activeTargets": active if state != "dropped" else [],
                "droppedTargets": dropped if state != "active" else [],
                "droppedTargetCounts": {},
            }
        )

    def pools(self, _parameters: Parameters, _: Call) -> bytes:
        """The names that scrapePool may have."""
        return answers.success({"scrapePools": sorted({str(one["scrapePool"]) for one in self._active()})})

    def metadata(self, parameters: Parameters, _: Call) -> bytes:
        """match_target, metric, limit: which target has which metric, with type, help and unit."""
        wanted, limit = parameters.text("metric", ""), parameters.limit()
        selector = parameters.text("match_target", "")
        tests = [(m.name, predicate(m)) for m in matchers_of(selector, QueryOptions())] if selector else []
        found: list[dict[str, object]] = []
        for collector in self._collectors():
            labels = _labels(collector)
            if not all(test(labels.get(name, "")) for name, test in tests):
                continue
            metrics = {
                one.name: one for series in self._live.schemas[collector].series if (one := metric_of(series.name))
            }
            found += [
                {"target": labels, "metric": one.name, "type": one.kind, "help": one.help, "unit": one.unit}
                for one in metrics.values()
                if wanted in ("", one.name)
            ]
        return answers.success(found[:limit])

    def _collectors(self) -> list[str]:
        return sorted(name for name in self._live.schemas if not name.startswith(SCRAPED))

    def _active(self) -> Iterator[dict[str, object]]:
        for name in self._collectors():
            yield self._collector(name)
        for target in () if self._scrapes is None else self._scrapes.targets():
            yield {
                "discoveredLabels": dict(target.discovered),
                "labels": dict(target.labels),
                "scrapePool": target.pool,
                "scrapeUrl": target.url,
                "globalUrl": target.url,
                "lastError": target.last_error,
                "lastScrape": rfc3339(target.last_scrape_ns),
                "lastScrapeDuration": target.last_duration_s,
                "health": target.health,
                "scrapeInterval": f"{target.interval_s:g}s",
                "scrapeTimeout": f"{target.timeout_s:g}s",
            }

    def _collector(self, name: str) -> dict[str, object]:
        frame = self._live.last_frame(name)
        age_s = float("inf") if frame is None else (self._clock.now_ns() - frame.t_ns) / 1e9
        healthy = age_s <= STALE_AFTER_S
        return {
            "discoveredLabels": _labels(name),
            "labels": _labels(name),
            "scrapePool": name,
            "scrapeUrl": f"deskvigil://collector/{name}",
            "globalUrl": f"deskvigil://collector/{name}",
            "lastError": "" if healthy else "no frame lately",
            "lastScrape": rfc3339(0 if frame is None else frame.t_ns),
            "lastScrapeDuration": 0.0,
            "health": "up" if healthy else "down",
            "scrapeInterval": "1s",
            "scrapeTimeout": "1s",
        }


def _labels(collector: str) -> dict[str, str]:
    return {"job": collector, "instance": "deskvigil"}


def rfc3339(t_ns: int) -> str:
    """A time as Prometheus's JSON writes it; 0 is Go's zero time, "never"."""
    if t_ns <= 0:
        return "0001-01-01T00:00:00Z"
    return datetime.fromtimestamp(t_ns / 1e9, tz=UTC).isoformat().replace("+00:00", "Z")
