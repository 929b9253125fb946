"""Placer: puts a plan in force for running processes and all their threads, and puts back exactly what was before.

What each thread had is written down before it is changed, in a memory-backed file: who comes after a killed
process finds it and undoes what that one had done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from metrics.errors import DeskvigilError
from resources.plans import Placement, Plan
from resources.topology import Cpus

_MOST_LOOKS = 8  # at a process's threads, until no new one was born meanwhile


class PlacementError(DeskvigilError):
    """A plan that the system does not let us put in force; the message names process, thread and reason."""


@dataclass(frozen=True, slots=True)
class ThreadState:
    """How the kernel schedules a thread. priority: the real-time one, 0 for an ordinary thread."""

    cpus: Cpus
    nice: int
    policy: int
    priority: int


@dataclass(frozen=True, slots=True)
class ThreadId:
    """A thread that cannot be taken for a later one with the same number. born: clock ticks since the machine's start."""

    process: str
    pid: int
    tid: int
    born: int


class Kernel(Protocol):
    """What is asked of the kernel. A thread or process that has ended is a ProcessLookupError."""

    def threads(self, pid: int) -> list[int]: ...
    def born(self, pid: int, tid: int) -> int: ...
    def state(self, tid: int) -> ThreadState: ...
    def put(self, tid: int, state: ThreadState) -> None: ...


class Linux:
    """The kernel that runs us."""

    def threads(self, pid: int) -> list[int]:
        try:
            return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
        except FileNotFoundError:
            raise ProcessLookupError(pid) from None

    def born(self, pid: int, tid: int) -> int:
        try:
            text = Path(f"/proc/{pid}/task/{tid}/stat").read_text(errors="replace")
        except FileNotFoundError:
            raise ProcessLookupError(tid) from None
        return int(text[text.rindex(")") + 2 :].split()[19])

    def state(self, tid: int) -> ThreadState:
        return ThreadState(
            frozenset(os.sched_getaffinity(tid)),
            os.getpriority(os.PRIO_PROCESS, tid),
            os.sched_getscheduler(tid),
            os.sched_getparam(tid).sched_priority,
        )

    def put(self, tid: int, state: ThreadState) -> None:
        """Only what differs is set: a right is needed for nothing else."""
        now = self.state(tid)
        if (now.policy, now.priority) != (state.policy, state.priority):
            os.sched_setscheduler(tid, state.policy, os.sched_param(state.priority))
        if now.nice != state.nice:
            os.setpriority(os.PRIO_PROCESS, tid, state.nice)
        if now.cpus != state.cpus:
            os.sched_setaffinity(tid, state.cpus)


@dataclass(frozen=True, slots=True)
class _Change:
    before: ThreadState
    after: ThreadState


