"""The placer: what each thread had comes back, whatever happens in between."""

from __future__ import annotations

import multiprocessing
import os
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resources.placer import Linux, PlacementError, Placer, ThreadState, wanted
from resources.plans import Placement, Plan, Rights, candidates, rights
from tests.resources.machines import topology_of

BASE = ThreadState(frozenset({0, 1, 2, 3}), 0, 0, 0)
NICER = ThreadState(BASE.cpus, 3, 0, 0)
NAMES = ("console", "engine", "risk")
PLANS, _ = candidates(topology_of(4), Rights(-20, 99))


@dataclass
class FakeKernel:
    """Processes with threads in memory. denied: calls of `put` that are refused from now on."""

    states: dict[int, ThreadState] = field(default_factory=dict)
    births: dict[int, int] = field(default_factory=dict)
    of_process: dict[int, list[int]] = field(default_factory=dict)
    # What each thread would be without any plan.
    true: dict[int, ThreadState] = field(default_factory=dict)
    clock: int = 0
    denied: int = 0
    next_id: int = 100

    def threads(self, pid: int) -> list[int]:
        if pid not in self.of_process:
            raise ProcessLookupError(pid)
        return list(self.of_process[pid])

    def born(self, pid: int, tid: int) -> int:
        if tid not in self.of_process.get(pid, []):
            raise ProcessLookupError(tid)
        return self.births[tid]

    def state(self, tid: int) -> ThreadState:
        if tid not in self.states:
            raise ProcessLookupError(tid)
        return self.states[tid]

    def put(self, tid: int, state: ThreadState) -> None:
        if tid not in self.states:
            raise ProcessLookupError(tid)
        if self.denied:
            self.denied -= 1
            raise PermissionError(1, "Operation not permitted")
        self.states[tid] = state

    def start(self, pid: int | None = None) -> int:
        """A new process, with the number of one that has ended if wanted (then a nicer one); returns its number."""
        state = BASE if pid is None else NICER
        pid = pid or self._new()
        self.of_process[pid] = []
        self._add(pid, pid, state, state)
        return pid

    def spawn(self, pid: int, of: int) -> int:
        """A new thread of a process, which inherits how the thread that starts it is scheduled."""
        tid = self._new()
        self._add(pid, tid, self.states[of], self.true[of])
        return tid

    def end(self, pid: int) -> None:
        for tid in self.of_process.pop(pid, []):
            del self.states[tid], self.true[tid], self.births[tid]

    def _new(self) -> int:
        self.next_id += 1
        return self.next_id

    def _add(self, pid: int, tid: int, state: ThreadState, true: ThreadState) -> None:
        self.clock += 1
        self.of_process[pid].append(tid)
        self.states[tid], self.true[tid], self.births[tid] = state, true, self.clock


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), st.sampled_from(sorted(PLANS))),
        st.tuples(st.just("keep"), st.just("")),
        st.tuples(st.just("undo"), st.just("")),
        st.tuples(st.just("spawn"), st.sampled_from(NAMES)),
        st.tuples(st.just("restart"), st.sampled_from(NAMES)),
        st.tuples(st.just("restart with the same number"), st.sampled_from(NAMES)),
        st.tuples(st.just("gone"), st.sampled_from(NAMES)),
        st.tuples(st.just("deny"), st.just("")),
        st.tuples(st.just("the console is killed"), st.just("")),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@example(
    [
        ("apply", "engine_core"),
        ("spawn", "console"),
        ("spawn", "engine"),
        ("deny", ""),
        ("keep", ""),
        ("spawn", "engine"),
    ],
    2,
)  # a thread is born of one that could not be put back
@given(STEPS, st.integers(0, 3))
def test_after_whatever_happened_every_thread_is_as_it_would_be_without_us(
    steps: list[tuple[str, str]], denied: int
) -> None:
    with TemporaryDirectory() as folder:
        kernel, journal = FakeKernel(), Path(folder) / "plan.json"
        placer, pids = Placer(journal, kernel), {name: kernel.start() for name in NAMES}
        for what, name in steps:
            pid = pids.get(name, 0)
            try:
                if what == "apply":
                    placer.apply(PLANS[name], pids)
                elif what == "keep":
                    placer.keep(pids)
            except PlacementError:
                placer.undo()
            if what == "undo":
                placer.undo()
            elif what == "spawn" and pid in kernel.of_process:
                kernel.spawn(pid, kernel.of_process[pid][-1])
            elif what.startswith("restart"):
                kernel.end(pid)
                pids[name] = kernel.start(pid if what.endswith("number") else None)
            elif what == "gone":
                kernel.end(pid)
            elif what == "deny":
                kernel.denied = denied
            elif what == "the console is killed":
                placer = Placer(journal, kernel)
                placer.recover()
        kernel.denied = 0
        placer.undo()
        assert kernel.states == kernel.true
        assert placer.changed == 0
        assert not journal.exists()


