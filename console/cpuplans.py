"""CpuPlans: the processors as series, and the trial of plans that place our threads. One look a second."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from engine.ackwatch import AckWatch, p99_s
from engine.telemetry import BlockReader
from metrics.catalogue import series
from metrics.clock import Clock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema
from resources.cpuoptions import CpuOptions
from resources.placer import Placer
from resources.planner import OFF, Planner, PlanState
from resources.plans import NAMES, candidates, rights
from resources.plantrial import PlanTrial, TrialLimits
from resources.topology import Topology
from storage.audit import record
from storage.live import LiveRing
from storage.store import Store

LATENESS: Final = series("deskvigil_profiler_lateness_seconds")
FRESH_MS: Final = 3_000
COUNTS: Final = ("packages", "cores", "logical", "nodes", "caches", "allowed", "usable")
SIDES: Final = ("base", "plan")


class CpuPlans:
    """A collector that also carries the trial; `state` and `topology` may be read from any thread.

    planner: None where plans are switched off. pids: our processes by name. lateness_s: of the console, NaN: not known.
    """

    name = "cpu"
    interval_s = 1.0

    def __init__(
        self,
        topology: Topology,
        planner: Planner | None,
        watch: AckWatch,
        pids: Callable[[], Mapping[str, int]],
        lateness_s: Callable[[], float],
        clock: Clock,
    ) -> None:
        self.topology = topology
        self._planner = planner
        self._watch, self._pids, self._lateness_s, self._clock = watch, pids, lateness_s, clock
        self._schema = Schema(
            self.name,
            (
                *(series("deskvigil_cpu_topology", what=what) for what in COUNTS),
                series("deskvigil_cpu_quota"),
                series("deskvigil_cpu_plan_phase"),
                *(series("deskvigil_cpu_plan_in_force", plan=name) for name in NAMES),
                *(series("deskvigil_cpu_plan_p99_seconds", plan=name, side=side) for name in NAMES for side in SIDES),
                series("deskvigil_cpu_plan_threads_left"),
            ),
        )

    @property
    def state(self) -> PlanState:
        """How the plans stand; its `in_words` is for a page."""
        return OFF if self._planner is None else self._planner.state

    def describe(self) -> Schema:
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Have the trial look, and tell how it stands."""
        if self._planner is not None:
            run = tuple(pid for _, pid in sorted(self._pids().items()))
            now_s = self._clock.monotonic_ns() / 1e9
            self._planner.step(self._watch.look(self._clock.now_ns(), now_s, run, self._lateness_s()))
        return Frame(self._schema, now_ns, np.array(self._values(), dtype=np.float64))

    def close(self) -> None:
        """Put every thread back to how it was."""
        if self._planner is not None:
            self._planner.stop()

    def _values(self) -> list[float]:
        of, state = self.topology, self.state
        verdicts = {one.plan: one.verdict for one in state.outcomes if one.verdict is not None}
        p99 = [(v.before, v.after) if (v := verdicts.get(name)) else (math.nan, math.nan) for name in NAMES]
        return [
            of.packages, len(of.cores), len(of.cpus), len(of.nodes), len(of.l3_groups), len(of.allowed), of.usable,
            of.quota, state.phase.value, *(float(state.in_force == name) for name in NAMES),
            *(value for pair in p99 for value in pair), state.left,
        ]  # fmt: skip


def cpu_plans(
    options: CpuOptions,
    topology: Topology,
    paths: RuntimePaths,
    store: Store,
    pids: Callable[[], Sequence[tuple[str, int]]],
    clock: Clock,
) -> CpuPlans:
    """The collector as the settings say. What a killed console had in force is undone in any case."""
    placer = Placer(paths.cpu_plan)
    placer.recover()

    def named() -> dict[str, int]:
        return {name: pid for name, pid in pids() if name != "supervisor" and pid > 0}

    def decided(state: PlanState) -> None:
        action = "cpu_plan_kept" if state.in_force else "cpu_plan_rolled_back"
        detail = {"plan": state.in_force, "words": state.in_words(), "machine": topology.in_words()}
        t_ms = clock.now_ns() // 1_000_000
        write = partial(record, t_ms=t_ms, who="deskvigil", action=action, object_="processors", detail=detail)
        store.deferred.put("what came of the trial of plans for the processors", write)

    planner = None
    if options.plan != "none":
        plans, impossible = candidates(topology, rights())
        if options.plan != "auto":
            plans = {name: plan for name, plan in plans.items() if name == options.plan}
            impossible = {name: why for name, why in impossible.items() if name == options.plan}
        trial = PlanTrial(list(plans), p99_s, TrialLimits(window_s=options.window_s))
        planner = Planner(plans, impossible, trial, placer, named, decided)
    watch = AckWatch(BlockReader(paths.engine_block))
    return CpuPlans(topology, planner, watch, named, partial(_lateness_s, store.live, clock), clock)


def _lateness_s(live: LiveRing, clock: Clock) -> float:
    """By how much a thread of the console that wanted to run was kept waiting in the last second; NaN: not known."""
    newest = live.latest(LATENESS)
    fresh = newest is not None and clock.now_ns() // 1_000_000 - newest[0] <= FRESH_MS
    return newest[1] if newest is not None and fresh else math.nan
