"""Metrics of: the scraping of other programs' endpoints (its own cost and trouble; what is scraped keeps its own names)."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

METRICS: tuple[Metric, ...] = (
    Metric("deskvigil_scrape_targets", "", "gauge", "Targets by health: up, down, or unknown before the first scrape.", ("health",)),
    Metric("deskvigil_scrape_scrapes_total", "", "counter", "Scrapes, failed ones included."),
    Metric("deskvigil_scrape_failures_total", "", "counter", "Scrapes that failed: the target is away, answers an error, or its page breaks a rule or a limit."),
    Metric("deskvigil_scrape_late_ticks_total", "", "counter", "Scrapes that were left out because the one before took too long or the machine was busy."),
    Metric("deskvigil_scrape_samples_total", "", "counter", "Samples taken in, after relabelling."),
    Metric("deskvigil_scrape_received_bytes_total", "bytes", "counter", "Bytes of pages as they came over the line."),
    Metric("deskvigil_scrape_series", "", "gauge", "Series that are scraped now."),
    Metric("deskvigil_scrape_duplicate_samples_total", "", "counter", "Samples left out because their series was on the page twice."),
    Metric("deskvigil_scrape_refused_samples_total", "", "counter", "Samples left out because a limit on series was met (series_limit, collectors.scrape_max_series)."),
    Metric("deskvigil_scrape_out_of_bounds_samples_total", "", "counter", "Samples left out because their own time was before 1970 or too far in the future."),
    Metric("deskvigil_scrape_ingested_samples_total", "", "counter", "Samples stored one by one instead of in frames: with a time of their own, or of series that have just appeared."),
    Metric("deskvigil_scrape_dropped_samples_total", "", "counter", "Such samples that were lost because the store could not be written for too long."),
    Metric("deskvigil_scrape_layouts_total", "", "counter", "Times that the set of series in a target's frames was made anew."),
    Metric("deskvigil_scrape_cpu_seconds_total", "seconds", "counter", "CPU time of the scraping thread."),
    Metric("deskvigil_scrape_parse_seconds_total", "seconds", "counter", "Time spent reading pages."),
)  # fmt: skip
