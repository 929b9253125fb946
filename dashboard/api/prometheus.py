"""Prometheus's HTTP API under /api/v1: which address is answered by what. docs/API.md describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from dashboard.api.admin import AdminApi, SeriesDeleter
from dashboard.api.endpoint import Handler, add_endpoint
from dashboard.api.gate import Gate
from dashboard.api.meter import ApiMeter
from dashboard.api.queries import QueryApi
from dashboard.api.rules import RulesApi, RulesView
from dashboard.api.selection import SeriesApi
from dashboard.api.status import BuildInfo, StatusApi, StatusInfo
from dashboard.api.targets import LiveView, ScrapeView, TargetsApi
from metrics.clock import Clock
from query.engine import QueryEngine

__all__ = ["BuildInfo", "LiveView", "RulesView", "ScrapeView", "StatusInfo", "prometheus_router"]

BOTH, GET = ("GET", "POST"), ("GET",)


@dataclass(frozen=True, slots=True)
class _Route:
    path: str
    handler: Handler
    methods: Sequence[str]


def prometheus_router(
    query: QueryEngine,
    rules: RulesView,
    live: LiveView,
    clock: Clock,
    *,
    gate: Gate,
    meter: ApiMeter,
    build: BuildInfo,
    scrapes: ScrapeView | None = None,
    status: StatusInfo | None = None,
    deleter: SeriesDeleter | None = None,
) -> APIRouter:
    """The routes. deleter None: the admin API is off, and says so."""
    queries = QueryApi(query, clock, meter)
    series = SeriesApi(query, scrapes)
    alerting = RulesApi(rules)
    targets = TargetsApi(live, scrapes, clock)
    about = StatusApi(query, build, status or StatusInfo(), clock)
    admin = AdminApi(query, deleter)
    routes = [
        _Route("/query", queries.instant, BOTH),
        _Route("/query_range", queries.range, BOTH),
        _Route("/query_exemplars", queries.exemplars, BOTH),
        _Route("/format_query", queries.format, BOTH),
        _Route("/series", series.series, BOTH),
        _Route("/labels", series.labels, BOTH),
        _Route("/metadata", series.metadata, GET),
        _Route("/rules", alerting.rules, GET),
        _Route("/alerts", alerting.alerts, GET),
        _Route("/alertmanagers", alerting.alertmanagers, GET),
        _Route("/targets", targets.targets, GET),
        _Route("/targets/metadata", targets.metadata, GET),
        _Route("/scrape_pools", targets.pools, GET),
        _Route("/status/buildinfo", about.buildinfo, GET),
        _Route("/status/runtimeinfo", about.runtimeinfo, GET),
        _Route("/status/config", about.config, GET),
        _Route("/status/flags", about.flags, GET),
        _Route("/status/tsdb", about.tsdb, GET),
        _Route("/status/walreplay", about.walreplay, GET),
        _Route("/admin/tsdb/delete_series", admin.delete_series, ("POST", "PUT")),
        _Route("/admin/tsdb/clean_tombstones", admin.clean_tombstones, ("POST", "PUT")),
        _Route("/admin/tsdb/snapshot", admin.snapshot, ("POST", "PUT")),
    ]
    router = APIRouter()
    for route in routes:
        add_endpoint(router, route.path, route.handler, route.methods, gate=gate, meter=meter)
    add_endpoint(router, "/label/{name}/values", series.label_values, GET, gate=gate, meter=meter)
    return router
