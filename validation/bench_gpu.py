"""Monte-Carlo on NVIDIA GPUs: both workloads end to end, a million paths, and what the compiled kernels take.

Without a GPU nothing is timed, and the compiler's report alone is printed, where nvcc is on the path.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.montecarlo.gpu.accelerator import GpuAbsentError, compute, load_devices
from engine.montecarlo.gpu.cubin import OPTIONS, SOURCE
from engine.montecarlo.gpu.device import GpuDevice
from engine.montecarlo.gpu.plan import book_work, path_work
from engine.montecarlo.gpu.totals import PathTotals
from engine.montecarlo.paths import PathSimulation
from engine.montecarlo.revaluation import lines_of, sampling_of
from engine.montecarlo.simulation import DTYPES, TRADING_DAY, BookSimulation, Precision
from metrics.clock import SystemClock
from metrics.frame import FloatArray
from validation.bench_montecarlo import ASSETS, SCENARIOS, mixed_book, path_option, times_us
from validation.figure import Figure

NAME = "gpu"
MEMORY = 1 << 30
MANY = 1_000_000
ARCH = "90"
PRECISIONS: tuple[tuple[str, Precision], ...] = (("f64", "double"), ("f32", "single"))


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Time the devices of this host, if there are any."""
    figures = compiled(say)
    began = time.perf_counter()
    try:
        devices = load_devices(MEMORY, SystemClock())
    except GpuAbsentError as error:
        say(f"gpu: no GPU, nothing timed: {error}")
        return figures
    loading = 1e3 * (time.perf_counter() - began)
    say(f"gpu: {', '.join(device.name for device in devices)} ...")
    figures.append(
        Figure(
            benchmark=NAME, what="first start, CuPy imported and kernels loaded", value=loading, unit="ms", decimals=0
        )
    )
    for name, precision in PRECISIONS:
        figures += [*_book_figures(devices, name, precision), *_path_figures(devices, name, precision)]
    for name, precision in PRECISIONS:
        totals = PathTotals(devices, path_option(), paths=MANY, precision=precision)
        limit = 2_000.0 if name == "f32" else None
        figures += _times(f"{MANY:,} x 252 paths {name}, Asian and barrier", times_us(totals.run), "p50", limit)
    return figures


def _book_figures(devices: Sequence[GpuDevice], name: str, precision: Precision) -> list[Figure]:
    book, loading = mixed_book()
    none = np.zeros(0)
    dtype = DTYPES[precision]
    sampling = sampling_of(loading, np.zeros(ASSETS), none, none, dtype)
    work = book_work(sampling, lines_of(book, TRADING_DAY, dtype)[0], SCENARIOS, near=False)
    out: FloatArray = np.zeros((1, SCENARIOS), dtype)
    simulation = BookSimulation(book, loading, scenarios=SCENARIOS, precision=precision)
    differ = 0
    for stream in range(20):
        compute(devices, work, 1, stream, out)
        differ += int(np.count_nonzero(out[0] != simulation.run(stream).gains))
    took = times_us(lambda stream: compute(devices, work, 1, stream, out))
    return [
        *_times(f"var-1k {name}, to the profits in the host's memory", took, "p99", 60.0),
        Figure(benchmark=NAME, what=f"var-1k {name}, profits that differ from the processor's", value=differ, unit="", decimals=0, limit=0),
    ]  # fmt: skip


def _path_figures(devices: Sequence[GpuDevice], name: str, precision: Precision) -> list[Figure]:
    option, samples = path_option(), SCENARIOS // 2
    work = path_work(option.payoffs(DTYPES[precision]), samples, True, totals=False)
    out: FloatArray = np.zeros((3, samples), DTYPES[precision])
    simulation = PathSimulation(option, paths=SCENARIOS, antithetic=True, precision=precision)
    differ = 0
    for stream in range(20):
        compute(devices, work, 1, stream, out)
        simulation.run(stream)
        differ += int(np.count_nonzero(out != simulation.payoffs))
    took = times_us(lambda stream: compute(devices, work, 1, stream, out))
    return [
        *_times(f"path-1k {name} antithetic, to the payoffs in the host's memory", took, "p99", 60.0),
        Figure(benchmark=NAME, what=f"path-1k {name}, payoffs that differ from the processor's", value=differ, unit="", decimals=0, limit=0),
    ]  # fmt: skip


def _times(what: str, took: FloatArray, limited: str, limit: float | None) -> list[Figure]:
    return [
        Figure(benchmark=NAME, what=f"{what}, {rank}", value=float(np.percentile(took, of)), unit="us", decimals=0,
               limit=limit if rank == limited else None)
        for rank, of in (("p50", 50), ("p99", 99))
    ]  # fmt: skip


def compiled(say: Callable[[str], None] = print) -> list[Figure]:
    """Registers and spills of each kernel for Hopper, as nvcc reports them; none without nvcc."""
    program = shutil.which("nvcc")
    if program is None:
        say("gpu: nvcc is not on the path: no report on the compiled kernels")
        return []
    say(f"gpu: compiling the kernels for sm_{ARCH} ...")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program,
            *OPTIONS,
            f"-arch=sm_{ARCH}",
            "-cubin",
            "-Xptxas",
            "-v",
            str(SOURCE),
            "-o",
            str(Path(folder, "k.cubin")),
        ]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    kernel = re.compile(r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers", re.DOTALL)
    return [
        Figure(benchmark=NAME, what=f"{name} on sm_{ARCH}, registers a thread ({spilled} bytes spilled)", value=float(registers), unit="",
               decimals=0, limit=128)
        for name, spilled, registers in sorted(kernel.findall(said))
    ]  # fmt: skip
