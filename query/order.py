"""The k-th smallest sample of every window, whatever the windows' length: a wavelet matrix of the ranks.

Built once per series in log2(samples) passes; each question then costs as many look-ups, for all
windows at once. Sorting each window by itself costs its length, and windows overlap.
"""

from __future__ import annotations

import numpy as np

from metrics.frame import FloatArray, IntArray


class Order:
    """Order statistics of one series' windows; NaN is smaller than everything else, as in Prometheus."""

    def __init__(self, values: FloatArray) -> None:
        n = len(values)
        by_rank = np.argsort(-values, kind="stable")[::-1]  # NaN sorts last, so sort the negatives and turn round
        self._sorted = values[by_rank]
        ranks = np.empty(n, dtype=np.int32)
        ranks[by_rank] = np.arange(n, dtype=np.int32)
        self._bits = max(1, int(n - 1).bit_length())
        self._zeros: list[np.ndarray] = []
        for bit in range(self._bits - 1, -1, -1):
            low = (ranks >> bit) & 1 == 0
            zeros = np.zeros(n + 1, dtype=np.int32)
            np.cumsum(low, out=zeros[1:])
            self._zeros.append(zeros)
            ranks = np.concatenate([ranks[low], ranks[~low]])

    def smallest(self, lo: IntArray, hi: IntArray, k: IntArray) -> FloatArray:
        """The k-th smallest (from 0) of values[lo:hi], for arrays of windows, 0 <= k < hi - lo."""
        rank = np.zeros(len(lo), dtype=np.int64)
        for level, zeros in enumerate(self._zeros):
            before, until = zeros[lo], zeros[hi]
            inside = until - before
            right = k >= inside
            total = zeros[-1]
            lo = np.where(right, total + lo - before, before)
            hi = np.where(right, total + hi - until, until)
            k = np.where(right, k - inside, k)
            rank = rank + (right.astype(np.int64) << (self._bits - 1 - level))
        found: FloatArray = self._sorted[rank]
        return found
