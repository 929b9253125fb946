"""The recurring work on the archive."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler

from metrics.clock import Clock
from metrics.errors import DeskvigilError
from resources.allocator import trim
from storage import jobs
from storage.store import Store

log = logging.getLogger("deskvigil.console")

SETTLE_S = 20.0  # what was missed while the program was down waits until it has settled


@dataclass(frozen=True)
class Job:
    """Recurring work on the archive: called with the store and the time in ms, answers in words."""

    name: str
    function: Callable[[Store, int], str]
    every_s: float


JOBS = (
    Job("rollup", jobs.rollup, 300.0),
    Job("retention", jobs.retention, 3600.0),
    Job("join", jobs.join, 6 * 3600.0),
    Job("compact", lambda store, _: jobs.compact(store), 6 * 3600.0),
    Job("trim", lambda _, __: "memory given back" if trim() else "nothing to give back", 900.0),
)


def schedule(store: Store, clock: Clock) -> BackgroundScheduler:
    """The recurring work on the archive; each run is a row, and a run missed while down happens soon after the start."""
    runs = store.job_runs
    runs.recover()
    scheduler = BackgroundScheduler(timezone="UTC")
    for job in JOBS:
        first_s = SETTLE_S if runs.missed(job.name, round(job.every_s * 1e3)) else job.every_s
        scheduler.add_job(
            _run_job,
            "interval",
            (job, store, clock),
            seconds=job.every_s,
            next_run_time=datetime.now(UTC) + timedelta(seconds=first_s),
            id=job.name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
    scheduler.start()
    return scheduler


def _run_job(job: Job, store: Store, clock: Clock) -> None:
    try:
        store.job_runs.run(job.name, lambda: job.function(store, clock.now_ns() // 1_000_000))
    except DeskvigilError as error:  # the database cannot be written: the next run tries again
        log.warning("job %s could not be recorded: %s", job.name, error)
