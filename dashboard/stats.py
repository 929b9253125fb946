"""The live stream's own figures as a collector: structural, so that it runs in a collector thread like any other."""

from __future__ import annotations

import numpy as np

from dashboard.live import LiveHub
from metrics.catalogue.live import METRICS
from metrics.frame import Frame
from metrics.series import Schema, Series


class LiveCollector:
    """Publishes the hub's counters once a second; reading them needs no lock."""

    name = "live"
    interval_s = 1.0

    def __init__(self, hub: LiveHub) -> None:
        self._hub = hub
        self._schema = Schema(self.name, tuple(Series(metric.name) for metric in METRICS))

    def describe(self) -> Schema:
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """One frame, in the order of `metrics.catalogue.live`."""
        hub, stats = self._hub, self._hub.stats
        counts = (
            hub.viewers,
            stats.refused,
            stats.messages,
            stats.bytes_sent,
            stats.snapshots,
            stats.dropped,
            stats.state_failures,
        )
        return Frame(self._schema, now_ns, np.array(counts, np.float64))

    def close(self) -> None:
        """Nothing to close."""
