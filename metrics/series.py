"""Series and Schema: what is measured, before any value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["gauge", "counter", "histogram"]
Labels = tuple[tuple[str, str], ...]


def make_labels(labels: Mapping[str, str]) -> Labels:
    """Return labels sorted by name, without empty values (an empty label is an absent one in Prometheus)."""
    return tuple(sorted((name, value) for name, value in labels.items() if value != ""))


@dataclass(frozen=True, slots=True)
class Series:
    """One time series: a metric name and its labels (sorted by name).

    Unit, kind and help belong to the metric, see `metrics.catalogue`. A histogram is stored as
    its classic parts: `<name>_bucket{le=...}`, `<name>_sum` and `<name>_count`, all counters.
    """

    name: str
    labels: Labels = ()

    def label(self, name: str, default: str = "") -> str:
        """Return the value of one label, or `default`."""
        for key, value in self.labels:
            if key == name:
                return value
        return default

    def __str__(self) -> str:
        if not self.labels:
            return self.name
        inner = ",".join(f'{key}="{_escape(value)}"' for key, value in self.labels)
        return f"{self.name}{{{inner}}}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@dataclass(frozen=True, eq=False)
class Schema:
    """The series of one collector, in the order in which its frames hold their values.

    Schemas are compared by identity: a collector whose series change (a disk was plugged in)
    makes a new Schema, and every Frame carries the one that it was taken with.
    """

    collector: str
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        if len(set(self.series)) != len(self.series):
            raise ValueError(f"collector {self.collector!r} describes a series twice: {_first_twice(self.series)}")

    def __len__(self) -> int:
        return len(self.series)

    @cached_property
    def index(self) -> dict[Series, int]:
        """Position of each series in a frame's values."""
        return {series: position for position, series in enumerate(self.series)}


def _first_twice(items: Iterable[Series]) -> Series | None:
    seen: set[Series] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None
