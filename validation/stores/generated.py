"""A store of many days, generated: series that look like a desk's, nothing repeated, sealed through our own code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metrics.clock import SystemClock
from metrics.frame import FloatArray, IntArray
from metrics.paths import RuntimePaths
from metrics.series import Series, make_labels
from storage import jobs
from storage.options import StorageOptions
from storage.rollups import DAY_MS
from storage.sealing import SealedBlock
from storage.store import Store

HOUR_MS = 3_600_000
SECONDS = 3_600
START_MS = 1_780_272_000_000
"""Midnight (UTC) of the first day."""
_MODES = ("user", "system", "idle", "iowait", "irq", "softirq")
_FORMAT = 3
_HOURS_AT_ONCE = 4
_CONSTANT_SHARE = 0.62  # of recorded host metrics


@dataclass(frozen=True, slots=True)
class Shape:
    """How much is generated: one sample a second of each series. At least 300 series."""

    days: int = 30
    series: int = 1_000

    @property
    def end_ms(self) -> int:
        return START_MS + self.days * DAY_MS

    @property
    def samples(self) -> int:
        return self.days * 86_400 * self.series


class Generator:
    """Columns hour after hour; every hour continues the one before.

    118 counters of CPU time, 100 levels with two decimals, then in turn bytes, latencies and counters
    that stand still for long, and 62 % constants.
    """

    def __init__(self, shape: Shape, seed: int = 7) -> None:
        constants = int(shape.series * _CONSTANT_SHARE)
        other = shape.series - constants - 218
        if other < 0:
            raise ValueError("a generated store has at least 600 series")
        self._random = np.random.default_rng(seed)
        self._counters = self._random.uniform(0, 1e5, 118)
        self._rates = self._random.uniform(0.02, 1.0, 118)
        self._levels = self._random.uniform(10, 90, 100)
        self._other = self._random.uniform(1e6, 1e9, other).round()
        self._constants = self._random.integers(0, 1_000_000, constants).astype(np.float64)
        self.series = (
            *(_series("bench_cpu_seconds_total", cpu=str(i // 6), mode=_MODES[i % 6]) for i in range(118)),
            *(_series("bench_level", item=f"{i:03d}") for i in range(100)),
            *(_series(("bench_bytes", "bench_latency_seconds", "bench_orders_total")[i % 3], item=f"{i:03d}") for i in range(other)),
            *(_series("bench_setting", item=f"{i:04d}") for i in range(constants)),
        )  # fmt: skip

    def columns(self, seconds: int = SECONDS) -> FloatArray:
        """The next stretch: float64 [series, seconds]."""
        random, n = self._random, seconds
        out = np.empty((len(self.series), n))
        steps = random.poisson(self._rates[:, None] * 10, (118, n)) / 100
        out[:118] = np.round(self._counters[:, None] + np.cumsum(steps, axis=1), 2)
        self._counters = out[:118, -1].copy()
        walk = self._levels[:, None] + np.cumsum(random.normal(0, 0.2, (100, n)), axis=1)
        out[118:218] = np.round(np.abs(walk), 2)
        self._levels = out[118:218, -1].copy()
        for i in range(len(self._other)):
            out[218 + i] = self._next_other(i, n)
        out[218 + len(self._other) :] = self._constants[:, None]
        return out

    def _next_other(self, i: int, n: int) -> FloatArray:
        random = self._random
        if i % 3 == 1:
            return np.round(random.lognormal(-7, 0.4, n), 9)
        if i % 3 == 0:  # memory: moves by pages, now and then
            moves = np.where(random.random(n) < 0.3, random.integers(-64, 65, n), 0) * 4096.0
        else:
            moves = np.where(random.random(n) < 0.05, random.integers(1, 20, n), 0).astype(np.float64)
        column: FloatArray = np.abs(self._other[i] + np.cumsum(moves))
        self._other[i] = column[-1]
        return column


def generated_store(folder: Path, shape: Shape, say: Callable[[str], None]) -> Store:
    """Open the generated store below `folder`, made where it is not there yet (a few minutes)."""
    place = folder / f"generated-{_FORMAT}-{shape.days}d-{shape.series}"
    done = place / "complete"
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        store = _open(place)
        try:
            _fill(store, shape, say)
        finally:
            store.close()
        done.touch()
    return _open(place)


def _open(place: Path) -> Store:
    return Store.open(
        StorageOptions(raw_days=36_500, select_max_samples=200_000_000), RuntimePaths(place), SystemClock()
    )


def _fill(store: Store, shape: Shape, say: Callable[[str], None]) -> None:
    generator = Generator(shape)
    layout = store.bulk.layout("bench", generator.series)

    def encode(hour: int, columns: FloatArray) -> SealedBlock:
        return store.bulk.encode(layout, hour_times(hour), columns)

    with ThreadPoolExecutor(2) as pool:
        for day in range(shape.days):
            for first in range(24 * day, 24 * day + 24, _HOURS_AT_ONCE):
                hours = range(first, first + _HOURS_AT_ONCE)
                store.bulk.store(list(pool.map(encode, hours, [generator.columns() for _ in hours])))
            end_ms = START_MS + (day + 1) * DAY_MS
            store.rollup_writer.run(end_ms, end_ms)
            jobs.join(store, end_ms + HOUR_MS)  # as every night
            if day % 5 == 4:
                say(f"archive: {day + 1} of {shape.days} days generated ...")


def hour_times(hour: int) -> IntArray:
    """The seconds of an hour since START_MS."""
    return START_MS + hour * HOUR_MS + np.arange(SECONDS, dtype=np.int64) * 1_000


def _series(name: str, **labels: str) -> Series:
    return Series(name, make_labels(labels))
