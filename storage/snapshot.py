"""Snapshot: what a data file holds at one moment, read beside the program that writes it.

For commands in a process of their own (export, fsck, backup). The file is opened read-only and one
read transaction lasts until the end: SQLite's WAL lets the writer go on meanwhile, and a read-only
connection never checkpoints. Frames committed before the opening are all there; those of the running
second are still in the writer's memory.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, create_engine
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from metrics.clock import Clock, SystemClock
from metrics.errors import DeskvigilError
from storage.database import Database, explain
from storage.health import HealthMark, StorageUnavailable
from storage.migrations import HEAD, current_revision
from storage.options import MIB, StorageOptions
from storage.store import Store
from storage.tables import block as block_table
from storage.tables import rollup_block as rollup_block_table

_BUSY_S = 10.0
_OPTIONS = StorageOptions(
    max_series=10_000_000, select_max_samples=10**12, cache_bytes=16 * MIB, column_cache_bytes=MIB
)


class _Frozen(sqlite3.Connection):
    """A connection whose one transaction nobody ends by the way."""

    def commit(self) -> None:
        """Do nothing."""

    def rollback(self) -> None:
        """Do nothing."""


def open_readonly(path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """Open a data file for reading only, nothing begun. DeskvigilError says why it cannot be read."""
    if not path.is_file():
        raise DeskvigilError(f"there is no database at {path}")
    uri = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        try:
            return _connected(uri, factory)
        except sqlite3.OperationalError:
            # A closed store in a folder that cannot be written: SQLite could not make its -shm file beside it.
            if path.with_name(path.name + "-wal").exists():
                raise
            return _connected(uri + "&immutable=1", factory)
    except (sqlite3.Error, OSError) as error:
        raise DeskvigilError(f"{path} cannot be read: {explain(error) or error}") from error


def _connected(uri: str, factory: type[sqlite3.Connection]) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=_BUSY_S, check_same_thread=False, factory=factory
    )
    try:
        for pragma in ("query_only = ON", "cache_size = -65536", "mmap_size = 0"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


class SnapshotDatabase(Database):
    """A Database of which `read` always sees the moment of opening, and that cannot be written. Thread-safe."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._url = URL.create("sqlite", database=str(path))
        self._health = HealthMark(clock)
        self._raw = open_readonly(path, _Frozen)
        self._serial = threading.RLock()
        try:
            self._raw.execute("BEGIN")
            self._raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            self._raw.close()
            raise DeskvigilError(f"{path} cannot be read: {explain(error) or error}") from error
        self._engine = create_engine(
            "sqlite://", creator=lambda: self._raw, poolclass=StaticPool, pool_reset_on_return=None
        )

    @property
    def raw(self) -> Any:
        """The DBAPI connection, its transaction begun."""
        return self._raw

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """The snapshot, one caller at a time. Raises StorageUnavailable where the file cannot be read."""
        with self._serial:
            try:
                with self._engine.connect() as connection:
                    yield connection
            except (sa_exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
                reason = explain(error)
                if reason is not None:
                    raise StorageUnavailable(f"{self.path}: {reason}") from error
                raise

    def write(self) -> AbstractContextManager[Connection]:  # type: ignore[override]
        """Raise: a snapshot is read."""
        raise DeskvigilError(f"{self.path} is open for reading only")

    def close(self) -> None:
        """Let go of the file; the log is left to its writer."""
        with suppress(sqlite3.Error):
            self._engine.dispose()
            self._raw.close()


class Snapshot:
    """The storage room's reading half over one file at one moment: `store.reader`, `store.index` and so on.

    The store in it is never started; writing through it raises.
    """

    def __init__(self, database: SnapshotDatabase, clock: Clock | None = None) -> None:
        self.database = database
        self.store = Store(_OPTIONS, database, database, clock or SystemClock())
        with database.read() as connection:
            self.store._layouts.load(connection)
            self.store._blocks.load(connection, block_table)
            self.store._rollup_blocks.load(connection, rollup_block_table)
        self.store.archive.recover()
        self.store._ingest.load()

    @classmethod
    def open(cls, path: Path, clock: Clock | None = None) -> Snapshot:
        """Open `path`. DeskvigilError where it cannot be read or is another version's."""
        database = SnapshotDatabase(path, clock or SystemClock())
        try:
            with database.read() as connection:
                check_revision(path, current_revision(connection))
            return cls(database, clock)
        except BaseException:
            database.close()
            raise

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self.store.close()


def check_revision(path: Path, revision: str | None) -> None:
    """Raise DeskvigilError where a file's tables are not those of this version."""
    if revision is None:
        raise DeskvigilError(f"{path} is no data file of Deskvigil")
    if revision != HEAD:
        raise DeskvigilError(
            f"{path} is at revision {revision}, this version reads {HEAD}: use the version that wrote it, "
            "or start this one once, which brings the file up to date"
        )
