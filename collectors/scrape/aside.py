"""Aside: samples that do not fit into a frame, gathered and handed to ingest about once a second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from collectors.scrape.state import Counts
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray
from metrics.series import Series

log = logging.getLogger(__name__)

Ingest = Callable[[Sequence[Series], Sequence[IntArray], Sequence[FloatArray]], object]
"""Stores samples: for each series times int64 [n] in ms and values float64 [n]."""

MOST_WAITING = 500_000


class Aside:
    """Samples on their way to ingest. `add` may be called from any thread; `flush` from one.

    While the store cannot be written they wait, and beyond MOST_WAITING new ones are dropped and counted.
    """

    def __init__(self, ingest: Ingest, counts: Counts) -> None:
        self._ingest = ingest
        self._counts = counts
        self._lock = threading.Lock()
        self._waiting: dict[Series, tuple[list[int], list[float]]] = {}
        self._size = 0
        self._failing = ""

    def add(self, series: Series, t_ms: int, value: float) -> None:
        """Take one sample."""
        with self._lock:
            if self._size >= MOST_WAITING:
                self._counts.ingest_dropped += 1
                return
            times, values = self._waiting.setdefault(series, ([], []))
            times.append(t_ms)
            values.append(value)
            self._size += 1

    def flush(self) -> int:
        """Hand over what waits; returns how many samples. Never raises."""
        with self._lock:
            waiting, self._waiting, size = self._waiting, {}, self._size
            self._size = 0
        if not waiting:
            return 0
        try:
            self._ingest(
                list(waiting),
                [np.array(times, np.int64) for times, _ in waiting.values()],
                [np.array(values) for _, values in waiting.values()],
            )
        except DeskvigilError as error:
            if str(error) != self._failing:
                self._failing = str(error)
                log.warning("scraped samples wait for the store: %s", error)
            self._put_back(waiting, size)
            return 0
        except Exception:
            self._counts.ingest_dropped += size
            log.exception("scraped samples cannot be ingested")
            return 0
        self._failing = ""
        self._counts.ingested += size
        return size

    def _put_back(self, waiting: dict[Series, tuple[list[int], list[float]]], size: int) -> None:
        with self._lock:
            for series, (times, values) in self._waiting.items():
                before = waiting.setdefault(series, ([], []))
                before[0].extend(times)
                before[1].extend(values)
            self._waiting = waiting
            self._size += size
