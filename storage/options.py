"""Options of the storage room: how much, how long, how large."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DatabaseOptions:
    """Where relational state (alerts, outbox, audit, jobs) lives.

    An empty url means the SQLite file in the data folder; `postgresql+psycopg://...` moves it to
    PostgreSQL, while the numbers stay in the SQLite file.
    """

    url: str = field(default="", repr=False)
    busy_timeout_s: Annotated[float, Ge(0.1), Le(60)] = 5.0
    readers: Annotated[int, Ge(1), Le(64)] = 8
    max_pages: Annotated[int, Ge(0)] = 0
    """Upper bound of the SQLite file in 4 KiB pages; 0: only the disk limits it."""


@dataclass(frozen=True, kw_only=True)
class StorageOptions:
    """Rings, archive and retention; every figure is an upper bound that is counted when met."""

    ring_frames: Annotated[int, Ge(16), Le(1_000_000)] = 9_000
    """Frames kept in memory per collector: 15 minutes at 10 Hz, 2.5 hours at 1 Hz."""
    ring_bytes: Annotated[int, Ge(MIB)] = 64 * MIB
    """Upper bound of one collector's ring; wins over ring_frames."""
    ring_generations: Annotated[int, Ge(1), Le(64)] = 4
    """How many of a collector's successive schemas (a disk was plugged in) stay in memory."""

    seal_minutes: Annotated[int, Ge(1), Le(1440)] = 60
    """Frames are sealed into compressed chunks when this stretch of wall-clock time is over."""
    tail_bytes: Annotated[int, Ge(MIB)] = 128 * MIB
    """Upper bound of one collector's unsealed frames in memory; they are sealed earlier where it is met."""
    backlog_bytes: Annotated[int, Ge(MIB)] = 64 * MIB
    """Frames held while the database cannot be written; beyond it the oldest are dropped and counted."""

    max_series: Annotated[int, Ge(100), Le(10_000_000)] = 200_000
    ingest_seal_samples: Annotated[int, Ge(1_000)] = 500_000
    """Ingested samples are sealed when there are so many, or when `seal_minutes` have passed."""
    ingest_max_samples: Annotated[int, Ge(1_000)] = 4_000_000
    """Unsealed ingested samples beyond which further ones are refused until sealing has caught up."""

    select_max_samples: Annotated[int, Ge(1_000)] = 50_000_000
    """The most samples that one read may load."""
    cache_bytes: Annotated[int, Ge(MIB)] = 32 * MIB
    """Decoded time axes kept in memory."""

    raw_days: Annotated[int, Ge(1), Le(36_500)] = 30
    rollup_days: Annotated[int, Ge(1), Le(36_500)] = 1_830
    history_days: Annotated[int, Ge(1), Le(36_500)] = 400
    """How long alert history, notifications, sent outbox rows and job runs are kept; the audit is never deleted."""
    commit_socket: str | None = None
    """Path of a Unix datagram socket that is sent one line "collector t_ms" per committed frame: a witness for tests."""
