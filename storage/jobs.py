"""Jobs: what has to be done from time to time; each returns in words what it did (for `JobRuns.run`)."""

from __future__ import annotations

from storage.rollups import DAY_MS
from storage.store import Store

_LATE_MS = 2 * 3_600_000
_VACUUM_PAGES = 4_096


def seal(store: Store) -> str:
    """Seal every block that is complete."""
    return f"{store.seal()} blocks sealed"


def rollup(store: Store, now_ms: int) -> str:
    """Roll up the days (UTC) that ended at least two hours ago."""
    before_ms = (now_ms - _LATE_MS) // DAY_MS * DAY_MS
    return f"{store.rollup_writer.run(before_ms, now_ms)} blocks rolled up"


def retention(store: Store, now_ms: int) -> str:
    """Delete what is older than the options say, and give the space back to the file system."""
    return store.retention.run(now_ms)


def compact(store: Store) -> str:
    """Return free pages to the file system and write the log back into the database file."""
    database = store.series_database
    with database.maintenance() as connection:
        # execute() would stop after the first page: this pragma is stepped without returning rows.
        connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES});")
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        connection.execute("PRAGMA optimize").fetchall()
    return f"checkpoint {'waits for a reader' if busy else 'done'}, {free} free pages left"
