"""Which bucket of a latency histogram a duration falls into, for kernels (the buckets: engine/histogram.py)."""

from __future__ import annotations

from engine.histogram import MAX_NS, SUB, SUB_BITS
from engine.jit import inline_kernel


@inline_kernel
def bucket_of(value_ns: int) -> int:
    """Return the bucket of a duration; negative ones count as 0, long ones into the last bucket."""
    v = min(max(value_ns, 0), MAX_NS)
    if v < SUB:
        return v
    exponent = 0
    rest = v
    for shift in (32, 16, 8, 4, 2, 1):
        if rest >> shift:
            rest >>= shift
            exponent += shift
    return (exponent - SUB_BITS + 1) * SUB + ((v >> (exponent - SUB_BITS)) & (SUB - 1))
