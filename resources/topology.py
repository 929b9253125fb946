"""Topology: packages, cores, threads of a core, NUMA nodes and caches, and which of them this process may use.

Read from /sys, /proc and the control group below a given root. What is missing or makes no sense is left out and
named in `notes`; the answer always has at least one processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from resources.pressure import cpu_quota

ROOT = Path("/")
ENGINE_CPUS = 1  # that the engine is to have for itself
MOST_HELPERS = 3  # where the settings do not say
MOST_CPUS = 8192  # the most that Linux is built for
LONGEST_LIST = 64 * 1024  # characters of a list of processors
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

T = TypeVar("T")
Cpus = frozenset[int]


@dataclass(frozen=True, slots=True)
class Cpu:
    """One logical processor. core: those that share its core (SMT), itself among them. l3: those that share its last
    cache. package, node: -1 where the system does not say. slow: a core of a hybrid processor that is not a fast one."""

    number: int
    package: int
    node: int
    core: Cpus
    l3: Cpus
    slow: bool


@dataclass(frozen=True, slots=True)
class Cache:
    """One cache: its level, kind (data, instruction, unified), size, and the processors that share it."""

    level: int
    kind: str
    bytes: int
    cpus: Cpus


@dataclass(frozen=True, slots=True)
class Topology:
    """The machine as this process may use it. allowed: online, in the affinity mask and in the control group's set.

    isolated: kept free of other tasks (isolcpus), in the control group's set, and usually in nobody's affinity mask.
    quota: how many processors' worth of time the control group may use, NaN where it is not limited. notes: what
    could not be read, in words.
    """

    cpus: tuple[Cpu, ...]
    caches: tuple[Cache, ...]
    allowed: Cpus
    offline: Cpus
    isolated: Cpus
    quota: float
    notes: tuple[str, ...] = ()

    @property
    def packages(self) -> int:
        return len({cpu.package for cpu in self.cpus})

    @property
    def cores(self) -> tuple[Cpus, ...]:
        """Each core as its logical processors, by its first one."""
        return _distinct(cpu.core for cpu in self.cpus)

    @property
    def nodes(self) -> tuple[Cpus, ...]:
        """Each NUMA node as its logical processors; nodes of memory alone have none."""
        return _distinct(frozenset(other.number for other in self.cpus if other.node == cpu.node) for cpu in self.cpus)

    @property
    def l3_groups(self) -> tuple[Cpus, ...]:
        """Processors that share a last cache, a group each."""
        return _distinct(cpu.l3 for cpu in self.cpus)

    @property
    def usable(self) -> int:
        """How many processors are worth a worker: those allowed, no more than the quota pays for, at least one."""
        quota = math.inf if math.isnan(self.quota) else self.quota
        return max(1, min(len(self.allowed), math.floor(min(quota, MOST_CPUS))))

    def helpers(self, wanted: int | None = None) -> int:
        """How many helping threads there is room for beside the engine; wanted: what the settings say, None: nothing."""
        return min(max(self.usable - ENGINE_CPUS, 0), MOST_HELPERS if wanted is None else wanted)

    def in_words(self) -> str:
        """One line for a page or a log."""
        parts = [
            _count(self.packages, "package"),
            _count(len(self.cores), "core"),
            _count(len(self.cpus), "logical processor"),
            _count(len(self.nodes), "NUMA node"),
            _count(len(self.l3_groups), "last-level cache"),
        ]
        if len(self.allowed) < len(self.cpus):
            parts.append(f"{len(self.allowed)} of them allowed")
        if any(cpu.slow for cpu in self.cpus):
            parts.append(f"{sum(cpu.slow for cpu in self.cpus)} slow ones")
        if not math.isnan(self.quota):
            parts.append(f"a quota of {self.quota:g}")
        for name, some in (("isolated", self.isolated), ("offline", self.offline)):
            if some:
                parts.append(f"{name}: {list_words(some)}")
        return ", ".join(parts)


def read_topology(root: Path = ROOT) -> Topology:
    """The machine whose /sys, /proc and /sys/fs/cgroup lie below root."""
    return _Reader(root).read()


def cpu_list(words: str) -> Cpus:
    """A list of processors as the kernel writes it ("0-3,8"); ValueError where it is none."""
    if len(words) > LONGEST_LIST:
        raise ValueError(f"a list of processors of {len(words)} characters")
    found: set[int] = set()
    before = -1
    for part in filter(None, words.strip().split(",")):
        first, dash, last = part.partition("-")
        low, high = _number(first), _number(last if dash else first)
        if not before < low <= high:
            raise ValueError(f"{part[:40]!r} runs backwards")
        found.update(range(low, high + 1))
        before = high
    return frozenset(found)


def list_words(cpus: Iterable[int]) -> str:
    """The reverse of `cpu_list`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1][1:] = [cpu]
        else:
            runs.append([cpu])
    return ",".join("-".join(str(end) for end in run) for run in runs)


