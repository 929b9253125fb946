"""Addresses: the URLs of databases and remote stores in the settings, checked before anything is opened."""

from __future__ import annotations

from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_DATABASE_SCHEMES = ("postgresql+psycopg", "postgresql", "postgres")
_STORE_SCHEMES = ("prometheus+http", "prometheus+https")
_WRITE_SCHEMES = ("http", "https", *_STORE_SCHEMES)


def check_database_url(url: str) -> str:
    """Return the URL of a PostgreSQL database, or "" for the SQLite file; ValueError says what is wrong.

    No message repeats the URL: it may hold a password.
    """
    if not url:
        return url
    try:
        parsed = make_url(url)
        port = parsed.port
    except (ArgumentError, ValueError):
        raise ValueError("it is no URL; postgresql+psycopg://USER@HOST:PORT/DATABASE is expected") from None
    if parsed.drivername not in _DATABASE_SCHEMES:
        raise ValueError(
            f"the scheme {parsed.drivername!r} is not known; postgresql+psycopg://USER@HOST:PORT/DATABASE is expected, "
            "or nothing for the SQLite file in the data folder"
        )
    if not parsed.database:
        raise ValueError("it names no database; postgresql+psycopg://USER@HOST:PORT/DATABASE is expected")
    if port is not None and not 0 < port < 65_536:
        raise ValueError(f"{port} is no port")
    return url


def check_store_url(url: str) -> str:
    """Return the URL of a remote store, or "" for none; ValueError says what is wrong."""
    return _checked(url, _STORE_SCHEMES, "prometheus+http://HOST:PORT[/PATH]")


def check_write_url(url: str) -> str:
    """Return the whole address that samples are sent to, or "" for the usual one; ValueError says what is wrong."""
    return _checked(url, _WRITE_SCHEMES, "http://HOST:PORT/PATH")


def _checked(url: str, schemes: tuple[str, ...], expected: str) -> str:
    if not url:
        return url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"it is no URL; {expected} is expected") from None
    if parts.scheme not in schemes:
        raise ValueError(f"the scheme {parts.scheme!r} is not known; {expected} is expected")
    if not parts.hostname or port == 0:
        raise ValueError(f"it names no host or a wrong port; {expected} is expected")
    if parts.query or parts.fragment:
        raise ValueError(f"it has a query or a fragment; {expected} is expected")
    return url
