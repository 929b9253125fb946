"""Trials of what is done about memory: each change measured without and with it, in processes of their own.

A sample is one process; those without and with the change take turns. Figures are CPU time, page faults or
memory, which suffer less from a busy machine than the clock on the wall.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from metrics.errors import DeskvigilError
from resources.optimiser import Optimiser, Trial

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = 9
TIMEOUT_S = 120.0

# A run of value at risk as NumPy writes it: 1,000 scenarios of 32 assets, a temporary of 256 kB at each step.
_VAR = """
import numpy as np
random = np.random.default_rng(1)
normals, loading = random.standard_normal((1000, 32)), np.tril(random.standard_normal((32, 32))) * 0.01
exposure = random.standard_normal(32) * 1e6
def run():
    moves = np.exp(normals @ loading.T) - 1.0
    gross = np.abs(moves * exposure).sum()
    pnl = (moves * exposure).sum(axis=1)
    return np.partition(pnl, 10)[10], gross
a, b, c = (np.empty((1000, 32)) for _ in range(3))
def run_into_buffers():
    np.matmul(normals, loading.T, out=a); np.exp(a, out=a); np.subtract(a, 1.0, out=a)
    np.multiply(a, exposure, out=b); np.abs(b, out=c)
    return np.partition(b.sum(axis=1), 10)[10], c.sum()
def cost(work, runs=300):
    import resource, time
    for _ in range(20): work()
    faults, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
    for _ in range(runs): work()
    used = time.process_time() - begun
    return used / runs * 1e6, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / runs
from resources.allocator import keep_freed
"""
_ONE_THREAD = "import os; os.environ.update(OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1')\n"

# Thirty threads that fill, drop and fill again, as a console's do; what is left once nearly all has been freed.
_THREADS = """
import random, threading
from pathlib import Path
from resources.allocator import few_arenas
def anonymous():
    return next(float(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")) / 1e3
def work(seed):
    dice, kept = random.Random(seed), []
    for _ in range(30):
        busy = [bytes(dice.randrange(600, 60_000)) for _ in range(150)]
        kept.append(busy[dice.randrange(150)])
        del busy
    keep.append(kept)
keep = []
def churn():
    before = anonymous()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(30)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return anonymous() - before
"""

# What a console holds after its start (a million containers), and a request's worth of work.
_CONTAINERS = """
import gc, time
gc.disable()
held = [[i] for i in range(1_000_000)]
def pause():
    begun = time.process_time()
    gc.collect()
    return (time.process_time() - begun) * 1e3
def answers():
    begun = time.process_time()
    for _ in range(30):
        page = [{"time": i, "value": [i, i + 1]} for i in range(10_000)]
    return (time.process_time() - begun) * 1e3 / 30
gc.freeze()
gc.enable()
"""


def trial_of(program: str, without: str, with_it: str, samples: int = SAMPLES) -> Trial:
    """Run `program` with either line after it, in turns, each in a process of its own that prints one number."""
    before, after = [], []
    for _ in range(samples):
        before.append(_sample(program + without))
        after.append(_sample(program + with_it))
    return Trial(np.array(before), np.array(after))


def _sample(program: str) -> float:
    """Run one process; the number that it prints."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    try:
        done = subprocess.run(
            [sys.executable, "-c", start + program], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
        return float(done.stdout)
    except subprocess.CalledProcessError as error:
        raise DeskvigilError(f"trial: the process failed: {error.stderr.strip().splitlines()[-1:]}") from None
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise DeskvigilError(f"trial: the process gave no figure: {error}") from None


_NUMPY = _ONE_THREAD + _VAR
OPTIMISERS = (
    Optimiser(
        "freed blocks are kept: CPU time of a VaR run in NumPy", "memory.keep_freed", "us",
        partial(trial_of, _NUMPY, "print(cost(run)[0])", "keep_freed(); print(cost(run)[0])"),
    ),
    Optimiser(
        "freed blocks are kept: page faults of the same run", "memory.keep_freed", "faults",
        partial(trial_of, _NUMPY, "print(cost(run)[1])", "keep_freed(); print(cost(run)[1])"),
    ),
    Optimiser(
        "array pool (buffers without any bookkeeping) on top of it", "none: not built", "us",
        partial(trial_of, _NUMPY, "keep_freed(); print(cost(run)[0])", "keep_freed(); print(cost(run_into_buffers)[0])"),
    ),
    Optimiser(
        "two heaps for all threads: memory left by 30 of them", "memory.few_arenas", "MB",
        partial(trial_of, _THREADS, "print(churn())", "few_arenas(); print(churn())"),
    ),
    Optimiser(
        "frozen at the start: a full collection", "memory.freeze", "ms",
        partial(trial_of, _CONTAINERS, "gc.unfreeze(); print(pause())", "print(pause())"),
    ),
    Optimiser(
        "young generation of 10,000: building an answer", "memory.gc_allocations", "ms",
        partial(trial_of, _CONTAINERS, "print(answers())", "gc.set_threshold(10_000, 10, 10); print(answers())"),
    ),
)  # fmt: skip
