"""Remote write requests of many series with one sample each: what a scraping agent sends every second."""

from __future__ import annotations

import struct

import cramjam
import numpy as np

GROUPS = 20


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
