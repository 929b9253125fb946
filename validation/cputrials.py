"""Trials of what is done about processors: plans on the whole program, threads and helpers in processes of their own.

Plans are tried as the console tries them (resources/plantrial.py), on a program of its own that trades the synthetic
market five times as fast as recorded, so that a window of three seconds has orders enough for a p99.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from engine.ackwatch import AckWatch, p99_s
from engine.telemetry import BlockReader
from metrics.errors import DeskvigilError
from metrics.paths import RuntimePaths
from resources.optimiser import Optimiser, Trial
from resources.placer import Placer
from resources.planner import Planner
from resources.plans import NAMES, candidates, rights
from resources.plantrial import PlanTrial, TrialLimits
from resources.supervisor import read_status
from resources.topology import read_topology
from validation.memorytrials import trial_of
from validation.program import running_program

SPEED = 5
LIMITS = TrialLimits(window_s=3.0, calm_s=15.0, pairs=8)
LOOK_S = 0.5
MOST_S = 480.0


def _plan(name: str) -> Trial:
    """A plan against the base on a program of its own, p99 of order to acknowledgement in microseconds."""
    plans, impossible = candidates(read_topology(), rights())
    if name in impossible:
        raise DeskvigilError(f"not tried: {impossible[name]}")
    with tempfile.TemporaryDirectory() as folder:
        paths = RuntimePaths(Path(folder))
        with running_program(paths, ("--speed", str(SPEED))):
            trial, watch = PlanTrial([name], p99_s, LIMITS), AckWatch(BlockReader(paths.engine_block))
            planner = Planner(plans, {}, trial, Placer(paths.cpu_plan), partial(_pids, paths), lambda state: None)
            end = time.monotonic() + MOST_S
            try:
                while not trial.outcomes:
                    if time.monotonic() > end:
                        raise DeskvigilError(f"not tried to the end within {MOST_S:g} s: {planner.state.in_words()}")
                    now_s = time.monotonic()
                    planner.step(watch.look(time.time_ns(), now_s, tuple(sorted(_pids(paths).values()))))
                    time.sleep(LOOK_S)
            finally:
                planner.stop()
    (outcome,) = trial.outcomes
    if outcome.trial is None:
        raise DeskvigilError(f"not applied: {outcome.why}")
    return Trial(outcome.trial.before * 1e6, outcome.trial.after * 1e6)


def _pids(paths: RuntimePaths) -> dict[str, int]:
    return {child.name: child.pid for child in read_status(paths.supervisor_status) if child.pid}


# Milliseconds for blocks of paths of which some cost eight times as much as others; of 15 runs the median.
_PATHS = """
import ctypes, os, statistics, sys, time
from contextlib import suppress
with suppress(OSError):  # where pip puts it, which the loader does not look at by itself
    ctypes.CDLL(os.path.join(sys.prefix, "lib", "libtbb.so.12"), mode=ctypes.RTLD_GLOBAL)
def milliseconds(layer="omp", threads=None, chunk=0):
    os.environ["NUMBA_THREADING_LAYER"] = layer
    import numba
    if layer == "tbb":
        try:
            import numba.np.ufunc.tbbpool
        except ImportError:
            sys.exit("TBB is not installed: pip install tbb")
    from resources.topology import read_topology
    from validation.unevenblocks import UnevenBlocks
    numba.set_num_threads(min(threads or read_topology().usable, numba.config.NUMBA_NUM_THREADS))
    numba.set_parallel_chunksize(chunk)
    work, taken = UnevenBlocks(), []
    for _ in range(16):
        begun = time.perf_counter()
        work.run()
        taken.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(taken[1:])
"""

# Milliseconds for a question's worth of columns, two million samples; of 15 questions the median.
_DECODE = """
import statistics, time
import numpy as np
from pcodec import ChunkConfig, standalone
from resources.topology import read_topology
from storage.decoding import Decoders, Task
from concurrent.futures import ThreadPoolExecutor
from metrics.errors import DeskvigilError
packed = standalone.simple_compress(np.random.default_rng(1).normal(100.0, 1.0, 50_000).round(2), ChunkConfig())
out = np.empty((40, 50_000))
def milliseconds(most):
    decoders, taken = Decoders(most), []
    for _ in range(16):
        begun = time.perf_counter()
        with decoders.begin() as work:
            for row in out:
                work.add(Task(lambda row=row: standalone.simple_decompress_into(packed, row), len(row)))
        taken.append((time.perf_counter() - begun) * 1e3)
    decoders.close()
    return statistics.median(taken[1:])
def helpers():
    most = read_topology().helpers()
    if not most:
        raise DeskvigilError("no processor is left for a helper beside the engine")
    return most
def left(end):
    from pathlib import Path
    def anonymous():
        return next(float(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    before, most = anonymous(), helpers()
    pool = ThreadPoolExecutor(most)
    futures = [pool.submit(standalone.simple_decompress_into, packed, row) for row in out]
    for future in futures: future.result()
    if end:
        pool.shutdown()
    return anonymous() - before
out[:] = 0.0
"""

_STEALING = "work stealing (TBB) in place of OpenMP: uneven blocks of paths on all processors"
OPTIMISERS = (
    *(
        Optimiser(f"plan {name}: p99 of order to acknowledgement", "resources.cpu.plan", "us", partial(_plan, name))
        for name in NAMES
    ),
    Optimiser(
        "helpers beside the asking thread: decoding 2 M samples", "resources.cpu.helpers", "ms",
        partial(trial_of, _DECODE, "print(milliseconds(0))", "print(milliseconds(helpers()))"),
    ),
    Optimiser(
        "idle helpers end: memory that they leave", "none: not built", "kB",
        partial(trial_of, _DECODE, "print(left(False))", "print(left(True))"),
    ),
    Optimiser(
        "all processors in place of one (OpenMP): uneven blocks of paths", "none: not in the program", "ms",
        partial(trial_of, _PATHS, "print(milliseconds(threads=1))", "print(milliseconds())"),
    ),
    Optimiser(
        _STEALING, "none: not in the program", "ms",
        partial(trial_of, _PATHS, "print(milliseconds())", "print(milliseconds('tbb'))"),
    ),
    Optimiser(
        "chunks of one block (OpenMP) in place of equal stretches", "none: not in the program", "ms",
        partial(trial_of, _PATHS, "print(milliseconds())", "print(milliseconds(chunk=1))"),
    ),
)  # fmt: skip
