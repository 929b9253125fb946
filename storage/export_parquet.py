"""Parquet files, written without a library of 40 MB: plain columns, dictionaries for text, zstd.

The format: https://parquet.apache.org/docs/file-format/ and apache/parquet-format's parquet.thrift, whose
field numbers stand below; the footer is Thrift's compact protocol. Columns are required (never null).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cramjam
import numpy as np

from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray
from storage.export import NAME, BinaryFile, ColumnBlock, Written, column_names

Kind = Literal["timestamp", "int64", "double", "string"]
Coded = tuple[IntArray, Sequence[str]]
"""Text as numbers into a list of different texts."""
Data = IntArray | FloatArray | Coded | Sequence[str]

_MAGIC = b"PAR1"
_INT64, _DOUBLE, _BYTE_ARRAY = 2, 5, 6
_PLAIN, _RLE, _DICTIONARY = 0, 3, 8
_ZSTD = 6
_ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Column:
    """timestamp: int64 milliseconds since the epoch, UTC."""

    name: str
    kind: Kind


class ParquetWriter:
    """Writes one row group per `write`; use it in a `with`, or call `close`: without its footer a file is unreadable."""

    def __init__(self, file: BinaryFile, columns: Sequence[Column], metadata: Mapping[str, str] | None = None) -> None:
        self._file = file
        self._columns = tuple(columns)
        self._metadata = dict(metadata or {})
        self._groups: list[bytes] = []
        self._rows = 0
        self._offset = 0
        self._closed = False
        self._put(_MAGIC)

    def __enter__(self) -> ParquetWriter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()

    def write(self, data: Mapping[str, Data]) -> None:
        """Write rows: every column by name, all of one length. ValueError where one is missing or of another length."""
        if set(data) != {column.name for column in self._columns}:
            raise ValueError(f"columns {sorted(data)} instead of {[column.name for column in self._columns]}")
        rows = {_length(data[column.name]) for column in self._columns}
        if len(rows) != 1:
            raise ValueError(f"columns of different lengths: {sorted(rows)}")
        (count,) = rows
        if count == 0:
            return
        before = self._offset
        chunks, plain = [], 0
        for column in self._columns:
            chunk, size = self._chunk(column, data[column.name], count)
            chunks.append(chunk)
            plain += size
        group = _struct(
            {1: _list(12, chunks), 2: _i64(plain), 3: _i64(count), 5: _i64(before), 6: _i64(self._offset - before)}
        )
        self._groups.append(group)
        self._rows += count

    def close(self) -> None:
        """Write the footer; does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        root = _struct({4: _text("schema"), 5: _i32(len(self._columns))})
        pairs = [_struct({1: _text(key), 2: _text(value)}) for key, value in self._metadata.items()]
        footer = _struct(
            {
                1: _i32(1),
                2: _list(12, [root, *map(_schema_element, self._columns)]),
                3: _i64(self._rows),
                4: _list(12, self._groups),
                **({5: _list(12, pairs)} if pairs else {}),
                6: _text("deskvigil"),
                7: _list(12, [_struct({1: (12, _struct({}))}) for _ in self._columns]),
            }
        )
        self._put(footer + struct.pack("<I", len(footer)) + _MAGIC)

    def _chunk(self, column: Column, data: Data, count: int) -> tuple[bytes, int]:
        """Write one column of a row group; returns its ColumnChunk and its size before compression."""
        start = self._offset
        dictionary: int | None = None
        plain = 0
        statistics: bytes | None = None
        if column.kind == "string":
            codes, texts = _coded(data)
            encoded = [text.encode() for text in texts]
            page = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
            dictionary = self._offset
            plain += self._page(2, page, {7: (12, _struct({1: _i32(len(encoded)), 2: _i32(_PLAIN)}))})
            values = _indices(codes, len(encoded))
            encoding = _DICTIONARY
        else:
            array = np.ascontiguousarray(data, "<f8" if column.kind == "double" else "<i8")
            values, encoding = array.tobytes(), _PLAIN
            if column.kind != "double":
                low, high = (struct.pack("<q", int(edge)) for edge in (array.min(), array.max()))
                statistics = _struct({3: _i64(0), 5: _binary(high), 6: _binary(low)})
        place = self._offset
        head = _struct({1: _i32(count), 2: _i32(encoding), 3: _i32(_RLE), 4: _i32(_RLE)})
        plain += self._page(0, values, {5: (12, head)})
        encodings = [_zigzag(e) for e in ({_PLAIN, _RLE, encoding} if dictionary is not None else {_PLAIN, _RLE})]
        about: dict[int, tuple[int, bytes]] = {
            1: _i32(_physical(column.kind)),
            2: _list(5, encodings),
            3: _list(8, [_varint(len(column.name.encode())) + column.name.encode()]),
            4: _i32(_ZSTD),
            5: _i64(count),
            6: _i64(plain),
            7: _i64(self._offset - start),
            9: _i64(place),
        }
        if dictionary is not None:
            about[11] = _i64(dictionary)
        if statistics is not None:
            about[12] = (12, statistics)
        return _struct({2: _i64(start), 3: (12, _struct(about))}), plain

    def _page(self, kind: int, content: bytes, more: dict[int, tuple[int, bytes]]) -> int:
        """Write a page; returns its size before compression, header included."""
        packed = bytes(cramjam.zstd.compress(content, 3))
        header = _struct({1: _i32(kind), 2: _i32(len(content)), 3: _i32(len(packed)), **more})
        self._put(header + packed)
        return len(header) + len(content)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._offset += len(data)


