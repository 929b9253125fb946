"""Supervisor: a postmaster that starts child processes, restarts any that dies or hangs, and does nothing else."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

log = logging.getLogger("deskvigil.supervisor")

POLL_S = 0.1
# A child that keeps dying young is given longer and longer pauses; one that lived is restarted at once.
BACKOFF_S = (0.0, 0.2, 1.0, 5.0, 10.0)
YOUNG_S = 5.0
STARVED_FACTOR = 6.0
LATE_S = 0.5  # between two looks of the supervisor itself: more, and it was not running
EXIT_PERMANENT = 78  # sysexits' EX_CONFIG: a child says that a restart cannot help


@dataclass(frozen=True)
class ChildSpec:
    """One child: how to make its process, and how to see that it is alive.

    heartbeat returns any value that changes while the child lives, or None before its first sign;
    a child whose value stands still for `hang_after_s` is killed and restarted. Before its first
    change a child has `start_timeout_s`. A child that wants to run and gets no processor, or that waits
    for a disk, is not hung: it has STARVED_FACTOR times as long.
    """

    name: str
    make: Callable[[], BaseProcess]
    heartbeat: Callable[[], int | None]
    hang_after_s: float = 5.0
    start_timeout_s: float = 120.0
    stop_timeout_s: float = 5.0


@dataclass(frozen=True)
class ChildState:
    """What the supervisor knows of one child; times are wall-clock nanoseconds."""

    name: str
    pid: int
    restarts: int
    started_ns: int
    last_exit: str


@dataclass
class _Child:
    spec: ChildSpec
    process: BaseProcess | None = None
    restarts: int = -1
    started_ns: int = 0
    started: float = 0.0
    last_exit: str = ""
    young_deaths: int = 0
    due: float = 0.0
    beat: int | None = None
    beat_at: float = 0.0
    has_beaten: bool = False
    cpu_s: float = 0.0  # what it had used at its last beat

    def state(self) -> ChildState:
        pid = self.process.pid if self.process is not None and self.process.pid else 0
        return ChildState(self.spec.name, pid, max(self.restarts, 0), self.started_ns, self.last_exit)


@dataclass
class Supervisor:
    """Runs children until told to stop; its state is a JSON file, replaced atomically at each change."""

    specs: Sequence[ChildSpec]
    status_path: Path
    on_poll: Callable[[], None] = lambda: None
    young_s: float = YOUNG_S
    _children: list[_Child] = field(init=False)
    _stopping: bool = field(default=False, init=False)
    _permanent: str = field(default="", init=False)
    _stepped: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._children = [_Child(spec) for spec in self.specs]

    def run(self) -> int:
        """Start all children and watch them until `request_stop` or a permanent failure; returns an exit status."""
        try:
            while not self._stopping:
                self._step(time.monotonic())
                self.on_poll()
                sentinels = [child.process.sentinel for child in self._children if child.process is not None]
                wait(sentinels, timeout=POLL_S)
        finally:
            self._stop_children()
        if self._permanent:
            log.error("%s", self._permanent)
            return 1
        return 0

    def request_stop(self) -> None:
        """Ask `run` to end; safe in a signal handler."""
        self._stopping = True

    def _step(self, now: float) -> None:
        changed = False
        if now - self._stepped > LATE_S:  # we ourselves have been stopped: nobody's silence counts meanwhile
            for child in self._children:
                child.beat_at = now
        self._stepped = now
        for child in self._children:
            if child.process is not None:
                self._watch(child, now)
            if child.process is not None and child.process.exitcode is not None:
                self._bury(child, now)
                changed = True
            if child.process is None and now >= child.due and not self._stopping:
                self._start(child, time.monotonic())
                changed = True
        if changed:
            self._write_status()

    def _start(self, child: _Child, now: float) -> None:
        process = child.spec.make()
        try:
            process.start()
        except (OSError, EOFError) as error:  # no memory, no processes left, or the forkserver died under it
            child.young_deaths += 1
            child.due = now + BACKOFF_S[min(child.young_deaths, len(BACKOFF_S) - 1)]
            child.last_exit = f"could not be started: {error}"
            log.error("%s %s", child.spec.name, child.last_exit)
            return
        child.process = process
        child.restarts += 1
        child.started, child.started_ns = now, time.time_ns()
        child.beat, child.beat_at, child.has_beaten = child.spec.heartbeat(), now, False
        log.info(
            "%s started, pid %s%s",
            child.spec.name,
            child.process.pid,
            f", restart {child.restarts}" if child.restarts else "",
        )

    def _watch(self, child: _Child, now: float) -> None:
        process = child.process
        if process is None or process.exitcode is not None:
            return
        beat = child.spec.heartbeat()
        if beat != child.beat:
            child.beat, child.beat_at, child.has_beaten = beat, now, True
            child.cpu_s = process_state(process.pid)[1]
            return
        silent = now - child.beat_at
        limit = child.spec.hang_after_s if child.has_beaten else child.spec.start_timeout_s
        if silent <= limit:
            return
        if silent <= STARVED_FACTOR * limit and _is_starved(process.pid, child.cpu_s, silent):
            return
        # A process that is stopped or stuck ignores SIGTERM; only SIGKILL is certain.
        log.error("%s shows no sign of life for %.1f s: killed", child.spec.name, silent)
        process.kill()
        process.join(timeout=1.0)
        child.last_exit = "hung"
        child.beat_at = now

    def _bury(self, child: _Child, now: float) -> None:
        process = child.process
        if process is None:
            return
        code = process.exitcode
        reason = "hung, killed" if child.last_exit == "hung" else _exit_in_words(code)
        child.last_exit = reason
        child.young_deaths = child.young_deaths + 1 if now - child.started < self.young_s else 0
        child.due = now + BACKOFF_S[min(child.young_deaths, len(BACKOFF_S) - 1)]
        process.close()
        child.process = None
        if code == EXIT_PERMANENT:
            self._permanent = f"{child.spec.name} cannot run (its message is above)"
            self._stopping = True
        else:
            log.warning(
                "%s ended: %s; restarting%s",
                child.spec.name,
                reason,
                f" in {child.due - now:.1f} s" if child.due > now else "",
            )

    def _write_status(self) -> None:
        self.status_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self.status_path.with_suffix(".new")
        temporary.write_text(json.dumps([vars(child.state()) for child in self._children]))
        temporary.replace(self.status_path)

    def _stop_children(self) -> None:
        """Stop in reverse order of starting: the console goes first, the engine cancels its orders last."""
        for child in reversed(self._children):
            process = child.process
            if process is None:
                continue
            process.terminate()
            # A stopped (SIGSTOP) child gets its SIGTERM only when continued.
            with suppress(ProcessLookupError, TypeError):
                os.kill(process.pid, signal.SIGCONT)  # type: ignore[arg-type]
            process.join(timeout=child.spec.stop_timeout_s)
            if process.exitcode is None:
                log.error("%s did not stop within %.0f s: killed", child.spec.name, child.spec.stop_timeout_s)
                process.kill()
                process.join(timeout=1.0)


def process_state(pid: int | None) -> tuple[str, float]:
    """The state letters of a process's threads (R, S, D, T, ...) and the CPU seconds it has used; "" where it is gone."""
    letters, ticks = "", 0
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            text = (thread / "stat").read_text()
            fields = text[text.rfind(")") + 2 :].split()  # the name before it may hold anything
            letters += fields[0]
            ticks += int(fields[11]) + int(fields[12])
    except OSError:
        return "", 0.0
    return letters, ticks / os.sysconf("SC_CLK_TCK")


def _is_starved(pid: int | None, cpu_s: float, silent_s: float) -> bool:
    """Whether a silent process would run if the machine let it: it waits for a disk, or for most of its processor time.

    Any thread that wants to run counts: the others may be waiting for it.
    """
    letters, used_s = process_state(pid)
    return "D" in letters or ("R" in letters and used_s - cpu_s < 0.5 * silent_s)


def read_status(path: Path) -> list[ChildState]:
    """Return the children's states as last written; empty where no supervisor has written any."""
    try:
        return [ChildState(**row) for row in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def _exit_in_words(code: int | None) -> str:
    if code is None:
        return "still running"
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
