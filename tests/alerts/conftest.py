"""A real database for the alert tables, on each of the two engines that are supported."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics.clock import SystemClock
from storage.database import Database
from storage.options import DatabaseOptions
from storage.tables import METADATA


def open_database(path: Path) -> Database:
    database = Database.sqlite(path, DatabaseOptions(), SystemClock())
    with database.write() as connection:
        METADATA.create_all(connection)
    return database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "alerts.sqlite")
    yield opened
    opened.close()
