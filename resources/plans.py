"""Plans: where our processes' threads may run and before whom, made from the machine's topology.

A plan is only a proposal: `resources.plantrial` measures it against the base (nothing changed) before it is kept.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from resources.topology import Cpu, Cpus, Topology, list_words

BACKGROUND_NICE = 10
FIFO_PRIORITY = 1
_CAP_SYS_NICE = 1 << 23
_RLIMIT_NICE, _RLIMIT_RTPRIO = 13, 14  # as Linux numbers them; the module resource has no names for them
BACKGROUND = ("console", "risk")


@dataclass(frozen=True, slots=True)
class Placement:
    """What is asked of a thread; None leaves that as it is. fifo: priority under SCHED_FIFO."""

    cpus: Cpus | None = None
    nice: int | None = None
    fifo: int | None = None


AS_IT_IS = Placement()


@dataclass(frozen=True)
class Plan:
    """One proposal. main: for the main thread of a process, by its name; others: for its other threads."""

    name: str
    words: str
    main: Mapping[str, Placement] = field(default_factory=dict)
    others: Mapping[str, Placement] = field(default_factory=dict)

    def wants(self, process: str, is_main: bool) -> Placement:
        """What it asks of a thread of a process."""
        return (self.main if is_main else self.others).get(process, AS_IT_IS)


@dataclass(frozen=True, slots=True)
class Rights:
    """What this process may do to the threads of its user. lowest_nice: the lowest nice value it may set; nice: its own."""

    lowest_nice: int
    most_fifo: int
    nice: int = 0

    @property
    def can_undo_nice(self) -> bool:
        """Whether a nice value that was raised may be lowered to where it was."""
        return self.lowest_nice <= self.nice


def rights(proc: Path = Path("/proc")) -> Rights:
    """What the kernel grants: CAP_SYS_NICE, or the limits RLIMIT_NICE and RLIMIT_RTPRIO."""
    try:
        lines = dict(line.split(":\t", 1) for line in (proc / "self/status").read_text().splitlines() if ":\t" in line)
        capable = int(lines["CapEff"], 16) & _CAP_SYS_NICE != 0
    except (OSError, KeyError, ValueError):
        capable = False
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if capable:
        return Rights(lowest_nice=-20, most_fifo=99, nice=own)
    nice, fifo = (resource.getrlimit(limit)[0] for limit in (_RLIMIT_NICE, _RLIMIT_RTPRIO))
    unlimited = resource.RLIM_INFINITY
    return Rights(-20 if nice == unlimited else 20 - min(nice, 40), 99 if fifo == unlimited else min(fifo, 99), own)


NAMES = ("engine_core", "engine_core_nice", "engine_cache", "background_nice", "engine_fifo")


def candidates(topology: Topology, may: Rights) -> tuple[dict[str, Plan], dict[str, str]]:
    """The plans that can be tried here, by name in the order of NAMES, and why each other one cannot."""
    no_nice = _no_nice(may)
    made = {
        "engine_core": _engine_core(topology, None),
        "engine_core_nice": no_nice or _engine_core(topology, BACKGROUND_NICE),
        "engine_cache": _engine_cache(topology),
        "background_nice": no_nice or _background_nice(),
        "engine_fifo": _engine_fifo() if may.most_fifo >= FIFO_PRIORITY else _NO_FIFO,
    }
    plans = {name: made[name] for name in NAMES}
    return (
        {name: plan for name, plan in plans.items() if isinstance(plan, Plan)},
        {name: why for name, why in plans.items() if isinstance(why, str)},
    )


def _no_nice(may: Rights) -> str | None:
    """Why no plan may ask for a nice value here, if so."""
    if may.nice >= BACKGROUND_NICE:
        return f"we run at nice {may.nice} ourselves: the plan's nice {BACKGROUND_NICE} would change nothing"
    if not may.can_undo_nice:
        return "a raised nice value could not be lowered again: neither CAP_SYS_NICE nor RLIMIT_NICE allows it"
    return None


_NO_FIFO = "SCHED_FIFO is not permitted: neither CAP_SYS_NICE nor RLIMIT_RTPRIO allows it"
_EVERYBODY = ("engine", "feed", "risk", "console")


def _engine_core(topology: Topology, nice: int | None) -> Plan | str:
    """The engine's main thread alone on one core, its sibling threads idle; everything else elsewhere."""
    places = topology.allowed | topology.isolated
    cores = [core for core in topology.cores if core & places]
    own = _best_core(topology, cores)
    mine, rest = frozenset({min(own & places)}), topology.allowed - own
    if not rest:
        return f"it takes two cores that we may use, there is {len(cores)}"
    words = f"the engine's main thread alone on processor {list_words(mine)}, everything else on {list_words(rest)}"
    background = Placement(cpus=rest, nice=nice)
    elsewhere = {name: background if name in BACKGROUND else Placement(cpus=rest) for name in _EVERYBODY}
    return Plan(
        "engine_core" if nice is None else "engine_core_nice",
        words if nice is None else f"{words}; console and risk at nice {nice}",
        main=_frozen(elsewhere | {"engine": Placement(cpus=mine)}),
        others=_frozen(elsewhere),
    )


def _engine_cache(topology: Topology) -> Plan | str:
    """Engine and feed, which hand events over in memory, behind one last-level cache; console and risk behind others."""
    groups = [group & topology.allowed for group in topology.l3_groups]
    split = [group & node for group in groups for node in topology.nodes if group & node]
    split = [group for group in dict.fromkeys(split) if len(group) >= 2]
    if len(split) < 2:
        return "there are no two caches or NUMA nodes to choose from, of two processors each"
    own = max(split, key=lambda group: (len(group & topology.isolated), -_slow(topology, group), len(group)))
    near, far = Placement(cpus=own), Placement(cpus=topology.allowed - own)
    where = {"engine": near, "feed": near, "console": far, "risk": far}
    words = f"engine and feed on {list_words(own)} behind one cache, console and risk on {list_words(topology.allowed - own)}"
    return Plan("engine_cache", words, main=_frozen(where), others=_frozen(where))


def _background_nice() -> Plan:
    later = _frozen(dict.fromkeys(BACKGROUND, Placement(nice=BACKGROUND_NICE)))
    return Plan("background_nice", f"console and risk at nice {BACKGROUND_NICE}", main=later, others=later)


def _engine_fifo() -> Plan:
    first = _frozen({"engine": Placement(fifo=FIFO_PRIORITY)})
    return Plan("engine_fifo", f"the engine's main thread at SCHED_FIFO, priority {FIFO_PRIORITY}", main=first)


def _best_core(topology: Topology, cores: list[Cpus]) -> Cpus:
    """Where the engine is to run: an isolated core before others, a fast one, one without processor 0, which takes most interrupts."""
    return max(
        cores, key=lambda core: (len(core & topology.isolated), -_slow(topology, core), 0 not in core, max(core))
    )


def _slow(topology: Topology, cpus: Cpus) -> int:
    known: dict[int, Cpu] = {cpu.number: cpu for cpu in topology.cpus}
    return sum(known[number].slow for number in cpus)


def _frozen(placements: Mapping[str, Placement]) -> Mapping[str, Placement]:
    return MappingProxyType(dict(placements))
