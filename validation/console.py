"""The console's measured parts without its pages: collectors, storage, rules and outbox, wired as the program wires them."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from alerts.options import AlertOptions
from alerts.service import AlertService
from alerts.stats import AlertsCollector
from collectors.collector import Collector
from collectors.engine import EngineCollector
from collectors.gpu import GpuCollector
from collectors.host import HostCollector
from collectors.options import CollectorOptions
from collectors.process import ChildStatus, ProcessCollector
from collectors.runner import CollectorThread
from metrics.clock import SystemClock
from metrics.paths import RuntimePaths
from query.engine import QueryEngine
from query.options import QueryOptions
from storage.options import StorageOptions
from storage.stats import StorageCollector
from storage.store import Store


@dataclass(frozen=True)
class ConsoleParts:
    """What runs while the measuring goes on."""

    store: Store
    alerts: AlertService
    threads: tuple[CollectorThread, ...]

    @property
    def series(self) -> int:
        """Series that arrive now, over all collectors."""
        return sum(len(schema) for schema in self.store.live.schemas.values())


@contextmanager
def running_console(
    paths: RuntimePaths,
    alert_options: AlertOptions,
    children: Callable[[], Sequence[ChildStatus]],
    collector_options: CollectorOptions | None = None,
) -> Iterator[ConsoleParts]:
    """Start the parts on the shipped options, yield them, and stop them in reverse."""
    clock = SystemClock()
    options = collector_options or CollectorOptions()
    with ExitStack() as stack:
        store = Store.open(StorageOptions(), paths, clock)
        stack.callback(store.close)
        store.start()
        stack.callback(store.stop)
        query = QueryEngine(store.reader, QueryOptions(), clock)
        alerts = AlertService(store, query, alert_options, clock)
        alerts.start()
        stack.callback(alerts.stop)
        collectors: tuple[Collector, ...] = (
            HostCollector(clock, options, paths.data_dir),
            ProcessCollector(clock, options, children),
            GpuCollector(clock, options),
            EngineCollector(paths.engine_block, "engine", clock, options.engine_interval_s),
            EngineCollector(paths.risk_block, "risk", clock, options.engine_interval_s),
            StorageCollector(store),
            AlertsCollector(alerts),
        )
        threads = []
        for collector in collectors:
            thread = CollectorThread(collector, clock, store.live.append)
            thread.start()
            stack.callback(thread.stop)
            threads.append(thread)
        yield ConsoleParts(store, alerts, tuple(threads))


@contextmanager
def scratch_paths() -> Iterator[RuntimePaths]:
    """Files for one measurement, the telemetry blocks in memory included; all gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="deskvigil-bench-") as folder:
        paths = RuntimePaths(Path(folder))
        try:
            yield paths
        finally:
            shutil.rmtree(paths.block_dir, ignore_errors=True)


def thread_cpu_s() -> dict[str, float]:
    """CPU seconds of each thread of this process so far, by name; threads of one name are summed."""
    spent: dict[str, float] = {}
    for thread in threading.enumerate():
        if thread.ident is not None:
            clock = time.pthread_getcpuclockid(thread.ident)
            spent[thread.name] = spent.get(thread.name, 0.0) + time.clock_gettime(clock)
    return spent
