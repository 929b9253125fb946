"""A disk that really fills up: nothing stored is lost, what waits is written when there is room again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metrics.clock import ManualClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from storage.health import StorageUnavailable
from storage.options import StorageOptions
from storage.store import Store
from tests.storage.conftest import samples, schema


def test_a_full_disk_degrades_and_heals(tmpfs: Callable[[str], Path], clock: ManualClock) -> None:
    folder = tmpfs("size=8m")
    wide = schema("wide", *(f"m{number}" for number in range(300)))
    ballast = folder / "ballast"
    ballast.write_bytes(b"\0" * 5_500_000)
    store = Store.open(StorageOptions(seal_minutes=1), RuntimePaths(folder), clock)
    written = []
    rng = np.random.default_rng(3)

    def write_one() -> None:
        written.append(clock.now_ns() // 1_000_000)
        store.live.append(Frame(wide, clock.now_ns(), rng.normal(size=300)))
        clock.advance(1_000_000_000)
        store.archive.tick(clock.now_ns())

    try:
        while store.health().ok:
            write_one()
            assert len(written) < 5_000
        assert "full" in store.health().reason
        for _ in range(10):
            write_one()
        with pytest.raises(StorageUnavailable, match="full"):
            store.annotations.add("note", "x" * 3_000_000)
        assert [t for t, _ in samples(store, "m1")] == written

        ballast.unlink()
        write_one()
        assert store.health().ok
        assert store.archive.backlog_frames == 0
        store.annotations.add("note", "room again")
        store.seal(everything=True)
        assert [t for t, _ in samples(store, "m1")] == written
    finally:
        store.close()
    store = Store.open(StorageOptions(), RuntimePaths(folder), clock)
    try:
        assert [t for t, _ in samples(store, "m1")] == written
        assert store.series_database.integrity_problems() == []
    finally:
        store.close()
