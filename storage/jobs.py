"""Jobs: what has to be done from time to time; each returns in words what it did (for `JobRuns.run`)."""

from __future__ import annotations

import time

from storage.rollups import DAY_MS, QUARTER_MS
from storage.store import Store

_LATE_MS = 10 * 60_000
_VACUUM_BYTES = 64 << 10
_VACUUM_STEPS = 10_000
_PAUSE_S = 0.002


def seal(store: Store) -> str:
    """Seal every block that is complete."""
    return f"{store.seal()} blocks sealed"


def rollup(store: Store, now_ms: int) -> str:
    """Roll up the quarters of days (UTC) that ended at least ten minutes ago."""
    before_ms = (now_ms - _LATE_MS) // QUARTER_MS * QUARTER_MS
    return f"{store.rollup_writer.run(before_ms, now_ms)} blocks rolled up"


def retention(store: Store, now_ms: int) -> str:
    """Delete what is older, or more, than the options say, and give the space back to the file system."""
    return store.retention.run(now_ms)


def join(store: Store, now_ms: int) -> str:
    """Join small and overlapping blocks of days (UTC) that are over, where `storage.compact` says so."""
    if not store.options.compact:
        return "compaction is off (storage.compact)"
    before_ms = (now_ms - _LATE_MS) // DAY_MS * DAY_MS
    samples, minutes = store.compaction.run(before_ms), store.compaction.run_rollups(before_ms)
    return f"{samples.blocks} blocks joined into {samples.into}, {minutes.blocks} of minutes into {minutes.into}"


def compact(store: Store) -> str:
    """Return free pages to the file system, a little at a time, and write the log back into the database file."""
    database = store.series_database
    for _ in range(_VACUUM_STEPS):  # between two steps others may write
        with database.maintenance() as connection:
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            if free:
                pages = _VACUUM_BYTES // connection.execute("PRAGMA page_size").fetchone()[0]
                # execute() would stop after the first page: this pragma is stepped without returning rows.
                connection.executescript(f"PRAGMA incremental_vacuum({pages});")
        if not free:
            break
        time.sleep(_PAUSE_S)  # the lock is not fair: whoever waits for it needs time to wake up
    with database.maintenance() as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        connection.execute("PRAGMA optimize").fetchall()
    return f"checkpoint {'waits for a reader' if busy else 'done'}, {free} free pages left"
