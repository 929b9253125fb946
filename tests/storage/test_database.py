import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from metrics.clock import ManualClock
from metrics.errors import DeskvigilError
from metrics.paths import RuntimePaths
from storage.database import Database
from storage.health import StorageUnavailable
from storage.options import DatabaseOptions, StorageOptions
from storage.store import Store
from storage.tables import METADATA, meta

QUICK = DatabaseOptions(busy_timeout_s=0.1)


@pytest.fixture
def database(tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    found = Database.sqlite(tmp_path / "test.sqlite", QUICK, clock)
    with found.write() as connection:
        METADATA.create_all(connection)
    yield found
    found.close()


def keys(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(meta.c.key).order_by(meta.c.key)).scalars())


def put(database: Database, key: str) -> None:
    with database.write() as connection:
        connection.execute(insert(meta).values(key=key, value=""))


def test_what_a_transaction_wrote_is_there_after_it(database: Database) -> None:
    put(database, "a")
    assert keys(database) == ["a"]


def test_a_transaction_that_raises_wrote_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(insert(meta).values(key="a", value=""))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert keys(database) == []
    put(database, "b")


def test_a_constraint_is_the_callers_own_trouble(database: Database) -> None:
    put(database, "a")
    with pytest.raises(IntegrityError):
        put(database, "a")
    assert database.health.ok


def test_a_transaction_inside_a_transaction_is_a_mistake(database: Database) -> None:
    with database.write(), pytest.raises(RuntimeError, match="hand the connection on"):
        put(database, "a")


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(StorageUnavailable, match="read-only"), database.read() as connection:
        connection.execute(insert(meta).values(key="a", value=""))
    assert keys(database) == []


def test_writers_take_turns(database: Database) -> None:
    def write(name: str) -> None:
        for number in range(20):
            put(database, f"{name}{number:02}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(keys(database)) == 80


def test_a_reader_sees_one_moment(database: Database) -> None:
    put(database, "a")
    with database.read() as connection:
        first = connection.execute(select(meta.c.key)).scalars().all()
        put(database, "b")
        assert connection.execute(select(meta.c.key)).scalars().all() == first


def test_the_pragmas_are_in_force(database: Database) -> None:
    with database.maintenance() as connection:
        values = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "auto_vacuum", "secure_delete", "page_size", "foreign_keys")
        }
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "auto_vacuum": 2,
        "secure_delete": 0,
        "page_size": 1024,
        "foreign_keys": 0,
    }


def test_a_lock_of_another_program_is_a_reason_and_passes(database: Database) -> None:
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable, match="locked by another process"):
        put(database, "a")
    assert "locked" in database.health.reason
    other.execute("ROLLBACK")
    other.close()
    put(database, "a")
    assert database.health.ok


def test_opening_a_database_that_another_program_has_locked_says_so(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "locked.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(DeskvigilError, match=r"locked\.sqlite cannot be used: .*locked by another process"):
            Database.sqlite(path, QUICK, clock)
    finally:
        other.close()
    Database.sqlite(path, QUICK, clock).close()


def test_a_second_deskvigil_on_the_same_data_is_refused(store: Store, tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(DeskvigilError, match="in use by another running Deskvigil"):
        Store.open(StorageOptions(), RuntimePaths(tmp_path), clock)


def test_a_file_that_is_no_database_is_named(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "noise.sqlite"
    path.write_bytes(b"this is not a database" * 400)
    with pytest.raises(DeskvigilError, match=r"noise\.sqlite cannot be used: the file is not a database"):
        Database.sqlite(path, QUICK, clock)
    assert path.read_bytes().startswith(b"this is not")


def test_a_damaged_file_is_a_clear_message(empty_database: Path, tmp_path: Path, clock: ManualClock) -> None:
    path = RuntimePaths(tmp_path).database
    content = bytearray(empty_database.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    with pytest.raises(DeskvigilError, match="damaged"):
        Store.open(StorageOptions(), RuntimePaths(tmp_path), clock)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeskvigilError, match=r"file/data cannot be written"):
        Database.sqlite(tmp_path / "file" / "data" / "x.sqlite", QUICK, clock)


def test_a_read_only_folder_is_a_clear_message(
    tmpfs: Callable[[str], Path], empty_database: Path, clock: ManualClock
) -> None:
    import subprocess

    folder = tmpfs("size=4m")
    (folder / "deskvigil.sqlite").write_bytes(empty_database.read_bytes())
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with pytest.raises(DeskvigilError, match="cannot be written: Read-only file system"):
        Store.open(StorageOptions(), RuntimePaths(folder), clock)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_clear_message(tmp_path: Path, clock: ManualClock) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DeskvigilError, match="cannot be written: Permission denied"):
        Store.open(StorageOptions(), RuntimePaths(tmp_path), clock)


def test_a_full_disk_at_start_is_a_clear_message(tmpfs: Callable[[str], Path], clock: ManualClock) -> None:
    folder = tmpfs("size=64k")
    with pytest.raises(DeskvigilError, match="full"):
        Store.open(StorageOptions(), RuntimePaths(folder), clock)


def test_a_sound_file_has_no_problems(database: Database) -> None:
    assert database.integrity_problems() == []


def test_closing_leaves_one_file_and_its_lock(tmp_path: Path, clock: ManualClock) -> None:
    Store.open(StorageOptions(), RuntimePaths(tmp_path), clock).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deskvigil.sqlite", "deskvigil.sqlite.lock"]


def test_statements_go_to_the_database_as_written(database: Database) -> None:
    with database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_checkpoint_brings_what_was_committed_into_the_file_itself(database: Database, tmp_path: Path) -> None:
    def in_the_file() -> list[tuple[str]]:
        alone = sqlite3.connect(f"file:{tmp_path / 'test.sqlite'}?immutable=1", uri=True)  # without the log
        try:
            return alone.execute("SELECT key FROM meta").fetchall()
        finally:
            alone.close()

    database.checkpoint()
    put(database, "a")
    assert in_the_file() == []
    database.checkpoint()
    assert in_the_file() == [("a",)]
    put(database, "b")
    assert keys(database) == ["a", "b"]