class _Reader:
    """Reads one root, and notes what it could not."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cpu = root / "sys/devices/system/cpu"
        self._notes: list[str] = []

    def read(self) -> Topology:
        """See `read_topology`."""
        affinity = self._affinity()
        online = self._list("sys/devices/system/cpu/online") or affinity
        if not online:
            self._notes.append("no processor is named anywhere: one is assumed")
            online = frozenset({0})
        nodes = self._nodes()
        slow = self._slow(online)
        caches = self._caches(online)
        last = max((cache.level for cache in caches if cache.kind != "Instruction"), default=0)
        cpus = []
        for number in sorted(online):
            folder = f"sys/devices/system/cpu/cpu{number}/topology"
            package = self._maybe(f"{folder}/physical_package_id", _number)
            core = self._list(f"{folder}/core_cpus_list", quiet=True) or self._list(f"{folder}/thread_siblings_list")
            shared = [cache.cpus for cache in caches if cache.level == last >= 3 and number in cache.cpus]
            package = -1 if package is None else package
            l3 = shared[0] if shared else self._list(f"{folder}/package_cpus_list", quiet=True) or online
            cpus.append(
                Cpu(
                    number, package, nodes.get(number, -1),
                    (core & online) | {number}, (l3 & online) | {number}, number in slow,
                )
            )  # fmt: skip
        group = online & (self._cpuset() or online)
        allowed = group & (affinity or online)
        if not allowed:
            self._notes.append("affinity mask and control group leave no processor: all that are online are taken")
            allowed = online
        return Topology(
            tuple(cpus), caches, allowed, self._list("sys/devices/system/cpu/offline", quiet=True),
            self._list("sys/devices/system/cpu/isolated", quiet=True) & group, self._quota(), tuple(self._notes),
        )  # fmt: skip

    def _affinity(self) -> Cpus:
        """What the affinity mask of this process allows; nothing where it is not told."""
        text = self._maybe("proc/self/status", str) or ""
        for line in text.splitlines():
            if line.startswith("Cpus_allowed_list:"):
                return self._parsed("proc/self/status", line.partition(":")[2], cpu_list) or frozenset()
        return frozenset()

    def _nodes(self) -> dict[int, int]:
        """The NUMA node of each processor."""
        found = {}
        for folder in sorted((self._root / "sys/devices/system/node").glob("node[0-9]*")):
            number = folder.name.removeprefix("node")
            if number.isdecimal():
                cpus = self._list(f"sys/devices/system/node/{folder.name}/cpulist")
                found.update(dict.fromkeys(cpus, int(number)))
        return found

    def _slow(self, online: Cpus) -> Cpus:
        """Processors of a hybrid machine that are not of the fastest kind."""
        atoms = self._list("sys/devices/cpu_atom/cpus", quiet=True) & online
        if atoms and atoms != online:
            return atoms
        capacity = {
            number: value
            for number in online
            if (value := self._maybe(f"sys/devices/system/cpu/cpu{number}/cpu_capacity", _number, quiet=True))
        }
        if len(capacity) < len(online):
            return frozenset()
        fastest = max(capacity.values())
        return frozenset(number for number, value in capacity.items() if value < fastest)

    def _caches(self, online: Cpus) -> tuple[Cache, ...]:
        found: dict[tuple[int, str, Cpus], Cache] = {}
        for number in sorted(online):
            for folder in sorted((self._cpu / f"cpu{number}/cache").glob("index[0-9]*")):
                at = str(folder.relative_to(self._root))
                level, kind = self._maybe(f"{at}/level", _number), self._maybe(f"{at}/type", str)
                size, cpus = self._maybe(f"{at}/size", _size), self._list(f"{at}/shared_cpu_list") & online
                if level is not None and kind is not None and size is not None and number in cpus:
                    found[level, kind.strip(), cpus] = Cache(level, kind.strip(), size, cpus)
        return tuple(found.values())

    def _groups(self, controller: str) -> list[Path]:
        """Folders of the control group that this process is in and of those above it, the innermost first.

        A container sees its own group as the topmost one, whatever /proc says of its path outside.
        """
        text = self._maybe("proc/self/cgroup", str, quiet=True) or ""
        top, folders = self._root / "sys/fs/cgroup", []
        for line in text.splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if not path.startswith("/") or ".." in path.split("/"):
                continue
            if number == "0" and controllers == "":
                base = top
            elif controller in controllers.split(","):
                base = top / controller
            else:
                continue
            inner = base / path.strip("/") if path.strip("/") else base
            folders += [folder for folder in (inner, *inner.parents) if folder == base or base in folder.parents]
        return [*dict.fromkeys([*folders, top, top / controller])]

    def _cpuset(self) -> Cpus:
        for folder in self._groups("cpuset"):
            for name in ("cpuset.cpus.effective", "cpuset.effective_cpus"):
                if cpus := self._list(str((folder / name).relative_to(self._root)), quiet=True):
                    return cpus
        return frozenset()

    def _quota(self) -> float:
        """The least quota of the groups from ours upwards; of version 1's nested groups only the topmost is seen."""
        quotas = [quota for folder in self._groups("cpu") if not math.isnan(quota := cpu_quota(folder))]
        return min(quotas, default=math.nan)

    def _list(self, path: str, *, quiet: bool = False) -> Cpus:
        return self._maybe(path, cpu_list, quiet=quiet) or frozenset()

    def _maybe(self, path: str, parse: Callable[[str], T], *, quiet: bool = False) -> T | None:
        """A file's content; None, and a note unless quiet, where there is none. What makes no sense is always noted."""
        try:
            text = (self._root / path).read_bytes()[: 16 * LONGEST_LIST].decode("utf-8", "replace")
        except OSError as error:
            if not quiet:
                self._note(f"/{path}: {error.strerror}")
            return None
        return self._parsed(path, text, parse)

    def _parsed(self, path: str, text: str, parse: Callable[[str], T]) -> T | None:
        try:
            return parse(text)
        except ValueError as error:
            self._note(f"/{path}: {error}")
            return None

    def _note(self, words: str) -> None:
        if words not in self._notes:
            self._notes.append(words)


def _number(words: str) -> int:
    """A whole number from 0 to MOST_CPUS; ValueError where it is none."""
    text = words.strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) >= MOST_CPUS:
        raise ValueError(f"{text[:40]!r} is no number below {MOST_CPUS}")
    return int(text)


def _size(words: str) -> int:
    """Bytes of a cache, "32768K"; ValueError where it is none."""
    text = words.strip()
    unit = _UNITS.get(text[-1:], 1)
    digits = text[:-1] if text[-1:] in _UNITS else text
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 12:
        raise ValueError(f"{text[:40]!r} is no size")
    return int(digits) * unit


def _distinct(groups: Iterable[Cpus]) -> tuple[Cpus, ...]:
    return tuple(dict.fromkeys(groups))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
