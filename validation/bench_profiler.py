"""What the always-on profiler costs: the whole program with and without it, in turns; and what it says of itself."""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from validation.console import scratch_paths
from validation.figure import Figure
from validation.program import Program, running_program

NAME = "profiler"
ROUNDS = 4
WARM_UP_S = 20.0
MEASURE_S = 60.0
LIMIT_PERCENT = 0.5
KEY = "DESKVIGIL_COLLECTORS__SAMPLER_HZ"
PEERS = "py-spy at 20 Hz < 1 %, 100 Hz 4 %, 1,000 Hz 15 % (of the watched process)"
P99 = 'deskvigil_kpi_latency_seconds{stage="order_to_ack",quantile="0.99"}'
OWN = "deskvigil_profiler_overhead_ratio"


@dataclass(frozen=True)
class Run:
    """One measurement: CPU of console and engine in % of a core, the engine's p99 in s, the profiler's own figure (NaN: off)."""

    console: float
    engine: float
    p99_s: float
    own: float


def measure(
    say: Callable[[str], None] = print,
    *,
    rounds: int = ROUNDS,
    seconds: float = MEASURE_S,
    warm_up_s: float = WARM_UP_S,
) -> list[Figure]:
    """Start the program 2 * rounds times, every second time without the profiler."""
    off: list[Run] = []
    on: list[Run] = []
    for number in range(rounds):
        pair = [("0", off), ("4", on)]
        for hz, runs in pair if number % 2 == 0 else reversed(pair):  # neither is always the first
            runs.append(_run(hz, seconds, warm_up_s))
            say(f"{NAME}: round {number + 1} of {rounds}, {'with' if hz != '0' else 'without'}: {runs[-1]}")
    console = [with_.console - without.console for with_, without in zip(on, off, strict=True)]
    engine = [with_.engine - without.engine for with_, without in zip(on, off, strict=True)]
    return [
        _figure(
            "what it says of itself, of one core",
            100 * statistics.median(run.own for run in on),
            "%",
            LIMIT_PERCENT,
            PEERS,
        ),
        _figure("console's CPU with it less without, median of the pairs", statistics.median(console), "% of a core"),
        _figure("  the pairs' spread (largest less smallest)", max(console) - min(console), "% of a core"),
        _figure("engine's CPU with it less without, median of the pairs", statistics.median(engine), "% of a core"),
        _figure("order-to-ack p99 without it", 1e6 * statistics.median(run.p99_s for run in off), "us"),
        _figure("order-to-ack p99 with it", 1e6 * statistics.median(run.p99_s for run in on), "us"),
    ]


def _figure(what: str, value: float, unit: str, limit: float | None = None, peer: str = "") -> Figure:
    return Figure(benchmark=NAME, what=what, value=value, unit=unit, decimals=3, limit=limit, peer=peer)


def _run(hz: str, seconds: float, warm_up_s: float) -> Run:
    before = os.environ.get(KEY)
    os.environ[KEY] = hz
    pause = threading.Event()
    try:
        with scratch_paths() as paths, running_program(paths, ["--fresh", "--seed", "1"]) as program:
            pause.wait(warm_up_s)
            pids = [program.child(name).pid for name in ("console", "engine")]
            began, cpu = time.monotonic(), [_cpu_s(pid) for pid in pids]
            pause.wait(seconds)
            passed = time.monotonic() - began
            console, engine = (100 * (_cpu_s(pid) - used) / passed for pid, used in zip(pids, cpu, strict=True))
            return Run(console, engine, _ask(program, P99), _ask(program, OWN))
    finally:
        if before is None:
            os.environ.pop(KEY)
        else:
            os.environ[KEY] = before


def _cpu_s(pid: int) -> float:
    """CPU time of another process, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def _ask(program: Program, expression: str) -> float:
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{program.url}/api/v1/query?{query}", timeout=30) as answer:  # noqa: S310 - our own
        rows = json.loads(answer.read())["data"]["result"]
    return float(rows[0]["value"][1]) if rows else float("nan")
