"""Plans, made from machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.plans import AS_IT_IS, NAMES, Placement, Rights, candidates, rights
from resources.topology import read_topology
from tests.resources.machines import CPU, make, put, topology_of

ALL = Rights(lowest_nice=-20, most_fifo=99)
NONE = Rights(lowest_nice=20, most_fifo=0)


def test_two_cores_of_one_socket() -> None:
    plans, impossible = candidates(topology_of(2), ALL)
    assert list(plans) == ["engine_core", "engine_core_nice", "background_nice", "engine_fifo"]
    assert impossible == {
        "engine_cache": "there are no two caches or NUMA nodes to choose from, of two processors each"
    }
    plan = plans["engine_core_nice"]
    assert plan.wants("engine", True) == Placement(cpus=frozenset({1}))
    assert plan.wants("engine", False) == plan.wants("feed", True) == Placement(cpus=frozenset({0}))
    assert plan.wants("risk", False) == plan.wants("console", True) == Placement(cpus=frozenset({0}), nice=10)
    assert plan.wants("supervisor", True) == AS_IT_IS
    assert plans["engine_fifo"].wants("engine", True) == Placement(fifo=1)
    assert plans["engine_fifo"].wants("engine", False) == AS_IT_IS


def test_without_rights_priorities_are_not_tried_and_it_is_said_why() -> None:
    plans, impossible = candidates(topology_of(4), NONE)
    assert list(plans) == ["engine_core"]
    assert "could not be lowered again" in impossible["background_nice"]
    assert impossible["engine_core_nice"] == impossible["background_nice"]
    assert "SCHED_FIFO is not permitted" in impossible["engine_fifo"]


def test_one_processor_leaves_no_places() -> None:
    plans, impossible = candidates(topology_of(1), NONE)
    assert not plans
    assert set(impossible) == set(NAMES)
    assert "two cores" in impossible["engine_core"]
    assert candidates(topology_of(4, allowed="2"), NONE)[0] == {}


def test_the_sibling_threads_of_the_engine_s_core_are_left_idle() -> None:
    plan = candidates(topology_of(4, threads=2), ALL)[0]["engine_core"]
    assert plan.wants("engine", True) == Placement(cpus=frozenset({3}))
    assert plan.wants("console", True) == Placement(cpus=frozenset({0, 1, 2, 4, 5, 6}))


def test_threads_of_one_core_are_no_two_cores() -> None:
    plans, impossible = candidates(topology_of(1, threads=2), ALL)
    assert "engine_core" not in plans
    assert "there is 1" in impossible["engine_core"]


def test_an_isolated_core_is_the_engine_s_and_a_slow_one_is_not(tmp_path: Path) -> None:
    make(tmp_path, cores=6)
    put(tmp_path, "sys/devices/cpu_atom/cpus", "4-5\n")
    assert candidates(read_topology(tmp_path), ALL)[0]["engine_core"].wants("engine", True).cpus == {3}
    put(tmp_path, f"{CPU}/isolated", "1\n")
    assert candidates(read_topology(tmp_path), ALL)[0]["engine_core"].wants("engine", True).cpus == {1}


def test_an_isolated_core_is_the_engine_s_though_no_mask_has_it(tmp_path: Path) -> None:
    make(tmp_path, cores=4, allowed="0-1")
    put(tmp_path, f"{CPU}/isolated", "2-3\n")
    plan = candidates(read_topology(tmp_path), ALL)[0]["engine_core"]
    assert plan.wants("engine", True).cpus == {3}
    assert plan.wants("engine", False).cpus == plan.wants("console", True).cpus == {0, 1}
    put(tmp_path, "sys/fs/cgroup/cpuset.cpus.effective", "0-2\n")  # the control group's set is a bound to all
    assert candidates(read_topology(tmp_path), ALL)[0]["engine_core"].wants("engine", True).cpus == {2}


@pytest.mark.parametrize(
    ("packages", "l3_cores", "near"), [(2, None, {0, 1, 2, 3}), (1, 2, {0, 1}), (2, 2, {0, 1})]
)  # fmt: skip
def test_engine_and_feed_behind_one_cache(packages: int, l3_cores: int | None, near: set[int]) -> None:
    machine = topology_of(4, packages=packages, l3_cores=l3_cores)
    plan = candidates(machine, ALL)[0]["engine_cache"]
    assert plan.wants("engine", True).cpus == plan.wants("feed", False).cpus == near
    assert plan.wants("risk", True).cpus == plan.wants("console", False).cpus == machine.allowed - near


def test_every_plan_uses_allowed_processors_only() -> None:
    machine = topology_of(8, packages=2, threads=2, l3_cores=4, allowed="1-6,17-22")
    for plan in candidates(machine, ALL)[0].values():
        for placement in (*plan.main.values(), *plan.others.values()):
            assert placement.cpus is None or (placement.cpus and placement.cpus <= machine.allowed)


@pytest.mark.parametrize(("capabilities", "capable"), [("0000000000800000", True), ("0000000000000000", False)])
def test_rights_are_capabilities_or_limits(tmp_path: Path, capabilities: str, capable: bool) -> None:
    put(tmp_path, "self/status", f"Name:\tx\nCapEff:\t{capabilities}\n")
    found = rights(tmp_path)
    if capable:
        assert (found.lowest_nice, found.most_fifo) == (-20, 99)
    else:
        import resource

        assert found.most_fifo == min(resource.getrlimit(14)[0] % (1 << 64), 99)


def test_a_nice_value_below_what_may_be_set_again_is_not_raised() -> None:
    assert Rights(lowest_nice=0, most_fifo=0, nice=0).can_undo_nice
    assert not Rights(lowest_nice=0, most_fifo=0, nice=-5).can_undo_nice


def test_nobody_is_asked_to_step_back_to_where_we_are_already() -> None:
    _, refused = candidates(topology_of(2), Rights(lowest_nice=-20, most_fifo=0, nice=10))
    assert refused["background_nice"] == "we run at nice 10 ourselves: the plan's nice 10 would change nothing"
