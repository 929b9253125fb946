"""GET /metrics: every current value of the live ring, in OpenMetrics or Prometheus's plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from fastapi import APIRouter, Request, Response

from dashboard.api.answers import number
from dashboard.api.gate import BusyError, Gate
from dashboard.api.meter import ApiMeter
from dashboard.api.targets import SCRAPED
from metrics.catalogue import metric_of
from metrics.catalogue.metric import Metric
from metrics.clock import Clock
from metrics.frame import Frame
from metrics.series import Labels, Schema, Series

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
CURRENT_S = 60.0  # a frame that is older says nothing about now
_PARTS = {"_bucket": 0, "_sum": 1, "_count": 2}

Family = list[tuple[Series, float]]


class LiveFrames(Protocol):
    """The newest frame of every collector."""

    @property
    def schemas(self) -> Mapping[str, Schema]: ...

    def last_frame(self, collector: str) -> Frame | None: ...


def exposition_router(live: LiveFrames, clock: Clock, *, gate: Gate, meter: ApiMeter) -> APIRouter:
    """The route; OpenMetrics where the client accepts it."""
    router = APIRouter()

    async def exposed(request: Request) -> Response:
        is_open = "application/openmetrics-text" in request.headers.get("accept", "")
        try:
            content = await gate.run(lambda: expose(current(live, clock.now_ns()), open_metrics=is_open))
        except BusyError as error:
            meter.count_request("/metrics", 503)
            return Response(str(error), 503)
        meter.count_request("/metrics", 200)
        return Response(content, headers={"content-type": OPEN_METRICS if is_open else PLAIN})

    router.add_route("/metrics", exposed, methods=["GET"], include_in_schema=False)
    return router


def current(live: LiveFrames, now_ns: int) -> Iterator[tuple[Series, float]]:
    """Series and values of all frames that are not too old; missing readings (NaN) are left out."""
    for collector in sorted(live.schemas):
        if collector.startswith(SCRAPED):  # others' series: who scrapes us would take them for ours
            continue
        frame = live.last_frame(collector)
        if frame is not None and now_ns - frame.t_ns <= CURRENT_S * 1e9:
            for series, value in zip(frame.schema.series, frame.values.tolist(), strict=True):
                if value == value:
                    yield series, value


def expose(samples: Iterable[tuple[Series, float]], *, open_metrics: bool) -> bytes:
    """Format samples as families: metadata, then samples, each family in one piece."""
    families: dict[str, Family] = {}
    seen: set[Series] = set()
    for series, value in samples:
        if series not in seen:  # two collectors with one series: the first stays, or no scraper takes the page
            seen.add(series)
            metric = metric_of(series.name)
            families.setdefault(series.name if metric is None else metric.name, []).append((series, value))
    lines: list[str] = []
    for name in sorted(families):
        family = families[name]
        metric = metric_of(name)
        lines += _metadata(name, metric, open_metrics=open_metrics)
        if metric is not None and metric.kind == "histogram":
            family.sort(key=_histogram_order)
        else:
            family.sort(key=lambda sample: sample[0].labels)
        lines += [f"{series} {number(value)}" for series, value in family]
    if open_metrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _metadata(name: str, metric: Metric | None, *, open_metrics: bool) -> list[str]:
    kind = "unknown" if metric is None else _kind(metric)
    if not open_metrics:
        lines = [] if metric is None else [f"# HELP {name} {_escaped(metric.help, quotes=False)}"]
        return [*lines, f"# TYPE {name} {'untyped' if kind == 'unknown' else kind}"]
    # OpenMetrics names a counter's family without _total and allows a unit only as the name's suffix.
    family = name.removesuffix("_total") if kind == "counter" else name
    if kind == "counter" and family == name:
        kind = "unknown"
    lines = [f"# TYPE {family} {kind}"]
    if metric is not None:
        if metric.unit and family.endswith("_" + metric.unit):
            lines.append(f"# UNIT {family} {metric.unit}")
        lines.append(f"# HELP {family} {_escaped(metric.help, quotes=True)}")
    return lines


def _kind(metric: Metric) -> str:
    """The format's word; quantiles that we compute ourselves are what it calls a summary."""
    return "summary" if metric.kind == "gauge" and "quantile" in metric.labels else metric.kind


def _escaped(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _histogram_order(sample: tuple[Series, float]) -> tuple[Labels, int, float]:
    """Histograms one after the other, in each the buckets by bound, then sum, then count."""
    series, _ = sample
    rest = tuple(pair for pair in series.labels if pair[0] != "le")
    part = next((order for suffix, order in _PARTS.items() if series.name.endswith(suffix)), 3)
    return rest, part, float(series.label("le", "0"))
