"""Plan: what one launch of a kernel in kernels.cu reads and writes, laid out in bytes.

Input is a header of HEADER int64, then numbers of the kernel's precision, then int32: the order is that of `book_of` and
`paths_of` in kernels.cu. Everything that changes from run to run is in the input, so that a captured graph stays right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.montecarlo.pathkernels import Payoffs
from engine.montecarlo.revaluation import Lines, Sampling
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray

Bytes = npt.NDArray[np.uint8]

HEADER: Final = 16
LINES_AT_ONCE: Final = 64
ROWS_AT_ONCE: Final = 32
STATES: Final = 7
MOMENTS: Final = 7
CELL: Final = 1024  # samples whose payoffs one block of threads adds up, for any number of devices
MOST_SHARED: Final = 48 * 1024  # bytes of shared memory that a block gets without asking
FEW: Final = 4096  # samples: up to here more blocks of fewer columns end sooner
SIZES: Final = {"d": "f64", "f": "f32"}


@dataclass(frozen=True)
class Plan:
    """One launch: of `blocks` times `threads`, with `shared` bytes a block. Plans that are equal can share memory and graph.

    input_bytes and output_bytes: lengths of the two buffers; outputs: shape of what comes back, of dtype code `code`.
    """

    kernel: str
    blocks: int
    threads: int
    shared: int
    input_bytes: int
    outputs: tuple[int, ...]
    code: str

    @property
    def output_bytes(self) -> int:
        return int(np.prod(self.outputs)) * np.dtype(self.code).itemsize


@dataclass(frozen=True, eq=False)
class Work:
    """A plan and what fills its input: header int64 (HEADER,), numbers and whole numbers one after the other.

    unit: samples that one block of threads takes; `part` cuts at multiples of it.
    """

    plan: Plan
    header: IntArray
    numbers: tuple[FloatArray, ...]
    whole: tuple[IntArray, ...]
    unit: int
    samples: int

    @property
    def totals(self) -> bool:
        """Whether outputs are rows of cells, not columns of samples."""
        return self.plan.kernel.startswith("moments")

    def write(self, to: Bytes, seed: int, stream: int, first: int) -> None:
        """Fill an input buffer, uint8 (plan.input_bytes,), for the samples from `first` on."""
        self.header[:3] = np.array([seed, stream, first], dtype=np.uint64).view(np.int64)
        at = 8 * HEADER
        to[:at] = self.header.view(np.uint8)
        for values in (*self.numbers, *self.whole):
            end = at + values.nbytes
            to[at:end] = values.reshape(-1).view(np.uint8)
            at = end

    def part(self, begin: int, end: int) -> Work:
        """The same for samples begin to end of these alone; begin a multiple of `unit`."""
        header = self.header.copy()
        header[3] = samples = end - begin
        blocks = -(-samples // self.unit)
        plan, rows = self.plan, self.plan.outputs[0]
        outputs = (blocks, MOMENTS) if self.totals else (rows, samples)
        return replace(self, plan=replace(plan, blocks=blocks, outputs=outputs), header=header, samples=samples)


def book_work(sampling: Sampling, lines: Lines, samples: int, near: bool) -> Work:
    """Profits of `samples` scenarios, outputs (1, samples), and with `near` their quadratics too (2, samples).

    DeskvigilError where the assets are too many for a block's shared memory.
    """
    n, padded = sampling.loading.shape
    dtype = sampling.loading.dtype
    row_bytes = (padded + n + LINES_AT_ONCE + 1) * dtype.itemsize
    wanted = 3 if samples <= FEW else 5
    fit = [shift for shift in range(wanted + 1) if row_bytes << shift <= MOST_SHARED]
    if not fit:
        raise DeskvigilError(f"{n} assets do not fit into the shared memory of a graphics processor's block")
    shift = fit[-1]
    numbers = (
        sampling.loading, sampling.shift, *((sampling.first, sampling.second) if near else ()), lines.linear_value,
        lines.forward, lines.cash, lines.start, lines.slope, lines.width, lines.now, lines.payoff_forward, lines.payoff_cash,
        lines.payoff_side, lines.payoff_now,
    )  # fmt: skip
    whole = (sampling.filled, lines.linear_asset, lines.option_asset, lines.payoff_asset)
    counts = (len(lines.linear_asset), len(lines.option_asset), len(lines.payoff_asset))
    head = (samples, n, padded, shift, *counts, int(near))
    return _work("book", dtype, head, numbers, whole, (1 + near, samples), shift, 1 << shift, row_bytes << shift)


def path_work(payoffs: Payoffs, samples: int, antithetic: bool, *, totals: bool) -> Work:
    """Payoffs of `samples` samples, outputs (3, samples); with `totals` the sums of cells of them, (cells, MOMENTS)."""
    steps, assets = payoffs.weighted_forward.shape
    dtype = payoffs.weighted_forward.dtype
    shift = 3 if samples <= FEW and not totals else 5  # a cell's sums round in the same order for any number of samples
    row_bytes = 8 * MOMENTS + ((5 if antithetic else 3) * ROWS_AT_ONCE + assets + STATES) * dtype.itemsize
    terms = np.array(
        [payoffs.side, payoffs.rate_of_touch, payoffs.asian_sign, payoffs.asian_strike, payoffs.vanilla_sign,
         payoffs.vanilla_strike, payoffs.mean_forward, payoffs.discount], dtype,
    )  # fmt: skip
    numbers = (payoffs.loading, payoffs.weighted_forward, payoffs.mean_weight, payoffs.bridge, terms)
    head = (samples, assets, steps, shift, int(antithetic), CELL)
    unit = CELL if totals else 1 << shift
    outputs = (-(-samples // CELL), MOMENTS) if totals else (3, samples)
    kind = "moments" if totals else "paths"
    return _work(kind, dtype, head, numbers, (), outputs, shift, unit, row_bytes << shift)


def _work(
    kind: str, dtype: np.dtype[np.floating], head: Sequence[int], numbers: tuple[FloatArray, ...],
    whole: tuple[IntArray, ...], outputs: tuple[int, ...], shift: int, unit: int, shared: int,
) -> Work:  # fmt: skip
    samples = head[0]
    header = np.zeros(HEADER, np.int64)
    header[3 : 3 + len(head)] = head
    numbers = tuple(np.ascontiguousarray(values, dtype) for values in numbers)
    short: tuple[IntArray, ...] = tuple(np.ascontiguousarray(values, np.int32) for values in whole)
    size = 8 * HEADER + sum(values.nbytes for values in (*numbers, *short))
    plan = Plan(
        kernel=f"{kind}_{SIZES[dtype.char]}", blocks=-(-samples // unit), threads=256 if shift <= 3 else 128, shared=shared,
        input_bytes=-(-size // 16) * 16, outputs=outputs, code="d" if kind == "moments" else dtype.char,
    )  # fmt: skip
    return Work(plan, header, numbers, short, unit, samples)
