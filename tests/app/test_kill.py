"""SIGKILL to the whole program at random moments: what was committed, and what a remote write was told is stored, is there, once, and sound."""

from __future__ import annotations

import http.client
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from metrics.clock import SystemClock
from metrics.paths import RuntimePaths
from storage.fsck import check_file
from storage.matching import Matcher
from storage.options import StorageOptions
from storage.reader import SeriesData
from storage.store import Store
from tests.app.program import Program
from validation.remotewrite import WriteRequests

# The witness is a process of its own: it survives the kill, and what it has read was committed before.
WITNESS = """
import socket, sys
inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
inbox.bind(sys.argv[1])
print("ready", flush=True)
while True:
    datagram = inbox.recv(65536)
    if datagram == b"end":
        break
    sys.stdout.write(datagram.decode())
    sys.stdout.flush()
"""


class Witness:
    """Logs every tick whose commit returned, as `collector t_ms` lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = subprocess.Popen([sys.executable, "-c", WITNESS, str(path)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ticks(self) -> Counter[tuple[str, int]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", str(self.path))
        text, _ = self.process.communicate(timeout=30)
        return Counter((line.split()[0], int(line.split()[1])) for line in text.splitlines())


class Sender:
    """Sends remote writes as fast as they are answered, one instant each, and notes those answered with 204."""

    SERIES = 20

    def __init__(self, port: int) -> None:
        self.acknowledged: list[int] = []
        self._port = port
        self._stopping = threading.Event()
        self._requests = WriteRequests(self.SERIES)
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        last_ms = 0
        while not self._stopping.wait(0.02):
            last_ms = max(time.time_ns() // 1_000_000, last_ms + 1)
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                connection.request("POST", "/api/v1/write", self._requests.at(last_ms), WriteRequests.HEADERS)
                if connection.getresponse().status == 204:
                    self.acknowledged.append(last_ms)
            except (OSError, http.client.HTTPException):
                pass  # not up yet, or killed
            finally:
                connection.close()

    def stop(self) -> list[int]:
        self._stopping.set()
        self._thread.join(20)
        return self.acknowledged


def _kill_at_random_moments(folder: Path, times: int, seed: int) -> None:
    moments = random.Random(seed)
    witnessed: Counter[tuple[str, int]] = Counter()
    acknowledged: list[int] = []
    data = folder / "data"
    for run in range(times):
        witness = Witness(folder / f"witness-{run}")
        # Short blocks so that some kills fall into the sealing of one.
        environ = {"DESKVIGIL_STORAGE__COMMIT_SOCKET": str(witness.path), "DESKVIGIL_STORAGE__SEAL_MINUTES": "1"}
        with Program(data, environ=environ) as program:
            sender = Sender(program.port)
            heard = len(sender.acknowledged)
            if run % 2 == 0:
                program.wait_until_up()
                program.until(
                    lambda p=program, s=sender, n=heard: (
                        len(s.acknowledged) >= n + 5 and (p.value("deskvigil_storage_commits_total") or 0) >= 3
                    ),
                    "commits and acknowledged writes",
                )
                moment_s = moments.uniform(0.0, 2.0)
            else:  # these kills also hit the start: recovery, migration, the first commits
                moment_s = moments.uniform(0.3, 12.0)
            try:
                program.process.wait(moment_s)
                raise AssertionError("the program ended by itself:\n" + "\n".join(program.log))
            except subprocess.TimeoutExpired:
                pass
            program.kill()
        acknowledged += sender.stop()
        witnessed.update(witness.ticks())
    _check(data / "deskvigil.sqlite", witnessed)
    _check_sent(data / "deskvigil.sqlite", acknowledged)


def _check_sent(database: Path, acknowledged: list[int]) -> None:
    assert len(acknowledged) >= 10, "next to nothing was acknowledged: the test proves nothing"
    found = _stored(database, "deskvigil_soak_.*")
    assert len(found) == Sender.SERIES
    for data in found:
        times = data.t_ms.tolist()
        assert times == sorted(set(times))
        missing = set(acknowledged) - set(times)
        assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged writes are lost, first: {min(missing)}"


def _check(database: Path, witnessed: Counter[tuple[str, int]]) -> None:
    assert len(witnessed) >= 10, "the witness saw next to nothing: the test proves nothing"
    twice = [tick for tick, count in witnessed.items() if count > 1]
    assert not twice, f"committed twice: {twice[:5]}"
    report = check_file(database, say=lambda _: None)
    assert [str(problem) for problem in report.problems] == []
    stored = _stored_ticks(database)
    missing = [tick for tick in witnessed if stored[tick] == 0]
    assert not missing, f"{len(missing)} of {len(witnessed)} committed ticks are lost, first: {missing[:5]}"
    doubled = [tick for tick, count in stored.items() if count > 1]
    assert not doubled, f"stored twice: {doubled[:5]}"


def _stored_ticks(database: Path) -> Counter[tuple[str, int]]:
    """Every stored tick, read by the program's own reader through `deskvigil_collector_ticks_total`."""
    found = _stored(database, "deskvigil_collector_ticks_total")
    return Counter((data.series.label("collector"), int(t)) for data in found for t in data.t_ms)


def _stored(database: Path, names: str) -> list[SeriesData]:
    store = Store.open(StorageOptions(), RuntimePaths(database.parent), SystemClock())
    try:
        return store.reader.select([Matcher("__name__", "=~", names)], 0, 1 << 52)
    finally:
        store.close()


def test_no_committed_tick_is_lost_or_doubled_by_five_kills(tmp_path: Path) -> None:
    _kill_at_random_moments(tmp_path, times=5, seed=20261123)


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_no_committed_tick_is_lost_or_doubled_by_twenty_kills(tmp_path: Path) -> None:
    _kill_at_random_moments(tmp_path, times=20, seed=77)
