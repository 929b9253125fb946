"""Forwarding to real remote stores: the same samples are there, whatever is stopped and killed meanwhile."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from metrics.clock import SystemClock
from metrics.paths import RuntimePaths
from metrics.series import Series, make_labels
from storage.options import StorageOptions
from storage.store import Store
from tests.storage.conftest import frame, schema
from tests.storage.remote_child import STEP_MS
from tests.storage.remote_stores import RemoteStore

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("victoria-metrics", "prometheus")


@pytest.fixture(params=KINDS)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RemoteStore]:
    folder = tmp_path / "remote"
    folder.mkdir()
    found = RemoteStore(request.param, folder)
    found.start()
    yield found
    found.stop()


def _open(tmp_path: Path, remote: RemoteStore, **options: object) -> Store:
    chosen = {"url": f"prometheus+{remote.url}", "external_labels": {"desk": "a"}, "remote_retry_max_s": 0.2}
    return Store.open(StorageOptions(**chosen | options), RuntimePaths(tmp_path), SystemClock())  # type: ignore[arg-type]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000_000 * 1000


def _there(remote: RemoteStore, name: str, end_ms: int) -> dict[int, float]:
    """Samples of one metric by time in ms, stale markers left out (VictoriaMetrics shows them as NaN)."""
    (samples,) = remote.samples(name, end_ms / 1000 + 1, 1800).values()
    return {round(t * 1000): float(value) for t, value in samples if value != "NaN"}


def _here(store: Store, name: str) -> dict[int, float]:
    (data,) = store.reader.select([("__name__", "=", name)], 0, 2**60)
    return {t: v for t, v in zip(data.t_ms.tolist(), data.values.tolist(), strict=True) if v == v}


def _eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    give_up = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < give_up, "it did not come about in time"
        pause.wait(0.05)


def _sent(store: Store) -> bool:
    assert store.remote is not None
    return store.remote.status().queue.samples == 0


def test_the_same_samples_are_there_through_an_outage_a_freeze_and_a_restart_of_ours(
    remote: RemoteStore, tmp_path: Path
) -> None:
    store = _open(tmp_path, remote, remote_timeout_s=0.5)
    store.start()
    of = schema("host", "cpu", "disk")
    t0 = _now_ms() - 900_000
    written = 0

    def write(count: int) -> None:
        nonlocal written
        for _ in range(count):
            missing = 100 <= written < 130
            store.live.append(frame(of, t0 + written * 1000, np.nan if missing else written / 4, -written))
            written += 1
        store.archive.flush()

    write(120)
    store.ingest([Series("pushed", make_labels({"a": "ß"}))], [t0 + np.arange(50) * 10], [np.arange(50.0)])
    _eventually(lambda: _sent(store))
    remote.shut_down()
    write(100)
    store.seal(everything=True)
    write(20)
    assert store.remote is not None
    _eventually(lambda: not store.remote.health.ok)  # type: ignore[union-attr]
    assert store.remote.status().queue.samples == 2 * 120
    assert store.remote.status().queue.age_s > 500
    store.close()
    remote.start()
    store = _open(tmp_path, remote, remote_timeout_s=0.5)
    store.start()
    write(50)
    _eventually(lambda: _sent(store))
    remote.freeze()
    write(50)
    _eventually(lambda: not store.remote.health.ok)  # type: ignore[union-attr]
    assert "no answer within" in store.remote.health.reason  # type: ignore[union-attr]
    remote.thaw()
    _eventually(lambda: _sent(store))
    assert store.remote is not None
    assert store.remote.health.ok
    end = t0 + written * 1000
    for name in ("cpu", "disk", "pushed"):
        found = _there(remote, name, end)
        assert found == _here(store, name)
    assert len(_there(remote, "cpu", end)) == written - 30
    assert len(_there(remote, "disk", end)) == written
    labels = list(remote.samples("pushed", end / 1000, 1800))
    assert labels == ['{"__name__":"pushed","a":"ß","desk":"a"}']
    store.close()


def test_our_own_death_loses_nothing(remote: RemoteStore, tmp_path: Path) -> None:
    _kills(remote, tmp_path, 1, random.Random(7))


@pytest.mark.prove
@pytest.mark.timeout(1200)
def test_forty_deaths_of_ours_lose_nothing(remote: RemoteStore, tmp_path: Path) -> None:
    _kills(remote, tmp_path, 40, random.Random())


def _kills(remote: RemoteStore, tmp_path: Path, times: int, chance: random.Random) -> None:
    """kill -9 at random moments while frames are written, sealed and sent, and the store comes and goes."""
    t0 = _now_ms() - 900_000
    durable = -1
    for turn in range(times):
        arguments = [str(tmp_path), f"prometheus+{remote.url}", str(t0), str(durable + 1)]
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.remote_child", *arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        until = durable + chance.randint(60, 160)
        for line in child.stdout:
            durable = int(line)
            if turn % 2 and durable == until - 50:
                remote.freeze()
            if durable >= until:
                break
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split()
        durable = int(rest[-1]) if rest else durable
        child.wait()
        remote.thaw()
    store = _open(tmp_path, remote)
    store.start()
    _eventually(lambda: _sent(store))
    end = t0 + (durable + 1) * STEP_MS
    here, there = _here(store, "cpu"), _there(remote, "cpu", end)
    assert set(range(durable + 1)) <= {round(value) for value in here.values()}
    assert there == here
    assert _there(remote, "disk", end) == _here(store, "disk")
    store.close()
    sys.stdout.write(f"{times} kills, {len(here)} frames committed, all of them there\n")


@pytest.mark.prove
@pytest.mark.timeout(1500)
def test_a_store_that_is_away_for_ten_minutes_gets_everything(remote: RemoteStore, tmp_path: Path) -> None:
    store = _open(tmp_path, remote, seal_minutes=1, remote_retry_max_s=30.0)
    store.start()
    of = schema("host", *(f"m{n}" for n in range(1000)))
    ended = threading.Event()
    t0 = _now_ms()

    def write() -> None:
        number = 0
        while not ended.wait(1.0 - time.time() % 1.0):
            store.live.append(frame(of, time.time_ns() // 1_000_000, *np.arange(1000.0) + number))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    threading.Event().wait(5)
    remote.shut_down()
    assert store.remote is not None
    oldest = 0.0
    back = time.monotonic() + 600
    while time.monotonic() < back:
        threading.Event().wait(5)
        oldest = max(oldest, store.remote.status().queue.age_s)
    remote.start()
    came_back = time.monotonic()
    _eventually(lambda: store.remote.status().queue.age_s < 3, 120)  # type: ignore[union-attr]
    caught_up_s = time.monotonic() - came_back
    ended.set()
    writer.join()
    store.archive.flush()
    _eventually(lambda: _sent(store))
    end = _now_ms() + 1000
    for name in ("m0", "m999"):
        assert _there(remote, name, end) == _here(store, name)
    sys.stdout.write(
        f"10 minutes away: queue {oldest:.0f} s old, caught up in {caught_up_s:.1f} s, {(end - t0) // 1000} s all there\n"
    )
    store.close()
