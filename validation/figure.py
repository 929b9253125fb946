"""Figure: one measured number of ours, the limit it has to keep, and the peer's beside it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NO_PEER = "no comparable figure"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One line of the table.

    limit: what the value must not exceed (`at_most`) or fall below; None where nothing was promised.
    peer: other tools' figures in words, as docs/PERFORMANCE.md has them; they were taken on another machine
    of the same kind, so ratios mean more than digits.
    """

    benchmark: str
    what: str
    value: float
    unit: str
    decimals: int = 2
    limit: float | None = None
    at_most: bool = True
    peer: str = ""

    @property
    def kept(self) -> bool:
        """Whether the limit is kept; NaN keeps none."""
        if self.limit is None:
            return True
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def machine() -> str:
    """The machine in one line: absolute figures mean nothing without it."""
    try:
        processor = processor_of(Path("/proc/cpuinfo").read_text())
    except OSError:
        processor = ""
    processor = processor or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores of {processor}, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def processor_of(cpuinfo: str) -> str:
    """The first processor of /proc/cpuinfo: "AMD EPYC (family 25, model 17)"; "" where it has no name.

    A cloud's name says nothing about the generation, family and model do; only x86 has them.
    """
    first = cpuinfo.partition("\n\n")[0]
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    name, family, model = (facts.get(key, "") for key in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model})" if name and family and model else name


def table(figures: Iterable[Figure]) -> str:
    """The figures as text, a column each for value, limit and peer."""
    rows = [("BENCHMARK", "FIGURE", "VALUE", "LIMIT", "PEERS")]
    rows += [
        (
            figure.benchmark,
            figure.what,
            f"{figure.value:,.{figure.decimals}f} {figure.unit}",
            _limit(figure),
            figure.peer,
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column == 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join([*cells, row[4]]).rstrip())
    return "\n".join(lines)


def _limit(figure: Figure) -> str:
    if figure.limit is None:
        return "-"
    sign = "<=" if figure.at_most else ">="
    return f"{sign} {figure.limit:,g} {figure.unit}: {'kept' if figure.kept else 'MISSED'}"
