"""Soak: the whole program under a desk's load for a long time; does its memory grow, does a commit ever stall?

Starts `app.py run` on a scratch data folder, fills its own series up to `--series` with samples sent by remote write
once a second, and asks over HTTP what an open History page asks. Memory is the console process's own (anonymous)
resident set: pages of files come and go as the system needs room.

Frames that are not sealed yet are kept in memory and given back with their seal (29 MB an hour for 1,000 series), and
freed memory goes back to the system every quarter of an hour: a saw whose teeth are no growth. The soak has frames
sealed every quarter of an hour as well, and judges the seasonal slope: the median of all pairs of minutes that are
whole quarters apart (Theil-Sen's median of all pairs where less follows the warm-up). All estimates are over the lowest
reading of each minute. Rings are set to 10 minutes and an hour of samples is sent beforehand, so that what has to
fill is full when the warm-up of 30 minutes (half of a shorter run) ends: afterwards nothing may grow.

A commit's stall is the program's own figure, read each second; beside it, how late commits became known to a witness
outside, and how long this disk takes to make 4 KiB of a plain file durable.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from metrics.errors import TransientError
from metrics.paths import RuntimePaths
from resources.supervisor import read_status
from validation.figure import Figure, machine, table
from validation.remotewrite import WriteRequests

MINUTES = 120.0
SERIES = 1_000
STALL_LIMIT_MS = 50.0
SLOPE_LIMIT_MB_H = 4.0
WARM_UP_S = 1_800.0
SEAL_MINUTES = 15  # as often as freed memory goes back to the system
PAGE_EVERY_S = 5.0
START_S = 120.0
ROOT = Path(__file__).resolve().parents[1]
PAGE_S = 900
PAGE = (
    'deskvigil_kpi_order_to_fill_seconds{quantile="0.99"}',
    "sum by (group) (rate(deskvigil_soak_total[1m]))",
    'avg_over_time(deskvigil_soak_level{group="g1"}[5m])',
    "deskvigil_host_cpu_busy_ratio",
)
"""What the open page shows, of the last quarter of an hour."""
RING_FRAMES = 600
"""Rings that are full after 10 minutes at 1 Hz, not after 2.5 hours: their filling is no leak, and ends in the warm-up."""
PAST_S = 3_600


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth of memory in MB (10^6 bytes) per hour over `hours`, three estimates; seasonal is NaN for SEAL_MINUTES or less."""

    seasonal_mb_h: float
    theil_sen_mb_h: float
    least_squares_mb_h: float
    hours: float


