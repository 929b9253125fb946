"""Options of the storage room: how much, how long, how large."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import AfterValidator

from storage.addresses import check_database_url, check_store_url, check_write_url
from storage.remote.options import check_headers, check_labels

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DatabaseOptions:
    """Where relational state (alerts, outbox, audit, jobs) lives.

    An empty url means the SQLite file in the data folder; `postgresql+psycopg://...` moves it to
    PostgreSQL, while the numbers stay in the SQLite file.
    """

    url: Annotated[str, AfterValidator(check_database_url)] = field(default="", repr=False)
    password: str = field(default="", repr=False)
    """The server's password, so that the URL need not hold it: DESKVIGIL_DATABASE__PASSWORD_FILE names a file."""
    start_wait_s: Annotated[float, Ge(0), Le(600)] = 10.0
    """How long the start waits for a server that does not answer yet."""
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
    ring_total_bytes: Annotated[int, Ge(MIB)] = 512 * MIB
    """Where all rings together come near this, new ones (of scraped targets) get less; the archive has what they lack."""
    ring_generations: Annotated[int, Ge(1), Le(64)] = 4
    """How many of a collector's successive schemas (a disk was plugged in) stay in memory."""

    seal_minutes: Annotated[int, Ge(1), Le(1440)] = 60
    """Frames are sealed into compressed chunks when this stretch of wall-clock time is over."""
    tail_bytes: Annotated[int, Ge(MIB)] = 128 * MIB
    """Upper bound of one collector's unsealed frames in memory; they are sealed earlier where it is met."""
    backlog_bytes: Annotated[int, Ge(MIB)] = 64 * MIB
    """Frames held while the database cannot be written; beyond it the oldest are dropped and counted."""

    max_series: Annotated[int, Ge(100), Le(10_000_000)] = 200_000
    ingest_seal_samples: Annotated[int, Ge(1_000)] = 2_000_000
    """Ingested samples are sealed when there are so many, or when `seal_minutes` have passed."""
    ingest_max_samples: Annotated[int, Ge(1_000)] = 8_000_000
    """Unsealed ingested samples beyond which further ones are refused until sealing has caught up."""

    select_max_samples: Annotated[int, Ge(1_000)] = 50_000_000
    """The most samples that one read may load."""
    cache_bytes: Annotated[int, Ge(MIB)] = 32 * MIB
    """Decoded time axes kept in memory."""
    column_cache_bytes: Annotated[int, Ge(MIB)] = 384 * MIB
    """Decoded samples and minutes kept in memory for questions that are asked again."""

    compact: bool = True
    """Whether small and overlapping blocks of past days are joined; looked at every six hours."""
    max_bytes: Annotated[int, Ge(0)] = 0
    """Upper bound of what the database file holds: the oldest samples are deleted first; 0: only age counts."""
    raw_days: Annotated[int, Ge(1), Le(36_500)] = 30
    rollup_days: Annotated[int, Ge(1), Le(36_500)] = 1_830
    history_days: Annotated[int, Ge(1), Le(36_500)] = 400
    """How long alert history, notifications, sent outbox rows and job runs are kept; the audit is never deleted."""
    commit_socket: str | None = None
    """Path of a Unix datagram socket that is sent one line "collector t_ms" per committed frame: a witness for tests."""

    url: Annotated[str, AfterValidator(check_store_url)] = field(default="", repr=False)
    """A remote store that gets every sample too and answers the pages: prometheus+http://[USER:PASSWORD@]HOST:PORT[/PATH]
    (or +https). The SQLite file stays: rules read it, and it is the queue while the remote store is away."""
    write_url: Annotated[str, AfterValidator(check_write_url)] = field(default="", repr=False)
    """Where samples are sent, if that is not `url` + /api/v1/write (Mimir, Thanos, VictoriaMetrics cluster)."""
    password: str = field(default="", repr=False)
    """The password of the user named in `url`."""
    bearer_token: str = field(default="", repr=False)
    headers: Annotated[tuple[str, ...], AfterValidator(check_headers)] = field(default=(), repr=False)
    """Further header lines for the remote store, each "Name: value" (a tenant's name, for example)."""
    ca_file: str = ""
    external_labels: Annotated[dict[str, str], AfterValidator(check_labels)] = field(default_factory=dict)
    """Put on every series that is sent, so that many desks do not collide: {desk: london}."""
    remote_timeout_s: Annotated[float, Ge(0.1), Le(300)] = 30.0
    remote_query_timeout_s: Annotated[float, Ge(0.1), Le(300)] = 10.0
    """How long a page waits for the remote store before the local one answers."""
    remote_batch_samples: Annotated[int, Ge(100), Le(1_000_000)] = 20_000
    """The most samples of one request to the remote store."""
    remote_retry_max_s: Annotated[float, Ge(0.1), Le(600)] = 30.0
    """The longest pause between two attempts while the remote store is away."""
    remote_backfill: bool = False
    """Whether the first start with a remote store sends what was stored before, too."""
