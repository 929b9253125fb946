"""Metrics of the storage room: what it writes, holds, and whether it can."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

METRICS: tuple[Metric, ...] = (
    Metric(
        "deskvigil_storage_degraded", "", "gauge", "1 while the database cannot be written and frames wait in memory."
    ),
    Metric("deskvigil_storage_frames_total", "", "counter", "Frames committed since the start."),
    Metric("deskvigil_storage_commits_total", "", "counter", "Transactions that wrote frames."),
    Metric(
        "deskvigil_storage_commit_seconds_total", "seconds", "counter", "Time spent in transactions that wrote frames."
    ),
    Metric(
        "deskvigil_storage_last_commit_seconds", "seconds", "gauge", "Duration of the last transaction with frames."
    ),
    Metric("deskvigil_storage_failed_commits_total", "", "counter", "Transactions with frames that failed."),
    Metric("deskvigil_storage_backlog_frames", "", "gauge", "Frames that wait for their transaction."),
    Metric(
        "deskvigil_storage_dropped_frames_total",
        "",
        "counter",
        "Frames dropped because the backlog was full while the database could not be written.",
    ),
    Metric("deskvigil_storage_refused_frames_total", "", "counter", "Frames refused because of the series limit."),
    Metric("deskvigil_storage_unsealed_frames", "", "gauge", "Committed frames that are not in chunks yet."),
    Metric("deskvigil_storage_sealed_blocks_total", "", "counter", "Blocks sealed since the start."),
    Metric("deskvigil_storage_seal_seconds_total", "seconds", "counter", "Time spent on sealing frames."),
    Metric("deskvigil_storage_blocks", "", "gauge", "Sealed blocks that the database holds."),
    Metric("deskvigil_storage_series", "", "gauge", "Series known."),
    Metric("deskvigil_storage_ring_bytes", "bytes", "gauge", "Memory reserved for live rings."),
    Metric("deskvigil_storage_database_bytes", "bytes", "gauge", "Size of the database file."),
    Metric("deskvigil_storage_wal_bytes", "bytes", "gauge", "Size of the write-ahead log."),
    Metric("deskvigil_storage_ingested_samples_total", "", "counter", "Samples that came in from outside."),
    Metric("deskvigil_storage_rejected_samples_total", "", "counter", "Samples from outside that were refused."),
    Metric("deskvigil_storage_unsealed_samples", "", "gauge", "Samples from outside that are not in chunks yet."),
    Metric(
        "deskvigil_storage_relational_degraded",
        "",
        "gauge",
        "1 while alerts, audit and jobs cannot be stored in their database.",
    ),
    Metric("deskvigil_storage_deferred_writes", "", "gauge", "Annotations and job runs that wait for their database."),
    Metric("deskvigil_storage_dropped_writes_total", "", "counter", "Annotations and job runs given up."),
    Metric(
        "deskvigil_storage_capped_blocks_total",
        "",
        "counter",
        "Blocks deleted before their time because the database was larger than storage.max_bytes.",
    ),
    Metric("deskvigil_storage_decoded_bytes", "bytes", "gauge", "Memory of samples and minutes kept decoded."),
    Metric("deskvigil_storage_callback_errors_total", "", "counter", "Exceptions of subscribers of live frames."),
)
