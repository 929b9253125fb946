"""The disk fills in the middle of a seal: that is seen, nothing stored is damaged, and it heals when there is room."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage.archive
from metrics.clock import ManualClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Series
from storage.fsck import check_file
from storage.health import StorageUnavailable
from storage.options import StorageOptions
from storage.store import Store
from tests.storage.conftest import samples, schema

WIDE = schema("wide", *(f"m{number}" for number in range(300)))


class Ballast:
    """A file that takes all the room there is."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ballast"

    def fill(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            for size in (65_536, 4_096, 1):
                try:
                    while file.write(b"\0" * size) == size:
                        pass
                except OSError:
                    continue

    def remove(self) -> None:
        self._path.unlink()


def test_a_disk_that_fills_during_a_seal_degrades_heals_and_damages_nothing(
    tmpfs: Callable[[str], Path], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmpfs("size=24m")
    ballast = Ballast(folder)
    store = Store.open(StorageOptions(seal_minutes=1), RuntimePaths(folder), clock)
    rng = np.random.default_rng(3)
    written: list[int] = []

    def write_one() -> None:
        written.append(clock.now_ns() // 1_000_000)
        store.live.append(Frame(WIDE, clock.now_ns(), rng.normal(size=300)))
        clock.advance(1_000_000_000)
        store.archive.tick(clock.now_ns())

    insert_sealed = storage.archive.insert_sealed
    inside: list[str] = []

    def fill_and_insert(*args: Any) -> None:
        """Called inside the seal's transaction: from here on there is no room for its rows."""
        if not inside:
            ballast.fill()
        inside.append("began")
        insert_sealed(*args)
        inside.append("inserted")

    try:
        for _ in range(130):
            write_one()
        monkeypatch.setattr(storage.archive, "insert_sealed", fill_and_insert)
        with pytest.raises(StorageUnavailable, match="full"):
            store.seal()
        assert inside, "the disk did not fill in a seal"
        assert not store.health().ok
        assert "full" in store.health().reason
        for _ in range(5):  # ingestion goes on in memory, and says so
            write_one()
        assert store.archive.backlog_frames > 0
        assert "full" in store.archive.health.reason
        with pytest.raises(StorageUnavailable):  # more than what is left free inside the log
            store.ingest([Series("pushed")], [np.arange(1_000, 601_000)], [rng.normal(size=600_000)])
        assert [t for t, _ in samples(store, "m1")] == written
        assert check_file(RuntimePaths(folder).database, say=lambda _: None).problems == []

        ballast.remove()
        write_one()
        assert store.health().ok
        assert store.archive.backlog_frames == 0
        assert store.seal() >= 2
        assert [t for t, _ in samples(store, "m1")] == written
    finally:
        store.close()
    report = check_file(RuntimePaths(folder).database, say=lambda _: None)
    assert [str(problem) for problem in report.problems] == []
    store = Store.open(StorageOptions(), RuntimePaths(folder), clock)
    try:
        assert [t for t, _ in samples(store, "m1")] == written
        assert samples(store, "pushed") == []
    finally:
        store.close()


def test_its_threads_recover_by_themselves(tmpfs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with the store's own threads: nobody calls seal or tick."""
    from metrics.clock import SystemClock

    monkeypatch.setattr("storage.store._RETRY_S", 0.2)
    folder = tmpfs("size=24m")
    ballast = Ballast(folder)
    store = Store.open(StorageOptions(seal_minutes=1), RuntimePaths(folder), SystemClock())
    rng = np.random.default_rng(4)
    insert_sealed = storage.archive.insert_sealed
    hit, sealed, committed = threading.Event(), threading.Event(), threading.Event()

    def fill_and_insert(*args: Any) -> None:
        if not hit.is_set():
            ballast.fill()
            hit.set()
        insert_sealed(*args)
        if not (folder / "ballast").exists():
            sealed.set()

    try:
        start_ns = SystemClock().now_ns() // 60_000_000_000 * 60_000_000_000 - 180_000_000_000
        for second in range(130):
            store.live.append(Frame(WIDE, start_ns + second * 1_000_000_000, rng.normal(size=300)))
        store.archive.flush()
        monkeypatch.setattr(storage.archive, "insert_sealed", fill_and_insert)
        store.start()
        store.archive.due.set()
        assert hit.wait(60)
        store.live.append(Frame(WIDE, start_ns + 130_000_000_000, rng.normal(size=300)))
        store.archive.on_commit(lambda some: committed.set())
        ballast.remove()
        assert sealed.wait(60)
        assert committed.wait(60)
        assert len(samples(store, "m1")) == 131
    finally:
        store.close()
    assert check_file(RuntimePaths(folder).database, say=lambda _: None).problems == []
