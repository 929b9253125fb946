"""PostgreSQL: how we connect to a server, and what its failures mean."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL

from metrics.errors import DeskvigilError, TransientError

OLDEST = 12
# A dead network shows within half a minute; a statement or a lock never holds a thread for longer either.
_CONNECT = {
    "application_name": "deskvigil",
    "connect_timeout": "3",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "options": "-c statement_timeout=30000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=60000",
}
# Classes of SQLSTATE (PostgreSQL, appendix A) in which the server, not the statement, is at fault.
_CLASSES = {
    "08": "the connection to the database server was lost",
    "40": "the database server gave the transaction up",
    "53": "the database server is out of resources",
    "55": "a lock on the database server was not free in time",
    "57": "the database server ended the statement or is shutting down",
    "58": "the database server has trouble with its machine",
    "F0": "the database server's configuration is broken",
    "XX": "the database server failed",
}
_READ_ONLY = "25006"
_PASSING = ("starting up", "shutting down", "recovery mode", "not accepting", "too many", "reserved for", "terminating")


class ServerAway(TransientError):  # noqa: N818 - a state of the outside world, not an error of ours
    """The database server cannot be reached at the start; trying again later makes sense."""


def server_url(url: URL, password: str) -> URL:
    """Return the URL with the driver named and the password, where one is given apart, put in; a file's as it is."""
    if url.get_backend_name() == "sqlite":
        return url
    url = url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url
    return url.set(password=password) if password else url


def server_engine(url: URL, connections: int) -> Engine:
    """Return an engine whose connections find out soon that the server is gone.

    What the URL's own query says (sslmode, connect_timeout, ...) goes before what is set here.
    """
    settings = {name: value for name, value in _CONNECT.items() if name not in url.query}
    return create_engine(
        url, connect_args=settings, pool_size=connections, max_overflow=0, pool_timeout=10, pool_pre_ping=True
    )


def explain_server(error: sa_exc.DBAPIError) -> str | None:
    """Return why the server failed a statement, or None where the statement itself is at fault."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    line = first_line(error.orig)
    if state == _READ_ONLY:
        return f"the database server takes no writes: {line}"
    if state:
        reason = _CLASSES.get(state[:2])
        return None if reason is None else f"{reason}: {line}"
    if isinstance(error, (sa_exc.OperationalError, sa_exc.InterfaceError)) or error.connection_invalidated:
        return f"the database server does not answer: {line}"
    return None


def is_away(error: BaseException) -> bool:
    """Whether asking again at once is in vain: no connection, or the server said that it is going."""
    if not isinstance(error, sa_exc.DBAPIError) or isinstance(error.orig, sqlite3.Error):
        return False
    state = str(getattr(error.orig, "sqlstate", None) or "")
    return error.connection_invalidated or state[:2] in ("08", "57") or (not state and _is_operational(error))


def may_pass(error: BaseException) -> bool:
    """Whether a failed connection may work later by itself: not so where name, password or database are wrong."""
    line = first_line(getattr(error, "orig", error)).lower()
    return "fatal:" not in line or any(word in line for word in _PASSING)


def first_line(error: object) -> str:
    """The first line of a server's message; they go on with hints that do not belong into a status bar."""
    lines = str(error).strip().removeprefix("connection failed: ").splitlines()
    return lines[0] if lines else type(error).__name__


def check_server(connection: Connection) -> None:
    """Raise DeskvigilError where a server is too old, or its database cannot hold every text."""
    version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if version < OLDEST * 10_000:
        raise DeskvigilError(f"the server is PostgreSQL {version // 10_000}; {OLDEST} is the oldest that works")
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise DeskvigilError(f"its encoding is {encoding}; create it with ENCODING 'UTF8' TEMPLATE template0")


def _is_operational(error: Any) -> bool:
    return isinstance(error, (sa_exc.OperationalError, sa_exc.InterfaceError))
