"""Sampler: where this process's Python threads are, a few times a second, always on.

Each look takes every thread's stack from `sys._current_frames()` and the CPU time that the kernel counts
for the thread; nothing is stopped and nothing patched. CPU time by thread is exact, where in the thread
is a sample: with a few looks a second it takes minutes to say something, and it says it about all of
them. What the looking costs is measured (`cost_ratio`) and published.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Final

from resources.stacks import Bounded, Spent, Stack, by_function

HZ: Final = 4.0
MOST_STACKS: Final = 4_000  # kept since the start; about 200 bytes each, the names are shared
MOST_FRAMES: Final = 48  # of one stack, the innermost
MOST_CODES: Final = 8_000  # names of functions remembered
MOST_THREADS: Final = 256
STOP_S: Final = 2.0
# Innermost Python functions in which a thread waits: what they call (a lock, epoll, the loop in C) has no frame.
WAITS: Final = frozenset(
    {
        ("threading.py", "wait"),
        ("threading.py", "_wait_for_tstate_lock"),
        ("threading.py", "acquire"),
        ("selectors.py", "select"),
        ("queue.py", "get"),
        ("thread.py", "_worker"),
        ("runners.py", "run"),
        ("socket.py", "accept"),
        ("connection.py", "wait"),
    }
)


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """One thread since the sampler began: CPU seconds, samples at work, and samples in all."""

    name: str
    cpu_s: float
    working: int
    samples: int


@dataclass(slots=True)
class _Seen:
    name: str
    native_id: int
    first_s: float
    last_s: float
    working: int = 0
    samples: int = 0


class Sampler:
    """One thread that looks `hz` times a second; every method may be called from any thread.

    Memory is bounded by MOST_STACKS and MOST_CODES. The sampler leaves itself out of the stacks.
    """

    def __init__(self, hz: float = HZ) -> None:
        self._pause_s = 1.0 / hz
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stacks = Bounded(MOST_STACKS)
        self._names: dict[CodeType, tuple[str, bool]] = {}
        self._threads: dict[int, _Seen] = {}
        self._ended: dict[str, tuple[float, int, int]] = {}  # name -> CPU seconds, samples at work, samples
        self._late_s = 0.0
        self.cost_s = 0.0
        """CPU seconds that looking has taken so far."""
        self.looks = 0
        self._began_s = time.monotonic()

    def start(self) -> None:
        """Begin looking; a second call does nothing."""
        if self._thread is None:
            self._began_s = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; what was seen stays readable."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    @property
    def cost_ratio(self) -> float:
        """CPU time of looking, of one core, since the start."""
        return self.cost_s / max(time.monotonic() - self._began_s, 1e-9)

    def take_late_s(self) -> float:
        """The most by which a look came late since the last call: how long Python kept a thread waiting that wanted to run."""
        late_s, self._late_s = self._late_s, 0.0
        return late_s

    def stacks(self) -> dict[Stack, int]:
        """Samples at work by stack since the start, the thread's name first."""
        with self._lock:
            return dict(self._stacks.rows)

    def functions(self) -> list[Spent]:
        """Samples at work by thread and function ("thread: function"), the heaviest own first."""
        rows = self.stacks()
        return by_function({tuple(f"{stack[0]}: {frame}" for frame in stack[1:]): n for stack, n in rows.items()})

    def threads(self) -> list[ThreadTime]:
        """Every thread by CPU time, those of one name (and those that have ended) together."""
        with self._lock:
            found = {name: [cpu_s, working, samples] for name, (cpu_s, working, samples) in self._ended.items()}
            for seen in self._threads.values():
                row = found.setdefault(seen.name, [0.0, 0, 0])
                row[0] += seen.last_s - seen.first_s
                row[1] += seen.working
                row[2] += seen.samples
        rows = [ThreadTime(name, row[0], int(row[1]), int(row[2])) for name, row in found.items()]
        return sorted(rows, key=lambda row: (-row.cpu_s, row.name))

    def look(self) -> None:
        """Take one sample of every thread but the caller's."""
        began_s = time.thread_time()
        me = threading.get_ident()
        threads = {thread.ident: (_plain(thread.name), thread.native_id or 0) for thread in threading.enumerate()}
        frames = sys._current_frames()
        with self._lock:
            for ident in [ident for ident in self._threads if ident not in frames]:
                self._forget(ident)
            for ident, frame in frames.items():
                if ident != me:
                    self._take(ident, *threads.get(ident, ("unnamed", 0)), frame)
        del frames  # frames keep whatever their functions hold alive
        self.cost_s += time.thread_time() - began_s
        self.looks += 1

    def _run(self) -> None:
        due_s = time.monotonic() + self._pause_s
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            now_s = time.monotonic()
            self._late_s = max(self._late_s, now_s - due_s)
            self.look()
            due_s = max(due_s + self._pause_s, now_s)

    def _take(self, ident: int, name: str, native_id: int, frame: FrameType) -> None:
        cpu_s = _cpu_s(native_id)
        if cpu_s is None:
            return
        seen = self._threads.get(ident)
        # The number of a thread that has ended is given to another, in a pool one of the same name.
        if seen is None or (seen.name, seen.native_id) != (name, native_id):
            if seen is not None:
                self._forget(ident)
            if len(self._threads) >= MOST_THREADS:
                return
            seen = self._threads[ident] = _Seen(name, native_id, cpu_s, cpu_s)
        else:
            seen.last_s = cpu_s
        seen.samples += 1
        if self._name(frame.f_code)[1]:
            return
        seen.working += 1
        stack: list[str] = []
        inner: FrameType | None = frame
        while inner is not None and len(stack) < MOST_FRAMES:
            stack.append(self._name(inner.f_code)[0])
            inner = inner.f_back
        stack.append(name)
        self._stacks.add(tuple(reversed(stack)), 1)

    def _name(self, code: CodeType) -> tuple[str, bool]:
        """A function as "name (folder/file.py:line)", and whether a thread whose innermost it is waits."""
        known = self._names.get(code)
        if known is None:
            if len(self._names) >= MOST_CODES:
                self._names.clear()
            parts = code.co_filename.replace("\\", "/").split("/")
            place = "/".join(parts[-2:])
            waits = (parts[-1], code.co_name) in WAITS
            known = self._names[code] = (_plain(f"{code.co_qualname} ({place}:{code.co_firstlineno})"), waits)
        return known

    def _forget(self, ident: int) -> None:
        seen = self._threads.pop(ident)
        if seen.name not in self._ended and len(self._ended) >= MOST_THREADS:
            return
        cpu_s, working, samples = self._ended.get(seen.name, (0.0, 0, 0))
        self._ended[seen.name] = (cpu_s + seen.last_s - seen.first_s, working + seen.working, samples + seen.samples)


def _cpu_s(native_id: int) -> float | None:
    """CPU seconds of a thread by the kernel's number; None once it has ended, 0 where Python does not know the number.

    The clock is made as libc's pthread_getcpuclockid makes it. That one must not be asked: given a thread that ended
    since the look began it reads memory that is gone.
    """
    if not native_id:
        return 0.0
    try:
        return time.clock_gettime(~native_id << 3 | 0b110)
    except OSError:
        return None


def _plain(name: str) -> str:
    """A name that can be written as UTF-8; those of files and threads need not be."""
    return name.encode(errors="replace").decode()
