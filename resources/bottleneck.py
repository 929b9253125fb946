"""Bottleneck: why it became slow, in one sentence, from rows of readings, one a second.

A symptom is a figure of the last seconds that left what it was in the calm hour before; a cause is
evidence that did the same. Both must hold: a busy machine whose figures are good is no bottleneck, and a
bad figure that nothing explains is "not known". A limit is never below a floor (what a desk would feel),
nor below a multiple of the hour's own high quantile, so that what is usual here is not called a rise.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.frame import FloatArray

BoolArray = npt.NDArray[np.bool_]

RECENT_S: Final = 10  # what is so now
BASELINE_S: Final = 3_600
LEAST_S: Final = 120  # of baseline before anything is said
GAP_S: Final = 60  # between baseline and now: what has just begun must not count as usual
HIGH: Final = 0.99  # the baseline's quantile that a limit stands on


class Column(enum.IntEnum):
    """Readings of one second; NaN where one is missing, which is evidence of nothing."""

    LATENCY_P99_S = 0  # order to acknowledgement, of the last ten seconds
    CONSOLE_LATE_S = enum.auto()  # the most by which a thread of the console that wanted to run was kept waiting
    UNDURABLE_S = enum.auto()  # how long the journal's oldest record waits for the disk
    FEED_AGE_S = enum.auto()
    OTHERS_CPU = enum.auto()  # processors used by programs that are not ours
    STEAL_RATIO = enum.auto()
    RUNNING = enum.auto()  # tasks that run or wait for a processor, for each processor
    RUN_DELAY = enum.auto()  # share of the time that the engine's loop could run and got no processor
    COMMIT_S = enum.auto()  # the console's last transaction
    IO_PRESSURE = enum.auto()
    IOWAIT_RATIO = enum.auto()
    THREAD_CPU = enum.auto()  # the console's busiest thread, of one core
    GC_RATIO = enum.auto()  # share of the time that the console stood still for garbage collection
    GC_LONGEST_S = enum.auto()
    WAITING = enum.auto()  # events due and requests of clients that wait for service
    ARRIVALS = enum.auto()  # events and requests taken, a second
    MAJOR_FAULTS = enum.auto()  # a second, of our processes
    MINOR_FAULTS = enum.auto()  # a second, of the engine
    MEMORY_PRESSURE = enum.auto()


class Cause(enum.Enum):
    """What can be named; the value is the label of `deskvigil_bottleneck`."""

    FEED_STALL = "feed_stall"
    GC = "gc"
    GIL_HOG = "gil_hog"
    MEMORY = "memory"
    QUEUE = "queue"
    SLOW_DISK = "slow_disk"
    CPU_HOG = "cpu_hog"
    UNKNOWN = "unknown"


class Symptom(enum.Enum):
    """What a desk feels."""

    FEED = "feed"
    LATENCY = "latency"
    DURABILITY = "durability"
    CONSOLE = "console"


class Limit(NamedTuple):
    """A reading counts from max(floor, factor * the baseline's high quantile, its median + step) on."""

    column: Column
    floor: float
    factor: float = 1.5
    step: float = 0.0


SYMPTOMS: Final[Mapping[Symptom, Limit]] = {
    Symptom.FEED: Limit(Column.FEED_AGE_S, 2.0, 3.0),
    Symptom.LATENCY: Limit(Column.LATENCY_P99_S, 200e-6, 1.5),
    Symptom.DURABILITY: Limit(Column.UNDURABLE_S, 0.25, 2.0),
    Symptom.CONSOLE: Limit(Column.CONSOLE_LATE_S, 0.004, 1.5),
}
# Any one of a group is evidence; of a tuple within a group all must hold.
EVIDENCE: Final[Mapping[Cause, tuple[tuple[Limit, ...], ...]]] = {
    Cause.FEED_STALL: ((Limit(Column.FEED_AGE_S, 2.0, 3.0),),),
    Cause.GC: ((Limit(Column.GC_RATIO, 0.05, 2.0),), (Limit(Column.GC_LONGEST_S, 0.05, 2.0),)),
    Cause.GIL_HOG: ((Limit(Column.THREAD_CPU, 0.5, 1.3), Limit(Column.CONSOLE_LATE_S, 0.004, 1.3)),),
    Cause.MEMORY: (
        (Limit(Column.MAJOR_FAULTS, 20.0, 3.0),),
        (Limit(Column.MEMORY_PRESSURE, 0.05, 2.0),),
        (Limit(Column.MINOR_FAULTS, 20_000.0, 3.0),),
    ),
    # A queue grows behind whatever slows the service; it is the cause only where more came than before.
    Cause.QUEUE: ((Limit(Column.WAITING, 100.0, 2.0), Limit(Column.ARRIVALS, 10.0, 1.5)),),
    Cause.SLOW_DISK: (
        (Limit(Column.COMMIT_S, 0.1, 3.0),),
        (Limit(Column.UNDURABLE_S, 0.25, 2.0),),
        (Limit(Column.IO_PRESSURE, 0.1, 2.0),),
        (Limit(Column.IOWAIT_RATIO, 0.1, 2.0),),
    ),
    Cause.CPU_HOG: (
        (Limit(Column.OTHERS_CPU, 0.25, 1.0, 0.25), Limit(Column.RUNNING, 1.0, 1.2)),
        (Limit(Column.STEAL_RATIO, 0.05, 1.5),),
        (Limit(Column.RUN_DELAY, 0.01, 2.0), Limit(Column.OTHERS_CPU, 0.25, 1.0, 0.25)),
    ),
}
NAMES: Final = {
    Symptom.FEED: "market data is old",
    Symptom.LATENCY: "p99 of order to acknowledgement rose",
    Symptom.DURABILITY: "the journal reaches the disk late",
    Symptom.CONSOLE: "the console answers late",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found; symptom None: calm, and the sentence says nothing ("").

    scores: by cause, how far its evidence stands over its limit (1 is at it, 0 where nothing is known).
    """

    symptom: Symptom | None = None
    cause: Cause | None = None
    sentence: str = ""
    scores: Mapping[Cause, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual: median and high quantile of every column, float64 (columns,); NaN where too little is known."""

    usual: FloatArray
    high: FloatArray


def baseline_of(rows: FloatArray, calm: BoolArray) -> Baseline | None:
    """What was usual in rows of seconds, the newest last; None before there are LEAST_S of them.

    rows: float64 (seconds, len(Column)); calm: bool (seconds,), False for seconds in which something was
    found, which are no baseline; nor are the newest RECENT_S + GAP_S.
    """
    if rows.ndim != 2 or rows.shape[1] != len(Column) or calm.shape != rows.shape[:1]:
        raise ValueError(f"rows must be (seconds, {len(Column)}) and calm (seconds,), not {rows.shape}, {calm.shape}")
    rows = rows[: -RECENT_S - GAP_S][calm[: -RECENT_S - GAP_S]][-BASELINE_S:]
    if len(rows) < LEAST_S:
        return None
    found = np.array([_quantiles(rows[:, column], (0.5, HIGH)) for column in Column])
    return Baseline(found[:, 0], found[:, 1])


def _quantiles(values: FloatArray, q: tuple[float, ...]) -> FloatArray:
    """NaN where fewer than half of the values are known."""
    known = values[np.isfinite(values)]
    if not len(known) or 2 * len(known) < len(values):
        return np.full(len(q), np.nan)
    found: FloatArray = np.quantile(known, q)
    return found


class _Levels:
    """The last seconds' medians against the baseline."""

    def __init__(self, recent: FloatArray, baseline: Baseline) -> None:
        self.now = np.array([_quantiles(recent[:, column], (0.5,))[0] for column in Column])
        self.usual, self.high = baseline.usual, baseline.high

    def score(self, limit: Limit) -> float:
        """The reading over its limit; 0 where one of the two is not known."""
        now, usual, high = (float(kind[limit.column]) for kind in (self.now, self.usual, self.high))
        if not np.isfinite(now) or not np.isfinite(high):
            return 0.0
        return max(0.0, now / max(limit.floor, limit.factor * high, usual + limit.step))


def find(recent: FloatArray, baseline: Baseline, thread: str = "") -> Finding:
    """Look for a bottleneck.

    recent: float64 (RECENT_S, len(Column)), the newest seconds; thread: the name of the console's busiest
    thread, for the sentence.
    """
    levels = _Levels(recent, baseline)
    scores = {
        cause: max(min(levels.score(limit) for limit in group) for group in groups)
        for cause, groups in EVIDENCE.items()
    }
    felt = next((symptom for symptom, limit in SYMPTOMS.items() if levels.score(limit) >= 1.0), None)
    if felt is None:
        return Finding(scores=scores)
    cause = next((cause for cause in _candidates(felt, scores) if scores[cause] >= 1.0), Cause.UNKNOWN)
    return Finding(felt, cause, _sentence(felt, cause, levels, thread), scores)


def _candidates(felt: Symptom, scores: Mapping[Cause, float]) -> tuple[Cause, ...]:
    """Causes in the order in which they are believed: what explains others' evidence away comes before them.

    Where programs that are not ours take the processors, transactions and journal take longer by that
    alone; but a disk that lets processes wait (io pressure, iowait) is in the disk's own score.
    """
    if felt is Symptom.FEED:
        return (Cause.FEED_STALL,)
    if felt is Symptom.DURABILITY:
        return (Cause.MEMORY, Cause.CPU_HOG, Cause.SLOW_DISK)
    starved = scores[Cause.CPU_HOG] >= 1.0
    machine = (Cause.CPU_HOG, Cause.SLOW_DISK) if starved else (Cause.SLOW_DISK, Cause.CPU_HOG)
    return (Cause.GC, Cause.GIL_HOG, Cause.QUEUE, Cause.MEMORY, *machine)


def _sentence(felt: Symptom, cause: Cause, levels: _Levels, thread: str) -> str:
    column = SYMPTOMS[felt].column
    now, usual = float(levels.now[column]), float(levels.usual[column])
    head = f"{NAMES[felt][0].upper()}{NAMES[felt][1:]} ({_seconds(usual)} to {_seconds(now)})"
    if cause is Cause.UNKNOWN:
        return f"{head}; why is not known: nothing that is measured has risen with it."
    return f"{head} because {_BECAUSE[cause](levels, thread)}."


def _from_to(levels: _Levels, column: Column, show: Callable[[float], str]) -> str:
    return f"{show(float(levels.usual[column]))} to {show(float(levels.now[column]))}"


def _seconds(value: float) -> str:
    if not np.isfinite(value):
        return "unknown"
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if np.isfinite(value) else "unknown"


_BECAUSE: Final[Mapping[Cause, Callable[[_Levels, str], str]]] = {
    Cause.FEED_STALL: lambda levels, _: "no market event has come",
    Cause.GC: lambda levels, _: (
        f"Python's garbage collection stops the console ({_from_to(levels, Column.GC_RATIO, _percent)} of the time)"
    ),
    Cause.GIL_HOG: lambda levels, thread: (
        f"one thread of the console{f' ({thread})' if thread else ''} holds Python's lock "
        f"(it takes {_percent(float(levels.now[Column.THREAD_CPU]))} of a core)"
    ),
    Cause.MEMORY: lambda levels, _: (
        f"memory is short: page faults from disk {_from_to(levels, Column.MAJOR_FAULTS, _number)} a second, of the "
        f"engine from memory {_from_to(levels, Column.MINOR_FAULTS, _number)} a second"
    ),
    Cause.QUEUE: lambda levels, _: (
        f"more comes than is served: {_from_to(levels, Column.ARRIVALS, _number)} a second, "
        f"waiting {_from_to(levels, Column.WAITING, _number)}"
    ),
    Cause.SLOW_DISK: lambda levels, _: (
        f"the disk is slow: the console's transactions take {_from_to(levels, Column.COMMIT_S, _seconds)}, "
        f"the journal waits {_from_to(levels, Column.UNDURABLE_S, _seconds)}"
    ),
    Cause.CPU_HOG: lambda levels, _: (
        f"other programs take the processors ({_from_to(levels, Column.OTHERS_CPU, _number)} cores in use, "
        f"stolen by other machines {_from_to(levels, Column.STEAL_RATIO, _percent)}; the engine waited for one "
        f"{_from_to(levels, Column.RUN_DELAY, _percent)} of the time)"
    ),
}
