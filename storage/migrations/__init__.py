"""Migrations: bring a database to the tables of this version, in one transaction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from metrics.errors import DeskvigilError
from storage.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0007"
"""The newest revision in versions/; a test keeps the two equal. Alembic is loaded only when a database is behind."""


def migrate(database: Database) -> bool:
    """Bring `database` to HEAD; True where something had to be done.

    Raises DeskvigilError for a database that a newer Deskvigil has written.
    """
    with database.read() as connection:
        current = current_revision(connection) == HEAD
    if not current:
        with database.write() as connection:
            _upgrade(connection, current_revision(connection))
    database.watch_commits()
    return not current


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the database is at, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def alembic_config(connection: Connection | None) -> Config:
    """Return Alembic's configuration, without any ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection, revision: str | None) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise DeskvigilError(
            f"the database is at revision {revision}, which this version (newest known: {HEAD}) does not know: "
            "a newer Deskvigil has written it. Start that version, or restore a backup made before the upgrade."
        )
    command.upgrade(config, "head")
