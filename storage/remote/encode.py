"""Encoding: columns as the protobuf message of Prometheus remote write 1.0 (prompb WriteRequest).

Written field by field: a sample is 18 bytes of fixed shape, so a whole block's samples are one
array, and no object is made per sample. Numbers and types are those of prometheus/prompb.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from metrics.frame import FloatArray, IntArray
from metrics.series import Series

_LABELS = b"\x0a"  # TimeSeries.labels = 1, length-delimited
_NAME = b"\x0a"
_VALUE = b"\x12"
_SERIES = b"\x0a"  # WriteRequest.timeseries = 1
_SAMPLE = 0x12  # TimeSeries.samples = 2
_DOUBLE = 0x09  # Sample.value = 1, 8 bytes
_VARINT = 0x10  # Sample.timestamp = 2


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """Samples of some series at the same times.

    labels: each series' encoded labels. t_ms: int64 [n], values: float64 [series, n];
    present: bool [series, n], where a sample is sent, None: everywhere.
    """

    labels: Sequence[bytes]
    t_ms: IntArray
    values: FloatArray
    present: npt.NDArray[np.bool_] | None = None

    @property
    def samples(self) -> int:
        return self.values.size if self.present is None else int(self.present.sum())

    @property
    def instants(self) -> int:
        return len(self.t_ms)

    def split_time(self) -> tuple[Part, Part]:
        """The earlier and the later half."""
        middle = len(self.t_ms) // 2
        return self._cut(slice(None), slice(0, middle)), self._cut(slice(None), slice(middle, None))

    def split_series(self) -> tuple[Part, Part]:
        middle = len(self.labels) // 2
        return self._cut(slice(0, middle), slice(None)), self._cut(slice(middle, None), slice(None))

    def _cut(self, rows: slice, columns: slice) -> Part:
        present = None if self.present is None else self.present[rows, columns]
        return Part(self.labels[rows], self.t_ms[columns], self.values[rows, columns], present)


@dataclass(frozen=True, eq=False, slots=True)
class Ragged:
    """Samples of some series, each at its own times: those of series i lie at starts[i] to starts[i + 1].

    starts: int64 [series + 1]; t_ms: int64 [n]; values: float64 [n].
    """

    labels: Sequence[bytes]
    starts: IntArray
    t_ms: IntArray
    values: FloatArray

    @property
    def samples(self) -> int:
        return len(self.values)

    @property
    def instants(self) -> int:
        return int(np.diff(self.starts).max(initial=0))

    def split_time(self) -> tuple[Ragged, Ragged]:
        """The earlier and the later half of each series; of an odd number the later one is larger."""
        counts = np.diff(self.starts)
        early = np.arange(len(self.t_ms)) - np.repeat(self.starts[:-1], counts) < np.repeat(counts // 2, counts)
        return self._pick(early), self._pick(~early)

    def split_series(self) -> tuple[Ragged, Ragged]:
        middle = len(self.labels) // 2
        first = np.arange(len(self.t_ms)) < self.starts[middle]
        return self._pick(first), self._pick(~first)

    def _pick(self, chosen: npt.NDArray[np.bool_]) -> Ragged:
        counts = np.add.reduceat(np.r_[chosen, False].astype(np.int64), self.starts[:-1])
        rows = np.flatnonzero(counts)
        starts = np.r_[0, np.cumsum(counts[rows])]
        return Ragged([self.labels[row] for row in rows.tolist()], starts, self.t_ms[chosen], self.values[chosen])


def encode_labels(series: Series, external: Mapping[str, str]) -> bytes:
    """Return the labels of a series, sorted by name; an external one goes where the series has none of that name."""
    labels = {**external, **dict(series.labels), "__name__": series.name}
    encoded = bytearray()
    for name, value in sorted(labels.items()):
        raw_name, raw_value = name.encode(), value.encode("utf-8", "replace")
        pair = _NAME + varint(len(raw_name)) + raw_name + _VALUE + varint(len(raw_value)) + raw_value
        encoded += _LABELS + varint(len(pair)) + pair
    return bytes(encoded)


def encode_request(parts: Sequence[Part | Ragged]) -> bytes:
    """Return the message, not yet compressed. Series without labels are left out."""
    pieces: list[bytes | memoryview] = []
    heads: dict[int, bytes] = {}
    for part in parts:
        bodies = _of_ragged(part) if isinstance(part, Ragged) else _of_part(part)
        for labels, body in zip(part.labels, bodies, strict=False):
            if not body or not labels:
                continue
            length = len(labels) + len(body)
            head = heads.get(length)
            if head is None:
                head = heads[length] = _SERIES + varint(length)
            pieces += (head, labels, body)
    return b"".join(pieces)


def varint(number: int) -> bytes:
    """Return a number >= 0 as protobuf writes it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _of_part(part: Part) -> Iterator[bytes | memoryview]:
    """The samples of each series, one after the other."""
    if not part.samples:
        return
    rows = _samples(part.t_ms, part.values)
    stride = rows.shape[1] * rows.shape[2]
    flat = rows.reshape(-1).data
    if part.present is None:
        yield from (flat[start : start + stride] for start in range(0, len(flat), stride))
        return
    whole = np.logical_and.reduce(part.present, axis=1).tolist()
    for row, start in enumerate(range(0, len(flat), stride)):
        if whole[row]:
            yield flat[start : start + stride]
        else:
            kept: npt.NDArray[np.uint8] = rows[row][part.present[row]]
            yield kept.tobytes()


def _of_ragged(part: Ragged) -> Iterator[memoryview]:
    if not part.samples:
        return
    rows = _samples(part.t_ms, part.values[None, :])
    flat = rows.reshape(-1).data
    ends = (part.starts * rows.shape[2]).tolist()
    yield from (flat[start:end] for start, end in pairwise(ends))


def _samples(t_ms: IntArray, values: FloatArray) -> npt.NDArray[np.uint8]:
    """Every sample as a field of TimeSeries: uint8 [series, n, bytes of one sample]."""
    times = _varints(t_ms)
    width = times.shape[1]
    rows = np.empty((*values.shape, 12 + width), np.uint8)
    rows[..., 0] = _SAMPLE
    rows[..., 1] = 10 + width
    rows[..., 2] = _DOUBLE
    rows[..., 3:11] = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(*values.shape, 8)
    rows[..., 11] = _VARINT
    rows[..., 12:] = times
    return rows


def _varints(numbers: IntArray) -> npt.NDArray[np.uint8]:
    """Numbers as varints of one length: uint8 [n, length]. A varint may be longer than it must be; negative ones need ten."""
    unsigned = numbers.astype(np.uint64)
    largest = int(unsigned.max())
    width = max(1, -(-largest.bit_length() // 7))
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    out = ((unsigned[:, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    out[:, :-1] |= 0x80
    return out
