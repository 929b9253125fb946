"""Path kernels: many steps of one to four correlated spots, with both payoffs gathered on the way.

Paths are handled in blocks of BLOCK, a vector's lanes in every inner loop. A path keeps only its
driftless log returns y; the drift stands in tables by step. Antithetic paths take -y: exp(y) and exp(-y)
come from one polynomial.

Between two steps the barrier is watched by the Brownian bridge: a path at log distances d and d' from it
on either side of a step has touched it with probability exp(-2 d d' / (sigma^2 dt)), and the path
goes on with the rest of its weight.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np

from engine.jit import inline_kernel, kernel, parallel_kernel
from engine.montecarlo.elementary import exp, exp_pair, fma
from engine.montecarlo.normals import normal_block
from engine.montecarlo.philox import Word
from metrics.frame import FloatArray, IntArray

BLOCK: Final = 128
STEPS_AT_ONCE: Final = 4  # of normals: those of four steps fill whole blocks of Philox for any number of assets


class Payoffs(NamedTuple):
    """Tables of one precision; a assets, m steps.

    loading (a, a): factor of a step's covariance. weighted_forward (m, a): weight times forward of each asset at
    each step. mean_weight (a,): share of each asset in the geometric mean, over m. bridge (m + 1,): log
    distance of the first asset's forward from the barrier, positive where alive. barrier: side (1 the barrier is
    below, -1 above) and -2 / (sigma^2 dt). asian, geometric, vanilla: sign and strike of the three payoffs;
    mean_forward: exp of the geometric mean's expectation; discount.
    """

    loading: FloatArray
    weighted_forward: FloatArray
    mean_weight: FloatArray
    bridge: FloatArray
    side: float
    rate_of_touch: float
    asian_sign: float
    asian_strike: float
    vanilla_sign: float
    vanilla_strike: float
    mean_forward: float
    discount: float


class PathWork(NamedTuple):
    """Memory of each thread (first axis): z (4a, BLOCK), y (a, BLOCK), sums (8, BLOCK), path int64 (BLOCK,)."""

    z: FloatArray
    y: FloatArray
    sums: FloatArray
    path: IntArray


def path_work(threads: int, assets: int, dtype: type) -> PathWork:
    """Memory for some threads."""
    return PathWork(
        np.zeros((threads, STEPS_AT_ONCE * assets, BLOCK), dtype), np.zeros((threads, assets, BLOCK), dtype),
        np.zeros((threads, 7, BLOCK), dtype), np.zeros((threads, BLOCK), dtype=np.int64),
    )  # fmt: skip


@inline_kernel
def _pays(sign: float, spot: float, strike: float) -> float:
    return max(sign * (spot - strike), type(spot)(0))


@inline_kernel
def _touches(payoffs: Payoffs, step: int, y: FloatArray, before: FloatArray, alive: FloatArray, side: float) -> None:
    """Take off alive what touched the barrier between the last step and this one; before: distance at the last."""
    base, rate = payoffs.bridge[step + 1], payoffs.rate_of_touch
    for row in range(BLOCK):
        distance = max(fma(side, y[row], base), type(base)(0))  # none left: touched for certain, e**0 = 1
        alive[row] -= alive[row] * exp(rate * (before[row] * distance))
        before[row] = distance


@inline_kernel
def _walk(payoffs: Payoffs, antithetic: bool, step: int, z: FloatArray, y: FloatArray, sums: FloatArray) -> None:
    """One step of a block: z (a, BLOCK) its normals."""
    total, mirrored, mean = sums[0], sums[1], sums[2]
    for i in range(len(y)):
        noise, own, own_loading = y[i], z[i], payoffs.loading[i, i]
        forward, share = payoffs.weighted_forward[step, i], payoffs.mean_weight[i]
        for j in range(i):
            other, loading = z[j], payoffs.loading[i, j]
            for row in range(BLOCK):
                noise[row] = fma(loading, other[row], noise[row])
        if antithetic:
            for row in range(BLOCK):
                moved = fma(own_loading, own[row], noise[row])
                up, down = exp_pair(moved)
                noise[row] = moved
                total[row] = fma(forward, up, total[row])
                mirrored[row] = fma(forward, down, mirrored[row])
                mean[row] = fma(share, moved, mean[row])
        else:
            for row in range(BLOCK):
                moved = fma(own_loading, own[row], noise[row])
                noise[row] = moved
                total[row] = fma(forward, exp(moved), total[row])
                mean[row] = fma(share, moved, mean[row])
    _touches(payoffs, step, y[0], sums[3], sums[4], payoffs.side)
    if antithetic:
        _touches(payoffs, step, y[0], sums[5], sums[6], -payoffs.side)


@inline_kernel
def _pay(payoffs: Payoffs, sign: float, y: FloatArray, total: FloatArray, mean: FloatArray, alive: FloatArray, share: float,
         out: FloatArray) -> None:  # fmt: skip
    """Add share times a block's three payoffs, arithmetic, geometric and barrier, to out (3, BLOCK)."""
    last = len(payoffs.weighted_forward) - 1
    for row in range(BLOCK):
        spot = type(share)(0)
        for i in range(len(y)):
            spot = fma(payoffs.weighted_forward[last, i], exp(sign * y[i, row]), spot)
        steps = type(share)(last + 1)
        geometric = payoffs.mean_forward * exp(sign * mean[row])
        out[0, row] += share * _pays(payoffs.asian_sign, total[row] / steps, payoffs.asian_strike)
        out[1, row] += share * _pays(payoffs.asian_sign, geometric, payoffs.asian_strike)
        out[2, row] += share * alive[row] * _pays(payoffs.vanilla_sign, spot, payoffs.vanilla_strike)


