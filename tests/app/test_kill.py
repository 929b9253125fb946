"""SIGKILL to the whole program at random moments: what was committed is there, once, and sound."""

from __future__ import annotations

import random
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.app.program import Program

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
        text, _ = self.process.communicate(timeout=10)
        return Counter((line.split()[0], int(line.split()[1])) for line in text.splitlines())


def _kill_at_random_moments(folder: Path, times: int, seed: int) -> None:
    moments = random.Random(seed)
    witnessed: Counter[tuple[str, int]] = Counter()
    data = folder / "data"
    for run in range(times):
        witness = Witness(folder / f"witness-{run}")
        # Short blocks so that some kills fall into the sealing of one.
        environ = {"DESKVIGIL_STORAGE__COMMIT_SOCKET": str(witness.path)}
        with Program(data, environ=environ) as program:
            if run:
                # Kills also hit the start: recovery, migration, the first commits.
                try:
                    program.process.wait(moments.uniform(0.3, 12.0))
                    raise AssertionError("the program ended by itself:\n" + "\n".join(program.log))
                except subprocess.TimeoutExpired:
                    pass
            else:
                program.wait_until_up()
                program.until(
                    lambda p=program: (
                        (p.value('count_over_time(deskvigil_collector_ticks_total{collector="host"}[1m])') or 0) >= 2
                    ),
                    "two ticks",
                )
            program.kill()
        witnessed.update(witness.ticks())
    _check(data / "deskvigil.sqlite", witnessed)


def _check(database: Path, witnessed: Counter[tuple[str, int]]) -> None:
    assert len(witnessed) >= 10, "the witness saw next to nothing: the test proves nothing"
    twice = [tick for tick, count in witnessed.items() if count > 1]
    assert not twice, f"committed twice: {twice[:5]}"
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
    stored = _stored_ticks(database)
    missing = [tick for tick in witnessed if stored[tick] == 0]
    assert not missing, f"{len(missing)} of {len(witnessed)} committed ticks are lost, first: {missing[:5]}"
    doubled = [tick for tick, count in stored.items() if count > 1]
    assert not doubled, f"stored twice: {doubled[:5]}"


def _stored_ticks(database: Path) -> Counter[tuple[str, int]]:
    """Every stored tick, read by the program's own reader through `deskvigil_collector_ticks_total`."""
    from metrics.clock import SystemClock
    from metrics.paths import RuntimePaths
    from storage.matching import Matcher
    from storage.options import StorageOptions
    from storage.store import Store

    store = Store.open(StorageOptions(), RuntimePaths(database.parent), SystemClock())
    try:
        found = store.reader.select([Matcher("__name__", "=", "deskvigil_collector_ticks_total")], 0, 1 << 52)
        return Counter((data.series.label("collector"), int(t)) for data in found for t in data.t_ms)
    finally:
        store.close()


def test_no_committed_tick_is_lost_or_doubled_by_five_kills(tmp_path: Path) -> None:
    _kill_at_random_moments(tmp_path, times=5, seed=20261123)


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_no_committed_tick_is_lost_or_doubled_by_twenty_kills(tmp_path: Path) -> None:
    _kill_at_random_moments(tmp_path, times=20, seed=77)
