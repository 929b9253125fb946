"""Fsck: is everything in a data file whole, and does every part agree with every other?

Reads one moment of a file (see storage/snapshot.py), of a stopped store as of a running one. Every problem says
where and what; some know the statements that mend them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import exc as sa_exc

from metrics.clock import SystemClock
from metrics.errors import DeskvigilError
from storage.database import Database, _lock_beside
from storage.migrations import HEAD, current_revision
from storage.options import DatabaseOptions
from storage.snapshot import SnapshotDatabase

Say = Callable[[str], None]
Statement = tuple[str, tuple[Any, ...]]
MOST_PROBLEMS = 10_000


@dataclass(frozen=True, slots=True)
class Problem:
    """kind: which check; where: the table and row, or block and series; what: in words; fix: statements that mend it.

    loses: what mending gives up, "" where nothing.
    """

    kind: str
    where: str
    what: str
    fix: tuple[Statement, ...] = ()
    loses: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class Report:
    """What was checked and found; `counts` names how much of each."""

    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def to_json(self) -> dict[str, Any]:
        """For machines: problems with kind, where, what and whether they can be mended."""
        return {
            "ok": not self.problems,
            "problems": [
                {"kind": p.kind, "where": p.where, "what": p.what, "repairable": bool(p.fix), "loses": p.loses}
                for p in self.problems
            ],
            "counts": self.counts,
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
        }


def check_file(path: Path, *, say: Say, samples: bool = True, database_url: str = "") -> Report:
    """Check a data file or a backup; samples=False leaves out decoding every chunk.

    database_url: the PostgreSQL database that holds the relational half, "" where this file does.
    DeskvigilError where it cannot be opened at all.
    """
    from storage.fsck_archive import check_archive
    from storage.fsck_records import check_records

    started = time.monotonic()
    report = Report()
    database = SnapshotDatabase(path, SystemClock())
    try:
        say("SQLite's own check ...")
        with database.read() as connection:
            revision = current_revision(connection)
        _guard(report, "the file", lambda: _integrity(database, report))
        if revision is None:
            raise DeskvigilError(f"{path} is no data file of Deskvigil")
        if revision != HEAD:
            report.notes.append(f"the file is at revision {revision}, not {HEAD}: only SQLite's own check was made")
            return report
        _guard(report, "the archive", lambda: check_archive(database, report, say, samples=samples))
        say("audit, outbox, alerts ...")
        if database_url:
            relational = Database(database_url, DatabaseOptions(), SystemClock())
            try:
                check_records(relational, report)
            finally:
                relational.close()
        else:
            _guard(report, "the records", lambda: check_records(database, report))
    finally:
        database.close()
        report.seconds = time.monotonic() - started
    return report


def repair(path: Path, report: Report) -> int:
    """Mend what can be mended, in one transaction; returns how many problems that were.

    DeskvigilError where a program uses the file or it cannot be written.
    """
    fixes = [problem.fix for problem in report.problems if problem.fix]
    lock = _lock_beside(path)
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for statement, parameters in (one for fix in fixes for one in fix):
                connection.execute(statement, parameters)
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DeskvigilError(f"{path} could not be mended: {error}") from error
    finally:
        lock.close()
    return len(fixes)


def _integrity(database: SnapshotDatabase, report: Report) -> None:
    rows = [row[0] for row in database.raw.execute("PRAGMA integrity_check(100)")]
    if rows != ["ok"]:
        report.problems += [Problem("sqlite", "SQLite", str(row)) for row in rows]


def _guard(report: Report, where: str, work: Callable[[], None]) -> None:
    """A damaged page ends one part of the check, not all of it."""
    try:
        work()
    except (sqlite3.DatabaseError, sa_exc.DBAPIError, DeskvigilError) as error:
        report.problems.append(Problem("sqlite", where, f"cannot be read to its end: {error}".splitlines()[0]))


def rows_of(database: SnapshotDatabase, statement: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement on the snapshot, one after the other."""
    cursor = database.raw.cursor()
    try:
        yield from cursor.execute(statement, parameters)
    finally:
        cursor.close()
