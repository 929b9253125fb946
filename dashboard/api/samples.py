"""Samples on their way in: columns over checked series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.api.options import IngestOptions
from metrics.frame import FloatArray, IntArray
from metrics.series import Series, make_labels
from storage.keys import SeriesKey

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
T_MIN_MS, T_MAX_MS = 0, 253_402_300_799_999  # 1970 to 9999
DEFAULTS = IngestOptions()


class BadSampleError(ValueError):
    """Something sent to us is not a valid sample; the message says what and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples in runs by series: run i has counts[i] of them, all of keys[i].

    counts int64 [runs], none of them 0; t_ms int64 [n] and values float64 [n] with n the sum of counts. A series may
    have several runs, its samples any order; of samples at one time the last is meant.
    """

    keys: list[SeriesKey]
    counts: IntArray
    t_ms: IntArray
    values: FloatArray

    def __len__(self) -> int:
        return len(self.t_ms)

    def checked(self) -> Samples:
        """These samples; BadSampleError where a time is not between 1970 and 9999."""
        wrong = (self.t_ms < T_MIN_MS) | (self.t_ms > T_MAX_MS)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            run = int(np.searchsorted(self.counts.cumsum(), first, side="right"))
            raise BadSampleError(
                f"{short(str(self.keys[run].series))}: timestamp {self.t_ms[first]} ms is not between 1970 and 9999"
            )
        return self

    def only(self, keep: Sequence[bool]) -> Samples:
        """The runs for which `keep` is True."""
        chosen = np.array(keep, dtype=np.bool_)
        inside = np.repeat(chosen, self.counts)
        keys = [key for key, kept in zip(self.keys, keep, strict=True) if kept]
        return Samples(keys, self.counts[chosen], self.t_ms[inside], self.values[inside])


def of_lists(columns: Iterable[tuple[SeriesKey, list[int], list[float]]]) -> Samples:
    """Samples from Python numbers, checked; series without any are left out."""
    runs = [run for run in columns if run[1]]
    try:
        t_ms = np.array([t for _, times, _ in runs for t in times], dtype=np.int64)
    except OverflowError:
        raise BadSampleError("a timestamp does not fit 64 bits") from None
    values = np.array([v for _, _, numbers in runs for v in numbers], dtype=np.float64)
    counts = np.array([len(times) for _, times, _ in runs], dtype=np.int64)
    return Samples([key for key, _, _ in runs], counts, t_ms, values).checked()


def checked_series(pairs: Iterable[tuple[str, str]], limits: IngestOptions = DEFAULTS) -> Series:
    """A series from label pairs with `__name__` among them; BadSampleError where they break the rules."""
    labels: dict[str, str] = {}
    for name, value in pairs:
        if name in labels:
            raise BadSampleError(f"label {short(name)} occurs twice")
        if len(labels) > limits.most_labels:
            raise BadSampleError(f"more than {limits.most_labels} labels on one series (web.ingest.most_labels)")
        labels[name] = value
        if name != "__name__" and not LABEL.match(name):
            raise BadSampleError(f"{short(name)} is not a valid label name")
        if len(name) > limits.most_name_bytes:
            raise BadSampleError(
                f"label name {short(name)} is longer than {limits.most_name_bytes} bytes (web.ingest.most_name_bytes)"
            )
        if name == "__name__":  # a name by its meaning: its form and length are looked at below
            continue
        # A character is a byte or more: what has too many characters need not be encoded to know.
        if len(value) > limits.most_value_bytes or len(value.encode()) > limits.most_value_bytes:
            raise BadSampleError(
                f"the value of label {short(name)} is longer than {limits.most_value_bytes} bytes "
                "(web.ingest.most_value_bytes)"
            )
        if "\x00" in value:
            raise BadSampleError(f"label {short(name)} holds a NUL character")
    metric = labels.pop("__name__", "")
    if not NAME.match(metric):
        raise BadSampleError(f"{short(metric)} is not a valid metric name")
    if len(metric) > limits.most_name_bytes:
        raise BadSampleError(
            f"metric name {short(metric)} is longer than {limits.most_name_bytes} bytes (web.ingest.most_name_bytes)"
        )
    if len(labels) > limits.most_labels:
        raise BadSampleError(f"{len(labels)} labels on one series, the limit is {limits.most_labels}")
    return Series(metric, make_labels(labels))


def short(text: str) -> str:
    """A text in quotes, cut where it is long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
