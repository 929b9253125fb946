"""What watching costs: CPU of collectors, storage and alert evaluation at the shipped rates and rules, with nobody looking.

The engine and the risk process run beside (their CPU is not counted: it is trading, not watching);
the measured parts run in a process of their own, whose whole CPU time is what is reported.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from alerts.options import AlertOptions
from collectors.options import CollectorOptions
from collectors.process import ChildStatus
from engine.telemetry import BlockReader
from metrics.errors import TransientError
from metrics.paths import RuntimePaths
from validation.console import running_console, scratch_paths, thread_cpu_s
from validation.figure import Figure

NAME = "cost"
WARM_UP_S = 10.0
MEASURE_S = 60.0
LIMIT_PERCENT = 2.0
LEAST_SERIES = 300
START_TIMEOUT_S = 180.0  # where kernels have to be compiled first
PEERS = "netdata 0.34 % and Glances 6.2 % per open page; no comparable figure without a viewer"


@dataclass(frozen=True)
class Cost:
    """What one measurement gave; CPU in seconds, by thread of the measured process, and of collectors also by work."""

    elapsed_s: float
    cpu_s: float
    threads_s: dict[str, float]
    work_s: dict[str, tuple[float, float]]
    series: int
    late_ticks: int
    errors: int


def measure(
    say: Callable[[str], None] = print, *, seconds: float = MEASURE_S, warm_up_s: float = WARM_UP_S
) -> list[Figure]:
    """Run engine, risk and the measured parts, once with every reading at 1 Hz and once at the shipped rates."""
    every_second = _measured(say, seconds, warm_up_s, CollectorOptions(engine_interval_s=1.0))
    shipped = _measured(say, seconds, warm_up_s, CollectorOptions())
    return [
        *_figures(every_second, "everything at 1 Hz", LIMIT_PERCENT),
        *_figures(shipped, "engine and risk at 10 Hz, as shipped", None),
    ]


def _measured(say: Callable[[str], None], seconds: float, warm_up_s: float, options: CollectorOptions) -> Cost:
    with scratch_paths() as paths:
        context = multiprocessing.get_context("spawn")
        trading = [
            context.Process(target=target, args=(paths,), name=name, daemon=True)
            for name, target in (("engine", _run_engine), ("risk", _run_risk))
        ]
        receive, send = context.Pipe(duplex=False)
        try:
            for process in trading:
                process.start()
            for process, block in zip(trading, (paths.engine_block, paths.risk_block), strict=True):
                _wait_for(block, process)
            say(f"cost: {warm_up_s:g} s of warming up, then {seconds:g} s measured ...")
            children = [(process.name, process.pid or 0) for process in trading]
            watched = context.Process(
                target=_watch, args=(paths, options, children, warm_up_s, seconds, send), name="measured", daemon=True
            )
            watched.start()
            send.close()  # so that a process that dies is seen as an end of file, not waited for
            try:
                cost: Cost = receive.recv()
            finally:
                watched.join(30)
                _end(watched)
        finally:
            for process in trading:
                _end(process)
    return cost


def _run_engine(paths: RuntimePaths) -> None:
    from engine.options import EngineOptions
    from engine.runner import run_engine

    run_engine(EngineOptions(), paths)


def _run_risk(paths: RuntimePaths) -> None:
    from engine.montecarlo.options import RiskOptions
    from engine.riskrunner import run_risk

    run_risk(RiskOptions(), paths)


def _wait_for(block: Path, process: BaseProcess) -> None:
    """Wait for a block's first publication; RuntimeError where its process ends or takes too long."""
    reader = BlockReader(block)
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            reader.read()
            return
        except TransientError as error:
            if process.exitcode is not None or time.monotonic() > end:
                raise RuntimeError(f"{process.name} did not start (exit status {process.exitcode}): {error}") from None
        time.sleep(0.05)


def _end(process: BaseProcess) -> None:
    if process.pid is not None and process.exitcode is None:
        process.terminate()
        process.join(10)
        if process.exitcode is None:
            process.kill()
            process.join(10)


def _watch(
    paths: RuntimePaths,
    options: CollectorOptions,
    children: list[tuple[str, int]],
    warm_up_s: float,
    seconds: float,
    send: Connection,
) -> None:
    """The measured process."""
    statuses = [ChildStatus(name, pid, 0, time.time_ns(), "") for name, pid in children]
    with running_console(paths, AlertOptions(), lambda: statuses, options) as console:
        time.sleep(warm_up_s)
        before = {thread.name: thread.state for thread in console.threads}
        began, cpu, threads = time.monotonic(), time.process_time(), thread_cpu_s()
        time.sleep(seconds)
        elapsed, spent, after = time.monotonic() - began, time.process_time() - cpu, thread_cpu_s()
        states = [thread.state for thread in console.threads]
        send.send(
            Cost(
                elapsed_s=elapsed,
                cpu_s=spent,
                threads_s={name: used - threads.get(name, 0.0) for name, used in after.items()},
                work_s={
                    f"collector-{state.name}": (
                        state.cpu_s - before[state.name].cpu_s,
                        state.handover_cpu_s - before[state.name].handover_cpu_s,
                    )
                    for state in states
                },
                series=console.series,
                late_ticks=sum(state.late_ticks for state in states),
                errors=sum(state.errors for state in states),
            )
        )
    send.close()


def _figures(cost: Cost, rates: str, limit: float | None) -> list[Figure]:
    percent = 100.0 / cost.elapsed_s
    figures = [
        Figure(
            benchmark=NAME, what=f"collectors + storage + rules, no viewer, {rates}", value=cost.cpu_s * percent, unit="% of a core",
            decimals=3, limit=limit, peer=PEERS,
        ),
        Figure(benchmark=NAME, what="series watched", value=cost.series, unit="series", decimals=0, limit=LEAST_SERIES, at_most=False),
    ]  # fmt: skip
    for name, spent in sorted(cost.threads_s.items(), key=lambda item: -item[1]):
        figures.append(
            Figure(
                benchmark=NAME,
                what=f"  of it thread {name}",
                value=spent * percent,
                unit="% of a core",
                decimals=3,
                peer=_split(cost.work_s.get(name), spent, percent),
            )
        )
    rest = cost.cpu_s - sum(cost.threads_s.values())
    figures.append(
        Figure(
            benchmark=NAME, what="  of it other threads", value=max(0.0, rest) * percent, unit="% of a core", decimals=3
        )
    )
    figures.append(
        Figure(
            benchmark=NAME, what="ticks late or failed", value=cost.late_ticks + cost.errors, unit="ticks", decimals=0
        )
    )
    return figures


def _split(work: tuple[float, float] | None, spent: float, percent: float) -> str:
    """What a collector's thread did with its time; the rest is waking up and falling asleep."""
    if work is None:
        return ""
    collect, hand_over = (part * percent for part in work)
    return f"(collect {collect:.3f}, hand over {hand_over:.3f}, wake and frame {spent * percent - collect - hand_over:.3f})"


if __name__ == "__main__":
    from validation.figure import machine, table

    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    print(machine())
    print(table(measure()))
