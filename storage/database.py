"""Database: engines with their pragmas, the one write transaction, reading, and what can go wrong.

One process owns the file (a lock beside it says so) and one lock in it orders all writers:
SQLite has one writer anyway, and only the one writer checkpoints.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool

from metrics.clock import Clock
from metrics.errors import DeskvigilError
from storage.health import HealthMark, StorageUnavailable, StoreHealth
from storage.options import DatabaseOptions

_LOCK_TIMEOUT_S = 30.0
_REASONS = {
    sqlite3.SQLITE_BUSY: "the database is locked by another process",
    sqlite3.SQLITE_LOCKED: "the database is locked by another process",
    sqlite3.SQLITE_READONLY: "the database cannot be written: file or folder is read-only",
    sqlite3.SQLITE_IOERR: "reading or writing the disk failed",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a database, or it is damaged",
    sqlite3.SQLITE_FULL: "the disk (or the database's size limit) is full",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_PERM: "access to the database file is denied",
    sqlite3.SQLITE_PROTOCOL: "the database's locks do not work on this file system",
}


def explain(error: BaseException) -> str | None:
    """Return why the outside world failed a statement, or None where the statement itself is at fault."""
    original = error.orig if isinstance(error, sa_exc.DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    if code is not None:
        reason = _REASONS.get(code & 0xFF)
        return None if reason is None else f"{reason} ({original.sqlite_errorname})"  # type: ignore[union-attr]
    if isinstance(error, sa_exc.TimeoutError):
        return "all connections to the database are in use"
    if isinstance(error, (sa_exc.OperationalError, sa_exc.InterfaceError)) and not isinstance(original, sqlite3.Error):
        return f"the database server does not answer: {str(original).splitlines()[0]}"
    if isinstance(error, OSError):
        return f"reading or writing the disk failed: {error.strerror}"
    return None


class Database:
    """One SQLite file or PostgreSQL database.

    Thread-safe. `write()` is the one write transaction; never held during slow work, never nested.
    """

    def __init__(self, url: str | URL, options: DatabaseOptions, clock: Clock) -> None:
        self._url = make_url(url)
        self._options = options
        self._health = HealthMark(clock)
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._lock_file: IO[bytes] | None = None
        if self.is_sqlite:
            self._lock_file = _lock_beside(self.path)
            self._writer = _sqlite_engine(self._url, options, readers=0)
            self._readers = _sqlite_engine(self._url, options, readers=options.readers)
        else:
            self._writer = self._readers = create_engine(
                self._url, pool_size=options.readers, max_overflow=1, pool_timeout=10, pool_pre_ping=True
            )
        try:
            self._probe()
        except BaseException:
            self.close()
            raise

    @classmethod
    def sqlite(cls, path: Path, options: DatabaseOptions, clock: Clock) -> Database:
        """Open the file at `path`, made where there is none; DeskvigilError says why it cannot be used."""
        return cls(URL.create("sqlite", database=str(path)), options, clock)

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path:
        """The SQLite file."""
        if not self._url.database:
            raise ValueError("this database is not a file")
        return Path(self._url.database)

    @property
    def health(self) -> StoreHealth:
        return self._health.value

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The one write transaction: BEGIN IMMEDIATE, durable when the block is left.

        Raises StorageUnavailable where the outside world (disk, lock, server) fails; the health
        then says so until a later transaction works. Anything else raised inside rolls back.
        """
        with self._exclusive():
            try:
                with self._writer.begin() as connection:
                    yield connection
            except (sa_exc.SQLAlchemyError, OSError) as error:
                self._translate(error)
                raise
            self._health.recovered()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot; writing through it fails. Raises StorageUnavailable like `write`."""
        try:
            with self._readers.connect() as connection:
                if not self.is_sqlite:
                    connection = connection.execution_options(postgresql_readonly=True)
                yield connection
        except (sa_exc.SQLAlchemyError, OSError) as error:
            reason = explain(error)
            if reason is not None:
                raise StorageUnavailable(f"{self._name()}: {reason}") from error
            raise

    @contextmanager
    def maintenance(self) -> Iterator[Any]:
        """The writer's own DBAPI connection outside any transaction, for VACUUM, checkpoints, backups."""
        with self._exclusive():
            connection = self._writer.raw_connection()
            try:
                yield connection.driver_connection
            except (sqlite3.Error, OSError) as error:
                self._translate(error)
                raise
            finally:
                connection.close()

    def integrity_problems(self) -> list[str]:
        """Return what SQLite's own check finds wrong: an empty list for a sound file. Slow on large files."""
        with self.read() as connection:
            rows = connection.execute(text("PRAGMA integrity_check(20)")).scalars().all()
        return [] if rows == ["ok"] else [str(row) for row in rows]

    def close(self) -> None:
        """Close readers first: the last connection to close checkpoints, and that is the writer's."""
        self._readers.dispose()
        self._writer.dispose()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        me = threading.get_ident()
        if self._owner == me:
            raise RuntimeError("write() inside write(): hand the connection on instead")
        if not self._lock.acquire(timeout=_LOCK_TIMEOUT_S):
            raise StorageUnavailable(f"another thread has been writing for more than {_LOCK_TIMEOUT_S:.0f} s")
        self._owner = me
        try:
            yield
        finally:
            self._owner = None
            self._lock.release()

    def _translate(self, error: BaseException) -> None:
        reason = explain(error)
        if reason is not None:
            self._health.failed(reason)
            raise StorageUnavailable(f"{self._name()}: {reason}") from error

    def _probe(self) -> None:
        """Fail now, with a message for a person, rather than at the first alert."""
        try:
            with self._writer.begin() as connection:
                connection.execute(text("SELECT 1"))
            if self.is_sqlite:
                with self._readers.connect() as connection:
                    connection.execute(text("SELECT count(*) FROM sqlite_master"))
        except (sa_exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
            reason = explain(error) or str(error)
            raise DeskvigilError(f"{self._name()} cannot be used: {reason}") from error

    def _name(self) -> str:
        return str(self.path) if self.is_sqlite else self._url.render_as_string(hide_password=True)


def _lock_beside(path: Path) -> IO[bytes]:
    """Take the lock that says: this process owns the database."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = lock_path.open("ab")
    except OSError as error:
        raise DeskvigilError(f"the data folder {path.parent} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise DeskvigilError(f"{path} is in use by another running Deskvigil") from error
    os.set_inheritable(file.fileno(), False)
    return file


def _sqlite_engine(url: URL, options: DatabaseOptions, readers: int) -> Engine:
    """Return an engine; readers=0 makes the writer's, with its one connection."""
    engine = create_engine(
        url,
        connect_args={"isolation_level": None, "timeout": options.busy_timeout_s, "check_same_thread": False},
        poolclass=QueuePool,
        pool_size=max(readers, 1),
        max_overflow=0,
        pool_timeout=10,
        pool_reset_on_return="rollback",
    )
    begin = "BEGIN" if readers else "BEGIN IMMEDIATE"
    pragmas = _READER_PRAGMAS if readers else (*_WRITER_PRAGMAS, f"max_page_count = {options.max_pages or 2**30 - 1}")

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


# Before creation: page size and vacuum mode; afterwards these two are without effect.
_WRITER_PRAGMAS = (
    "page_size = 4096",
    "auto_vacuum = INCREMENTAL",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = OFF",
    "cache_size = -16384",
    "mmap_size = 0",
    "journal_size_limit = 67108864",
    "wal_autocheckpoint = 1000",
    "foreign_keys = OFF",
)
_READER_PRAGMAS = ("query_only = ON", "cache_size = -16384", "mmap_size = 0")
