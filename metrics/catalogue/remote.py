"""Metrics of forwarding to a remote store; published where `storage.url` is set."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

METRICS: tuple[Metric, ...] = (
    Metric("deskvigil_remote_write_up", "", "gauge", "1 while the remote store takes samples."),
    Metric("deskvigil_remote_write_samples_pending", "", "gauge", "Samples stored here and not yet sent."),
    Metric("deskvigil_remote_write_queue_age_seconds", "seconds", "gauge", "How long the oldest unsent sample waits."),
    Metric("deskvigil_remote_write_sent_samples_total", "", "counter", "Samples that the remote store took."),
    Metric(
        "deskvigil_remote_write_refused_samples_total", "", "counter", "Samples that it refused for good (400, 413)."
    ),
    Metric(
        "deskvigil_remote_write_lost_samples_total",
        "",
        "counter",
        "Samples that retention deleted here before they could be sent.",
    ),
    Metric("deskvigil_remote_write_requests_total", "", "counter", "Requests that were answered."),
    Metric("deskvigil_remote_write_failures_total", "", "counter", "Attempts without success that were tried again."),
    Metric("deskvigil_remote_write_sent_bytes_total", "bytes", "counter", "Compressed bytes of the answered requests."),
    Metric("deskvigil_remote_write_request_seconds_total", "seconds", "counter", "Time until requests were answered."),
)
