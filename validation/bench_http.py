"""Ingest by remote write over loopback HTTP, and a month's query over HTTP: ours beside Prometheus's and VictoriaMetrics's.

The loader sends requests of 1,000 series with 10 samples each, made beforehand, on one connection; each is answered when
its samples are durable (ours) or taken (theirs). Server and loader each have one core where there are two.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import cramjam
import numpy as np

from metrics.clock import SystemClock
from metrics.frame import FloatArray
from metrics.paths import RuntimePaths
from metrics.series import Series
from storage.options import StorageOptions
from storage.store import Store
from validation.figure import Figure

NAME = "ingest"
SERIES = 1_000
SAMPLES = 10
REQUESTS = 300
START_MS = 1_700_000_000_000
MONTH_DAYS, MONTH_SERIES, POINTS = 30, 8, 2_000
GENERATED_MS = 1_780_272_000_000  # where validation/stores begins its days
READY_S = 60.0
_ROOT = Path(__file__).resolve().parent.parent


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Load each server that is installed, one after the other, and report samples per second."""
    say(f"ingest: {SERIES} series x {SAMPLES} samples a request, {REQUESTS} requests each, about 20 s ...")
    bodies = make_bodies(REQUESTS)
    peers: list[str] = []
    for name, serving in (("prometheus", _prometheus), ("victoria-metrics", _victoria_metrics)):
        if shutil.which(name) is None:
            peers.append(f"{name} is not installed (apt-get install {name})")
            continue
        with serving() as address:
            peers.append(f"{name} here {load(address, bodies) / 1e6:.2f} M/s")
    with _deskvigil() as (address, process):
        cpu_before, began = _cpu_s(process.pid), time.perf_counter()
        rate = load(address, bodies)
        share = (_cpu_s(process.pid) - cpu_before) / (time.perf_counter() - began)
        stored = _count(address)
    expected = float(REQUESTS * SAMPLES)
    if stored != expected:
        raise RuntimeError(f"{stored:g} samples of one series are there, {expected:g} were sent")
    return [
        Figure(benchmark=NAME, what=f"remote write, durable, server at {share:.0%} of a core", value=rate / 1e6,
               unit="M samples/s", limit=1.0, at_most=False, peer=", ".join(peers)),
        *_month_ms(say),
    ]  # fmt: skip


def make_bodies(count: int) -> list[bytes]:
    """Remote write bodies: snappy blocks, times going on from one to the next."""
    rng = np.random.default_rng(7)
    values = np.cumsum(rng.standard_normal((SERIES, SAMPLES * count)), axis=1).round(3) + 100
    heads = [_labels(i) for i in range(SERIES)]
    return [
        bytes(
            cramjam.snappy.compress_raw(
                _request(heads, START_MS + k * SAMPLES * 1000, values[:, k * SAMPLES : (k + 1) * SAMPLES])
            )
        )
        for k in range(count)
    ]


def load(address: str, bodies: Sequence[bytes]) -> float:
    """Post the bodies one after the other on one connection; samples per second. Raises where one is refused."""
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    began = 0.0
    for number, content in enumerate(bodies):
        if number == 1:  # the first makes the series
            began = time.perf_counter()
        while True:
            connection.request("POST", "/api/v1/write", content, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status in (200, 204):
                break
            if answer.status != 503:
                raise RuntimeError(f"{address} answers {answer.status}: {said[:200]!r}")
            time.sleep(0.05)
    taken = time.perf_counter() - began
    connection.close()
    return (len(bodies) - 1) * SERIES * SAMPLES / taken


def _labels(i: int) -> bytes:
    pairs = (
        ("__name__", f"bench_metric_{i % 20}"),
        ("host", f"host-{i // 20}"),
        ("instance", f"10.0.{i // 250}.{i % 250}:9100"),
        ("job", "bench"),
        ("region", "eu-west-1"),
    )
    return b"".join(_part(1, _part(1, name.encode()) + _part(2, value.encode())) for name, value in pairs)


def _request(heads: Sequence[bytes], start_ms: int, values: FloatArray) -> bytes:
    times = [b"\x10" + _varint(start_ms + j * 1000) for j in range(values.shape[1])]
    series = []
    for head, row in zip(heads, values.tolist(), strict=True):
        samples = [_part(2, b"\x09" + struct.pack("<d", value) + t) for value, t in zip(row, times, strict=True)]
        series.append(_part(1, head + b"".join(samples)))
    return b"".join(series)


def _part(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _count(address: str) -> float:
    end_s = (START_MS + REQUESTS * SAMPLES * 1000) // 1000
    data = _get(
        address, f"/api/v1/query?query=count_over_time(bench_metric_0%7Bhost%3D%22host-0%22%7D%5B1d%5D)&time={end_s}"
    )
    return float(json.loads(data)["data"]["result"][0]["value"][1])


def _month_ms(say: Callable[[str], None]) -> list[Figure]:
    """A month of one series over HTTP: from the big generated store where DESKVIGIL_BENCH_DIR has one, else a small one."""
    kept = Path(os.environ.get("DESKVIGIL_BENCH_DIR", "")) / "generated-2-30d-1000"
    with ExitStack() as cleanup:
        if (kept / "complete").exists():
            folder, series, what = kept, 'bench_level{item="000"}', "30 days x 1000 series"
        else:
            say(f"ingest: a store of {MONTH_DAYS} days x {MONTH_SERIES} series is made ...")
            folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="deskvigil-bench-")))
            _fill_month(folder)
            series, what = 'bench_level{item="0"}', f"30 days x {MONTH_SERIES} series"
        address, _ = cleanup.enter_context(_deskvigil(folder))
        start_s, seconds = GENERATED_MS // 1000, MONTH_DAYS * 86_400
        step_s = seconds // POINTS
        figures = []
        for name, expression in (("selector", series), ("avg_over_time", f"avg_over_time({series}[{step_s}s])")):
            query = urlencode(
                {"query": expression, "start": start_s, "end": start_s + seconds - step_s, "step": step_s}
            )
            taken = []
            for _ in range(15):
                began = time.perf_counter()
                answer = _get(address, f"/api/v1/query_range?{query}")
                taken.append(time.perf_counter() - began)
            points = len(json.loads(answer)["data"]["result"][0]["values"])
            figures.append(
                Figure(benchmark=NAME, what=f"one series of {what} -> {points:,} points over HTTP, {name}, p50",
                       value=float(np.median(taken)) * 1e3, unit="ms", limit=40.0,
                       peer=f"first time {taken[0] * 1e3:.0f} ms")
            )  # fmt: skip
    return figures


