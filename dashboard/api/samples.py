"""Samples on their way in: gathered by series, checked, ordered by time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Series, make_labels

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
MOST_LABELS = 64
MOST_NAME_BYTES = 256
MOST_VALUE_BYTES = 4_096
T_MIN_MS, T_MAX_MS = 0, 253_402_300_799_999  # 1970 to 9999


class BadSampleError(ValueError):
    """Something sent to us is not a valid sample; the message says what and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Columns by series: int64 [n] ms strictly ascending, float64 [n]."""

    series: list[Series]
    t_ms: list[IntArray]
    values: list[FloatArray]

    @property
    def count(self) -> int:
        return sum(len(t) for t in self.t_ms)


def checked_series(pairs: Iterable[tuple[str, str]]) -> Series:
    """A series from label pairs with `__name__` among them; BadSampleError where they break the rules."""
    labels: dict[str, str] = {}
    for name, value in pairs:
        if name in labels:
            raise BadSampleError(f"label {name!r} occurs twice")
        labels[name] = value
        if name != "__name__" and not LABEL.match(name):
            raise BadSampleError(f"{_short(name)} is not a valid label name")
        if len(name) > MOST_NAME_BYTES or len(value) > MOST_VALUE_BYTES:
            raise BadSampleError(f"label {_short(name)} is longer than allowed")
        if "\x00" in value:
            raise BadSampleError(f"label {name!r} holds a NUL character")
    if len(labels) > MOST_LABELS:
        raise BadSampleError(f"{len(labels)} labels on one series, the limit is {MOST_LABELS}")
    metric = labels.pop("__name__", "")
    if not NAME.match(metric):
        raise BadSampleError(f"{_short(metric)} is not a valid metric name")
    return Series(metric, make_labels(labels))


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def ordered(columns: dict[Series, tuple[list[int], list[float]]]) -> Samples:
    """Sort each series by time; of samples at the same time the last one sent stays."""
    samples = Samples([], [], [])
    for series, (times, numbers) in columns.items():
        if not times:
            continue
        try:
            t = np.array(times, dtype=np.int64)
        except OverflowError:
            raise BadSampleError(f"{series}: a timestamp is out of range") from None
        v = np.array(numbers, dtype=np.float64)
        if int(t.min()) < T_MIN_MS or int(t.max()) > T_MAX_MS:
            raise BadSampleError(f"{series}: a timestamp is not between 1970 and 9999")
        if len(t) > 1 and (np.diff(t) <= 0).any():
            order = np.argsort(t, kind="stable")
            t, v = t[order], v[order]
            last = np.append(np.diff(t) > 0, True)
            t, v = t[last], v[last]
        samples.series.append(series)
        samples.t_ms.append(t)
        samples.values.append(v)
    return samples
