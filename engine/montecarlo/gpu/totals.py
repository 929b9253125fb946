"""PathTotals: prices of very many paths, whose payoffs never leave the devices: only sums of cells do.

A cell is CELL samples, whatever the number of devices and batches, and sums of cells are added exactly: the price has the
same bits for any of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from engine.montecarlo.gpu.device import DEPTH, Batch, GpuDevice
from engine.montecarlo.gpu.plan import CELL, path_work
from engine.montecarlo.paths import MOST_SAMPLES, PathOption, PathPrices
from engine.montecarlo.simulation import DTYPES, Precision
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray

BATCH: Final = 1024 * CELL  # samples of one launch


class PathTotals:
    """Prices one option pair on devices, batch after batch, several under way on each. Not for two threads at once.

    The arguments are those of PathSimulation, which is the way without devices; paths may be MOST_SAMPLES * 1,000.
    """

    def __init__(
        self, devices: Sequence[GpuDevice], option: PathOption, *, paths: int, seed: int = 1, antithetic: bool = False,
        control: bool = False, precision: Precision = "single", batch: int = BATCH,
    ) -> None:  # fmt: skip
        samples = paths // 2 if antithetic else paths
        if not 2 <= samples <= 1_000 * MOST_SAMPLES or (antithetic and paths % 2):
            raise DeskvigilError(f"paths must be at least two samples, whole pairs if antithetic, not {paths}")
        if not devices or batch % CELL:
            raise DeskvigilError(f"sums need a device, and batches of whole cells of {CELL} samples, not {batch}")
        self._devices, self._samples, self._seed, self._batch = (
            devices,
            samples,
            seed,
            min(batch, -(-samples // CELL) * CELL),
        )
        self._expected = option.geometric_price() if control else None
        payoffs = option.payoffs(DTYPES[precision])
        self._whole = path_work(payoffs, self._batch, antithetic, totals=True)
        rest = samples % self._batch
        self._rest = path_work(payoffs, rest, antithetic, totals=True) if rest else None

    def run(self, stream: int = 0) -> PathPrices:
        """Price along the paths of a stream. DeskvigilError where the price is not finite."""
        cells = np.zeros((-(-self._samples // CELL), self._whole.plan.outputs[1]))
        under_way: deque[tuple[GpuDevice, Batch, FloatArray]] = deque()
        for number, first in enumerate(range(0, self._samples, self._batch)):
            if len(under_way) == DEPTH * len(self._devices):
                device, batch, out = under_way.popleft()
                device.finish(batch, out)
            last = first + self._batch > self._samples
            work = self._rest if last and self._rest is not None else self._whole
            device = self._devices[number % len(self._devices)]
            out = cells[first // CELL :][: work.plan.blocks]
            under_way.append((device, device.start(work, self._seed, stream, first), out))
        for device, batch, out in under_way:
            device.finish(batch, out)
        if not np.isfinite(cells).all():
            raise DeskvigilError("the price is not finite: the volatilities are beyond the range of numbers")
        return prices_of(cells, self._samples, self._expected)


def prices_of(cells: FloatArray, samples: int, expected: float | None) -> PathPrices:
    """Prices from the moments of cells, float64 (cells, MOMENTS); expected: what the geometric payoff is worth, for control."""
    a, aa, g, gg, ag, b, bb = (math.fsum(column) / samples for column in cells.T)
    price, variance = a, aa - a * a
    if expected is not None:
        scatter, together = gg - g * g, ag - a * g
        slope = together / scatter if scatter > 0.0 else 0.0
        price, variance = a - slope * (g - expected), variance - slope * together
    errors = [math.sqrt(max(one, 0.0) / (samples - 1)) for one in (variance, bb - b * b)]
    return PathPrices(price, errors[0], b, errors[1], samples)
