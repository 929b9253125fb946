"""Metrics of: web."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

METRICS: tuple[Metric, ...] = (
    Metric(
        "deskvigil_web_api_requests_total",
        "",
        "counter",
        "Requests answered by the HTTP API, by handler and status code.",
        ("handler", "code"),
    ),
    Metric(
        "deskvigil_web_api_refused_total",
        "",
        "counter",
        "API requests refused because too many others were waiting.",
    ),
    Metric("deskvigil_web_ingested_samples_total", "", "counter", "Samples stored through remote write or import."),
    Metric(
        "deskvigil_web_rejected_samples_total",
        "",
        "counter",
        "Samples turned away by remote write or import, for example because they were too old.",
    ),
    Metric(
        "deskvigil_web_limited_samples_total",
        "",
        "counter",
        "Samples refused because their source (a client or a job) has too many active series.",
        ("source",),
    ),
    Metric("deskvigil_query_seconds", "seconds", "histogram", "Time to answer one PromQL query over HTTP."),
)
