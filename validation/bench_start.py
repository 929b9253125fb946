"""How long the program takes to be there: started again, and each of its processes killed."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from engine.telemetry import BlockReader
from validation.console import scratch_paths
from validation.figure import Figure
from validation.program import ROOT, START_S, Program, running_program

NAME = "start"
STARTS = 5
KILLS = 5
START_LIMIT_S = 3.0
ENGINE_LIMIT_MS = 500.0
SETTLE_S = 6.0  # the supervisor takes a child that dies younger for a broken one, and waits
TAPE = "binance/usdm"


def measure(say: Callable[[str], None] = print, *, starts: int = STARTS, kills: int = KILLS) -> list[Figure]:
    """Start the program some times on one data folder, then kill its children; return the figures."""
    with scratch_paths() as paths:
        say("start: once, so that kernels and pages are compiled ...")
        with running_program(paths) as program:
            for block in (paths.engine_block, paths.risk_block):
                program.until(BlockReader(block).heartbeat, f"a publication in {block.name}", START_S)
        say(f"start: {starts} starts ...")
        seconds = []
        for _ in range(starts):
            with running_program(paths) as program:
                seconds.append(program.started_s)
        figures = [
            _figure("started again, until the page answers, median", statistics.median(seconds), "s", START_LIMIT_S),
            _figure("  slowest", max(seconds), "s"),
        ]
        say(f"start: killing each process {kills} times ...")
        with running_program(paths) as program:
            for name, block in (("engine", paths.engine_block), ("risk", paths.risk_block)):
                took = [_publishing_again(program, name, block) for _ in range(kills)]
                limit = ENGINE_LIMIT_MS if name == "engine" else None
                figures += _kill_figures(f"{name} killed, until it publishes again", took, limit)
            took = [_answering_again(program) for _ in range(kills)]
            figures += _kill_figures("console killed, until the page answers again", took, None)
        return figures + _on_tape(say, kills)


def _on_tape(say: Callable[[str], None], kills: int) -> list[Figure]:
    tape = _recording()
    if tape is None:
        say(
            f"start: no recording under {TAPE} (DESKVIGIL_MARKETDATA names its folder): a tape's restart is not measured"
        )
        return []
    with scratch_paths() as paths, running_program(paths, ["--tape", str(tape)]) as program:
        took = [_publishing_again(program, "engine", paths.engine_block) for _ in range(kills)]
    return _kill_figures("engine on a Binance tape killed, until it publishes again", took, ENGINE_LIMIT_MS)


def _recording() -> Path | None:
    folder = Path(os.environ.get("DESKVIGIL_MARKETDATA") or ROOT.parent / "shared" / "marketdata") / TAPE
    return folder if folder.exists() else next(iter(sorted(folder.parent.glob("*usdm*"))), None)


def _publishing_again(program: Program, name: str, block: Path) -> float:
    """Milliseconds from SIGKILL to a newer publication."""
    reader = BlockReader(block)
    time.sleep(SETTLE_S)
    program.until(lambda: program.child(name).pid != 0 and (reader.heartbeat() or 0) > 0, f"{name}")
    killed_ns = time.time_ns()
    began = time.monotonic()
    os.kill(program.child(name).pid, signal.SIGKILL)
    program.until(lambda: (reader.heartbeat() or 0) > killed_ns, f"{name} again", START_S)
    return (time.monotonic() - began) * 1e3


def _answering_again(program: Program) -> float:
    time.sleep(SETTLE_S)
    before = program.child("console").pid
    began = time.monotonic()
    os.kill(before, signal.SIGKILL)
    program.until(
        lambda: program.child("console").pid not in (0, before) and program.answers(), "the page again", START_S
    )
    return (time.monotonic() - began) * 1e3


def _kill_figures(what: str, took_ms: list[float], limit_ms: float | None) -> list[Figure]:
    return [
        _figure(f"{what}, median", statistics.median(took_ms), "ms", limit_ms, decimals=0),
        _figure("  slowest", max(took_ms), "ms", decimals=0),
    ]


def _figure(what: str, value: float, unit: str, limit: float | None = None, decimals: int = 2) -> Figure:
    return Figure(benchmark=NAME, what=what, value=value, unit=unit, decimals=decimals, limit=limit)
