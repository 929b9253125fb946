"""Prometheus's HTTP API under /api/v1: queries, series, rules, alerts, targets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from fastapi import APIRouter, Request, Response

from dashboard.api import answers
from dashboard.api.gate import BusyError, Gate
from dashboard.api.meter import ApiMeter
from dashboard.api.parameters import Parameters, TooLargeError
from metrics.catalogue import CATALOGUE
from metrics.clock import Clock
from metrics.errors import TransientError
from metrics.frame import Frame
from metrics.series import Schema, Series
from query.engine import QueryEngine
from query.errors import QueryError, bad_data
from query.labels import get, labels_of
from query.matchers import Matcher
from query.plan import matchers_of

T = TypeVar("T")
Groups = Sequence[Mapping[str, object]]
STALE_AFTER_S = 5.0  # collectors tick at 1 Hz or faster; without a frame for so long one counts as down


class RulesView(Protocol):
    """What alerting tells: both in the shape of Prometheus's JSON."""

    def rules(self) -> Groups: ...

    def alerts(self) -> Groups: ...


class LiveView(Protocol):
    """The live ring, as far as the API shows it."""

    @property
    def schemas(self) -> Mapping[str, Schema]: ...

    def last_frame(self, collector: str) -> Frame | None: ...


@dataclass(frozen=True, kw_only=True)
class BuildInfo:
    """What /api/v1/status/buildinfo says. Clients read `version` as Prometheus's, so it names the API we follow."""

    version: str
    revision: str = ""
    compatible_with: str = "3.0.0"


def prometheus_router(
    query: QueryEngine,
    rules: RulesView,
    live: LiveView,
    clock: Clock,
    *,
    gate: Gate,
    meter: ApiMeter,
    build: BuildInfo,
) -> APIRouter:
    """The routes; every handler is async, whatever computes or reads goes through the gate's threads."""
    api = PrometheusApi(query, rules, live, clock, gate, meter, build)
    router = APIRouter(prefix="/api/v1")
    both, get_only = ["GET", "POST"], ["GET"]
    routes: list[tuple[str, Callable[[Parameters], Awaitable[bytes]], list[str]]] = [
        ("/query", api.instant, both),
        ("/query_range", api.range, both),
        ("/series", api.series, both),
        ("/labels", api.labels, both),
        ("/metadata", api.metadata, get_only),
        ("/rules", api.rules, get_only),
        ("/alerts", api.alerts, get_only),
        ("/targets", api.targets, get_only),
        ("/status/buildinfo", api.buildinfo, get_only),
        ("/format_query", api.format_query, both),
    ]
    for path, handler, methods in routes:
        router.add_api_route(path, _endpoint(path, handler, meter), methods=methods, include_in_schema=False)

    async def label_values(request: Request, name: str) -> Response:
        async def answer(parameters: Parameters) -> bytes:
            return await api.label_values(name, parameters)

        return await _answered("/label/:name/values", answer, request, meter)

    router.add_api_route("/label/{name}/values", label_values, methods=get_only, include_in_schema=False)
    return router


