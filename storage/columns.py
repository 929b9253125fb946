"""Columns: one series' values, or a time axis, as compressed bytes (pcodec) and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pcodec import ChunkConfig, DeltaSpec, standalone

from metrics.frame import FloatArray, IntArray
from storage.stale import STALE_NAN

_LEVEL = 8


@dataclass(frozen=True, slots=True)
class Column:
    """An encoded column with its header; data None: every value equals `last` (count 0: all are stale)."""

    count: int
    min: float | None
    max: float | None
    sum: float | None
    last: float | None
    data: bytes | None


def encode(values: FloatArray) -> Column:
    """Encode float64 [n], n >= 1, bit for bit (NaN payloads, signed zeros and infinities included)."""
    present = values[~np.isnan(values)]
    bits = values.view(np.int64)
    constant = bool((bits == bits[0]).all())
    if len(present) == 0:
        only_stale = constant and bits[0] == np.float64(STALE_NAN).view(np.int64)
        return Column(0, None, None, None, None, None if only_stale else _compress(values))
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(present.sum())
    header = (len(present), float(present.min()), float(present.max()), total, float(present[-1]))
    # SQLite may store a real -0.0 as the integer 0, so that one is not left to the header.
    headless = constant and not (present[-1] == 0.0 and np.signbit(present[-1]))
    return Column(*header, None if headless else _compress(values))


def decode_into(out: FloatArray, last: float | None, data: bytes | None) -> None:
    """Fill `out`, float64 [n] contiguous, with a column of n values."""
    if data is None:
        out.fill(STALE_NAN if last is None else last)
    else:
        standalone.simple_decompress_into(data, out)


def encode_times(t_ms: IntArray) -> bytes:
    """Encode a time axis, int64 [n] ascending."""
    specs = (DeltaSpec.auto(), DeltaSpec.try_consecutive(1), DeltaSpec.try_consecutive(2))
    packed = (standalone.simple_compress(t_ms, ChunkConfig(compression_level=_LEVEL, delta_spec=s)) for s in specs)
    return bytes(min(packed, key=len))


def decode_times(data: bytes) -> IntArray:
    """Return the time axis, read-only: it is shared by all who read the block."""
    times = standalone.simple_decompress(data)
    times.setflags(write=False)
    result: IntArray = times
    return result


def pack(columns: Sequence[FloatArray]) -> bytes:
    """Encode columns of equal length one behind the other."""
    parts = []
    for values in columns:
        bits = values.view(np.int64)
        if (bits == bits[0]).all():
            parts.append(struct.pack("<Id", 0, values[0]))
        else:
            data = _compress(values)
            parts.append(struct.pack("<I", len(data)) + data)
    return b"".join(parts)


def unpack(data: bytes, count: int, n: int) -> FloatArray:
    """Return the `count` columns of n values that `pack` encoded: float64 [count, n]."""
    out = np.empty((count, n))
    offset = 0
    for row in out:
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if length == 0:
            row.fill(struct.unpack_from("<d", data, offset)[0])
            offset += 8
        else:
            standalone.simple_decompress_into(data[offset : offset + length], row)
            offset += length
    return out


def _compress(values: FloatArray) -> bytes:
    contiguous = np.ascontiguousarray(values)
    specs = (DeltaSpec.auto(), DeltaSpec.try_consecutive(1))
    packed = (
        standalone.simple_compress(contiguous, ChunkConfig(compression_level=_LEVEL, delta_spec=s)) for s in specs
    )
    return bytes(min(packed, key=len))
