"""Backups: taken under write load, whole, restorable; and refusals in words that leave nothing behind."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from metrics.clock import ManualClock
from metrics.errors import DeskvigilError
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series
from storage.backup import ASIDE, backup, restore
from storage.fsck import check_file
from storage.options import StorageOptions
from storage.store import Store
from tests.storage.conftest import frame, samples, schema

HOST = schema("host", "a", "b")


def quiet(_line: str) -> None:
    return None


def take(paths: RuntimePaths, out: Path, clock: ManualClock):
    return backup(paths, out, clock, "1.2.3", quiet)


def put_back(out: Path, folder: Path, clock: ManualClock, *, force: bool = False) -> Path | None:
    return restore(out, RuntimePaths(folder), clock, force=force, say=quiet)


@pytest.fixture
def folder(tmp_path: Path, clock: ManualClock) -> Path:
    """A stopped data folder with a store of one frame, and other files."""
    folder = tmp_path / "data"
    store = Store.open(StorageOptions(), RuntimePaths(folder), clock)
    store.live.append(frame(HOST, 1_000, 1.0, 2.0))
    store.close()
    (folder / "trading_state.json").write_text('{"state": "halted"}')
    (folder / "queue").mkdir()
    (folder / "queue" / "00001.seg").write_bytes(bytes(range(256)) * 100)
    with closing(sqlite3.connect(folder / "queue" / "other.sqlite")) as other, other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE t (x)")
        other.execute("INSERT INTO t VALUES (42)")
    (folder / "lock").write_text("4711\n")
    return folder


def test_what_was_committed_before_it_began_is_in_a_backup_taken_under_write_load(
    tmp_path: Path, clock: ManualClock
) -> None:
    paths = RuntimePaths(tmp_path / "data")
    store = Store.open(StorageOptions(seal_minutes=1), paths, clock)
    wide = Schema("wide", tuple(Series(f"w{i}") for i in range(200)))
    committed: list[int] = []
    store.archive.on_commit(lambda some: committed.extend(t for _, t in some))
    stopping, enough = threading.Event(), threading.Event()
    rng = np.random.default_rng(1)

    def write() -> None:
        while not stopping.is_set():
            store.live.append(Frame(wide, clock.now_ns(), rng.normal(size=200)))
            clock.advance(1_000_000_000)
            store.archive.tick(clock.now_ns())
            if len(committed) % 100 == 0:
                store.seal()
            if len(committed) > 150:
                enough.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(2):
            assert enough.wait(60)
            before = list(committed)
            result = take(paths, tmp_path / f"backup{number}", clock)
            after = len(committed)
            assert result.newest_ms is not None
            assert result.newest_ms >= before[-1]
            target = tmp_path / f"restored{number}"
            assert put_back(tmp_path / f"backup{number}", target, clock) is None
            restored = Store.open(StorageOptions(), RuntimePaths(target), clock)
            try:
                times = [t for t, _ in samples(restored, "w7")]
            finally:
                restored.close()
            assert times[: len(before)] == before
            assert times == committed[: len(times)]
            enough.clear()
        assert after > len(before), "nothing was written during the last backup: the test proves little"
    finally:
        stopping.set()
        writer.join()
        store.close()


def test_everything_durable_comes_back_and_a_program_starts_on_it(
    folder: Path, tmp_path: Path, clock: ManualClock
) -> None:
    result = take(RuntimePaths(folder), tmp_path / "backup", clock)
    assert tuple(sorted(result.files)) == ("queue/00001.seg", "queue/other.sqlite", "trading_state.json")
    target = tmp_path / "new"
    put_back(tmp_path / "backup", target, clock)
    assert (target / "trading_state.json").read_text() == '{"state": "halted"}'
    assert (target / "queue" / "00001.seg").read_bytes() == bytes(range(256)) * 100
    with closing(sqlite3.connect(target / "queue" / "other.sqlite")) as other:
        assert other.execute("SELECT x FROM t").fetchall() == [(42,)]
    assert not (target / "lock").exists()
    assert check_file(RuntimePaths(target).database, say=quiet).problems == []
    store = Store.open(StorageOptions(), RuntimePaths(target), clock)
    try:
        assert samples(store, "a") == [(1_000, 1.0)]
        tables = store.read
        with tables() as connection:
            names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name LIKE 'backup%'").all()
        assert names == []
    finally:
        store.close()


def test_the_original_is_untouched_and_its_log_too(folder: Path, tmp_path: Path, clock: ManualClock) -> None:
    store = Store.open(StorageOptions(), RuntimePaths(folder), clock)
    try:
        store.live.append(frame(HOST, 2_000, 1.0, 2.0))
        store.archive.flush()
        log = RuntimePaths(folder).database.with_name("deskvigil.sqlite-wal")
        before = log.read_bytes(), RuntimePaths(folder).database.read_bytes()
        assert len(before[0]) > 0
        take(RuntimePaths(folder), tmp_path / "backup", clock)
        assert (log.read_bytes(), RuntimePaths(folder).database.read_bytes()) == before
        store.live.append(frame(HOST, 3_000, 1.0, 2.0))
        store.archive.flush()
        assert store.health().ok
    finally:
        store.close()


def test_a_backup_overwrites_nothing(folder: Path, tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "backup").write_text("precious")
    with pytest.raises(DeskvigilError, match="exists already"):
        take(RuntimePaths(folder), tmp_path / "backup", clock)
    assert (tmp_path / "backup").read_text() == "precious"


def test_a_backup_in_the_data_folder_is_not_backed_up_again(folder: Path, clock: ManualClock) -> None:
    take(RuntimePaths(folder), folder / "first.backup", clock)
    result = take(RuntimePaths(folder), folder / "second.backup", clock)
    assert not any("backup" in name for name in result.files)


def test_the_engines_journal_is_left_out(folder: Path, tmp_path: Path, clock: ManualClock) -> None:
    journal = RuntimePaths(folder).journal
    journal.mkdir()
    (journal / f"{1:020d}.journal").write_bytes(b"x" * 64)
    found = take(RuntimePaths(folder), tmp_path / "out.backup", clock)
    assert "trading_state.json" in found.files
    assert not [name for name in found.files if name.startswith("journal")]


def test_a_damaged_store_gives_no_backup(folder: Path, tmp_path: Path, clock: ManualClock) -> None:
    with closing(sqlite3.connect(RuntimePaths(folder).database)) as connection, connection:
        connection.execute("UPDATE frame SET data = x'00'")
    with pytest.raises(DeskvigilError, match="has 1 problem"):
        take(RuntimePaths(folder), tmp_path / "backup", clock)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_full_disk_is_told_and_leaves_nothing(folder: Path, tmpfs: Callable[[str], Path], clock: ManualClock) -> None:
    store = Store.open(StorageOptions(), RuntimePaths(folder), clock)
    try:
        store.annotations.add("note", "x" * 600_000)
    finally:
        store.close()
    small = tmpfs("size=200k")
    with pytest.raises(DeskvigilError, match="free, the backup needs"):
        take(RuntimePaths(folder), small / "backup", clock)
    assert list(small.iterdir()) == []
    (folder / "queue" / "00002.seg").write_bytes(os.urandom(3_000_000))
    enough_for_the_database = tmpfs("size=2m")
    with pytest.raises(DeskvigilError, match="full"):
        take(RuntimePaths(folder), enough_for_the_database / "backup", clock)
    assert list(enough_for_the_database.iterdir()) == []


def test_a_folder_without_a_store_is_named(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(DeskvigilError, match=r"no database at .*nothing"):
        take(RuntimePaths(tmp_path / "nothing"), tmp_path / "backup", clock)


def test_a_place_that_does_not_exist_is_named(folder: Path, tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(DeskvigilError, match=r"missing.*No such file"):
        take(RuntimePaths(folder), tmp_path / "missing" / "out", clock)


def test_restore_refuses_a_folder_that_is_not_empty_and_keeps_it_aside_when_forced(
    folder: Path, tmp_path: Path, clock: ManualClock
) -> None:
    take(RuntimePaths(folder), tmp_path / "backup", clock)
    store = Store.open(StorageOptions(), RuntimePaths(folder), clock)
    store.live.append(frame(HOST, 9_000, 9.0, 9.0))
    store.close()
    (folder / "trading_state.json").write_text("newer")
    with pytest.raises(DeskvigilError, match="not empty"):
        put_back(tmp_path / "backup", folder, clock)
    aside = put_back(tmp_path / "backup", folder, clock, force=True)
    assert aside is not None
    assert aside.name.startswith(ASIDE)
    assert (aside / "trading_state.json").read_text() == "newer"
    assert (folder / "trading_state.json").read_text() == '{"state": "halted"}'
    for place, expected in ((folder, [(1_000, 1.0)]), (aside, [(1_000, 1.0), (9_000, 9.0)])):
        store = Store.open(StorageOptions(), RuntimePaths(place), clock)
        try:
            assert samples(store, "a") == expected
        finally:
            store.close()
    take(RuntimePaths(folder), tmp_path / "again", clock)
    with closing(sqlite3.connect(tmp_path / "again")) as connection:
        names = [name for (name,) in connection.execute("SELECT DISTINCT name FROM backup_file")]
    assert not any(ASIDE in name for name in names)


def test_a_disk_that_fills_during_a_restore_leaves_the_folder_as_it_was(
    folder: Path, tmp_path: Path, tmpfs: Callable[[str], Path], clock: ManualClock
) -> None:
    (folder / "queue" / "00002.seg").write_bytes(os.urandom(3_000_000))
    take(RuntimePaths(folder), tmp_path / "backup", clock)
    small = tmpfs("size=5m")
    store = Store.open(StorageOptions(), RuntimePaths(small), clock)
    store.live.append(frame(HOST, 5_000, 5.0, 5.0))
    store.close()
    with pytest.raises(DeskvigilError, match="full"):
        put_back(tmp_path / "backup", small, clock, force=True)
    assert sorted(path.name for path in small.iterdir()) == ["deskvigil.sqlite", "deskvigil.sqlite.lock"]
    store = Store.open(StorageOptions(), RuntimePaths(small), clock)
    try:
        assert samples(store, "a") == [(5_000, 5.0)]
    finally:
        store.close()


def test_restore_refuses_while_a_store_is_open(folder: Path, tmp_path: Path, clock: ManualClock) -> None:
    take(RuntimePaths(folder), tmp_path / "backup", clock)
    store = Store.open(StorageOptions(), RuntimePaths(folder), clock)
    try:
        with pytest.raises(DeskvigilError, match="in use"):
            put_back(tmp_path / "backup", folder, clock, force=True)
        assert samples(store, "a") == [(1_000, 1.0)]
    finally:
        store.close()


def test_restore_refuses_what_is_no_backup_or_a_damaged_one(folder: Path, tmp_path: Path, clock: ManualClock) -> None:
    target = tmp_path / "new"
    with pytest.raises(DeskvigilError, match="no backup made by"):
        put_back(RuntimePaths(folder).database, target, clock)
    (tmp_path / "text").write_text("hello" * 1000)
    with pytest.raises(DeskvigilError, match="not a database"):
        put_back(tmp_path / "text", target, clock)
    take(RuntimePaths(folder), tmp_path / "backup", clock)
    with closing(sqlite3.connect(tmp_path / "backup")) as connection, connection:
        connection.execute("UPDATE frame SET data = x'00'")
    with pytest.raises(DeskvigilError, match="is damaged"):
        put_back(tmp_path / "backup", target, clock)
    assert not RuntimePaths(target).database.exists()


def test_a_file_that_would_leave_the_data_folder_is_refused(folder: Path, tmp_path: Path, clock: ManualClock) -> None:
    take(RuntimePaths(folder), tmp_path / "backup", clock)
    with closing(sqlite3.connect(tmp_path / "backup")) as connection, connection:
        connection.execute("UPDATE backup_file SET name = '../evil' WHERE name = 'trading_state.json'")
    with pytest.raises(DeskvigilError, match="evil"):
        put_back(tmp_path / "backup", tmp_path / "new", clock)
    assert not (tmp_path / "evil").exists()
    assert not RuntimePaths(tmp_path / "new").database.exists()
