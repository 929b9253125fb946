"""What can be set about processors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le


@dataclass(frozen=True, kw_only=True)
class CpuOptions:
    """Where our processes' threads run (docs/RESOURCES.md).

    plan: none (default) changes nothing; auto tries every plan that this machine allows against the base, and keeps the
    best if it helps; a plan's name tries that one only. window_s: one measurement of a trial. helpers: threads that help
    to decode stored columns, at most; none given: the processors that we may use less one for the engine, 3 at most;
    0: none.
    """

    plan: Literal[
        "none", "auto", "engine_core", "engine_core_nice", "engine_cache", "background_nice", "engine_fifo"
    ] = "none"
    window_s: Annotated[float, Ge(2.0), Le(60.0)] = 5.0
    helpers: Annotated[int, Ge(0), Le(64)] | None = None


@dataclass(frozen=True, kw_only=True)
class ResourceOptions:
    """What is done about processors; about memory: the section `memory`."""

    cpu: CpuOptions = field(default_factory=CpuOptions)
