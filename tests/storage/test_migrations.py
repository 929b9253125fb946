from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from metrics.clock import ManualClock
from metrics.errors import DeskvigilError
from storage.database import Database
from storage.migrations import HEAD, alembic_config, current_revision, migrate
from storage.options import DatabaseOptions
from storage.tables import METADATA


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    if request.param == "sqlite":
        found = Database.sqlite(tmp_path / "test.sqlite", DatabaseOptions(), clock)
    else:
        found = Database(request.getfixturevalue("own_postgresql_url"), DatabaseOptions(), clock)
    yield found
    found.close()


def test_a_migrated_database_has_exactly_the_tables_of_this_version(database: Database) -> None:
    assert migrate(database)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert current_revision(connection) == HEAD


def test_a_database_that_is_up_to_date_is_left_alone(database: Database) -> None:
    migrate(database)
    assert not migrate(database)


def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    migrate(database)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DeskvigilError, match=r"revision 9999, which this version .* does not know: a newer Deskvigil"):
        migrate(database)


def test_a_migration_that_fails_leaves_nothing_behind(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE silence (id integer)"))  # in the way of the baseline
    with pytest.raises(Exception, match="silence"):
        migrate(database)
    with database.read() as connection:
        assert current_revision(connection) is None


def test_the_newest_revision_is_the_one_that_the_program_names() -> None:
    assert ScriptDirectory.from_config(alembic_config(None)).get_heads() == [HEAD]
