"""StorageCollector: the storage room's own figures as a collector."""

from __future__ import annotations

import numpy as np

from metrics.catalogue.storage import METRICS
from metrics.frame import Frame
from metrics.series import Schema, Series
from storage.store import Store


class StorageCollector:
    """Frames of `Store.stats`, once a second."""

    name = "storage"
    interval_s = 1.0

    def __init__(self, store: Store) -> None:
        self._store = store
        self._schema = Schema(self.name, tuple(Series(metric.name) for metric in METRICS))

    def describe(self) -> Schema:
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Read the figures; one that is not known is NaN."""
        stats = self._store.stats()
        values = np.array([stats.get(series, np.nan) for series in self._schema.series])
        return Frame(self._schema, now_ns, values)

    def close(self) -> None:
        """Nothing to let go of."""