def _endpoint(
    path: str, handler: Callable[[Parameters], Awaitable[bytes]], meter: ApiMeter
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await _answered(path, handler, request, meter)

    return endpoint


async def _answered(
    path: str, handler: Callable[[Parameters], Awaitable[bytes]], request: Request, meter: ApiMeter
) -> Response:
    """Expected failures become Prometheus's error answers; anything else is a bug and stays an exception."""
    try:
        response = Response(await handler(await Parameters.of(request)), media_type="application/json")
    except QueryError as error:
        response = answers.of_query_error(error)
    except BusyError as error:
        response = answers.failure("unavailable", str(error))
        response.headers["Retry-After"] = "1"
    except TransientError as error:
        response = answers.failure("unavailable", str(error))
    except TooLargeError as error:
        response = answers.failure("bad_data", str(error))
        response.status_code = 413
    meter.count_request(path, response.status_code)
    return response


class PrometheusApi:
    """One method per endpoint: parameters in, JSON bytes out."""

    def __init__(
        self,
        query: QueryEngine,
        rules: RulesView,
        live: LiveView,
        clock: Clock,
        gate: Gate,
        meter: ApiMeter,
        build: BuildInfo,
    ) -> None:
        self._query = query
        self._rules = rules
        self._live = live
        self._clock = clock
        self._gate = gate
        self._meter = meter
        self._build = build

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    async def instant(self, parameters: Parameters) -> bytes:
        """query, time."""
        expression, at = parameters.text("query"), parameters.time_ms("time", self._now_ms())
        limit = parameters.limit()

        def work() -> bytes:
            with self._meter.query():
                answer = self._query.instant(expression, at)
            data = answers.result(answer)
            if answer.kind in ("vector", "matrix"):
                data["result"] = _first(data["result"], limit)  # type: ignore[arg-type]
            return answers.success(data, answer.warnings)

        return await self._gate.run(work)

    async def range(self, parameters: Parameters) -> bytes:
        """query, start, end, step."""
        expression = parameters.text("query")
        start, end = parameters.time_ms("start"), parameters.time_ms("end")
        step = parameters.duration_ms("step")
        limit = parameters.limit()

        def work() -> bytes:
            with self._meter.query():
                answer = self._query.range(expression, start, end, step)
            data = answers.result(answer)
            data["result"] = _first(data["result"], limit)  # type: ignore[arg-type]
            return answers.success(data, answer.warnings)

        return await self._gate.run(work)

    def _selections(self, parameters: Parameters) -> list[tuple[Matcher, ...]]:
        return [matchers_of(text, self._query.options) for text in parameters.all("match[]")]

    async def series(self, parameters: Parameters) -> bytes:
        """match[], start, end."""
        selections = self._selections(parameters)
        if not selections:
            raise bad_data("no match[] parameter provided")
        limit = parameters.limit()
        start, end = parameters.maybe_time_ms("start"), parameters.maybe_time_ms("end")

        def work() -> bytes:
            found = [dict(labels_of(one)) for one in self._matching(selections, start, end)]
            return answers.success(_first(found, limit))

        return await self._gate.run(work)

    async def labels(self, parameters: Parameters) -> bytes:
        """match[], start, end: the label names."""
        selections, limit = self._selections(parameters), parameters.limit()
        start, end = parameters.maybe_time_ms("start"), parameters.maybe_time_ms("end")

        def work() -> bytes:
            if not selections:
                return answers.success(_first(self._query.source.label_names(), limit))
            found = self._matching(selections, start, end)
            return answers.success(_first(sorted({name for one in found for name, _ in labels_of(one)}), limit))

        return await self._gate.run(work)

    async def label_values(self, name: str, parameters: Parameters) -> bytes:
        """match[], start, end: the values of one label."""
        selections, limit = self._selections(parameters), parameters.limit()
        start, end = parameters.maybe_time_ms("start"), parameters.maybe_time_ms("end")

        def work() -> bytes:
            if not selections:
                return answers.success(_first(self._query.source.label_values(name), limit))
            values = {get(labels_of(one), name) for one in self._matching(selections, start, end)}
            return answers.success(_first(sorted(values - {""}), limit))

        return await self._gate.run(work)

    def _matching(self, selections: Iterable[tuple[Matcher, ...]], start: int | None, end: int | None) -> list[Series]:
        found = {one: None for matchers in selections for one in self._query.source.series(matchers, start, end)}
        if len(found) > self._query.options.max_series:
            raise QueryError("execution", f"{len(found)} series match, the limit is {self._query.options.max_series}")
        return sorted(found, key=labels_of)

    async def metadata(self, parameters: Parameters) -> bytes:
        """metric, limit: type, help and unit of every metric in the catalogue."""
        wanted, limit = parameters.text("metric", ""), parameters.limit()
        known = [metric for metric in CATALOGUE.values() if wanted in ("", metric.name)]
        return answers.success(
            {m.name: [{"type": m.kind, "help": m.help, "unit": m.unit}] for m in _first(known, limit)}
        )

    async def rules(self, parameters: Parameters) -> bytes:
        """type=alert|record, rule_name[], rule_group[]."""
        kind = parameters.text("type", "")
        if kind not in ("", "alert", "record"):
            raise bad_data(f"not supported value {kind!r}")
        names, groups = set(parameters.all("rule_name[]")), set(parameters.all("rule_group[]"))

        def work() -> bytes:
            kept = []
            for group in self._rules.rules():
                rules = group.get("rules")
                if (groups and group.get("name") not in groups) or not isinstance(rules, Sequence):
                    continue
                rules = [rule for rule in rules if _rule_wanted(rule, kind, names)]
                if rules or not (names or kind):
                    kept.append({**group, "rules": rules})
            return answers.success({"groups": kept})

        return await self._gate.run(work)

    async def alerts(self, _: Parameters) -> bytes:
        """Pending and firing alerts."""
        return await self._gate.run(lambda: answers.success({"alerts": list(self._rules.alerts())}))

    async def targets(self, parameters: Parameters) -> bytes:
        """Collectors as targets; all are active."""
        state = parameters.text("state", "any")
        active = [] if state == "dropped" else [self._target(name) for name in sorted(self._live.schemas)]
        return answers.success({"activeTargets": active, "droppedTargets": []})

    def _target(self, collector: str) -> dict[str, object]:
        frame = self._live.last_frame(collector)
        age_s = float("inf") if frame is None else (self._clock.now_ns() - frame.t_ns) / 1e9
        healthy = age_s <= STALE_AFTER_S
        labels = {"job": collector, "instance": "deskvigil"}
        return {
            "discoveredLabels": labels,
            "labels": labels,
            "scrapePool": collector,
            "scrapeUrl": f"deskvigil://collector/{collector}",
            "globalUrl": f"deskvigil://collector/{collector}",
            "lastError": "" if healthy else "no frame lately",
            "lastScrape": _rfc3339(0 if frame is None else frame.t_ns),
            "lastScrapeDuration": 0.0,
            "health": "up" if healthy else "down",
            "scrapeInterval": "1s",
            "scrapeTimeout": "1s",
        }

    async def buildinfo(self, _: Parameters) -> bytes:
        """Version of the API that we follow, and ours."""
        return answers.success(
            {
                "application": "Deskvigil",
                "applicationVersion": self._build.version,
                "version": self._build.compatible_with,
                "revision": self._build.revision,
                "branch": "",
                "buildUser": "",
                "buildDate": "",
                "goVersion": "",
            }
        )

    async def format_query(self, parameters: Parameters) -> bytes:
        """query: the expression in a uniform layout."""
        expression = parameters.text("query")
        return await self._gate.run(lambda: answers.success(self._query.prettify(expression)))


def _rule_wanted(rule: object, kind: str, names: set[str]) -> bool:
    if not isinstance(rule, Mapping):
        return False
    if kind and rule.get("type") != {"alert": "alerting", "record": "recording"}[kind]:
        return False
    return not names or rule.get("name") in names


def _first(items: Sequence[T], limit: int | None) -> list[T]:
    return list(items if limit is None else items[:limit])


def _rfc3339(t_ns: int) -> str:
    return datetime.fromtimestamp(t_ns / 1e9, tz=UTC).isoformat().replace("+00:00", "Z")