def _fill_month(folder: Path) -> None:
    store = Store.open(StorageOptions(raw_days=36_500), RuntimePaths(folder), SystemClock())
    try:
        layout = store.bulk.layout("bench", [Series("bench_level", (("item", str(i)),)) for i in range(MONTH_SERIES)])
        rng = np.random.default_rng(3)
        level = np.full(MONTH_SERIES, 50.0)
        for hour in range(24 * MONTH_DAYS):
            steps = rng.normal(0, 0.2, (MONTH_SERIES, 3_600))
            columns = np.abs(level[:, None] + np.cumsum(steps, axis=1)).round(2)
            level = columns[:, -1]
            t_ms = GENERATED_MS + hour * 3_600_000 + np.arange(3_600, dtype=np.int64) * 1_000
            store.bulk.store([store.bulk.encode(layout, t_ms, list(columns))])
            if hour % 24 == 23:
                store.rollup_writer.run(int(t_ms[-1]) + 1, int(t_ms[-1]) + 1)
    finally:
        store.close()


def _get(address: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answers {answer.status}: {data[:300]!r}")
    return data


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _served(command: Sequence[str], address: str, ready: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server, on its own core where there are two, and wait until it answers."""
    cores = sorted(os.sched_getaffinity(0))
    mine = set(cores)
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=out, stderr=out)
        try:
            os.sched_setaffinity(process.pid, {cores[-1]})
            if len(cores) > 1:
                os.sched_setaffinity(0, set(cores[:-1]))
            until = time.monotonic() + READY_S
            while True:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{command[0]} does not start: {log.read_text()[-500:]}")
                with suppress(OSError, RuntimeError):
                    _get(address, ready)
                    break
                time.sleep(0.1)
            yield process
        finally:
            os.sched_setaffinity(0, mine)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _deskvigil(data: Path | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with tempfile.TemporaryDirectory(prefix="deskvigil-bench-") as folder:
        address = f"127.0.0.1:{_free_port()}"
        command = [
            sys.executable,
            "app.py",
            "serve",
            "--data-dir",
            str(data or folder),
            "--port",
            address.split(":")[1],
        ]
        with _served(command, address, "/-/ready", Path(folder) / "log") as process:
            yield address, process


@contextmanager
def _prometheus() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="deskvigil-bench-") as folder:
        address = f"127.0.0.1:{_free_port()}"
        config = Path(folder) / "prometheus.yml"
        config.write_text("global: {scrape_interval: 1h}\n")
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder}/data",
            "--storage.tsdb.retention.time=20y",
            f"--web.listen-address={address}",
            "--web.enable-remote-write-receiver",
        ]
        with _served(command, address, "/-/ready", Path(folder) / "log"):
            yield address


@contextmanager
def _victoria_metrics() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="deskvigil-bench-") as folder:
        address = f"127.0.0.1:{_free_port()}"
        command = [
            "victoria-metrics",
            f"-storageDataPath={folder}/data",
            "-retentionPeriod=20y",
            f"-httpListenAddr={address}",
        ]
        with _served(command, address, "/health", Path(folder) / "log"):
            yield address
