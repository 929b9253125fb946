"""kill -9 at random moments: whatever was acknowledged is there, once, with its value."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from metrics.clock import ManualClock
from metrics.paths import RuntimePaths
from storage.options import StorageOptions
from storage.store import Store
from tests.storage.kill_child import COLLECTORS, SERIES, value

ROOT = Path(__file__).resolve().parents[2]
START_MS = 1_700_000_000_000


def run_until_killed(folder: Path, start_ms: int, acknowledgements: int) -> list[tuple[str, int]]:
    """Let a child store until it has acknowledged so much, kill it, and return everything it ever acknowledged."""
    command = [sys.executable, "-m", "tests.storage.kill_child", str(folder), str(start_ms)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acknowledgements)]
        child.kill()
        lines += child.stdout.readlines()
        child.wait(10)
    whole = [line.split() for line in lines if line.endswith(b"\n")]
    assert len(whole) >= acknowledgements, "the child ended by itself"
    return [(name.decode(), int(t_ms)) for name, t_ms in whole]


def check(folder: Path, acknowledged: list[tuple[str, int]]) -> None:
    store = Store.open(StorageOptions(), RuntimePaths(folder), ManualClock())
    try:
        assert store.series_database.integrity_problems() == []
        stored: dict[str, list[int]] = {}
        for data in store.reader.select([], 0, 2**60):
            times = data.t_ms.tolist()
            assert times == sorted(set(times))
            row = 2 if data.series.name == "pushed" else int(data.series.name.rpartition("_")[2])
            assert data.values.tolist() == [value(t_ms, row) for t_ms in times]
            collector = data.series.name.rpartition("_")[0] or "pushed"
            assert stored.setdefault(collector, times) == times
        for name in (*COLLECTORS, "pushed"):
            mine = [t_ms for other, t_ms in acknowledged if other == name]
            assert len(mine) == len(set(mine))
            assert set(mine) <= set(stored[name])
        assert sum(1 for data in store.reader.select([("__name__", "=~", "one_.*")], 0, 2**60)) == SERIES
    finally:
        store.close()


def kill_many_times(folder: Path, runs: int, seed: int) -> None:
    moments = random.Random(seed)
    acknowledged: list[tuple[str, int]] = []
    start_ms = START_MS
    for _ in range(runs):
        acknowledged += run_until_killed(folder, start_ms, moments.randint(30, 800))
        start_ms = max(t_ms for _, t_ms in acknowledged) + 60_000
        check(folder, acknowledged)


def test_five_kills_lose_nothing_that_was_acknowledged_and_double_nothing(tmp_path: Path) -> None:
    kill_many_times(tmp_path, runs=5, seed=1)


@pytest.mark.prove
def test_twenty_kills_lose_nothing_that_was_acknowledged_and_double_nothing(tmp_path: Path) -> None:
    kill_many_times(tmp_path, runs=20, seed=2)
