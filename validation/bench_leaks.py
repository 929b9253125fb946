"""Leak detector: how often it is wrong on labelled courses of memory, beside the rule that most people write.

Synthetic courses (`validation.leaktraces`) are judged every five minutes, as the console does. A claim on a course
without a leak is false, whenever it comes; a leak counts as found where it is claimed within two hours of its beginning.
Real courses are child processes' own reports with time made 600 times faster: a leak of 1 MB a minute of trace is
10 MB a second. The naive rule is least squares over the last 30 minutes against the same threshold, twice its
standard error above it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from metrics.frame import FloatArray
from resources.leaks import LeakLimits, LeakVerdict, judge
from resources.memoryreport import MemoryReport, read_report
from validation.figure import Figure
from validation.leaktraces import KINDS, Trace, traces

EACH = 20
EVERY = 5  # minutes between two judgements
FIRST = 30
WITHIN_S = 7_200.0
NAIVE_S = 1_800.0
UNDECIDABLE = "filling cache"
MOST_FALSE, LEAST_FOUND = 9.0, 95.0  # per cent; the kind that nobody can tell is left out of it
LIMITS = LeakLimits()
FASTER = 600.0
REAL_S = 14.0  # of the wall: 140 minutes of trace
ROOT = Path(__file__).resolve().parents[1]
Rule = Callable[[FloatArray, FloatArray, FloatArray, float], bool]

# What a process does with its memory, by name; `step` is called five hundred times a second. True: it leaks.
REAL: dict[str, tuple[bool, str]] = {
    "arrays come and go": (False, "x = np.random.random(random.randrange(1000, 200_000))"),
    "cycles of garbage": (False, "a = [bytearray(2000)]; a.append(a)"),
    "a cache, dropped when full": (False, "cache.append(bytearray(40_000)); len(cache) > 400 and cache.clear()"),
    "a bounded ring": (False, "recent.append(bytearray(random.randrange(100, 4000)))"),
    "leak of arrays": (True, "leak(lambda: np.ones(2500), 20_000)"),
    "leak of small objects": (True, "leak(lambda: [object() for _ in range(200)], 5_000)"),
    "leak of buffers beside a cache": (
        True, "cache.append(bytearray(40_000)); len(cache) > 400 and cache.clear(); leak(lambda: bytearray(8000), 8_000)",
    ),
}  # fmt: skip
PROGRAM = """
import collections, random, sys, threading, time
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from resources.memoryreport import MemoryReporter
folder, name, faster, work = Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5]
cache, recent, kept, stop = [], collections.deque(maxlen=2000), [], threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
begun, leaked = time.monotonic(), 0
def leak(make, size):
    global leaked
    while leaked < (time.monotonic() - begun) * faster / 60 * 1e6:
        kept.append(make())
        leaked += size
step = compile(work, "step", "exec")
with MemoryReporter(folder, name, 0.1, lambda: time.monotonic() * faster):
    print("up", flush=True)
    while not stop.wait(0.002):
        exec(step)
"""


@dataclass(slots=True)
class Counts:
    """Of one rule over traces: claims on calm ones, and how long after its beginning each leak was found (NaN: never)."""

    calm: int = 0
    false: int = 0
    delays_s: list[float] = field(default_factory=list)

    def add(self, leak_s: float | None, claimed_s: float) -> None:
        """Take in one trace; claimed_s is NaN where nothing was claimed."""
        if leak_s is None:
            self.calm += 1
            self.false += claimed_s == claimed_s
        else:
            self.delays_s.append(claimed_s - leak_s)

    @property
    def found(self) -> int:
        return sum(delay <= WITHIN_S for delay in self.delays_s)


def detector(t_s: FloatArray, resident: FloatArray, in_use: FloatArray, started_s: float) -> bool:
    """The console's rule."""
    return judge(t_s, resident, [in_use], started_s, LIMITS).verdict is LeakVerdict.LEAK


def naive(t_s: FloatArray, resident: FloatArray, in_use: FloatArray, started_s: float) -> bool:
    """Least squares over the last 30 minutes."""
    last = t_s >= t_s[-1] - NAIVE_S
    x, y = t_s[last] - t_s[last].mean(), resident[last] - resident[last].mean()
    if len(x) < 10:
        return False
    slope = float(x @ y / (x @ x))
    error = float(np.sqrt(((y - slope * x) ** 2).sum() / (len(x) - 2) / (x @ x)))
    return slope - 2.0 * error > LIMITS.threshold


def claimed_at(rule: Rule, trace: Trace) -> float:
    """When a rule first claims a leak (asked from the leak's beginning on, where there is one), NaN where it never does.

    A new process begins a new course.
    """
    for last in range(FIRST, len(trace.t_s), EVERY):
        if trace.leak_s is not None and trace.t_s[last] < trace.leak_s:
            continue
        started_s = float(trace.starts_s[last])
        own = trace.starts_s[: last + 1] == started_s
        t_s, resident, in_use = (column[: last + 1][own] for column in (trace.t_s, trace.resident, trace.in_use))
        if rule(t_s, resident, in_use, started_s):
            return float(t_s[-1])
    return float("nan")


