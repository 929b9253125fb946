"""Log-bucket latency histograms: eight buckets an octave, 1 ns to 18 minutes, 12.5 % wide at most.

Recording is an index and an increment; quantiles are read off the counts afterwards.
"""

from __future__ import annotations

import numpy as np

from metrics.frame import FloatArray, IntArray

SUB_BITS = 3
SUB = 1 << SUB_BITS
BUCKETS = 320
MAX_NS = (1 << 40) - 1


def lower_edges_ns() -> IntArray:
    """Smallest duration of each bucket, int64, shape (BUCKETS + 1,); the last is the upper end."""
    index = np.arange(BUCKETS + 1, dtype=np.int64)
    octave = index // SUB
    edges = np.where(octave == 0, index, (SUB + index % SUB) << np.maximum(octave - 1, 0))
    return edges.astype(np.int64)


EDGES_NS = lower_edges_ns()


def quantiles_ns(counts: IntArray, q: FloatArray) -> FloatArray:
    """Quantiles of the recorded durations, interpolated inside their bucket.

    counts: int64, shape (BUCKETS,); q: float64 in 0..1, shape (k,). Returns float64, shape (k,),
    nanoseconds, NaN where nothing was recorded.
    """
    total = int(counts.sum())
    if total == 0:
        return np.full(len(q), np.nan)
    cumulative = np.cumsum(counts)
    rank = np.maximum(np.asarray(q, dtype=np.float64) * total, 1e-9)  # 0 would point at the first bucket, used or not
    bucket = np.minimum(np.searchsorted(cumulative, rank, side="left"), int(np.flatnonzero(counts)[-1]))
    before = cumulative[bucket] - counts[bucket]
    inside = np.clip((rank - before) / np.maximum(counts[bucket], 1), 0.0, 1.0)
    low, high = EDGES_NS[bucket], EDGES_NS[bucket + 1]
    values: FloatArray = low + (high - low) * inside
    return values
