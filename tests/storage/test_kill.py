"""kill -9 at random moments, half of them in the middle of a seal: whatever was acknowledged is there, once, with its value."""

import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from metrics.clock import ManualClock
from metrics.paths import RuntimePaths
from storage.fsck import check_file
from storage.options import StorageOptions
from storage.store import Store
from tests.storage.kill_child import COLLECTORS, SERIES, values

ROOT = Path(__file__).resolve().parents[2]
START_MS = 1_700_000_000_000
PHASES = ("@begin", "@encode", "@insert", "@inserted")


@dataclass
class Killed:
    """What a child acknowledged, and the last that it said of a seal: None where it never sealed."""

    acknowledged: list[tuple[str, int]]
    phase: str | None

    @property
    def in_a_seal(self) -> bool:
        return self.phase in PHASES


@dataclass
class Tally:
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    phases: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    in_a_seal: int = 0


def run_until_killed(folder: Path, start_ms: int, least: int, at: str | None) -> Killed:
    """Let a child store until it has acknowledged so much (and says `at`, a phase of a seal), then kill it."""
    command = [sys.executable, "-m", "tests.storage.kill_child", str(folder), str(start_ms)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        lines: list[bytes] = []
        while line := child.stdout.readline():
            lines.append(line)
            if len(lines) >= least and (at is None or line == at.encode() + b"\n"):
                break
        assert child.poll() is None, "the child ended by itself"
        child.kill()
        lines += child.stdout.readlines()
        child.wait(60)
    whole = [line.decode().split() for line in lines if line.endswith(b"\n")]
    marks = [words[0] for words in whole if words[0].startswith("@")]
    acknowledged = [(words[0], int(words[1])) for words in whole if not words[0].startswith("@")]
    return Killed(acknowledged, marks[-1] if marks else None)


def check(folder: Path, acknowledged: list[tuple[str, int]]) -> None:
    report = check_file(RuntimePaths(folder).database, say=lambda _: None)  # as the kill left it: nothing recovered
    assert [str(problem) for problem in report.problems] == []
    store = Store.open(StorageOptions(), RuntimePaths(folder), ManualClock())
    try:
        stored: dict[str, np.ndarray] = {}
        for data in store.reader.select([], 0, 2**60):
            assert (np.diff(data.t_ms) > 0).all()
            row = 2 if data.series.name == "pushed" else int(data.series.name.rpartition("_")[2])
            np.testing.assert_array_equal(data.values, values(data.t_ms, row))
            collector = data.series.name.rpartition("_")[0] or "pushed"
            np.testing.assert_array_equal(stored.setdefault(collector, data.t_ms), data.t_ms)
        for name in (*COLLECTORS, "pushed"):
            mine = [t_ms for other, t_ms in acknowledged if other == name]
            assert len(mine) == len(set(mine))
            assert set(mine) <= set(stored[name].tolist())
        assert sum(1 for data in store.reader.select([("__name__", "=~", "one_.*")], 0, 2**60)) == SERIES
        assert_each_sample_is_stored_once(store, stored)
    finally:
        store.close()


def assert_each_sample_is_stored_once(store: Store, stored: dict[str, np.ndarray]) -> None:
    """The reader would hide a doubled sample: so count the rows of each collector in blocks and frames."""
    layouts = {layout.id: name for name in COLLECTORS for layout in store._layouts.of_collector(name)}
    counts: Counter[str] = Counter()
    for block in store._blocks.all():
        counts[layouts.get(block.layout_id, "")] += block.n
    for layout_id, name in layouts.items():
        counts[name] += sum(tail.n for tail in store.archive.tails(layout_id))
    assert {name: counts[name] for name in COLLECTORS} == {name: len(stored[name]) for name in COLLECTORS}


def kill_many_times(folder: Path, kills: int, in_a_seal: int, seed: int) -> Tally:
    """Kill so often, so many of them in a seal; one that was aimed at a seal and came late counts as any other."""
    moments = random.Random(seed)
    tally = Tally()
    start_ms = START_MS
    while tally.kills < kills or tally.in_a_seal < in_a_seal:
        assert tally.kills < 3 * kills, f"too few kills hit a seal: {tally.phases}"
        wanted = in_a_seal - tally.in_a_seal
        aimed = wanted > 0 and (tally.kills + wanted >= kills or moments.random() < 0.7)
        killed = run_until_killed(folder, start_ms, moments.randint(30, 800), moments.choice(PHASES) if aimed else None)
        tally.kills += 1
        tally.in_a_seal += killed.in_a_seal
        tally.phases[killed.phase if killed.in_a_seal and killed.phase else "outside"] += 1
        tally.acknowledged += killed.acknowledged
        start_ms = max(t_ms for _, t_ms in tally.acknowledged) + 60_000
        check(folder, tally.acknowledged)
    return tally


def test_five_kills_three_in_a_seal_lose_nothing_that_was_acknowledged_and_double_nothing(tmp_path: Path) -> None:
    kill_many_times(tmp_path, kills=5, in_a_seal=3, seed=1)


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_a_hundred_kills_half_in_a_seal_lose_nothing_that_was_acknowledged_and_double_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = kill_many_times(tmp_path, kills=100, in_a_seal=50, seed=2)
    with capsys.disabled():
        phases = ", ".join(f"{count} {phase}" for phase, count in sorted(tally.phases.items()))
        told = f"{tally.kills} kills, {tally.in_a_seal} in a seal ({phases}); {len(tally.acknowledged)} acknowledged"
        sys.stdout.write(f"\n{told}\n")
