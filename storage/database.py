"""Database: engines with their pragmas, the one write transaction, reading, and what can go wrong.

One process owns the file (a lock beside it says so) and one lock in it orders all writers:
SQLite has one writer anyway, and only the one writer checkpoints. The same lock orders our writers
on PostgreSQL, which is what makes a commit whose answer was lost decidable (see `committed`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Engine, create_engine, delete, event, insert, select, text, update
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool

from metrics.clock import Clock
from metrics.errors import DeskvigilError
from storage.health import CommitUnknown, HealthMark, StorageUnavailable, StoreHealth
from storage.options import DatabaseOptions
from storage.postgresql import (
    ServerAway,
    check_server,
    explain_server,
    is_away,
    may_pass,
    server_engine,
    server_url,
)
from storage.rest import Rest
from storage.tables import meta

log = logging.getLogger(__name__)

_LOCK_TIMEOUT_S = 30.0
_RETRY_START_S = 0.5
_LONGEST_PAUSE_S = 2.0
_WRITER_KEY = "writer:"
_OUTCOMES_KEPT = 1_000
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
    if isinstance(error, sa_exc.DBAPIError) and not isinstance(original, sqlite3.Error):
        return explain_server(error)
    if isinstance(error, OSError):
        return f"reading or writing the disk failed: {error.strerror}"
    return None


class Database:
    """One SQLite file or PostgreSQL database.

    Thread-safe. `write()` is the one write transaction; never held during slow work, never nested.
    """

    def __init__(self, url: str | URL, options: DatabaseOptions, clock: Clock) -> None:
        self._url = server_url(make_url(url), options.password)
        self._options = options
        self._clock = clock
        self._health = HealthMark(clock)
        self._rest = Rest(clock, _LONGEST_PAUSE_S)
        self._writer_key = ""
        self._doubtful: str | None = None
        self._outcomes: dict[str, bool] = {}
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._lock_file: IO[bytes] | None = None
        if self.is_sqlite:
            self._lock_file = _lock_beside(self.path)
            self._writer = _sqlite_engine(self._url, options, readers=0)
            self._readers = _sqlite_engine(self._url, options, readers=options.readers)
        else:
            self._writer = server_engine(self._url, 1)
            self._readers = server_engine(self._url, options.readers)
        try:
            self._probe_patiently()
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
        then says so until a later transaction works. Its kind CommitUnknown says that the server went
        while it committed: `committed` tells later what became of it. Anything else raised inside rolls back.
        """
        with self._exclusive():
            self._check_rest()
            token = None
            try:
                self._settle()
                with self._writer.begin() as connection:
                    yield connection
                    token = self._tag(connection)
            except (sa_exc.SQLAlchemyError, OSError) as error:
                if token is None:  # it failed before the commit: nothing has happened
                    self._translate(error)
                    raise
                self._lost_answer(token, error)
            self._worked()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot; writing through it fails. Raises StorageUnavailable like `write`."""
        self._check_rest()
        try:
            with self._readers.connect() as connection:
                if not self.is_sqlite:
                    connection = connection.execution_options(
                        postgresql_readonly=True, isolation_level="REPEATABLE READ"
                    )
                yield connection
        except (sa_exc.SQLAlchemyError, OSError) as error:
            reason = explain(error)
            if reason is None:
                raise
            if is_away(error):
                self._gone(reason)
            raise StorageUnavailable(f"{self._name()}: {reason}") from error

    def ping(self) -> bool:
        """Ask a server whether it is there, so that the health is fresh where nobody writes; SQLite always is."""
        if self.is_sqlite:
            return True
        try:
            with self.read() as connection:
                connection.execute(text("SELECT 1"))
        except StorageUnavailable:
            return False
        self._worked()
        return True

    def watch_commits(self) -> None:
        """Have each transaction on a server leave its token in `meta`; call once the tables are there."""
        if self.is_sqlite or self._writer_key:
            return
        key = _WRITER_KEY + secrets.token_hex(8)
        with self.write() as connection:
            connection.execute(insert(meta).values(key=key, value=""))
        self._writer_key = key

    def committed(self, token: str) -> bool:
        """Whether the transaction took place whose CommitUnknown bore this token.

        Raises StorageUnavailable while the server cannot be asked.
        """
        with self._exclusive():
            self._check_rest()
            try:
                self._settle()
            except (sa_exc.SQLAlchemyError, OSError) as error:
                self._translate(error)
                raise
            return self._outcomes[token]

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

    def checkpoint(self) -> None:
        """Write the log back into the file as far as readers allow; commits do so themselves once it has grown long."""
        with self.maintenance() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def integrity_problems(self) -> list[str]:
        """Return what SQLite's own check finds wrong: an empty list for a sound file. Slow on large files."""
        with self.read() as connection:
            rows = connection.execute(text("PRAGMA integrity_check(20)")).scalars().all()
        return [] if rows == ["ok"] else [str(row) for row in rows]

    def close(self) -> None:
        """Close readers first: the last connection to close checkpoints, and that is the writer's."""
        self._forget_writer()
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

    def _tag(self, connection: Connection) -> str | None:
        """Leave a mark that goes with the transaction: whether it is there says later whether the rest is."""
        if not self._writer_key:
            return None
        token = secrets.token_hex(12)
        marked = connection.execute(update(meta).where(meta.c.key == self._writer_key).values(value=token))
        if marked.rowcount != 1:  # somebody emptied the table: without the mark there would be no telling
            connection.execute(insert(meta).values(key=self._writer_key, value=token))
        return token

    def _lost_answer(self, token: str, error: BaseException) -> None:
        """The commit was sent and the answer did not come: ask at once, and say so where there is no asking now."""
        self._doubtful = token
        try:
            self._settle()
        except (sa_exc.SQLAlchemyError, OSError):
            reason = explain(error) or str(error)
            self._gone(reason)
            raise CommitUnknown(f"{self._name()}: {reason}", token) from error
        if not self._outcomes[token]:
            self._translate(error)
            raise error

    def _settle(self) -> None:
        """Find out what became of a transaction in doubt. No other of ours was begun since, so its mark is the newest."""
        token = self._doubtful
        if token is None:
            return
        with self._writer.begin() as connection:
            # FOR UPDATE waits for a server that is still busy with that very transaction.
            mark = select(meta.c.value).where(meta.c.key == self._writer_key).with_for_update()
            self._outcomes[token] = connection.execute(mark).scalar() == token
        self._doubtful = None
        while len(self._outcomes) > _OUTCOMES_KEPT:
            del self._outcomes[next(iter(self._outcomes))]

    def _check_rest(self) -> None:
        if reason := self._rest.reason:
            raise StorageUnavailable(reason)

    def _worked(self) -> None:
        self._rest.worked()
        self._health.recovered()

    def _gone(self, reason: str) -> None:
        self._health.failed(reason if self.is_sqlite else f"{self._name()}: {reason}")
        self._rest.failed(f"{self._name()}: {reason}")

    def _translate(self, error: BaseException) -> None:
        reason = explain(error)
        if reason is not None:
            if is_away(error):
                self._gone(reason)
            else:
                self._health.failed(reason)
            raise StorageUnavailable(f"{self._name()}: {reason}") from error

    def _probe_patiently(self) -> None:
        """Wait for a server that is still starting, as after a power cut; then fail naming it."""
        give_up_ns = self._clock.monotonic_ns() + round(self._options.start_wait_s * 1e9)
        announced = False
        while True:
            try:
                self._probe()
                return
            except ServerAway as error:
                if self._clock.monotonic_ns() >= give_up_ns:
                    raise
                if not announced:
                    log.warning("%s; waiting up to %g s for it", error, self._options.start_wait_s)
                announced = True
                self._clock.wait(threading.Event(), _RETRY_START_S)

    def _probe(self) -> None:
        """Fail now, with a message for a person, rather than at the first alert."""
        try:
            with self._writer.begin() as connection:
                connection.execute(text("SELECT 1"))
                if not self.is_sqlite:
                    check_server(connection)
            if self.is_sqlite:
                with self._readers.connect() as connection:
                    connection.execute(text("SELECT count(*) FROM sqlite_master"))
        except DeskvigilError as error:
            raise DeskvigilError(f"{self._name()} cannot be used: {error}") from error
        except (sa_exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
            message = f"{self._name()} cannot be used: {explain(error) or error}"
            if not self.is_sqlite and is_away(error) and may_pass(error):
                raise ServerAway(f"{message} (database.url)") from error
            raise DeskvigilError(message) from error

    def _forget_writer(self) -> None:
        """Take our mark away; one that a kill left behind is harmless."""
        if not self._writer_key or not self._health.value.ok:
            return
        with suppress(StorageUnavailable, RuntimeError, sa_exc.SQLAlchemyError):
            key, self._writer_key = self._writer_key, ""
            with self.write() as connection:
                connection.execute(delete(meta).where(meta.c.key == key))

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
    pragmas = _READER_PRAGMAS if readers else _WRITER_PRAGMAS

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if not readers:
            # An older file keeps its page size, so what counts pages is set by what it really is.
            size = connection.execute("PRAGMA page_size").fetchone()[0]
            most = options.max_pages * _COUNTED_PAGE_BYTES // size or 2**30 - 1
            connection.execute(f"PRAGMA max_page_count = {most}").fetchall()
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // size}").fetchall()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


_COUNTED_PAGE_BYTES = 4_096
_CHECKPOINT_BYTES = 4 << 20
# Small pages: what lies beside large values (tables of few rows, ends of packs) wastes a quarter of what it would.
# Before creation: page size and vacuum mode; afterwards these two are without effect.
_WRITER_PRAGMAS = (
    "page_size = 1024",
    "auto_vacuum = INCREMENTAL",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = OFF",
    "cache_size = -8192",
    "mmap_size = 0",
    "journal_size_limit = 67108864",
    "foreign_keys = OFF",
)
# A reader needs the pages above its rows again and again; rows are kept decoded (storage/cache.py), and in the system's pages.
_READER_PRAGMAS = ("query_only = ON", "cache_size = -4096", "mmap_size = 0")
