"""What is known of each target and of scraping as a whole, for pages and for own series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Health = Literal["unknown", "up", "down"]


@dataclass(frozen=True, slots=True)
class TargetState:
    """One target as the API shows it.

    pool: the job's name. last_error: why the last scrape failed, "" where it did not. warning: what was left out of
    a scrape that succeeded. last_scrape_ns: wall clock, 0 before the first.
    """

    pool: str
    url: str
    labels: Mapping[str, str]
    discovered: Mapping[str, str]
    health: Health
    last_error: str
    warning: str
    last_scrape_ns: int
    last_duration_s: float
    interval_s: float
    timeout_s: float


@dataclass(slots=True)
class Counts:
    """What scraping did since the start, all targets together. Written by the loop's thread only."""

    scrapes: int = 0
    failures: int = 0
    late: int = 0
    samples: int = 0
    received_bytes: int = 0
    duplicates: int = 0
    refused: int = 0
    out_of_bounds: int = 0
    ingested: int = 0
    ingest_dropped: int = 0
    layouts: int = 0
    sink_errors: int = 0
    parse_ns: int = 0
