"""Uneven blocks: paths whose blocks cost one to eight times as much as each other, on threads; what a scheduler of threads is good for."""

from __future__ import annotations

import numba
import numpy as np

from engine.jit import parallel_kernel
from engine.montecarlo.pathkernels import BLOCK, PathWork, Payoffs, path_work, price_paths
from engine.montecarlo.paths import PathOption
from engine.montecarlo.philox import Word
from metrics.frame import FloatArray, IntArray

BLOCKS = 64
STEPS = 252
MOST_TIMES = 8


@parallel_kernel
def price_unevenly(
    seed: Word, given: FloatArray, payoffs: Payoffs, work: PathWork, times: IntArray, out: FloatArray
) -> None:
    """Each block of out as many times as times says; block i has working space i."""
    for block in numba.prange(len(times)):
        for stream in range(times[block]):
            price_paths(
                seed, np.uint64(stream), 0, block * BLOCK, (block + 1) * BLOCK, False, given, payoffs, work, block, out
            )


class UnevenBlocks:
    """The work and its memory; `run` does it once."""

    def __init__(self) -> None:
        option = PathOption(
            spot=np.array([100.0]), volatility=np.array([0.2]), dividend_yield=np.array([0.0]), weight=np.array([1.0]),
            correlation=np.eye(1), rate=0.03, years=1.0, steps=STEPS, asian_strike=100.0, vanilla_strike=100.0, barrier=85.0,
        )  # fmt: skip
        self._payoffs = option.payoffs(np.float64)
        self._work = path_work(BLOCKS, 1, np.float64)
        self._out: FloatArray = np.zeros((3, BLOCKS * BLOCK))
        self._none: FloatArray = np.zeros((0, 0))
        # In ascending order, so that equal stretches of blocks are as unequal as can be.
        self._times = np.sort(np.random.default_rng(1).integers(1, MOST_TIMES + 1, BLOCKS))

    def run(self) -> FloatArray:
        """Discounted payoffs of the last turn of each block, (3, BLOCKS * BLOCK): the same on any number of threads."""
        price_unevenly(np.uint64(1), self._none, self._payoffs, self._work, self._times, self._out)
        return self._out
