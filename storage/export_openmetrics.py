"""Samples as text that Prometheus understands: OpenMetrics 1.0 (times in seconds), or its older text (milliseconds).

The specification: https://github.com/prometheus/OpenMetrics (each family in one piece, each series in
one piece in it, times ascending, `# EOF`). Blocks have to come in that order: see storage/export_source.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from metrics.catalogue import metric_of
from metrics.errors import DeskvigilError
from metrics.series import Series, make_labels
from storage.export import NAME, BinaryFile, ColumnBlock, Written, numbers, seconds

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class OpenMetricsWriter:
    """`promtool tsdb create-blocks-from openmetrics` reads what it writes.

    Families of the catalogue get their type, unit and help; others are `unknown`. Stale markers
    cannot be written and are left out.
    """

    def __init__(self, file: BinaryFile) -> None:
        self._file = file
        self._families: set[str] = set()
        self._family = ""
        self._series: Series | None = None
        self.written = Written()

    def write(self, block: ColumnBlock) -> None:
        """Write a block. DeskvigilError for a series without a name, or a family that has been left already."""
        for labels, t_ms, values in block.columns():
            series = _series(labels)
            self._begin(series)
            head = f"{series} ".encode()
            lines = [head + v + b" " + t for v, t in zip(numbers(values), seconds(t_ms), strict=True)]
            self._file.write(b"\n".join(lines) + b"\n")
            self.written.samples += len(lines)

    def close(self) -> None:
        """Write the mark that says the file is whole."""
        self._file.write(b"# EOF\n")

    def _begin(self, series: Series) -> None:
        if series == self._series:
            return
        self._series = series
        self.written.series += 1
        family, lines = _family(series.name)
        if family == self._family:
            return
        if family in self._families:
            raise DeskvigilError(f"the samples of {family} do not come in one piece")
        self._families.add(family)
        self._family = family
        self._file.write(("\n".join(lines) + "\n").encode())


class PrometheusTextWriter:
    """One sample a line with its time in milliseconds: what /api/v1/import/prometheus takes."""

    def __init__(self, file: BinaryFile) -> None:
        self._file = file
        self._last: Series | None = None
        self.written = Written()

    def write(self, block: ColumnBlock) -> None:
        """Write a block. DeskvigilError for a series without a name."""
        for labels, t_ms, values in block.columns():
            series = _series(labels)
            head = f"{series} ".encode()
            lines = [head + v + b" %d" % t for v, t in zip(numbers(values), t_ms.tolist(), strict=True)]
            self._file.write(b"\n".join(lines) + b"\n")
            self.written.samples += len(lines)
            self.written.series += series != self._last
            self._last = series

    def close(self) -> None:
        """Nothing belongs at the end."""


def _series(labels: Mapping[str, str]) -> Series:
    name = labels.get(NAME, "")
    if not _METRIC.fullmatch(name):
        told = f"{name!r} is not a metric name" if name else "a result has no metric name"
        raise DeskvigilError(
            f"{told}, which this format needs. Write CSV or Parquet, or name the result: "
            'label_replace(EXPRESSION, "__name__", "a_name", "", "")'
        )
    return Series(name, make_labels({key: value for key, value in labels.items() if key != NAME}))


def _family(name: str) -> tuple[str, list[str]]:
    """The family that a series belongs to, with its lines of metadata.

    A histogram's or summary's parts would have to come mixed, bucket by bucket; each part is a family of its own here.
    """
    metric = metric_of(name)
    kind = "unknown"
    family = name
    if metric is not None and metric.name == name:
        if metric.kind == "gauge":
            kind = "gauge"
        elif metric.kind == "counter" and name.endswith("_total"):
            kind, family = "counter", name.removesuffix("_total")
    lines = [f"# TYPE {family} {kind}"]
    if metric is not None and metric.name == name:
        if metric.unit and family.endswith("_" + metric.unit):
            lines.append(f"# UNIT {family} {metric.unit}")
        text = metric.help.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        lines.append(f"# HELP {family} {text}")
    return family, lines
