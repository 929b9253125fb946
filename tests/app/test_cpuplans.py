"""The console tries plans for the processors, keeps what helps, says so in the audit, and puts everything back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from console.cpuplans import CpuPlans, cpu_plans
from engine.ackwatch import DEGRADED, STAGES, STATE, AckWatch
from engine.histogram import EDGES_NS
from engine.telemetry import BlockReader, BlockSpec, BlockWriter
from metrics.catalogue import series
from metrics.clock import ManualClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from resources.cpuoptions import CpuOptions
from resources.plans import BACKGROUND_NICE, candidates, rights
from resources.plantrial import Phase
from storage.audit import AuditEntry
from storage.options import StorageOptions
from storage.store import Store
from tests.resources.machines import topology_of

SECOND = 1_000_000_000
needs_nice = pytest.mark.skipif(
    "background_nice" not in candidates(topology_of(2), rights())[0],
    reason=f"the plan cannot be tried here: {candidates(topology_of(2), rights())[1].get('background_nice')}",
)


class Rig:
    """An engine's block, a process that stands for the risk process, and the collector over both."""

    def __init__(self, folder: Path, plan: str) -> None:
        self.clock = ManualClock()
        self.paths = RuntimePaths(folder)
        self.block = BlockWriter(self.paths.engine_block, BlockSpec("engine", (STATE, DEGRADED), STAGES))
        self.block.scalars[:] = 0.0
        self.risk = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.store = Store.open(StorageOptions(), self.paths, self.clock)
        self.random = np.random.default_rng(1)
        self.p99_us = {False: 100.0, True: 100.0}  # by whether the risk process has stepped back
        self.plans = self.new_console(plan)

    def new_console(self, plan: str) -> CpuPlans:
        options = CpuOptions(plan=plan, window_s=2.0)  # type: ignore[arg-type]
        return cpu_plans(
            options,
            topology_of(2),
            self.paths,
            self.store,
            lambda: [("supervisor", 1), ("risk", self.risk.pid)],
            self.clock,
        )

    def stepped_back(self) -> bool:
        """Whether the risk process is at the plan's nice value; otherwise it has the one it was born with, ours."""
        nice = os.getpriority(os.PRIO_PROCESS, self.risk.pid)
        assert nice in (BACKGROUND_NICE, os.getpriority(os.PRIO_PROCESS, 0))
        return nice == BACKGROUND_NICE

    def second(self) -> Frame:
        """A second goes by, in which 300 orders are acknowledged."""
        self.clock.advance(SECOND)
        durations = self.random.normal(self.p99_us[self.stepped_back()] + self.random.normal(0, 3), 1.0, 300) * 1e3
        np.add.at(self.block.counts[0], np.searchsorted(EDGES_NS, durations, side="right") - 1, 1)
        self.block.publish(self.clock.now_ns())
        return self.plans.collect(self.clock.now_ns())

    def until_decided(self) -> Frame:
        for _ in range(1000):
            frame = self.second()
            if self.plans.state.phase in (Phase.KEPT, Phase.NONE_KEPT):
                return frame
        raise AssertionError(self.plans.state.in_words())

    def audited(self) -> list[AuditEntry]:
        self.store.deferred.drain()
        return self.store.audit.list()

    def close(self) -> None:
        self.plans.close()
        self.store.close()
        self.risk.communicate(b"\n", timeout=60)
        shutil.rmtree(self.paths.block_dir)


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(tmp_path, getattr(request, "param", "background_nice"))
    yield made
    made.close()


def value(frame: Frame, name: str, **labels: str) -> float:
    return float(frame.values[frame.schema.index[series(f"deskvigil_cpu_{name}", **labels)]])


@needs_nice
def test_a_plan_that_helps_is_kept_published_and_audited_and_undone_at_the_end(rig: Rig) -> None:
    rig.p99_us[True] = 60.0
    frame = rig.until_decided()
    assert rig.stepped_back()
    assert value(frame, "plan_phase") == 3.0
    assert value(frame, "plan_in_force", plan="background_nice") == 1.0
    assert value(frame, "plan_in_force", plan="engine_core") == 0.0
    assert value(frame, "topology", what="cores") == 2.0
    base, plan = (value(frame, "plan_p99_seconds", plan="background_nice", side=side) for side in ("base", "plan"))
    assert 90e-6 < base < 120e-6
    assert 50e-6 < plan < 70e-6
    (entry,) = rig.audited()
    assert (entry.action, entry.object, entry.detail["plan"]) == ("cpu_plan_kept", "processors", "background_nice")
    assert entry.detail["words"].startswith("Plan in force: background_nice (tried 2: background_nice p99 1")
    rig.plans.close()
    assert not rig.stepped_back()
    assert not rig.paths.cpu_plan.exists()


@needs_nice
def test_a_plan_that_does_not_help_is_rolled_back_and_audited(rig: Rig) -> None:
    frame = rig.until_decided()
    assert not rig.stepped_back()
    assert value(frame, "plan_phase") == 4.0
    (entry,) = rig.audited()
    assert entry.action == "cpu_plan_rolled_back"
    assert "none helped: background_nice p99 1" in entry.detail["words"]


@needs_nice
def test_the_console_after_a_killed_one_puts_back_what_that_one_had_changed(rig: Rig) -> None:
    rig.p99_us[True] = 60.0
    rig.until_decided()
    assert rig.stepped_back()
    rig.plans = rig.new_console("none")
    assert not rig.stepped_back()
    frame = rig.second()
    assert value(frame, "plan_phase") == 0.0
    assert rig.plans.state.in_words() == "Plan in force: none (switched off: resources.cpu.plan is none)"


@pytest.mark.parametrize("rig", ["engine_cache"], indirect=True)
def test_a_plan_that_cannot_be_tried_here_says_why(rig: Rig) -> None:
    rig.second()
    assert rig.plans.state.in_words() == (
        "Plan in force: none (no plan can be tried here; not tried: engine_cache: "
        "there are no two caches or NUMA nodes to choose from, of two processors each)"
    )


@needs_nice
@pytest.mark.parametrize(
    ("series_", "number", "why"),
    [(STATE, 1.0, "trading is not active"), (STATE, 2.0, "trading is not active"), (DEGRADED, 1.0, "the engine is degraded")],
)  # fmt: skip
def test_an_engine_that_does_not_trade_undisturbed_is_left_alone(
    rig: Rig, series_: object, number: float, why: str
) -> None:
    rig.block.scalars[(STATE, DEGRADED).index(series_)] = number
    for _ in range(60):
        rig.second()
    assert (rig.plans.state.phase, rig.plans.state.why, rig.stepped_back()) == (Phase.WAITING, why, False)


def test_an_engine_that_is_away_or_silent_is_no_engine_to_try_plans_on(tmp_path: Path) -> None:
    watch = AckWatch(BlockReader(tmp_path / "engine.block"))
    assert watch.look(0, 0.0).unfit.startswith("the engine is away: no telemetry block")
    block = BlockWriter(tmp_path / "engine.block", BlockSpec("engine", (STATE, DEGRADED), STAGES))
    block.scalars[:] = 0.0
    block.publish(5 * SECOND)
    assert watch.look(5 * SECOND, 0.0).unfit == ""
    assert watch.look(7 * SECOND, 0.0).unfit == "the engine has not published for more than a second"
    assert watch.look(5 * SECOND, 0.0, (7, 8)).run[-2:] == (7, 8)
