"""Export: stored samples and query results as files, in bounded memory: CSV here, other formats beside.

Everything is written from an iterator of column blocks, so that whoever has columns (the command line, the
History page) can write any format.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import orjson

from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray
from storage.stale import is_stale

NAME = "__name__"


@dataclass(frozen=True, eq=False, slots=True)
class ColumnBlock:
    """Series that share their times: labels one dict each, `__name__` included where there is a name.

    t_ms int64 [n] ascending; values float64 [series, n]; present bool [series, n], None: where the value
    is not a stale marker.
    """

    labels: Sequence[Mapping[str, str]]
    t_ms: IntArray
    values: FloatArray
    present: npt.NDArray[np.bool_] | None = None

    def columns(self) -> Iterator[tuple[Mapping[str, str], IntArray, FloatArray]]:
        """Each series' labels, times and values, without what is absent; series without samples are left out."""
        for row, labels in enumerate(self.labels):
            values = self.values[row]
            mask = ~is_stale(values) if self.present is None else self.present[row]
            if mask.all():
                yield labels, self.t_ms, values
            elif mask.any():
                yield labels, self.t_ms[mask], values[mask]


class BinaryFile(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(slots=True)
class Written:
    """How much an export wrote."""

    series: int = 0
    samples: int = 0


class Writer(Protocol):
    """One format: blocks go in, bytes go to the file; `close` writes what belongs at the end."""

    written: Written

    def write(self, block: ColumnBlock) -> None: ...

    def close(self) -> None: ...


def label_names(labels: Iterable[Mapping[str, str]]) -> list[str]:
    """The names of all labels, sorted, without the metric's."""
    return sorted({name for one in labels for name in one} - {NAME})


def column_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The columns of the metric's name and of these labels; a label called like another column is told apart."""
    return ("metric", *(f"label_{name}" if name in ("time", "metric", "value") else name for name in labels))


def write_all(blocks: Iterable[ColumnBlock], writer: Writer) -> Written:
    """Write all blocks and the end of the file."""
    for block in blocks:
        writer.write(block)
    writer.close()
    return writer.written


class CsvWriter:
    """One sample a row: time (RFC 3339, UTC, ms), metric, a column per label, value.

    Values are the shortest text that reads back as the same float64; NaN, +Inf and -Inf as Prometheus writes them.
    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """

    def __init__(self, file: BinaryFile, labels: Sequence[str]) -> None:
        self._file = file
        self._labels = tuple(labels)
        self._known = frozenset((NAME, *labels))
        self.written = Written()
        self._last: Mapping[str, str] | None = None
        file.write(_csv_row(("time", *column_names(labels), "value")) + b"\r\n")

    def write(self, block: ColumnBlock) -> None:
        """Write a block. DeskvigilError for a label that has no column."""
        axes: dict[int, list[bytes]] = {}
        for labels, t_ms, values in block.columns():
            if not self._known.issuperset(labels):
                raise DeskvigilError(f"label {min(set(labels) - self._known)!r} has no column in this file")
            times = axes.get(id(t_ms)) if t_ms is block.t_ms else None
            if times is None:
                times = axes[id(t_ms)] = _rfc3339(t_ms)
            middle = b"," + _csv_row([safe(labels.get(name, "")) for name in (NAME, *self._labels)]) + b","
            lines = [time + middle + value for time, value in zip(times, numbers(values), strict=True)]
            self._file.write(b"\r\n".join(lines) + b"\r\n")
            self.written.samples += len(lines)
            self.written.series += labels != self._last
            self._last = labels

    def close(self) -> None:
        """Nothing belongs at the end."""


def safe(text: str) -> str:
    """Text of somebody else's as a spreadsheet's cell: never a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def numbers(values: FloatArray) -> list[bytes]:
    """Each value as the shortest text that reads back as the same float64; NaN, +Inf, -Inf for the others."""
    texts = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    for i in np.flatnonzero(~np.isfinite(values)).tolist():
        texts[i] = b"NaN" if np.isnan(values[i]) else b"+Inf" if values[i] > 0 else b"-Inf"
    return texts


def seconds(t_ms: IntArray) -> list[bytes]:
    """Milliseconds since the epoch (not before it) as seconds: 1700000000.123."""
    return [b"%d.%03d" % divmod(t, 1_000) for t in t_ms.tolist()]


def _rfc3339(t_ms: IntArray) -> list[bytes]:
    texts = np.datetime_as_string(t_ms.astype("datetime64[ms]"), timezone="UTC")
    return [str(text).encode() for text in texts]


def _csv_row(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([*cells, "end"])  # a row of one empty cell would be quoted
    return text.getvalue().removesuffix(",end").encode()