@kernel
def price_paths(
    seed: Word, stream: Word, first_path: int, begin: int, end: int, antithetic: bool, given: FloatArray, payoffs: Payoffs,
    work: PathWork, thread: int, out: FloatArray,
) -> None:  # fmt: skip
    """Discounted payoffs of samples begin to end into out (3, samples): arithmetic Asian, geometric Asian, barrier.

    A sample is a path, or a path and its mirror image averaged. given (m * a, samples): the normals to use; with
    no columns they are those of paths first_path + begin, ... of the stream.
    """
    z, y, sums, path = work.z[thread], work.y[thread], work.sums[thread], work.path[thread]
    assets, steps = len(y), len(payoffs.weighted_forward)
    block_out = np.zeros((3, BLOCK), z.dtype)
    one = payoffs.discount / payoffs.discount
    for first in range(begin, end, BLOCK):
        rows = min(BLOCK, end - first)
        for row in range(BLOCK):
            path[row] = first_path + first + row
        y[:], sums[:], block_out[:] = 0, 0, 0
        sums[3], sums[5] = max(payoffs.bridge[0], one - one), max(payoffs.bridge[0], one - one)
        sums[4], sums[6] = one, one
        for start in range(0, steps, STEPS_AT_ONCE):
            if given.shape[1] == 0:
                normal_block(z, seed, stream, path, start * assets)
            else:
                wanted = min(STEPS_AT_ONCE, steps - start) * assets
                z[:wanted, :rows] = given[start * assets : start * assets + wanted, first : first + rows]
            for step in range(start, min(start + STEPS_AT_ONCE, steps)):
                at = (step - start) * assets
                _walk(payoffs, antithetic, step, z[at : at + assets], y, sums)
        if antithetic:
            half = payoffs.discount / (one + one)
            _pay(payoffs, one, y, sums[0], sums[2], sums[4], half, block_out)
            _pay(payoffs, -one, y, sums[1], sums[2], sums[6], half, block_out)
        else:
            _pay(payoffs, one, y, sums[0], sums[2], sums[4], payoffs.discount, block_out)
        for k in range(3):
            for row in range(rows):
                out[k, first + row] = block_out[k, row]


@parallel_kernel
def price_paths_on_threads(
    seed: Word, stream: Word, first_path: int, antithetic: bool, given: FloatArray, payoffs: Payoffs, work: PathWork,
    out: FloatArray,
) -> None:  # fmt: skip
    """The same of all samples of out, each thread with one stretch of them."""
    threads, samples = len(work.z), out.shape[1]
    blocks = (samples + BLOCK - 1) // BLOCK
    for thread in numba.prange(threads):
        begin, end = blocks * thread // threads * BLOCK, min(blocks * (thread + 1) // threads * BLOCK, samples)
        price_paths(seed, stream, first_path, begin, end, antithetic, given, payoffs, work, thread, out)
