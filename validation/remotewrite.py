"""Remote write 1.0 requests: of stored columns, and of many series with one sample each as an agent sends them every second."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cramjam
import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Series

GROUPS = 20
_SMALLEST_T_MS = 1 << 35
_LARGEST_T_MS = (1 << 42) - 1


class WriteRequests:
    """Makes request bodies (remote write 1.0) for `series` series: counters and levels that wander, seeded.

    Every tenth series is a counter `deskvigil_soak_total`, the others are `deskvigil_soak_level`.
    """

    HEADERS = {  # noqa: RUF012 - a constant, read only
        "content-encoding": "snappy",
        "content-type": "application/x-protobuf",
        "x-prometheus-remote-write-version": "0.1.0",
    }

    def __init__(self, series: int, seed: int = 1) -> None:
        self.series = series
        self._random = np.random.default_rng(seed)
        self._counter = np.arange(series) % 10 == 0
        self._values = np.where(self._counter, 0.0, self._random.uniform(10, 1_000, series))
        self._labels = [
            _label("__name__", "deskvigil_soak_total" if self._counter[i] else "deskvigil_soak_level")
            + _label("group", f"g{i % GROUPS}")
            + _label("item", f"{i:05d}")
            for i in range(series)
        ]

    def at(self, *t_ms: int) -> bytes:
        """The body with every series' next values at these instants, wall clock, ascending."""
        samples: list[list[bytes]] = [[] for _ in self._labels]
        for instant in t_ms:
            steps = np.round(self._random.normal(0, 1, self.series), 2)
            self._values += np.where(self._counter, self._random.integers(0, 50, self.series), steps)
            time = b"\x10" + _varint(instant)
            for some, value in zip(samples, self._values.tolist(), strict=True):
                some.append(_field(2, b"\x09" + struct.pack("<d", value) + time))
        parts = [_field(1, labels + b"".join(some)) for labels, some in zip(self._labels, samples, strict=True)]
        return bytes(cramjam.snappy.compress_raw(b"".join(parts)))


def write_request(series: Sequence[Series], t_ms: Sequence[IntArray], values: Sequence[FloatArray]) -> bytes:
    """The body of one remote write 1.0 request; times from 1971 to 2109, whose varints have six bytes."""
    parts = []
    for one, times, column in zip(series, t_ms, values, strict=True):
        labels = b"".join(_label(k, v) for k, v in sorted([("__name__", one.name), *one.labels]))
        parts.append(_field(1, labels + _samples(times, column)))
    return bytes(cramjam.snappy.compress_raw(b"".join(parts)))


def _samples(t_ms: IntArray, values: FloatArray) -> bytes:
    if t_ms.min() < _SMALLEST_T_MS or t_ms.max() > _LARGEST_T_MS:
        raise ValueError("times before 1971 or after 2109 are not made for")
    out = np.empty((len(t_ms), 18), np.uint8)
    out[:, :3] = (0x12, 16, 0x09)
    out[:, 3:11] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
    out[:, 11] = 0x10
    for place in range(6):
        out[:, 12 + place] = (t_ms >> 7 * place) & 0x7F | (0x80 if place < 5 else 0)
    return out.tobytes()


def _label(name: str, value: str) -> bytes:
    return _field(1, _field(1, name.encode()) + _field(2, value.encode()))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
