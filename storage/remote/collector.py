"""RemoteCollector: how forwarding to the remote store goes, as a collector."""

from __future__ import annotations

import numpy as np

from metrics.catalogue.remote import METRICS
from metrics.frame import Frame
from metrics.series import Schema, Series
from storage.remote.writer import RemoteWriter


class RemoteCollector:
    """Frames of the figures of metrics/catalogue/remote.py, once a second."""

    name = "remote_write"
    interval_s = 1.0

    def __init__(self, writer: RemoteWriter) -> None:
        self._writer = writer
        self._schema = Schema(self.name, tuple(Series(metric.name) for metric in METRICS))

    def describe(self) -> Schema:
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Read the figures."""
        status, counts = self._writer.status(), self._writer.counts
        values = {
            "up": float(status.ok),
            "samples_pending": status.queue.samples,
            "queue_age_seconds": status.queue.age_s,
            "sent_samples_total": counts.samples,
            "refused_samples_total": counts.refused,
            "lost_samples_total": status.queue.lost,
            "requests_total": counts.requests,
            "failures_total": counts.failures,
            "sent_bytes_total": counts.bytes,
            "request_seconds_total": counts.seconds,
        }
        row = [values[series.name.removeprefix("deskvigil_remote_write_")] for series in self._schema.series]
        return Frame(self._schema, now_ns, np.array(row, np.float64))

    def close(self) -> None:
        """Nothing to let go of."""
