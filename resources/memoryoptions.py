"""What can be set about this program's own memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Switches of what is done about memory, and when growth is called a leak (docs/RESOURCES.md).

    keep_freed: malloc keeps freed blocks for the next temporary (risk process). few_arenas: the console's threads share
    two heaps. freeze: what a process holds once it has started is left out of garbage collections. gc_allocations:
    containers more than were freed, until the youngest generation is collected; 0 leaves Python's own 700.
    report: each process reports its memory, on which everything below rests. find_sites: a suspected process traces
    its allocations for site_burst_s, to name the lines that grow. leak_mb_per_minute: growth, with certainty, above
    which it is suspected. leak_warm_up_s after a process's start nothing is judged.
    """

    keep_freed: bool = True
    few_arenas: bool = True
    freeze: bool = True
    gc_allocations: Annotated[int, Ge(0), Le(10_000_000)] = 0
    report: bool = True
    find_sites: bool = True
    site_burst_s: Annotated[float, Ge(1.0), Le(60.0)] = 20.0
    leak_mb_per_minute: Annotated[float, Ge(0.01), Le(10_000)] = 0.25
    leak_warm_up_s: Annotated[float, Ge(0), Le(86_400)] = 1_200.0
