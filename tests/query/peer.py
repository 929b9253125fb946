"""A real Prometheus with the same data as ours: what the differential tests compare with.

Debian's Prometheus is 2.42, whose ranges are closed on their left. The samples therefore lie off the
times that queries ask for: no window begins exactly on one, and both semantics see the same samples.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metrics.clock import SystemClock
from query.engine import QueryEngine, QueryOptions
from query.labels import labels_of, show
from query.source import MemorySource
from tests.ports import free_port
from tests.query.engines import series

BASE_S = 1_700_000_000  # a multiple of 10 s
STEP_MS = 5_000
OFF_MS = 1_234  # samples lie this far behind the multiples of 5 s
SAMPLES = 900
NEEDED = ("prometheus", "promtool")
MISSING = "needs the Debian package prometheus (apt-get install prometheus)"


def available() -> bool:
    return all(shutil.which(name) for name in NEEDED)


def data() -> MemorySource:
    """A host, an API and a batch job on three instances: gauges, counters with resets, histograms, gaps."""
    rng = np.random.default_rng(7)
    source = MemorySource()
    t = BASE_S * 1000 + OFF_MS + STEP_MS * np.arange(SAMPLES, dtype=np.int64)

    def put(name: str, values: Any, kept: Any = slice(None), **labels: str) -> None:
        source.put(series(name, job="demo", **labels), t[kept].tolist(), np.asarray(values, float)[kept].tolist())

    for i in range(3):
        instance = f"demo.example:1000{i}"
        for kind in ("free", "used", "cached", "buffers"):
            put("mem_bytes", np.round(rng.normal(1e9, 2e8, SAMPLES)), instance=instance, type=kind)
        for mode in ("user", "idle", "system"):
            counter = 1000 + np.cumsum(rng.uniform(0, 5, SAMPLES))
            counter[400 + 50 * i :] -= counter[400 + 50 * i] - 1  # one restart
            put("cpu_seconds_total", counter, instance=instance, mode=mode)
        put("cpus", np.full(SAMPLES, 4.0 + i), instance=instance)
        put("disk_bytes", 1e10 + np.arange(SAMPLES) * 1e5 * (i + 1) + rng.normal(0, 1e4, SAMPLES), instance=instance)
        put("last_success_seconds", BASE_S - 500 + np.arange(SAMPLES) // 60 * 300.0, instance=instance)
        put("sometimes", rng.normal(0, 1, SAMPLES), rng.random(SAMPLES) < 0.5, instance=instance)
        put("rarely", np.arange(SAMPLES), np.arange(SAMPLES) % 90 < 15, instance=instance)
        signs = rng.choice([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan, 1e-100, 1e100], SAMPLES)
        put("odd", signs, instance=instance)
        for path in ("/a", "/b"):
            cumulative = np.cumsum(np.cumsum(rng.integers(0, 5, (6, SAMPLES)), axis=0), axis=1).astype(float)
            for le, row in zip(("0.1", "0.5", "1", "2.5", "10", "+Inf"), cumulative, strict=True):
                put("latency_seconds_bucket", row, instance=instance, path=path, le=le)
            put("latency_seconds_count", cumulative[-1], instance=instance, path=path)
            put("latency_seconds_sum", cumulative[-1] * 0.7, instance=instance, path=path)
    return source


@dataclass(slots=True)
class Answer:
    """What a range query gave: {labels: {time in ms: value}}, or an error."""

    error: str = ""
    series: dict[tuple[tuple[str, str], ...], dict[int, float]] | None = None


class Peer:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, path: str, **parameters: str) -> dict[str, Any]:
        """The JSON of a GET under /api/v1/."""
        self._connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        body: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return body

    def range(self, expression: str, start_s: float, end_s: float, step_s: float) -> Answer:
        body = self.ask("query_range", query=expression, start=f"{start_s}", end=f"{end_s}", step=f"{step_s}")
        if body["status"] != "success":
            return Answer(body["error"])
        return Answer(
            series={
                tuple(sorted(one["metric"].items())): {round(t * 1000): float(v) for t, v in one["values"]}
                for one in body["data"]["result"]
            }
        )


def ours(engine: QueryEngine, expression: str, start_s: float, end_s: float, step_s: float) -> Answer:
    """The same of our engine."""
    try:
        result = engine.range(expression, round(start_s * 1000), round(end_s * 1000), round(step_s * 1000))
    except Exception as error:
        return Answer(f"{type(error).__name__}: {error}")
    return Answer(
        series={
            tuple(sorted(labels.items())): dict(zip(t.tolist(), v.tolist(), strict=True))
            for labels, t, v in result.series()
        }
    )


def difference(a: Answer, b: Answer, rel: float = 1e-9) -> str:
    """What differs between Prometheus's answer and ours; "" where nothing does."""
    if a.series is None or b.series is None:
        if (a.series is None) != (b.series is None):
            return f"error: prometheus {a.error or 'answers'!r}, ours {b.error or 'answers'!r}"
        return ""
    if set(a.series) != set(b.series):
        return f"series: only prometheus {sorted(set(a.series) - set(b.series))[:3]}, only ours {sorted(set(b.series) - set(a.series))[:3]}"
    for labels, points in a.series.items():
        other = b.series[labels]
        if set(points) != set(other):
            return f"{labels}: times only prometheus {sorted(set(points) - set(other))[:3]}, only ours {sorted(set(other) - set(points))[:3]}"
        for t, value in points.items():
            if not _close(other[t], value, rel):
                return f"{labels} at {t}: prometheus {value!r}, ours {other[t]!r}"
    return ""


def _close(a: float, b: float, rel: float) -> bool:
    return math.isclose(a, b, rel_tol=rel, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))


def engine_over(source: MemorySource) -> QueryEngine:
    return QueryEngine(source, QueryOptions(), SystemClock())


@contextlib.contextmanager
def running(source: MemorySource, folder: Path) -> Iterator[Peer]:
    """Backfill a Prometheus with the source's samples and run it."""
    _write(source, folder / "data.om")
    blocks = folder / "data"
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "data.om"), str(blocks)],
        check=True,
        capture_output=True,
    )
    (folder / "prometheus.yml").write_text("global: {}\n")
    port = free_port()
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={blocks}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _ready(port, process)
    finally:
        process.terminate()
        process.wait(30)


def _ready(port: int, process: subprocess.Popen[bytes]) -> Peer:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/-/ready")
            if connection.getresponse().status == 200:
                return Peer(port)
        except OSError:
            pass
        time.sleep(0.05)  # between questions whether it is up, of another process
    raise RuntimeError("prometheus did not start")


def _write(source: MemorySource, path: Path) -> None:
    """OpenMetrics text; untyped, so that any name may have any samples."""
    names: dict[str, list[str]] = {}
    for one in source.series():
        t, v = source.column(one)
        labels = show(tuple(pair for pair in labels_of(one) if pair[0] != "__name__")).replace(", ", ",")
        lines = names.setdefault(one.name, [])
        lines += [
            f"{one.name}{labels} {value!r} {at / 1000:.3f}" for at, value in zip(t.tolist(), v.tolist(), strict=True)
        ]
    with path.open("w") as out:
        for name, lines in names.items():
            out.write(f"# TYPE {name} unknown\n")
            out.writelines(
                line.replace(" nan ", " NaN ").replace(" inf ", " +Inf ").replace(" -inf ", " -Inf ") + "\n"
                for line in lines
            )
        out.write("# EOF\n")
