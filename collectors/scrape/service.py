"""ScrapeService: all targets on one event loop in one thread, and what others may ask of it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from collectors.scrape.aside import Aside, Ingest
from collectors.scrape.columns import SeriesBudget
from collectors.scrape.fetch import TlsContexts
from collectors.scrape.options import ScrapeJob
from collectors.scrape.scraper import Scraper
from collectors.scrape.state import Counts, Health, TargetState
from collectors.scrape.targets import Target, targets_of
from metrics.catalogue import series
from metrics.clock import Clock
from metrics.frame import Frame
from metrics.series import Schema, Series

log = logging.getLogger(__name__)

STOP_S = 5.0
FLUSH_S = 1.0
HEALTHS: tuple[Health, ...] = ("up", "down", "unknown")
METADATA_S = 2.0
MOST_METADATA = 100_000
Metadata = Mapping[str, Sequence[tuple[str, str, str]]]


class ScrapeService:
    """Scrapes what the jobs say. Frames go to `sink`, one schema for each target; `ingest` takes the rest.

    refused tells for collectors whose frames the store does not take why. Also a Collector, named "scrape": of its own cost. A service without targets has no thread.
    """

    name = "scrape"
    interval_s = 1.0

    def __init__(
        self,
        jobs: Sequence[ScrapeJob],
        clock: Clock,
        sink: Callable[[Frame], None],
        ingest: Ingest,
        *,
        max_series: int,
        version: str = "",
        refused: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._clock = clock
        self._sink = sink
        self._version = version
        self._refused = refused
        self._counts = Counts()
        self._aside = Aside(ingest, self._counts)
        self._budget = SeriesBudget(max_series)
        self._lock = threading.Lock()
        self._scrapers: dict[Target, Scraper] = {}
        self._tasks: dict[Target, asyncio.Task[None]] = {}
        self._targets, self._dropped = targets_of(jobs)
        self._contexts = {job.job_name: TlsContexts(job.tls_config) for job in jobs}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._cpu_ns = 0
        self._metadata: tuple[float, Metadata] = (float("-inf"), {})
        self._schema = Schema(self.name, _own_series())

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin scraping; does nothing where there is nothing to scrape or it has begun."""
        ready = threading.Event()
        with self._lock:
            if self._thread is not None or not self._targets:
                return
            self._thread = threading.Thread(target=self._run, args=(ready,), name="scrape", daemon=True)
            self._thread.start()
        ready.wait(STOP_S)  # without the lock, which the loop's first step takes

    def stop(self) -> None:
        """End within STOP_S seconds; may be called twice."""
        with self._lock:
            loop, thread, self._thread = self._loop, self._thread, None
        if thread is None:
            return
        if loop is not None and self._stopping is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(self._stopping.set)
        thread.join(STOP_S)
        if thread.is_alive():
            log.warning("scraping does not end and is left behind")

    def reconfigure(self, jobs: Sequence[ScrapeJob]) -> None:
        """Scrape what these jobs say from now on; the series of targets that are not among them end.

        Targets that have not changed go on undisturbed. ConfigError, and nothing changes, where a job is wrong.
        """
        targets, dropped = targets_of(jobs)
        with self._lock:
            known = {target.key: target for target in self._targets}
            kept = [known.get(target.key, target) for target in targets]
            self._targets = [old if old.equals(new) else new for old, new in zip(kept, targets, strict=True)]
            self._dropped = dropped
            for job in jobs:
                self._contexts[job.job_name] = TlsContexts(job.tls_config)  # scrapers that go on keep theirs
            running, loop = self._thread is not None, self._loop
        if running and loop is not None:
            asyncio.run_coroutine_threadsafe(self._apply(), loop).result(STOP_S)
        else:
            self.start()

    # --- what others ask ----------------------------------------------------------------------

    def targets(self) -> Sequence[TargetState]:
        """All targets, in the order of the configuration."""
        with self._lock:
            states = [(target, self._scraper(target).state) for target in self._targets]
        refused = self._refused()
        return [
            replace(state, warning=f"the store refuses all of it: {refused[target.name]}")
            if target.name in refused
            else state
            for target, state in states
        ]

    def dropped(self) -> Sequence[Mapping[str, str]]:
        """The discovered labels of targets that relabelling dropped."""
        return list(self._dropped)

    def metadata(self) -> Metadata:
        """For each metric the different (type, help, unit) that targets tell; a type in Prometheus's words."""
        until_s, found = self._metadata
        now_s = self._clock.monotonic_ns() / 1e9
        if now_s < until_s:
            return found
        with self._lock:
            scrapers = list(self._scrapers.values())
        gathered: dict[str, dict[tuple[str, str, str], None]] = {}
        for scraper in scrapers:
            for name, words in scraper.metadata.items():
                if name in gathered or len(gathered) < MOST_METADATA:
                    of_metric = gathered.setdefault(name, {})
                    of_metric[words.get("TYPE", "unknown"), words.get("HELP", ""), words.get("UNIT", "")] = None
        found = {name: tuple(kinds) for name, kinds in gathered.items()}
        self._metadata = (now_s + METADATA_S, found)
        return found

    # --- a Collector of its own cost ----------------------------------------------------------

    def describe(self) -> Schema:
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Own series in the order of `_own_series`."""
        counts = self._counts
        health = [state.health for state in self.targets()]
        with self._lock:
            known = sum(scraper.series for scraper in self._scrapers.values())
        values = [
            *(float(health.count(one)) for one in HEALTHS),
            counts.scrapes,
            counts.failures,
            counts.late,
            counts.samples,
            counts.received_bytes,
            known,
            counts.duplicates,
            counts.refused,
            counts.out_of_bounds,
            counts.ingested,
            counts.ingest_dropped,
            counts.layouts,
            self._cpu_ns / 1e9,
            counts.parse_ns / 1e9,
        ]
        return Frame(self._schema, now_ns, np.array(values, np.float64))

    def close(self) -> None:
        """Nothing of the collector's own is open."""

    # --- the loop's thread --------------------------------------------------------------------

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._main(ready))
        except Exception:
            log.exception("scraping has ended")
        finally:
            ready.set()

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        await self._apply()
        ready.set()
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while not stopping.done():
                await asyncio.wait({stopping}, timeout=FLUSH_S)
                self._cpu_ns = time.thread_time_ns()
                await asyncio.to_thread(self._aside.flush)
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.clear()
            self._aside.flush()
            self._loop = None

    async def _apply(self) -> None:
        """Start a task for each new target and end those of targets that are gone."""
        with self._lock:
            wanted = list(self._targets)
            scrapers = {target: self._scraper(target) for target in wanted}
            gone = [target for target in self._scrapers if target not in scrapers]
        for target in gone:
            task = self._tasks.pop(target, None)
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            with self._lock:
                scraper = self._scrapers.pop(target)
            scraper.end()
        for target, scraper in scrapers.items():
            if target not in self._tasks:
                self._tasks[target] = asyncio.create_task(scraper.run(), name=target.name)

    def _scraper(self, target: Target) -> Scraper:
        """The scraper of a target, made where there is none yet; the lock is held."""
        found = self._scrapers.get(target)
        if found is None:
            found = self._scrapers[target] = Scraper(
                target, self._contexts[target.job.job_name], self._clock, self._sink, self._aside, self._budget,
                self._counts, self._version,
            )  # fmt: skip
        return found


def _own_series() -> tuple[Series, ...]:
    prefix = "deskvigil_scrape_"
    return (
        *(series(f"{prefix}targets", health=health) for health in HEALTHS),
        *(
            series(prefix + name)
            for name in (
                "scrapes_total",
                "failures_total",
                "late_ticks_total",
                "samples_total",
                "received_bytes_total",
                "series",
                "duplicate_samples_total",
                "refused_samples_total",
                "out_of_bounds_samples_total",
                "ingested_samples_total",
                "dropped_samples_total",
                "layouts_total",
                "cpu_seconds_total",
                "parse_seconds_total",
            )
        ),
    )
