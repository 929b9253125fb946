"""Profiling: takes a profile of one of our processes when an operator asks, one at a time, and keeps it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from console.bottlenecks import BottleneckCollector
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from resources.attach import KINDS, LEAST_S, MOST_S, Kind, Taken, absence, take
from resources.sampler import Sampler
from resources.stacks import Stack, boxes, by_function, collapsed, pack, unpack
from storage.profiles import Profiles

log = logging.getLogger("deskvigil.console")

TRADING: Final = ("engine", "feed")  # what must not stand still while it trades
MOST_FUNCTIONS: Final = 30
STOP_S: Final = 2.0
ALWAYS: Final = "sampler"  # the profile that is there without being asked for


class ProfilingError(DeskvigilError):
    """A profile that is not taken or not there; the message says why."""


@dataclass(frozen=True, slots=True)
class _Running:
    process: str
    kind: Kind
    seconds: float
    began_ms: int


class Profiling:
    """What the Profiler page and its API ask; every method may be called from any thread.

    children: name and pid of our processes. trades: whether the engine may be trading now.
    watches: False where the sampler and the search for bottlenecks are switched off.
    """

    def __init__(
        self,
        store: Profiles,
        sampler: Sampler,
        bottlenecks: BottleneckCollector,
        children: Callable[[], Sequence[tuple[str, int]]],
        trades: Callable[[], bool],
        clock: Clock,
        watches: bool = True,
    ) -> None:
        self._store = store
        self._sampler = sampler
        self._bottlenecks = bottlenecks
        self._children = children
        self._trades = trades
        self._clock = clock
        self._watches = watches
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._failed = ""
        self._thread: threading.Thread | None = None

    def start(self, who: str, process: str, kind: str, seconds: float, reason: str) -> str:
        """Begin a profile; returns a sentence. Raises a DeskvigilError where it is refused; the rest `list` tells."""
        if kind not in KINDS:
            raise ProfilingError(f"there is no profile of kind {kind!r}; there are: {', '.join(KINDS)}")
        if not LEAST_S <= seconds <= MOST_S:
            raise ProfilingError(f"a profile takes {LEAST_S:g} to {MOST_S:g} seconds, not {seconds:g}")
        if not reason.strip():
            raise ProfilingError("why is the profile taken? It is kept with it")
        pids = {name: pid for name, pid in self._children() if pid > 0}
        if process not in pids:
            raise ProfilingError(f"there is no process {process!r} now; there are: {', '.join(pids) or 'none'}")
        if kind == "memory" and process in TRADING and self._trades():
            raise ProfilingError(
                f"a memory profile stops the {process} for about a second while the debugger attaches: halt trading first"
            )
        if missing := absence(kind):
            raise ProfilingError(missing)
        job = _Running(process, kind, seconds, self._clock.now_ns() // 1_000_000)
        with self._lock:
            if self._running is not None:
                raise ProfilingError(f"a profile of {self._running.process} is being taken; one at a time")
            self._running = job
        try:
            detail = {"kind": kind, "seconds": seconds, "reason": reason}
            self._store.note(who, "profile", process, detail)
            thread = threading.Thread(
                target=self._take, args=(job, pids[process], who, reason), name="profiling", daemon=True
            )
            thread.start()
        except BaseException:
            self._running = None
            raise
        self._thread = thread
        return f"{process} is watched for {seconds:g} s"

    def list(self) -> Mapping[str, Any]:
        """The stored profiles, what is under way, what failed last, what cannot be taken here and why, and the bottleneck."""
        running, said = self._running, self._bottlenecks.said
        return {
            "profiles": [asdict(row) for row in self._store.list()],
            "running": None if running is None else asdict(running),
            "failed": self._failed,
            "processes": [name for name, pid in self._children() if pid > 0],
            "kinds": {kind: absence(kind) for kind in KINDS},
            "overhead": self._sampler.cost_ratio if self._watches else None,
            "bottleneck": None
            if not self._watches
            else {
                "sentence": said.finding.sentence,
                "cause": None if said.finding.cause is None else said.finding.cause.value,
                "since_ms": said.since_ms,
                "waits_s": said.waits_s,
                "scores": {cause.value: score for cause, score in said.finding.scores.items()},
            },
            "threads": [asdict(row) for row in self._sampler.threads()],
        }

    def show(self, name: str) -> Mapping[str, Any]:
        """One profile: its head, the flame graph's boxes, the heaviest functions. name: its number, or "sampler"."""
        head, stacks = self._find(name)
        return {
            "head": head,
            "boxes": [[box.name, box.depth, box.start, box.width, box.self_] for box in boxes(stacks)],
            "functions": [[row.name, row.self_, row.total] for row in by_function(stacks)[:MOST_FUNCTIONS]],
        }

    def collapsed(self, name: str) -> str:
        """One profile's stacks as text that any flame graph tool (speedscope among them) reads."""
        return collapsed(self._find(name)[1])

    def stop(self) -> None:
        """Wait a little for what is under way; it ends with this process otherwise."""
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _find(self, name: str) -> tuple[Mapping[str, Any], Mapping[Stack, int]]:
        if name == ALWAYS:
            if not self._watches:
                raise ProfilingError("the console's threads are not watched: collectors.sampler_hz is 0")
            stacks = self._sampler.stacks()
            head = {"process": "console", "kind": "cpu", "unit": "samples", "total": sum(stacks.values())}
            return head, stacks
        if not name.isdecimal() or len(name) > 18:
            raise ProfilingError(f"there is no profile {name[:40]}")
        row, data = self._store.get(int(name))
        return asdict(row), unpack(data)

    def _take(self, job: _Running, pid: int, who: str, reason: str) -> None:
        """In a thread of its own, so that nothing waits for it."""
        try:
            taken = take(pid, job.kind, job.seconds)
            self._keep(job, taken, who, reason)
            self._failed = ""
        except DeskvigilError as error:
            self._say_failed(job, who, str(error))
        except Exception as error:
            log.exception("the profile of %s failed", job.process)
            self._say_failed(job, who, f"{type(error).__name__}: {error}")
        finally:
            self._running = None

    def _keep(self, job: _Running, taken: Taken, who: str, reason: str) -> None:
        total = sum(taken.stacks.values())
        if total == 0:
            raise ProfilingError(
                f"{job.process} ran no Python in these {job.seconds:g} s"
                if job.kind == "cpu"
                else f"{job.process} holds nothing that it allocated in these {job.seconds:g} s"
            )
        self._store.add(
            {
                "t_ms": job.began_ms, "process": job.process, "kind": job.kind, "seconds": job.seconds,
                "unit": taken.unit, "total": total, "who": who, "reason": reason, "data": pack(taken.stacks),
            }
        )  # fmt: skip

    def _say_failed(self, job: _Running, who: str, words: str) -> None:
        log.warning("no profile of %s: %s", job.process, words)
        self._failed = words
        try:
            self._store.note(who, "profile_failed", job.process, {"kind": job.kind, "error": words})
        except DeskvigilError as error:
            log.warning("the audit does not have it: %s", error)