@dataclass(slots=True)
class Readings:
    """What was seen so far; appended to by several threads, read at the end."""

    rss: list[tuple[float, float]] = field(default_factory=list)
    commit_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    plain_ms: list[float] = field(default_factory=list)
    write_ms: list[float] = field(default_factory=list)
    query_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def slope(readings: Sequence[tuple[float, float]]) -> Slope:
    """Fit (seconds, bytes) readings: the lowest of each minute, since garbage waits to be collected above it.

    NaN where fewer than three minutes were seen.
    """
    lowest: dict[int, float] = {}
    for t_s, size in readings:
        minute = int(t_s // 60)
        lowest[minute] = min(size, lowest.get(minute, size))
    hours = np.array(sorted(lowest)) / 60.0
    megabytes = np.array([lowest[minute] for minute in sorted(lowest)]) / 1e6
    if len(hours) < 3:
        return Slope(float("nan"), float("nan"), float("nan"), 0.0)
    first, second = np.triu_indices(len(hours), 1)
    apart = hours[second] - hours[first]
    pairs = (megabytes[second] - megabytes[first]) / apart
    season = SEAL_MINUTES / 60.0
    same_place = pairs[np.abs(apart - season * np.maximum(np.round(apart / season), 1.0)) < 0.5 / 60.0]
    seasonal = float(np.median(same_place)) if len(same_place) else float("nan")
    line = np.polyfit(hours, megabytes, 1)
    return Slope(seasonal, float(np.median(pairs)), float(line[0]), float(hours[-1] - hours[0]))


def soak(
    minutes: float,
    series: int = SERIES,
    say: Callable[[str], None] = print,
    *,
    warm_up_s: float | None = None,
) -> list[Figure]:
    """Run the program for so long and return the figures. TransientError where it does not start or ends by itself."""
    readings = Readings()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deskvigil-soak-")))
        witness = stack.enter_context(_witness(folder / "witness", readings))
        program = stack.enter_context(_program(folder, witness))
        own = _until_settled(program)
        filler = WriteRequests(max(series - own, 1))
        say(f"soak: {own} series of its own, {filler.series} sent to it; {minutes:g} minutes")
        now_ms = time.time_ns() // 1_000_000
        for first_s in range(PAST_S, 0, -60):  # a page that shows ever more would need ever more memory
            body = filler.at(*range(now_ms - first_s * 1_000, now_ms - (first_s - 60) * 1_000, 1_000))
            program.ask("POST", "/api/v1/write", body, WriteRequests.HEADERS)
        plain = stack.enter_context((folder / "plain").open("wb", buffering=0))
        stopping = threading.Event()
        started = time.monotonic()
        for work, every_s in (
            (lambda: _send(program, filler, readings), 1.0),
            (lambda: _look(program, readings), PAGE_EVERY_S),
            (lambda: _read(program, readings, started), 1.0),
            (lambda: _sync(plain, readings), 1.0),
        ):
            thread = threading.Thread(target=_repeat, args=(work, every_s, stopping, readings), daemon=True)
            thread.start()
            stack.callback(thread.join, 30)
        stack.callback(stopping.set)
        while (elapsed := time.monotonic() - started) < minutes * 60:
            stopping.wait(min(60.0, minutes * 60 - elapsed))
            if program.process.poll() is not None:
                raise TransientError(f"the program ended by itself with status {program.process.returncode}")
            say(_progress(time.monotonic() - started, readings))
    warm = min(WARM_UP_S, minutes * 30) if warm_up_s is None else warm_up_s
    return _figures(readings, warm, own + filler.series)


def _figures(readings: Readings, warm_up_s: float, series: int) -> list[Figure]:
    found = slope([one for one in readings.rss if one[0] >= warm_up_s])
    last_mb = readings.rss[-1][1] / 1e6 if readings.rss else float("nan")
    name = "soak"
    span = f"{found.hours * 60:.0f} min after {warm_up_s / 60:.0f} min of warm-up"
    return [
        Figure(benchmark=name, what="series at 1 Hz", value=series, unit="series", decimals=0),
        *_slopes(found, span),
        Figure(benchmark=name, what="memory slope, least squares", value=found.least_squares_mb_h, unit="MB/h"),
        Figure(benchmark=name, what="memory of the console at the end", value=last_mb, unit="MB", decimals=0),
        Figure(
            benchmark=name,
            what=f"longest of {len(readings.commit_ms)} commits",
            value=max(readings.commit_ms, default=float("nan")),
            unit="ms",
            limit=STALL_LIMIT_MS,
        ),
        Figure(
            benchmark=name,
            what=f"longest of {len(readings.plain_ms)} syncs of 4 KiB of a plain file beside them",
            value=max(readings.plain_ms, default=float("nan")),
            unit="ms",
        ),
        Figure(benchmark=name, what="latest commit after its second", value=_top(readings.late_ms), unit="ms"),
        Figure(benchmark=name, what="remote write, 99th percentile", value=_p99(readings.write_ms), unit="ms"),
        Figure(benchmark=name, what="history query, 99th percentile", value=_p99(readings.query_ms), unit="ms"),
        Figure(
            benchmark=name,
            what="failed requests" + (f" (last: {readings.errors[-1][:100]})" if readings.errors else ""),
            value=len(readings.errors),
            unit="",
            decimals=0,
            limit=0,
        ),
    ]


def _slopes(found: Slope, span: str) -> list[Figure]:
    """The limit is for the slope from quarter to quarter, or for Theil-Sen's where the run is too short for that one."""
    estimates = [(found.seasonal_mb_h, "from quarter to quarter of an hour"), (found.theil_sen_mb_h, "Theil-Sen")]
    seen = [(value, how) for value, how in estimates if np.isfinite(value)] or estimates[1:]
    return [
        Figure(
            benchmark="soak",
            what=f"memory slope, {how}, {span}",
            value=value,
            unit="MB/h",
            limit=SLOPE_LIMIT_MB_H if place == 0 else None,
        )
        for place, (value, how) in enumerate(seen)
    ]


def _progress(elapsed_s: float, readings: Readings) -> str:
    size = readings.rss[-1][1] / 1e6 if readings.rss else float("nan")
    found = slope([one for one in readings.rss if one[0] >= WARM_UP_S] or readings.rss)
    return (
        f"{elapsed_s / 60:6.1f} min  memory {size:7.1f} MB  slope {found.seasonal_mb_h:+7.2f} MB/h  "
        f"longest commit {max(readings.commit_ms, default=float('nan')):6.1f} ms, "
        f"plain sync {max(readings.plain_ms, default=float('nan')):6.1f} ms  failed requests {len(readings.errors)}"
        f"{f' (last: {readings.errors[-1][:120]})' if readings.errors else ''}"
    )


# --- the program and those who use it -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Program:
    process: subprocess.Popen[bytes]
    paths: RuntimePaths
    port: int

    def console_pid(self) -> int:
        """The console's process id, 0 while it is not known."""
        return next((state.pid for state in read_status(self.paths.supervisor_status) if state.name == "console"), 0)

    def log_tail(self) -> str:
        return "\n".join((self.paths.data_dir.parent / "log").read_text(errors="replace").splitlines()[-10:])

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        """One request; TransientError for any answer but 2xx."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise TransientError(f"{method} {path[:60]}: {answer.status} {content[:200].decode(errors='replace')}")
        return content

    def query(self, path: str, **parameters: str) -> Any:
        content = self.ask("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        return json.loads(content)["data"]["result"]


@contextmanager
def _program(folder: Path, witness: Path) -> Iterator[_Program]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    data = folder / "data"
    command = [sys.executable, "app.py", "run", "--data-dir", str(data), "--port", str(port)]
    settings = {"COMMIT_SOCKET": str(witness), "RING_FRAMES": str(RING_FRAMES), "SEAL_MINUTES": str(SEAL_MINUTES)}
    environ = {**os.environ, **{f"DESKVIGIL_STORAGE__{key}": value for key, value in settings.items()}}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True)
        try:
            yield _Program(process, RuntimePaths(data), port)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def _until_settled(program: _Program) -> int:
    """Wait until it answers and the number of its series stays the same; returns that number."""
    deadline = time.monotonic() + START_S
    before, same = -1, 0
    while time.monotonic() < deadline:
        if program.process.poll() is not None:
            raise TransientError(f"the program ended by itself with status {program.process.returncode}")
        with suppress(OSError, TransientError, http.client.HTTPException):
            result = program.query("query", query='count({__name__=~".+"})')
            now = int(result[0]["value"][1]) if result else 0
            same = same + 1 if now == before and now > 0 else 0
            before = now
            if same >= 5 and program.console_pid():
                return now
        time.sleep(1.0)
    raise TransientError(f"the program was not ready after {START_S:g} s; the end of its log:\n{program.log_tail()}")


@contextmanager
def _witness(path: Path, readings: Readings) -> Iterator[Path]:
    """Hear of every commit, and note how long after the end of its second that was."""
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    inbox.bind(str(path))

    def hear() -> None:
        newest = 0
        while True:
            data = inbox.recv(65_536)
            if data == b"end":
                return
            second = int(data.split()[-1]) // 1_000
            if second > newest:
                readings.late_ms.append(time.time() * 1e3 - (second + 1) * 1e3)
                newest = second

    thread = threading.Thread(target=hear, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", str(path))
        thread.join(10)
        inbox.close()


def _repeat(work: Callable[[], None], every_s: float, stopping: threading.Event, readings: Readings) -> None:
    due = time.monotonic()
    while not stopping.is_set():
        try:
            work()
        except (OSError, TransientError, http.client.HTTPException, ValueError) as error:
            readings.errors.append(f"{type(error).__name__}: {error}")
        due = max(due + every_s, time.monotonic())
        stopping.wait(due - time.monotonic())


def _send(program: _Program, filler: WriteRequests, readings: Readings) -> None:
    body = filler.at(time.time_ns() // 1_000_000)
    started = time.perf_counter()
    program.ask("POST", "/api/v1/write", body, WriteRequests.HEADERS)
    readings.write_ms.append((time.perf_counter() - started) * 1e3)


def _look(program: _Program, readings: Readings) -> None:
    now = time.time()
    for expression in PAGE:
        started = time.perf_counter()
        program.query("query_range", query=expression, start=f"{now - PAGE_S:.3f}", end=f"{now:.3f}", step="1")
        readings.query_ms.append((time.perf_counter() - started) * 1e3)


def _read(program: _Program, readings: Readings, started: float) -> None:
    resident, shared = Path(f"/proc/{program.console_pid()}/statm").read_text().split()[1:3]
    own = (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    readings.rss.append((time.monotonic() - started, float(own)))
    result = program.query("query", query="deskvigil_storage_last_commit_seconds")
    if result:
        readings.commit_ms.append(float(result[0]["value"][1]) * 1e3)


def _sync(plain: BinaryIO, readings: Readings) -> None:
    """What the disk itself takes, without us: the control for a commit's stall."""
    started = time.perf_counter()
    os.pwrite(plain.fileno(), os.urandom(4_096), 0)
    os.fdatasync(plain.fileno())
    readings.plain_ms.append((time.perf_counter() - started) * 1e3)


def _p99(values: Sequence[float]) -> float:
    return float(np.percentile(values, 99)) if values else float("nan")


def _top(values: Sequence[float]) -> float:
    return max(values[5:], default=float("nan"))  # the first ones fall into the start


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation.soak --minutes N`: prints a line a minute and the table; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(prog="validation.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"how long (default: {MINUTES:g})")
    parser.add_argument("--series", type=int, default=SERIES, help=f"series in all (default: {SERIES})")
    args = parser.parse_args(arguments)
    if args.minutes <= 0 or args.series < 1:
        parser.error("minutes and series must be positive")
    print(machine(), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the program goes with us
    try:
        figures = soak(args.minutes, args.series, lambda line: print(line, flush=True))
    except TransientError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    print(f"\n{table(figures)}")
    return 0 if all(figure.kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
