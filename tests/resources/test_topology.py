"""The topology, read from made machines."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.topology import MOST_CPUS, cpu_list, list_words, read_topology
from tests.resources.machines import CPU, make, put, topology_of


def test_one_socket_without_smt(tmp_path: Path) -> None:
    make(tmp_path, cores=4)
    found = read_topology(tmp_path)
    assert found.notes == ()
    assert (found.packages, found.usable) == (1, 4)
    assert found.cores == tuple(frozenset({n}) for n in range(4))
    assert found.l3_groups == found.nodes == (frozenset(range(4)),)
    assert {(cache.level, cache.kind, cache.bytes) for cache in found.caches} == {
        (1, "Data", 32 << 10),
        (1, "Instruction", 32 << 10),
        (3, "Unified", 32 << 20),
    }
    assert found.in_words() == "1 package, 4 cores, 4 logical processors, 1 NUMA node, 1 last-level cache"


def test_two_sockets_with_smt_and_numa(tmp_path: Path) -> None:
    make(tmp_path, packages=2, cores=4, threads=2, l3_cores=2)
    found = read_topology(tmp_path)
    assert (found.packages, len(found.cpus), len(found.cores)) == (2, 16, 8)
    assert found.cores[0] == {0, 8}
    assert found.nodes == (frozenset({0, 1, 2, 3, 8, 9, 10, 11}), frozenset({4, 5, 6, 7, 12, 13, 14, 15}))
    assert found.l3_groups[:2] == (frozenset({0, 1, 8, 9}), frozenset({2, 3, 10, 11}))
    assert [cpu.node for cpu in found.cpus][:5] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("way", ["intel", "capacity"])
def test_a_hybrid_processor_s_slow_cores(tmp_path: Path, way: str) -> None:
    make(tmp_path, cores=6)
    if way == "intel":
        put(tmp_path, "sys/devices/cpu_atom/cpus", "4-5\n")
        put(tmp_path, "sys/devices/cpu_core/cpus", "0-3\n")
    else:
        for number in range(6):
            put(tmp_path, f"{CPU}/cpu{number}/cpu_capacity", "1024\n" if number < 4 else "446\n")
    assert {cpu.number for cpu in read_topology(tmp_path).cpus if cpu.slow} == {4, 5}


def test_a_container_with_a_quota_and_a_set(tmp_path: Path) -> None:
    make(tmp_path, cores=8)
    put(tmp_path, "proc/self/cgroup", "0::/desk/pod\n")
    put(tmp_path, "sys/fs/cgroup/desk/cpu.max", "250000 100000\n")
    put(tmp_path, "sys/fs/cgroup/desk/pod/cpu.max", "max 100000\n")
    put(tmp_path, "sys/fs/cgroup/desk/pod/cpuset.cpus.effective", "2-6\n")
    found = read_topology(tmp_path)
    assert (found.allowed, found.quota, found.usable) == ({2, 3, 4, 5, 6}, 2.5, 2)
    assert "5 of them allowed, a quota of 2.5" in found.in_words()


def test_a_container_that_sees_its_group_as_the_topmost(tmp_path: Path) -> None:
    make(tmp_path, cores=8, allowed="0-5")
    put(tmp_path, "proc/self/cgroup", "0::/a/path/of/the/host\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", "50000 100000\n")
    found = read_topology(tmp_path)
    assert (len(found.allowed), found.quota, found.usable) == (6, 0.5, 1)


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    make(tmp_path, cores=8)
    put(tmp_path, "proc/self/cgroup", "3:cpuset:/desk\n1:cpu,cpuacct:/desk\n0::/\n")
    put(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n")
    put(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    put(tmp_path, "sys/fs/cgroup/cpuset/desk/cpuset.effective_cpus", "0-5\n")
    found = read_topology(tmp_path)
    assert (len(found.allowed), found.quota, found.usable) == (6, 3.0, 3)


def test_offline_and_isolated_processors(tmp_path: Path) -> None:
    make(tmp_path, cores=4)
    put(tmp_path, f"{CPU}/online", "0-2\n")
    put(tmp_path, f"{CPU}/offline", "3\n")
    put(tmp_path, f"{CPU}/isolated", "2\n")
    found = read_topology(tmp_path)
    assert (found.allowed, found.offline, found.isolated) == ({0, 1, 2}, {3}, {2})
    assert found.l3_groups == (frozenset({0, 1, 2}),)
    assert "isolated: 2, offline: 3" in found.in_words()


def test_an_empty_root_is_one_processor_and_says_why(tmp_path: Path) -> None:
    found = read_topology(tmp_path)
    assert (len(found.cpus), found.usable, found.packages) == (1, 1, 1)
    assert math.isnan(found.quota)
    assert "/sys/devices/system/cpu/online: No such file or directory" in found.notes
    assert "no processor is named anywhere: one is assumed" in found.notes


def test_without_sys_the_affinity_mask_is_all_there_is(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/status", "Cpus_allowed_list:\t0-2\n")
    assert read_topology(tmp_path).allowed == {0, 1, 2}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_hostile_content_is_noted_and_never_raises(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("machine")
    make(root, cores=2)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    files += ["sys/fs/cgroup/cpu.max", "sys/fs/cgroup/cpuset.cpus.effective", "sys/devices/cpu_atom/cpus"]
    nasty = st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"0-99999999999", b"9-1", b"-1", b"0-8191,0-8191", b"\xff\xfe", b"1e9", b"nan nan", b"inf 1", b"0::/../.."]),
    )  # fmt: skip
    for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=6)):
        put(root, path, data.draw(nasty))
    found = read_topology(root)
    numbers = {cpu.number for cpu in found.cpus}
    assert found.allowed
    assert found.allowed <= numbers
    assert 1 <= found.usable <= len(found.allowed)
    assert all(cpu.number in cpu.core <= numbers and cpu.number in cpu.l3 <= numbers for cpu in found.cpus)


@given(st.frozensets(st.integers(0, MOST_CPUS - 1), max_size=60))
def test_a_list_is_read_as_it_is_written(cpus: frozenset[int]) -> None:
    assert cpu_list(list_words(cpus)) == cpus


@pytest.mark.parametrize("words", ["x", "1-", "3-1", "0-8192", "1,1", "0x3", "²", "1 2"])
def test_a_list_that_makes_no_sense_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match=r"no number|backwards"):
        cpu_list(words)


@pytest.mark.parametrize(
    ("cores", "quota", "wanted", "most"),
    [(1, None, None, 0), (2, None, None, 1), (4, None, None, 3), (64, None, None, 3), (64, 2.0, None, 1),
     (64, 0.5, None, 0), (64, None, 8, 8), (4, None, 8, 3), (4, None, 0, 0)],
)  # fmt: skip
def test_helpers_are_bounded_by_what_the_engine_leaves(
    cores: int, quota: float | None, wanted: int | None, most: int
) -> None:
    machine = replace(topology_of(cores), quota=math.nan if quota is None else quota)
    assert machine.helpers(wanted) == most


def test_this_machine_can_be_read() -> None:
    found = read_topology()
    assert found.allowed
    assert found.usable <= len(found.allowed)
