"""ResourceRoom: what is set and said about resources beside series, in the dashboard's words."""

from __future__ import annotations

import math
from dataclasses import dataclass

NO_PLAN = "no plan is tried on this machine"


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """sentence: why something is slow since since_ms, "" while it is calm; waits_s: until there is a calm time to
    compare with; absence: why nobody looks, "" where somebody does."""

    sentence: str = ""
    since_ms: int = 0
    waits_s: int = 0
    absence: str = "this console does not look for bottlenecks"


@dataclass(frozen=True, slots=True)
class ResourceRoom:
    """plan: which processor plan is in force, and what it brought, in words.

    measures: (what is done about memory and garbage, as it is set); leak_bytes_s: growth above which a process is
    suspected, NaN where nobody judges. search: the bottleneck.
    """

    plan: str = NO_PLAN
    measures: tuple[tuple[str, str], ...] = ()
    leak_bytes_s: float = math.nan
    search: Bottleneck = Bottleneck()
