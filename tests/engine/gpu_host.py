"""The graphics processor's kernels as a C++ program: compiled once a session, called as a device would call them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from engine.montecarlo.gpu.plan import Plan, Work

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "engine" / "montecarlo" / "gpu" / "kernels.cu"
FLAGS = ("-x", "c++", "-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror",
         "-Wno-unknown-pragmas", "-fPIC", "-shared", "-include", str(HERE / "gpu_host.h"))  # fmt: skip


@cache
def _library(folder: Path) -> ctypes.CDLL:
    made = folder / "kernels.so"
    subprocess.run(["g++", *FLAGS, str(SOURCE), "-o", str(made)], check=True, capture_output=True, text=True)
    return ctypes.CDLL(str(made))


class HostDevice:
    """Runs launches on this processor; `reverse` takes threads and blocks in the opposite order."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("g++") is None:
            pytest.skip("g++ is needed to run the graphics processor's kernels on this one")
        self._library = _library(folder)
        self._library.host_launch.argtypes = [
            ctypes.c_void_p,
            ctypes.c_longlong,
            *2 * [ctypes.c_int],
            *2 * [ctypes.c_void_p],
        ]
        self.reverse = False

    def launch(self, plan: Plan, source: int, target: int) -> None:
        """One launch with buffers at two addresses."""
        kernel = ctypes.cast(getattr(self._library, plan.kernel), ctypes.c_void_p)
        self._library.host_launch(kernel, plan.blocks, plan.threads, int(self.reverse), source, target)

    def run(self, work: Work, seed: int = 1, stream: int = 0, first: int = 0) -> np.ndarray:
        """The outputs of one launch, with everything unwritten left NaN."""
        plan = work.plan
        source = np.zeros(plan.input_bytes, np.uint8)
        work.write(source, seed, stream, first)
        target = np.full(plan.outputs, np.nan, plan.code)
        self.launch(plan, source.ctypes.data, target.ctypes.data)
        return target
