"""Packs: the columns of a block in pieces of a few KiB, one row each, so that small columns waste no page.

A pack is: uint16 number of columns; one byte of kind for each; uint32 length of each compressed one; the
columns' bytes, one behind the other; uint32 CRC-32 of all before. Little-endian. A constant column is its
float64 (one of stale markers nothing), the others are pcodec: of float64, or of int64 where every value is whole.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pcodec import ChunkConfig, DeltaSpec, standalone

from metrics.frame import FloatArray, IntArray
from storage.stale import STALE_BITS, STALE_NAN

STALE, CONSTANT, FLOAT, WHOLE = range(4)
_LEVEL = 8
_TARGET_BYTES = 4_096
_MOST_COLUMNS = 256
_EXACT = 2.0**53
_SPECS = (DeltaSpec.auto(), DeltaSpec.try_consecutive(1))


@dataclass(frozen=True, slots=True)
class Pack:
    """Columns `first`, `first` + 1, ... of a block, as bytes."""

    first: int
    columns: int
    data: bytes


def encode_column(values: FloatArray) -> tuple[int, bytes]:
    """Return kind and bytes of float64 [n], n >= 1, bit for bit (NaN payloads, signed zeros, infinities)."""
    values = np.ascontiguousarray(values)
    bits = values.view(np.int64)
    if (bits == bits[0]).all():
        return (STALE, b"") if bits[0] == STALE_BITS else (CONSTANT, struct.pack("<d", values[0]))
    whole = _as_whole(values)
    if whole is not None:
        return WHOLE, compress(whole)
    return FLOAT, compress(values)


def compress(values: FloatArray | IntArray) -> bytes:
    """pcodec with the better of two ways to take differences."""
    packed = (standalone.simple_compress(values, ChunkConfig(compression_level=_LEVEL, delta_spec=s)) for s in _SPECS)
    return bytes(min(packed, key=len))


def pack(columns: Iterable[FloatArray]) -> Iterator[Pack]:
    """Encode columns of float64 [n] in their order, a pack as soon as it is large enough."""
    encoded: list[tuple[int, bytes]] = []
    first = size = 0
    for position, values in enumerate(columns):
        encoded.append(encode_column(values))
        size += len(encoded[-1][1])
        if size >= _TARGET_BYTES or len(encoded) == _MOST_COLUMNS:
            yield Pack(first, len(encoded), _join(encoded))
            encoded, first, size = [], position + 1, 0
    if encoded:
        yield Pack(first, len(encoded), _join(encoded))


def count(data: bytes) -> int:
    """The number of columns in a pack."""
    columns: int = struct.unpack_from("<H", data)[0]
    return columns


def unpack_into(data: bytes, places: Sequence[tuple[int, FloatArray]]) -> None:
    """Decode some columns of a pack: (number within the pack, float64 [n] contiguous) in ascending order.

    A number beyond the pack's columns is left alone.
    """
    columns = count(data)
    kinds = data[2 : 2 + columns]
    lengths = struct.unpack_from(f"<{sum(kind >= FLOAT for kind in kinds)}I", data, 2 + columns)
    start = 2 + columns + 4 * len(lengths)
    compressed = iter(lengths)
    wanted = iter(places)
    number, out = next(wanted, (-1, None))
    for position, kind in enumerate(kinds):
        length = 0 if kind == STALE else 8 if kind == CONSTANT else next(compressed)
        if position == number and out is not None:
            _decode(kind, data, start, length, out)
            number, out = next(wanted, (-1, None))
            if out is None:
                return
        start += length


def check(data: bytes) -> str | None:
    """Return what is wrong with a pack's bytes, None where nothing is."""
    if len(data) < 6:
        return f"only {len(data)} bytes"
    if zlib.crc32(data[:-4]) != struct.unpack_from("<I", data, len(data) - 4)[0]:
        return "its checksum does not fit"
    columns = count(data)
    kinds = data[2 : 2 + columns]
    if len(kinds) < columns or any(kind > WHOLE for kind in kinds):
        return "its list of columns is not valid"
    compressed = sum(kind >= FLOAT for kind in kinds)
    if 2 + columns + 4 * compressed > len(data) - 4:
        return "its list of columns is not valid"
    lengths = struct.unpack_from(f"<{compressed}I", data, 2 + columns)
    expected = 2 + columns + 4 * compressed + sum(lengths) + 8 * sum(kind == CONSTANT for kind in kinds) + 4
    return None if expected == len(data) else f"{len(data)} bytes instead of {expected}"


def _as_whole(values: FloatArray) -> IntArray | None:
    """The values as integers, where that loses nothing: not even the sign of a zero."""
    if not (np.abs(values) < _EXACT).all():  # false for NaN and infinity too
        return None
    whole = values.astype(np.int64)
    same = whole.astype(np.float64).view(np.int64) == values.view(np.int64)
    return whole if same.all() else None


def _join(encoded: Sequence[tuple[int, bytes]]) -> bytes:
    lengths = [len(data) for kind, data in encoded if kind >= FLOAT]
    head = struct.pack(f"<H{len(encoded)}B{len(lengths)}I", len(encoded), *(kind for kind, _ in encoded), *lengths)
    body = head + b"".join(data for _, data in encoded)
    return body + struct.pack("<I", zlib.crc32(body))


def _decode(kind: int, data: bytes, start: int, length: int, out: FloatArray) -> None:
    if kind == STALE:
        out.fill(STALE_NAN)
    elif kind == CONSTANT:
        out.view(np.uint64).fill(struct.unpack_from("<Q", data, start)[0])
    elif kind == FLOAT:
        standalone.simple_decompress_into(data[start : start + length], out)
    else:  # decoded in place: int64 and float64 are of one size
        whole = out.view(np.int64)
        standalone.simple_decompress_into(data[start : start + length], whole)
        out[:] = whole
