"""Protocol buffers, as far as remote write needs them: an exact reader of the wire format.

https://protobuf.dev/programming-guides/encoding/ . Every length is checked against the message that holds it, before
anything is sliced; what does not fit raises BadSampleError with the byte at which it happened.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dashboard.api.samples import BadSampleError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
_DOUBLE = struct.Struct("<d")
_MOST_FIELD = (1 << 29) - 1

Field = tuple[int, int, int, int]
"""Number, wire type, and where the content begins and ends; of a varint the third is its value, the fourth 0."""


def varint(raw: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at a position and where it ends; 64 bits, in ten bytes at most."""
    number = shift = 0
    while position < end:
        byte = raw[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >> 64:
                break
            return number, position
        shift += 7
        if shift >= 70:
            break
    else:
        raise BadSampleError(f"protobuf: the message ends within a number, at byte {end}")
    raise BadSampleError(f"protobuf: a number before byte {position} has more than 64 bits")


def fields(raw: bytes, position: int, end: int) -> Iterator[Field]:
    """The fields of the message raw[position:end], in their order."""
    while position < end:
        tag, position = varint(raw, position, end)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _MOST_FIELD:
            raise BadSampleError(f"protobuf: {number} is no field number, before byte {position}")
        if kind == VARINT:
            value, position = varint(raw, position, end)
            yield number, kind, value, 0
            continue
        if kind == BYTES:
            size, position = varint(raw, position, end)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise BadSampleError(f"protobuf: wire type {kind} before byte {position} is not supported")
        if size > end - position:
            raise BadSampleError(f"protobuf: a field of {size} bytes at byte {position} is longer than its message")
        yield number, kind, position, position + size
        position += size


def text(raw: bytes, begin: int, end: int) -> str:
    """A string field's content."""
    try:
        return raw[begin:end].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSampleError(f"protobuf: a string at byte {begin} is not UTF-8: {error.reason}") from None


def label(raw: bytes, begin: int, end: int) -> tuple[str, str]:
    """A Label: name and value; the last of each, as protobuf has it."""
    name = value = ""
    for number, kind, a, b in fields(raw, begin, end):
        if kind == BYTES and number == 1:
            name = text(raw, a, b)
        elif kind == BYTES and number == 2:
            value = text(raw, a, b)
    return name, value


def sample(raw: bytes, begin: int, end: int) -> tuple[int, float]:
    """A Sample: time in ms and value; a NaN keeps its bits. Fields that are not there are 0."""
    t_ms, value = 0, 0.0
    for number, kind, a, _ in fields(raw, begin, end):
        if number == 1 and kind == FIXED64:
            (value,) = _DOUBLE.unpack_from(raw, a)
        elif number == 2 and kind == VARINT:
            t_ms = a - (1 << 64) if a >> 63 else a
    return t_ms, value
