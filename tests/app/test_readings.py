"""The rows that the search for bottlenecks looks at, made of real frames."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from collectors.engine import LE_NS
from console.readings import LEAST_ORDERS, Rates, Readings, RunDelay, p99_of
from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series, make_labels
from resources.bottleneck import Column
from resources.sampler import Sampler
from storage.options import StorageOptions
from storage.store import Store

NOW_MS = 1_800_000_000_000
ENGINE = Schema(
    "engine",
    tuple(
        Series(f"deskvigil_engine_{name}", ())
        for name in ("journal_records_total", "journal_undurable_records", "feed_age_seconds")
    ),
)
HOST = Schema(
    "host",
    (
        Series("deskvigil_host_cpus", ()),
        Series("deskvigil_host_cpu_busy_ratio", ()),
        *(Series("deskvigil_host_cpu_mode_ratio", make_labels({"mode": mode})) for mode in ("steal", "iowait")),
    ),
)
PROCESS = Schema(
    "process",
    tuple(Series("deskvigil_process_cpu_ratio", make_labels({"process": name})) for name in ("engine", "console")),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(StorageOptions(), RuntimePaths(tmp_path), SystemClock())
    yield opened
    opened.close()


def _append(store: Store, schema: Schema, t_ms: int, *values: float) -> None:
    store.live.append(Frame(schema, t_ms * 1_000_000, np.array(values)))


def test_others_processors_are_what_is_busy_less_what_is_ours(store: Store) -> None:
    readings = Readings(store.live, Sampler(), list)
    _append(store, HOST, NOW_MS, 4.0, 0.5, 0.25, 0.0)
    _append(store, PROCESS, NOW_MS, 0.5, 0.25)
    row = readings.row(NOW_MS, 1.0)
    assert row[Column.OTHERS_CPU] == pytest.approx(1.25)
    assert row[Column.STEAL_RATIO] == 0.25
    assert math.isnan(row[Column.LATENCY_P99_S])
    late = readings.row(NOW_MS + 10_000, 1.0)  # frames that old are no readings
    assert math.isnan(late[Column.OTHERS_CPU])


def test_the_journals_wait_is_as_old_as_its_oldest_record_that_is_not_on_the_disk(store: Store) -> None:
    readings = Readings(store.live, Sampler(), list)
    for tick in range(11):  # ten records every 100 ms; nothing is synced from the fourth tick on
        _append(store, ENGINE, NOW_MS + 100 * tick, 10.0 * tick, max(0.0, 10.0 * (tick - 3)), 0.0)
    row = readings.row(NOW_MS + 1_000, 1.0)
    assert row[Column.UNDURABLE_S] == pytest.approx(0.6)
    _append(store, ENGINE, NOW_MS + 1_100, 110.0, 0.0, 0.0)
    assert readings.row(NOW_MS + 1_100, 1.0)[Column.UNDURABLE_S] == 0.0


def test_the_p99_is_read_off_the_buckets() -> None:
    counts = np.zeros(len(LE_NS) + 1)
    counts[5], counts[9] = 980.0, 20.0
    low, high = LE_NS[8] / 1e9, LE_NS[9] / 1e9
    assert p99_of(counts.cumsum()) == pytest.approx(low + (high - low) * 0.5)
    few = np.zeros(len(LE_NS) + 1)
    few[3] = LEAST_ORDERS - 1
    assert math.isnan(p99_of(few.cumsum()))
    assert math.isnan(p99_of(-counts.cumsum() + 2_000.0))  # a new engine counts from 0
    counts[:] = 0.0
    counts[-1] = 100.0
    assert p99_of(counts.cumsum()) == LE_NS[-1] / 1e9


def test_a_rate_is_not_known_at_first_nor_where_a_counter_began_anew() -> None:
    rates = Rates()
    rates.begin(2.0)
    assert math.isnan(rates.of("x", 10.0))
    assert rates.of("x", 14.0) == 2.0
    assert math.isnan(rates.of("x", 3.0))
    assert rates.of("x", 5.0) == 1.0
    assert math.isnan(rates.of("x", math.nan))


def test_the_kernel_says_how_long_a_thread_waited_for_a_processor(tmp_path: Path) -> None:
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "schedstat").write_text("2500000000 500000000 9\n")
    delay = RunDelay(tmp_path)
    assert delay.read("engine", 17) == (2.5, 0.5)
    assert all(math.isnan(value) for value in delay.read("engine", 18))
    assert all(math.isnan(value) for value in delay.read("risk", 19))
    delay.close()
    own = RunDelay()
    assert own.read("self", os.getpid())[0] >= 0.0
    own.close()