class ParquetSamples:
    """An export as Parquet: time, metric, a column per label (empty where a series has not got it), value."""

    def __init__(self, file: BinaryFile, labels: Sequence[str], metadata: Mapping[str, str] | None = None) -> None:
        self._labels = (NAME, *labels)
        self._names = column_names(labels)
        kinds: list[tuple[str, Kind]] = [
            ("time", "timestamp"),
            *((name, "string") for name in self._names),
            ("value", "double"),
        ]
        self._writer = ParquetWriter(file, [Column(*one) for one in kinds], metadata)
        self._waiting: list[tuple[Mapping[str, str], IntArray, FloatArray]] = []
        self._rows = 0
        self._last: Mapping[str, str] | None = None
        self.written = Written()

    def write(self, block: ColumnBlock) -> None:
        """Take a block; a row group is written when there are enough rows. DeskvigilError for a label without column."""
        for labels, t_ms, values in block.columns():
            if not set(self._labels).issuperset(labels):
                raise DeskvigilError(f"label {min(set(labels) - set(self._labels))!r} has no column in this file")
            for first in range(0, len(t_ms), _ROWS_AT_ONCE):
                part = slice(first, first + _ROWS_AT_ONCE)
                self._waiting.append((labels, t_ms[part], values[part]))
                self._rows += len(t_ms[part])
                if self._rows >= _ROWS_AT_ONCE:
                    self._flush()
            self.written.samples += len(t_ms)
            self.written.series += labels != self._last
            self._last = labels

    def close(self) -> None:
        """Write the rows that wait, and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        lengths = np.array([len(t_ms) for _, t_ms, _ in self._waiting])
        data: dict[str, Data] = {
            "time": np.concatenate([t_ms for _, t_ms, _ in self._waiting]),
            "value": np.concatenate([values for _, _, values in self._waiting]),
        }
        for name, label in zip(self._names, self._labels, strict=True):
            codes, texts = _coded([labels.get(label, "") for labels, _, _ in self._waiting])
            data[name] = np.repeat(codes, lengths), texts
        self._writer.write(data)
        self._waiting, self._rows = [], 0


def parquet_bytes(
    columns: Sequence[Column], data: Mapping[str, Data], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A whole small file."""
    file = io.BytesIO()
    with ParquetWriter(file, columns, metadata) as writer:
        writer.write(data)
    return file.getvalue()


# --- columns ------------------------------------------------------------------------------------


def _length(data: Data) -> int:
    return len(data[0]) if isinstance(data, tuple) else len(data)


def _coded(data: Any) -> Coded:
    if isinstance(data, tuple):
        return np.asarray(data[0], np.int64), data[1]
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(text, len(numbers)) for text in data), np.int64, len(data))
    return codes, list(numbers)


def _indices(codes: IntArray, texts: int) -> bytes:
    """Dictionary numbers: width in bits, then runs (a varint of twice the length, the number), or all packed in bits."""
    width = max(max(texts - 1, 0).bit_length(), 1)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    if len(starts) * 8 < len(codes):
        lengths = np.diff(starts, append=len(codes))
        size = (width + 7) // 8
        runs = zip(codes[starts].tolist(), lengths.tolist(), strict=True)
        return bytes([width]) + b"".join(_varint(n << 1) + code.to_bytes(size, "little") for code, n in runs)
    groups = -(-len(codes) // 8)
    padded = np.zeros(groups * 8, np.int64)
    padded[: len(codes)] = codes
    bits = (padded[:, None] >> np.arange(width)) & 1
    packed = np.packbits(bits.astype(np.uint8).ravel(), bitorder="little")
    return bytes([width]) + _varint(groups << 1 | 1) + packed.tobytes()


def _physical(kind: Kind) -> int:
    return _DOUBLE if kind == "double" else _BYTE_ARRAY if kind == "string" else _INT64


def _schema_element(column: Column) -> bytes:
    """SchemaElement, with the old converted type and the new logical type."""
    about: dict[int, tuple[int, bytes]] = {1: _i32(_physical(column.kind)), 3: _i32(0), 4: _text(column.name)}
    if column.kind == "string":
        about |= {6: _i32(0), 10: (12, _struct({1: (12, _struct({}))}))}
    elif column.kind == "timestamp":
        milliseconds = _struct({1: (12, _struct({}))})
        about |= {6: _i32(9), 10: (12, _struct({8: (12, _struct({1: (1, b""), 2: (12, milliseconds)}))}))}
    return _struct(about)


# --- Thrift's compact protocol: a field is (type, bytes) --------------------------------------------


def _struct(fields: Mapping[int, tuple[int, bytes]]) -> bytes:
    out, last = bytearray(), 0
    for number, (kind, content) in sorted(fields.items()):
        step = number - last
        out += bytes([step << 4 | kind]) if step <= 15 else bytes([kind]) + _zigzag(number)
        out += content
        last = number
    return bytes(out) + b"\0"


def _list(kind: int, items: Iterable[bytes]) -> tuple[int, bytes]:
    parts = list(items)
    head = bytes([len(parts) << 4 | kind]) if len(parts) < 15 else bytes([0xF0 | kind]) + _varint(len(parts))
    return 9, head + b"".join(parts)


def _i32(value: int) -> tuple[int, bytes]:
    return 5, _zigzag(value)


def _i64(value: int) -> tuple[int, bytes]:
    return 6, _zigzag(value)


def _text(value: str) -> tuple[int, bytes]:
    return _binary(value.encode())


def _binary(value: bytes) -> tuple[int, bytes]:
    return 8, _varint(len(value)) + value


def _zigzag(value: int) -> bytes:
    return _varint((value << 1) ^ (value >> 63))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
