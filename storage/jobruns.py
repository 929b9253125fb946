"""JobRuns: a row for each run of a job, from which missed ones are known."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from metrics.clock import Clock
from storage.database import Database
from storage.deferred import Deferred
from storage.health import StorageUnavailable
from storage.tables import job_run

log = logging.getLogger(__name__)

_DETAIL_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run; status is running, ok, failed or interrupted (the program ended meanwhile).

    id 0: its row waits for the database.
    """

    id: int
    job: str
    started_ms: int
    finished_ms: int | None
    status: str
    detail: str


class JobRuns:
    """Runs jobs and keeps their runs as rows, from which missed ones are known."""

    def __init__(self, database: Database, clock: Clock, deferred: Deferred) -> None:
        self._database = database
        self._clock = clock
        self._deferred = deferred

    def recover(self) -> int:
        """Mark the runs that the end of the program interrupted; call once at start. Returns how many."""
        with self._database.write() as connection:
            result = connection.execute(
                update(job_run).where(job_run.c.status == "running").values(status="interrupted")
            )
            return int(result.rowcount)

    def run(self, job: str, function: Callable[[], str]) -> JobRun:
        """Run `function` and record start, end, status and what it returns. What it raises is recorded, not raised.

        Where the database cannot be written the job runs all the same: its work is on the numbers,
        and its row follows when the database is back.
        """
        started_ms = self._now_ms()
        run_id = self._begin(job, started_ms)
        try:
            status, detail = "ok", function()
        except Exception as error:
            log.exception("job %s failed", job)
            status, detail = "failed", f"{type(error).__name__}: {error}"
        finished_ms = self._now_ms()
        values = {"finished_ms": finished_ms, "status": status, "detail": detail[:_DETAIL_CHARACTERS]}
        try:
            if not run_id:
                raise StorageUnavailable("the start of the run is not stored either")
            with self._database.write() as connection:
                connection.execute(update(job_run).where(job_run.c.id == run_id).values(values))
        except StorageUnavailable:
            run_id = 0
            row = {"job": job, "started_ms": started_ms, **values}
            self._deferred.put(f"the run of job {job}", lambda connection: _replace(connection, row))
        return JobRun(run_id, job, started_ms, finished_ms, status, detail[:_DETAIL_CHARACTERS])

    def _begin(self, job: str, started_ms: int) -> int:
        row = {"job": job, "started_ms": started_ms, "status": "running"}
        try:
            with self._database.write() as connection:
                return int(connection.execute(insert(job_run).values(row).returning(job_run.c.id)).scalar_one())
        except StorageUnavailable as error:
            log.warning("job %s runs unrecorded for now: %s", job, error)
            return 0

    def list(self, limit: int = 100, job: str | None = None) -> list[JobRun]:
        """Return the newest runs, newest first."""
        query = select(job_run).order_by(job_run.c.id.desc()).limit(limit)
        if job is not None:
            query = query.where(job_run.c.job == job)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [JobRun(r.id, r.job, r.started_ms, r.finished_ms, r.status, r.detail) for r in rows]

    def missed(self, job: str, interval_ms: int) -> bool:
        """Whether the last good run is longer ago than the job's interval, or there was none."""
        query = select(job_run.c.started_ms).where(job_run.c.job == job, job_run.c.status == "ok")
        with self._database.read() as connection:
            last = connection.execute(query.order_by(job_run.c.id.desc()).limit(1)).scalar()
        return last is None or not 0 <= self._now_ms() - last < interval_ms

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000


def _replace(connection: Connection, row: dict[str, object]) -> None:
    """Write a whole run; the row of its start, if that was stored after all, makes way."""
    same = (job_run.c.job == row["job"]) & (job_run.c.started_ms == row["started_ms"])
    connection.execute(delete(job_run).where(same))
    connection.execute(insert(job_run).values(row))
