"""ApiMeter: what the HTTP API did, as series: requests by handler and code, time, refused work."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from metrics.catalogue import series
from metrics.clock import Clock
from metrics.frame import Frame
from metrics.series import Schema, Series

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MOST_SOURCES = 64  # that have met their series limit and are told apart; further ones are "other"
MOST_PAIRS = 256  # of handler and code; handlers are ours, codes few: only a bug gets here


class ApiMeter:
    """Counts; any thread may call. A collector by its shape (describe, collect), named "api"."""

    name = "api"
    interval_s = 1.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str], int] = defaultdict(int)
        self._buckets = np.zeros(len(BOUNDS_S) + 1)
        self._seconds = 0.0
        self._totals: dict[str, float] = {"samples": 0.0, "rejected": 0.0, "refused": 0.0}
        self._limited: dict[str, int] = {}
        self._schema: Schema | None = None

    def count_request(self, handler: str, code: int) -> None:
        """Count one answered request."""
        key = (handler, str(code))
        with self._lock:
            if key not in self._requests:
                if len(self._requests) >= MOST_PAIRS:
                    return
                self._schema = None
            self._requests[key] += 1

    @contextmanager
    def query(self) -> Iterator[None]:
        """Time one query."""
        begin = self._clock.monotonic_ns()
        try:
            yield
        finally:
            seconds = (self._clock.monotonic_ns() - begin) / 1e9
            with self._lock:
                self._buckets[int(np.searchsorted(BOUNDS_S, seconds))] += 1
                self._seconds += seconds

    def count_ingest(self, accepted: int, rejected: int) -> None:
        """Count samples that were stored or turned away."""
        with self._lock:
            self._totals["samples"] += accepted
            self._totals["rejected"] += rejected

    def count_limited(self, source: str, samples: int) -> None:
        """Count samples refused because their source has too many series."""
        with self._lock:
            if source not in self._limited:
                if len(self._limited) >= MOST_SOURCES:
                    source = "other"
                self._limited.setdefault(source, 0)
                self._schema = None
            self._limited[source] += samples

    def count_refused(self) -> None:
        """Count one request that found too many others waiting."""
        with self._lock:
            self._totals["refused"] += 1

    def describe(self) -> Schema:
        """The series of the next frame; a new Schema after a handler answered with a new code."""
        with self._lock:
            if self._schema is None:
                self._schema = Schema(self.name, tuple(self._series()))
            return self._schema

    def _series(self) -> Iterator[Series]:
        for handler, code in sorted(self._requests):
            yield series("deskvigil_web_api_requests_total", handler=handler, code=code)
        for bound in BOUNDS_S:
            yield series("deskvigil_query_seconds_bucket", le=f"{bound:g}")
        yield series("deskvigil_query_seconds_bucket", le="+Inf")
        yield series("deskvigil_query_seconds_sum")
        yield series("deskvigil_query_seconds_count")
        yield series("deskvigil_web_ingested_samples_total")
        yield series("deskvigil_web_rejected_samples_total")
        yield series("deskvigil_web_api_refused_total")
        for source in sorted(self._limited):
            yield series("deskvigil_web_limited_samples_total", source=source)

    def collect(self, now_ns: int) -> Frame:
        """The counters at this moment."""
        schema = self.describe()
        with self._lock:
            if self._schema is not schema:  # a new code arrived in between
                schema = self._schema = Schema(self.name, tuple(self._series()))
            cumulative = np.cumsum(self._buckets)
            values = np.concatenate(
                [
                    [float(self._requests[key]) for key in sorted(self._requests)],
                    cumulative,
                    [self._seconds, cumulative[-1]],
                    [self._totals["samples"], self._totals["rejected"], self._totals["refused"]],
                    [float(self._limited[source]) for source in sorted(self._limited)],
                ]
            )
        return Frame(schema, now_ns, values)

    def close(self) -> None:
        """Nothing is held open."""
