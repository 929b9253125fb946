"""What forwarding to a remote store costs: 1,000 series once a second, and how fast a backlog goes out."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series, make_labels
from storage.options import StorageOptions
from storage.store import Store
from validation.figure import Figure

NAME = "forward"
SERIES = 1_000
LIVE_S = 60
BACKLOG_S = 3_000
_PEER = "Prometheus and vmagent forward too; not measured here"


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Forward to a VictoriaMetrics of this run; without that package there is nothing to measure."""
    if shutil.which("victoria-metrics") is None:
        say(f"{NAME}: skipped, there is no victoria-metrics on this machine (apt-get install victoria-metrics)")
        return []
    with tempfile.TemporaryDirectory(prefix="deskvigil-bench-") as folder, _victoria_metrics(Path(folder)) as url:
        options = StorageOptions(url=f"prometheus+{url}", external_labels={"desk": "bench"})
        store = Store.open(options, RuntimePaths(Path(folder) / "ours"), SystemClock())
        try:
            return [*_live(store, say), *_backlog(store, say)]
        finally:
            store.close()


def _live(store: Store, say: Callable[[str], None]) -> list[Figure]:
    """CPU time of the requests that carry one second each, as `step` needs it in the sender's thread."""
    say(f"{NAME}: {LIVE_S} frames of {SERIES} series, one at a time ...")
    writer = store.remote
    assert writer is not None  # noqa: S101 - a URL is set
    frames = _frames(time.time_ns() // 1_000_000 - 3_600_000, LIVE_S + 1)
    cpu_ns = []
    for frame in frames:
        store.live.append(frame)
        store.archive.flush()
        began_ns = time.thread_time_ns()
        while writer.step():
            pass
        cpu_ns.append(time.thread_time_ns() - began_ns)
    percent = float(np.median(cpu_ns[1:])) / 1e9 * 100
    what = f"cost of forwarding {SERIES} series x 1 Hz, % of a core"
    return [Figure(benchmark=NAME, what=what, value=percent, unit="%", peer=_PEER)]


def _backlog(store: Store, say: Callable[[str], None]) -> list[Figure]:
    """Catching up: sealed blocks are read back, encoded and sent."""
    say(f"{NAME}: a backlog of {BACKLOG_S} s of {SERIES} series ...")
    writer = store.remote
    assert writer is not None  # noqa: S101 - a URL is set
    for frame in _frames(time.time_ns() // 1_000_000 - 3_500_000, BACKLOG_S):
        store.live.append(frame)
        if frame.t_ms // 1000 % 100 == 0:
            store.archive.flush()
    store.archive.flush()
    store.seal(everything=True)
    before, began, began_cpu = writer.counts.samples, time.monotonic(), time.thread_time()
    while writer.step():
        pass
    seconds, cpu_s = time.monotonic() - began, time.thread_time() - began_cpu
    sent = writer.counts.samples - before
    say(
        f"{NAME}: {sent:,} samples in {seconds:.2f} s, {writer.counts.bytes / max(writer.counts.samples, 1):.2f} bytes each"
    )
    return [
        Figure(benchmark=NAME, what="catching up", value=sent / seconds / 1e6, unit="M samples/s", peer=_PEER),
        Figure(benchmark=NAME, what="CPU time while catching up, % of a core", value=100 * cpu_s / seconds, unit="%"),
    ]


def _frames(t0_ms: int, count: int) -> Iterator[Frame]:
    series = tuple(Series("bench_metric", make_labels({"number": str(n), "host": "desk-1"})) for n in range(SERIES))
    schema = Schema("bench", series)
    random = np.random.default_rng(1)
    values = random.integers(0, 10_000, SERIES).astype(np.float64)
    for second in range(count):
        values = values + random.integers(-3, 4, SERIES)
        yield Frame(schema, (t0_ms + second * 1000) * 1_000_000, values / 8)


@contextmanager
def _victoria_metrics(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = ["victoria-metrics", f"-storageDataPath={folder / 'data'}", f"-httpListenAddr=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        pause = threading.Event()
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - our own
                break
            pause.wait(0.05)
        yield url
    finally:
        process.kill()
        process.wait(30)
