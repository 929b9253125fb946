"""Made machines: trees of /sys, /proc and control groups as Linux lays them out, and topologies read from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from resources.topology import Topology, list_words, read_topology

CPU = "sys/devices/system/cpu"


def put(root: Path, path: str, content: str | bytes) -> None:
    """One file below root."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def make(
    root: Path, *, packages: int = 1, cores: int = 4, threads: int = 1, l3_cores: int | None = None, allowed: str = ""
) -> int:
    """A machine of packages x cores x threads, numbered as Linux does: all first threads before the second ones.

    l3_cores: cores behind one last-level cache (a package's, if not given). Returns how many processors it has.
    """
    total = packages * cores
    everything = range(total * threads)
    put(root, f"{CPU}/online", f"0-{len(everything) - 1}\n")
    put(root, f"{CPU}/offline", "\n")
    put(root, f"{CPU}/isolated", "\n")
    for number in everything:
        core = number % total
        package, within = divmod(core, cores)
        siblings = [core + total * thread for thread in range(threads)]
        group = within // (l3_cores or cores)
        shared = [
            one
            for one in everything
            if (one % total) // cores == package and one % total % cores // (l3_cores or cores) == group
        ]
        folder = f"{CPU}/cpu{number}"
        put(root, f"{folder}/topology/physical_package_id", f"{package}\n")
        put(root, f"{folder}/topology/core_cpus_list", words(siblings))
        for index, (level, kind, size, cpus) in enumerate(
            [(1, "Data", "32K", siblings), (1, "Instruction", "32K", siblings), (3, "Unified", "32768K", shared)]
        ):
            put(root, f"{folder}/cache/index{index}/level", f"{level}\n")
            put(root, f"{folder}/cache/index{index}/type", f"{kind}\n")
            put(root, f"{folder}/cache/index{index}/size", f"{size}\n")
            put(root, f"{folder}/cache/index{index}/shared_cpu_list", words(cpus))
    for package in range(packages):
        mine = [number for number in everything if (number % total) // cores == package]
        put(root, f"sys/devices/system/node/node{package}/cpulist", words(mine))
    put(root, "proc/self/status", f"Name:\tx\nCpus_allowed_list:\t{allowed or words(everything)}\n")
    put(root, "proc/self/cgroup", "0::/\n")
    return len(everything)


def words(cpus: Sequence[int]) -> str:
    """As the kernel writes a list of processors."""
    return list_words(cpus) + "\n"


def topology_of(
    cores: int, *, packages: int = 1, threads: int = 1, l3_cores: int | None = None, allowed: str = ""
) -> Topology:
    """The topology of a made machine."""
    with TemporaryDirectory() as folder:
        make(Path(folder), packages=packages, cores=cores, threads=threads, l3_cores=l3_cores, allowed=allowed)
        return read_topology(Path(folder))
