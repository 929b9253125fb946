"""Section: one part of a collector's series; ProcFile: a file of /proc or /sys read again and again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from metrics.series import Series

READ_BYTES = 64 * 1024
NAN = float("nan")


class Section(Protocol):
    """One part of a collector's series: CPU, disks, ... A section that fails loses its own readings only."""

    @property
    def series(self) -> tuple[Series, ...]:
        """The series as of the last `read`; a new tuple where they have changed."""
        ...

    def read(self, elapsed_s: float) -> list[float]:
        """Values in the order of `series`. elapsed_s: since the read before, NaN at the first.

        OSError or ValueError where the source cannot be read.
        """
        ...

    def close(self) -> None:
        """Let go of open files."""
        ...


class ProcFile:
    """A kernel file kept open: reading it again is one or two system calls and no path walk.

    An open file of /proc/<pid> stays bound to that very process, so a reused pid is never taken for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def read(self) -> bytes:
        """The whole present content; OSError where it is not there (any more)."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.pread(self._descriptor, READ_BYTES, 0)
            # The kernel hands out long tables a page or so at a time: the end is an empty read.
            while more := os.pread(self._descriptor, READ_BYTES, len(content)):
                content += more
            return content
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def ratio(part: float, whole: float) -> float:
    """part/whole within 0..1; NaN where the whole is nothing (or NaN)."""
    if not whole > 0:
        return NAN
    return min(1.0, max(0.0, part / whole))