def test_a_thread_born_under_a_plan_gets_it_and_loses_it(tmp_path: Path) -> None:
    kernel = FakeKernel()
    placer, engine = Placer(tmp_path / "plan.json", kernel), kernel.start()
    placer.apply(PLANS["engine_core"], {"engine": engine})
    helper = kernel.spawn(engine, engine)
    assert kernel.states[helper].cpus == kernel.states[engine].cpus
    placer.keep({"engine": engine})
    assert kernel.states[helper].cpus == BASE.cpus - kernel.states[engine].cpus
    late = kernel.spawn(engine, engine)
    placer.undo()
    assert kernel.states[late] == kernel.states[helper] == kernel.states[engine] == BASE


def test_a_restarted_process_gets_the_plan_in_force(tmp_path: Path) -> None:
    kernel = FakeKernel()
    placer, engine = Placer(tmp_path / "plan.json", kernel), kernel.start()
    placer.apply(PLANS["engine_fifo"], {"engine": engine})
    kernel.end(engine)
    again = kernel.start()
    placer.keep({"engine": again})
    assert kernel.states[again].policy == os.SCHED_FIFO
    placer.undo()
    assert kernel.states[again] == BASE


def test_a_plan_that_is_not_permitted_leaves_nothing_behind_and_says_so(tmp_path: Path) -> None:
    kernel = FakeKernel(denied=1)
    placer, engine = Placer(tmp_path / "plan.json", kernel), kernel.start()
    with pytest.raises(PlacementError, match=rf"engine \(thread {engine}\): Operation not permitted"):
        placer.apply(PLANS["engine_core"], {"engine": engine})
    assert kernel.states[engine] == BASE
    assert placer.plan is None


def test_what_cannot_be_undone_is_tried_again(tmp_path: Path) -> None:
    kernel = FakeKernel()
    placer, engine = Placer(tmp_path / "plan.json", kernel), kernel.start()
    placer.apply(PLANS["engine_core"], {"engine": engine})
    kernel.denied = 1
    assert placer.undo() == 1
    kernel.denied = 1
    with pytest.raises(PlacementError, match="cannot be undone for 1 threads"):
        placer.apply(PLANS["engine_fifo"], {"engine": engine})
    assert placer.undo() == 0
    assert kernel.states[engine] == BASE


def test_without_a_place_for_the_journal_nothing_is_changed(tmp_path: Path) -> None:
    kernel = FakeKernel()
    placer, engine = Placer(tmp_path / "missing" / "plan.json", kernel), kernel.start()
    with pytest.raises(PlacementError, match="cannot be written"):
        placer.apply(PLANS["engine_core"], {"engine": engine})
    assert kernel.states[engine] == BASE


@pytest.mark.parametrize("text", ["", "[", "[1]", '[[{"pid": 1}, {}, {}]]', "{}"])
def test_a_damaged_journal_is_no_journal(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    assert Placer(tmp_path / "plan.json", FakeKernel()).recover() == 0


def test_a_nice_value_is_never_lowered() -> None:
    nicer = ThreadState(BASE.cpus, 15, 0, 0)
    assert wanted(nicer, Placement(nice=10)) == nicer


def _threads(pipe: Connection) -> None:
    """A process with two threads more, one of which it starts when asked."""
    stop = threading.Event()
    threading.Thread(target=stop.wait, daemon=True).start()
    pipe.send("up")
    pipe.recv()
    threading.Thread(target=stop.wait, daemon=True).start()
    pipe.send("one more")
    pipe.recv()


def test_the_kernel_s_own_threads_are_put_back_exactly(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_threads, args=(theirs,))
    process.start()
    kernel = Linux()
    try:
        assert ours.recv() == "up"
        pid = process.pid or 0
        before = {tid: kernel.state(tid) for tid in kernel.threads(pid)}
        (main,) = {state for tid, state in before.items() if tid == pid}
        own = frozenset({max(main.cpus)})
        place = Placement(cpus=own, nice=5 if rights().can_undo_nice else None)
        plan = Plan("test", "", {"engine": place}, {"engine": place})
        placer = Placer(tmp_path / "plan.json")
        placer.apply(plan, {"engine": pid})
        assert {kernel.state(tid).cpus for tid in kernel.threads(pid)} == {own}
        ours.send("go on")
        assert ours.recv() == "one more"
        assert len(kernel.threads(pid)) == len(before) + 1
        assert Placer(tmp_path / "plan.json").recover() == len(before)  # as if the first one had been killed
        after = {tid: kernel.state(tid) for tid in kernel.threads(pid)}
        assert {tid: after[tid] for tid in before} == before
        assert set(after.values()) == set(before.values())
    finally:
        ours.send("end")
        process.join(60)
