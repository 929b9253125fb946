"""Capture: recorded metrics in a Parquet file, as series with their times and values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from metrics.errors import ConfigError
from metrics.frame import FloatArray, IntArray
from metrics.series import Series, make_labels

_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(frozen=True, eq=False, slots=True)
class Capture:
    """series[i] has times t_ms[i], int64 [n] ascending, and values[i], float64 [n]."""

    series: Sequence[Series]
    t_ms: Sequence[IntArray]
    values: Sequence[FloatArray]

    @property
    def samples(self) -> int:
        return sum(map(len, self.t_ms))

    def varying(self) -> Capture:
        """Only the series that have more than one value."""
        keep = [i for i, values in enumerate(self.values) if (values != values[0]).any()]
        return Capture([self.series[i] for i in keep], [self.t_ms[i] for i in keep], [self.values[i] for i in keep])

    def slices(self, samples: int) -> Iterator[Capture]:
        """The capture cut by time: at most `samples` of each series at once, for stores that want them in order."""
        longest = max(map(len, self.t_ms))
        times = np.unique(np.concatenate(self.t_ms)) if longest else np.empty(0, np.int64)
        for start in range(0, len(times), samples):
            low, high = times[start], times[min(start + samples, len(times)) - 1]
            cuts = [np.searchsorted(t, [low, high + 1]) for t in self.t_ms]
            kept = [i for i, (a, b) in enumerate(cuts) if b > a]
            yield Capture(
                [self.series[i] for i in kept],
                [self.t_ms[i][slice(*cuts[i])] for i in kept],
                [self.values[i][slice(*cuts[i])] for i in kept],
            )


def read_capture(path: Path) -> Capture:
    """Read a Parquet file (or the first one of a folder) with the columns series (name with labels), ts_ms and value.

    ConfigError where there is no such file, or arro3-io, which reads it, is not installed.
    """
    try:
        from arro3.io import read_parquet
    except ImportError:
        raise ConfigError("reading a capture needs arro3-io (requirements-dev.txt)") from None
    if path.is_dir():
        path = next(iter(sorted(path.glob("*.parquet"))), path)
    if not path.is_file():
        raise ConfigError(f"there is no capture {path}: name one with DESKVIGIL_METRICSDATA=FILE.parquet")
    table = read_parquet(str(path)).read_all()
    missing = {"series", "ts_ms", "value"} - set(table.column_names)
    if missing:
        raise ConfigError(f"{path} has no column {', '.join(sorted(missing))}")
    names = table.column("series").to_pylist()
    t_ms = np.concatenate([np.asarray(chunk.to_numpy(), np.int64) for chunk in table.column("ts_ms").chunks])
    values = np.concatenate([np.asarray(chunk.to_numpy(), np.float64) for chunk in table.column("value").chunks])
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    of_series = np.fromiter((numbers[name] for name in names), np.int64, len(names))
    order = np.lexsort((t_ms, of_series))
    bounds = np.searchsorted(of_series[order], np.arange(len(numbers) + 1)).tolist()
    runs = [order[low:high] for low, high in pairwise(bounds)]
    return Capture([_parse(name) for name in numbers], [t_ms[run] for run in runs], [values[run] for run in runs])


def _parse(text: str) -> Series:
    name, _, labels = text.partition("{")
    pairs = {key: re.sub(r'\\[\\"n]', lambda m: _ESCAPES[m[0]], value) for key, value in _LABEL.findall(labels)}
    return Series(name, make_labels(pairs))
