"""Metrics of: the detectors of the alerts room."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

METRICS: tuple[Metric, ...] = (
    Metric(
        "deskvigil_anomaly_score",
        "",
        "gauge",
        "How unusual the watched series is now by its own history: -log10 of the probability, so 3 is once in a thousand samples.",
        ("series", "window"),
    ),
    Metric(
        "deskvigil_anomaly_reason",
        "",
        "gauge",
        "What is unusual: 0 a jump, 1 the level, 2 the range, 3 the spread, 4 the time of day, 5 the course, 6 standing still, 7 missing.",
        ("series", "window"),
    ),
    Metric(
        "deskvigil_anomaly_incidents_total",
        "",
        "counter",
        "Incidents that the anomaly detector found: however long one lasts it counts once.",
        ("series", "window"),
    ),
    Metric("deskvigil_anomaly_series", "", "gauge", "Series that the anomaly detector watches."),
    Metric("deskvigil_anomaly_series_refused", "", "gauge", "Series beyond the limit, which it does not watch."),
    Metric(
        "deskvigil_time_to_threshold_seconds",
        "seconds",
        "gauge",
        "Until the rule's threshold is met, where that is foretold; labels of the rule's series besides.",
        ("rule",),
    ),
    Metric(
        "deskvigil_time_to_threshold_low_seconds",
        "seconds",
        "gauge",
        "Early end of the interval of deskvigil_time_to_threshold_seconds: one breach in ten comes sooner.",
        ("rule",),
    ),
    Metric(
        "deskvigil_time_to_threshold_high_seconds",
        "seconds",
        "gauge",
        "Late end of the interval of deskvigil_time_to_threshold_seconds: one breach in ten comes later.",
        ("rule",),
    ),
    Metric("deskvigil_predictive_series", "", "gauge", "Series whose way to their rule's threshold is watched."),
    Metric("deskvigil_predictive_failures_total", "", "counter", "Rules that could not be asked when they were due."),
    Metric(
        "deskvigil_predictive_refused_total",
        "",
        "counter",
        "Times that a series was not watched: too many, or two rules of one name.",
    ),
)