def measure(say: Callable[[str], None]) -> list[Figure]:
    """The figures for `app.py bench leaks`."""
    rules: dict[str, Rule] = {"detector": detector, "naive": naive}
    counts = {(rule, kind): Counts() for rule in rules for kind in KINDS}
    for trace in traces(EACH):
        for name, rule in rules.items():
            counts[name, trace.kind].add(trace.leak_s, claimed_at(rule, trace))
    say(f"{'':18}{'false claims on calm traces':>30}{'leaks found within 2 h':>28}")
    say(f"{'':18}{'detector':>18}{'naive':>12}{'detector':>16}{'naive':>12}")
    for kind in KINDS:
        ours, theirs = counts["detector", kind], counts["naive", kind]
        say(
            f"{kind:18}{f'{ours.false}/{ours.calm}':>18}{f'{theirs.false}/{theirs.calm}':>12}"
            f"{f'{ours.found}/{len(ours.delays_s)}':>16}{f'{theirs.found}/{len(theirs.delays_s)}':>12}"
        )
    figures = []
    for words, kinds in (
        (f"without {UNDECIDABLE!r}", [kind for kind in KINDS if kind != UNDECIDABLE]),
        ("all kinds", list(KINDS)),
    ):
        total = {rule: _sum(counts[rule, kind] for kind in kinds) for rule in rules}
        figures += _rates(f"synthetic, {words}", total["detector"], total["naive"], limited=len(kinds) < len(KINDS))
    return figures + _rates("real child processes", *_real(say))


def _sum(parts: Iterator[Counts]) -> Counts:
    whole = Counts()
    for part in parts:
        whole.calm += part.calm
        whole.false += part.false
        whole.delays_s += part.delays_s
    return whole


def _rates(what: str, ours: Counts, theirs: Counts, *, limited: bool = True) -> list[Figure]:
    leaks = max(len(ours.delays_s), 1)
    found = [delay for delay in ours.delays_s if delay == delay]
    return [
        Figure(
            benchmark="leaks",
            what=f"{what}: false claims on {ours.calm} calm traces",
            value=100.0 * ours.false / max(ours.calm, 1),
            unit="%",
            decimals=1,
            limit=MOST_FALSE if limited else None,
            peer=f"naive least squares over 30 min: {100.0 * theirs.false / max(theirs.calm, 1):.1f} %",
        ),
        Figure(
            benchmark="leaks",
            what=f"{what}: of {leaks} leaks of 1 MB/min found within 2 h",
            value=100.0 * ours.found / leaks,
            unit="%",
            decimals=1,
            limit=LEAST_FOUND if limited else None,
            at_most=False,
            peer=f"naive: {100.0 * theirs.found / leaks:.1f} %",
        ),
        Figure(
            benchmark="leaks",
            what=f"{what}: median time until a leak is named",
            value=float(np.median(found)) / 60.0 if found else float("nan"),
            unit="min",
            decimals=0,
        ),
    ]


def _real(say: Callable[[str], None]) -> tuple[Counts, Counts]:
    """Record one course of each program in REAL, all at once, and hold both rules against them."""
    ours, theirs = Counts(), Counts()
    with tempfile.TemporaryDirectory(prefix="deskvigil-leaks-") as folder:
        reports = _record(Path(folder))
    for name, (leaks, _) in REAL.items():
        columns = np.array(
            [
                (one.taken_s, one.anonymous, one.arena - one.free + one.mapped + 512 * one.python_blocks)
                for one in reports[name]
            ]
        ).T
        began_s = reports[name][0].started_s
        t_s, resident, in_use = columns
        trace = Trace(name, t_s, resident, in_use, np.full_like(t_s, began_s), began_s if leaks else None)
        at = claimed_at(detector, trace)
        ours.add(trace.leak_s, at)
        theirs.add(trace.leak_s, claimed_at(naive, trace))
        grown = (columns[1, -1] - columns[1, 0]) / 1e6
        minutes = (columns[0, -1] - columns[0, 0]) / 60.0
        words = "not claimed" if at != at else f"claimed after {(at - began_s) / 60:.0f} min"
        say(f"real: {name:32}{grown:8.1f} MB in {minutes:.0f} min of trace: {words}")
    return ours, theirs


def _record(folder: Path) -> dict[str, list[MemoryReport]]:
    numbers = {name: f"p{number}" for number, name in enumerate(REAL)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(ROOT), str(folder), numbers[name], str(FASTER), work],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name, (_, work) in REAL.items()
    ]
    reports: dict[str, list[MemoryReport]] = {name: [] for name in REAL}
    try:
        for process in processes:
            if process.stdout is not None:
                process.stdout.readline()
        ends = time.monotonic() + REAL_S
        while time.monotonic() < ends:
            for name, number in numbers.items():
                report = read_report(folder, number)
                seen = reports[name]
                if report is not None and (not seen or report.taken_s > seen[-1].taken_s):
                    seen.append(report)
            time.sleep(0.03)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return reports
