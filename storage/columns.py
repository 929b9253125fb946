"""Columns: one series' values, or a time axis, as compressed bytes (pcodec) and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from pcodec import ChunkConfig, DeltaSpec, standalone

from metrics.frame import FloatArray, IntArray
from storage.packs import compress
from storage.stale import STALE_NAN

_LEVEL = 8

PACKED = b"\x02"
"""In front of a block's time axis: its chunks are packs (storage/packs.py), not one row per series."""


def decode_into(out: FloatArray, last: float | None, data: bytes | None) -> None:
    """Fill `out`, float64 [n] contiguous, with a column of a block from before there were packs."""
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
    """Return the time axis, with or without PACKED in front; read-only: it is shared by all who read the block."""
    if data.startswith(PACKED):
        data = data[len(PACKED) :]
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
            data = compress(np.ascontiguousarray(values))
            parts.append(struct.pack("<I", len(data)) + data)
    return b"".join(parts)


def unpack(data: bytes, count: int, n: int) -> FloatArray:
    """Return the `count` columns of n values that `pack` encoded: float64 [count, n]."""
    out = np.empty((count, n))
    unpack_into(data, list(out))
    return out


def unpack_into(data: bytes, places: Sequence[FloatArray | None]) -> None:
    """Decode the columns that `pack` encoded, each into its place, float64 [n] contiguous; None: it is not wanted."""
    offset = 0
    for place in places:
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if length == 0:
            if place is not None:
                place.view(np.uint64).fill(struct.unpack_from("<Q", data, offset)[0])
            offset += 8
        else:
            if place is not None:
                standalone.simple_decompress_into(data[offset : offset + length], place)
            offset += length