class Placer:
    """Puts one plan at a time in force. For one thread. journal: the file described above.

    Processes and threads that come while a plan is in force get it with the next `keep`.
    """

    def __init__(self, journal: Path, kernel: Kernel | None = None) -> None:
        self._journal = journal
        self._kernel: Kernel = kernel or Linux()
        self._changes: dict[ThreadId, _Change] = {}
        self.plan: Plan | None = None

    @property
    def changed(self) -> int:
        """Threads whose former state is written down, to be put back."""
        return len(self._changes)

    def recover(self) -> int:
        """Undo what a process that was killed had in force; returns how many threads that concerned."""
        self._changes = _read(self._journal)
        found = len(self._changes)
        self.undo()
        return found

    def apply(self, plan: Plan, pids: Mapping[str, int]) -> None:
        """Put a plan in force. PlacementError where that is not permitted: then nothing is changed any more."""
        if self.undo():
            raise PlacementError(f"the plan before cannot be undone for {self.changed} threads")
        self.plan = plan
        try:
            self.keep(pids)
        except PlacementError:
            self.undo()
            raise

    def keep(self, pids: Mapping[str, int]) -> None:
        """Have the plan in force for what was born since, too. PlacementError: not permitted; `undo` is for the caller."""
        if self.plan is None:
            return
        self._forget_ended()
        for process, pid in pids.items():
            if pid > 0 and (process in self.plan.main or process in self.plan.others):
                self._place(self.plan, process, pid)

    def undo(self) -> int:
        """Put back every thread's former state; returns how many are left for the next `undo`: all of a process that
        has one which could not be put back."""
        self.plan = None
        self._forget_ended()
        tried: set[ThreadId] = set()
        failed: set[ThreadId] = set()
        for _ in range(_MOST_LOOKS):  # a thread not yet put back may start another one
            for process, pid in {(one.process, one.pid) for one in self._changes}:
                born = [(one, before) for one, before, inherited in self._strangers(process, pid) if inherited]
                self._changes |= {one: _Change(before, before) for one, before in born}
            untried = self._changes.keys() - tried
            if not untried:
                break
            tried |= untried
            failed |= {one for one in untried if not self._put_back(one)}
        # All of such a process stay written down: by them its threads are known that are born until the next `undo`.
        kept = {one.pid for one in failed}
        self._changes = {one: change for one, change in self._changes.items() if one.pid in kept}
        with suppress(PlacementError):  # what it still names is put back already: doing that again does no harm
            self._write()
        return self.changed

    def _put_back(self, one: ThreadId) -> bool:
        try:
            if self._kernel.born(one.pid, one.tid) == one.born:
                self._kernel.put(one.tid, self._changes[one].before)
        except ProcessLookupError:
            pass
        except OSError:
            return False
        return True

    def _place(self, plan: Plan, process: str, pid: int) -> None:
        """All threads of a process, also those that one of them starts meanwhile."""
        for _ in range(_MOST_LOOKS):
            found = {
                one: _Change(before, wanted(before, plan.wants(process, one.tid == pid)))
                for one, before, _ in self._strangers(process, pid)
            }
            if found:
                self._changes |= found
                self._write()
            for one, change in self._changes.items():
                if one.pid == pid:
                    self._put(one, change.after)
            if not found:
                return

    def _put(self, one: ThreadId, state: ThreadState) -> None:
        try:
            if self._kernel.state(one.tid) != state:
                self._kernel.put(one.tid, state)
        except ProcessLookupError:
            pass
        except OSError as error:
            raise PlacementError(f"{one.process} (thread {one.tid}): {error.strerror or error}") from None

    def _strangers(self, process: str, pid: int) -> list[tuple[ThreadId, ThreadState, bool]]:
        """The living threads of a process that are not written down, how each was before, and whether it inherited a plan.

        One that is as we have put another thread of its process was born of such a thread: without us it would be as
        the process's main thread was.
        """
        ours = {one: change for one, change in self._changes.items() if one.pid == pid}
        put = {change.after for change in ours.values() if change.after != change.before}
        main = next((change.before for one, change in ours.items() if one.tid == pid), None)
        found = []
        try:
            for tid in self._kernel.threads(pid):
                with suppress(ProcessLookupError):
                    one = ThreadId(process, pid, tid, self._kernel.born(pid, tid))
                    if one not in ours:
                        state = self._kernel.state(tid)
                        inherited = main is not None and state in put
                        found.append((one, main if inherited and main is not None else state, inherited))
        except ProcessLookupError:
            return []
        return found

    def _forget_ended(self) -> None:
        for one in list(self._changes):
            try:
                ended = self._kernel.born(one.pid, one.tid) != one.born
            except ProcessLookupError:
                ended = True
            if ended:
                del self._changes[one]

    def _write(self) -> None:
        """Write down what is to be put back; nothing to put back: no file. PlacementError where it cannot be written."""
        rows = [[asdict(one), _plain(change.before), _plain(change.after)] for one, change in self._changes.items()]
        temporary = self._journal.with_name(f"{self._journal.name}.new")
        try:
            if not rows:
                self._journal.unlink(missing_ok=True)
                return
            temporary.write_text(json.dumps(rows))
            temporary.replace(self._journal)
        except OSError as error:
            raise PlacementError(
                f"{self._journal} cannot be written, so no plan is put in force: {error.strerror}"
            ) from None


def wanted(before: ThreadState, placement: Placement) -> ThreadState:
    """The state of a thread that had `before`, under a placement."""
    state = before
    if placement.cpus is not None:
        state = replace(state, cpus=placement.cpus)
    if placement.nice is not None:
        state = replace(state, nice=max(before.nice, placement.nice))
    if placement.fifo is not None:
        state = replace(state, policy=os.SCHED_FIFO, priority=placement.fifo)
    return state


def _plain(state: ThreadState) -> dict[str, object]:
    return {**asdict(state), "cpus": sorted(state.cpus)}


def _state(raw: dict[str, Any]) -> ThreadState:
    return ThreadState(**{**raw, "cpus": frozenset(raw["cpus"])})


def _read(journal: Path) -> dict[ThreadId, _Change]:
    """What a journal holds; nothing where there is none, or none that can be read."""
    try:
        rows = json.loads(journal.read_text())
        return {ThreadId(**one): _Change(_state(before), _state(after)) for one, before, after in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
