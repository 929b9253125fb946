"""Collector: one source of readings, asked at a fixed rate."""

from __future__ import annotations

from typing import Protocol

from metrics.frame import Frame
from metrics.series import Schema


class Collector(Protocol):
    """One source of readings. Its thread (`collectors.runner`) calls it and nobody else does.

    A single missing reading is NaN in the frame; `collect` raises only where the whole source is
    out of reach, and then is asked again at the next tick.
    """

    @property
    def name(self) -> str:
        """Short and fixed: the `collector` label of its own cost, and `schema.collector` of its frames."""
        ...

    @property
    def interval_s(self) -> float:
        """Seconds between ticks."""
        ...

    def describe(self) -> Schema:
        """The series as known now; a source that changes puts a new Schema into its frames."""
        ...

    def collect(self, now_ns: int) -> Frame:
        """Read the source; `now_ns` is the wall-clock time of the tick and becomes the frame's."""
        ...

    def close(self) -> None:
        """Let go of files and libraries; called once, after the last `collect`, from the same thread."""
        ...
