"""ResourcesView: what the Resources page shows: USE columns, leaks, garbage, allocators, plan, bottleneck, and what watching costs."""

from __future__ import annotations

import math
from typing import Any

from dashboard.room.machine import L, Machine, P
from dashboard.room.resourceroom import Bottleneck, ResourceRoom
from dashboard.room.usecolumns import Row, Use, cpu_column, gpu_column, in_order, memory_column, panel, row, worst
from dashboard.room.words import NONE, count, number, percent, seconds, size, span
from dashboard.timerange import show_time

OVERHEAD_LIMIT = 0.005  # of a core: what sampling and the search for bottlenecks may cost (app.py bench profiler)
MB_MIN = 60e-6  # of bytes a second
WARMING_UP, CALM, SUSPECTED, LEAK = range(4)  # values of deskvigil_resource_leak_verdict
VERDICTS = {
    WARMING_UP: "too early to tell: 75 min of readings after its warm-up are needed",
    CALM: "calm",
    SUSPECTED: "suspected: it grows, its allocators do not confirm it",
    LEAK: "leaks: its allocators confirm it",
}
_TIMED = "console"  # whose collections are timed
_HISTOGRAM = f"{P}gc_pause_duration_seconds"


def resources_view(machine: Machine, room: ResourceRoom, gpu_absence: str, device: str) -> dict[str, Any]:
    """Every panel of the page by its name; `said` is what is silent, or ""."""
    panels = {
        "cpu": cpu_column(machine),
        "memory": memory_column(machine),
        "gpu": gpu_column(machine, gpu_absence, device),
        "leaks": _leaks(machine, room),
        "garbage": _garbage(machine),
        "allocators": _allocators(machine),
        "measures": _measures(room),
        "cost": _cost(machine),
    }
    return {
        "said": machine.said,
        "stale": False,
        "panels": {**panels, "summary": {"rows": _summary(machine, panels, gpu_absence), "note": "", "nothing": ""}},
        "bottleneck": _bottleneck(room.search),
        "plan": room.plan,
    }


def _summary(machine: Machine, panels: dict[str, Any], gpu_absence: str) -> list[Row]:
    """The strip on top: each with the worst severity of what it stands for."""
    h = "deskvigil_host_"
    gpu = machine.largest("deskvigil_gpu_utilisation_ratio").value
    leaks = [row["cells"][0] for row in panels["leaks"]["rows"] if row["severity"]]
    known = len(panels["leaks"]["rows"])
    cells = (
        ("GPU", percent(gpu) if math.isfinite(gpu) else "none", panels["gpu"]["note"] if math.isfinite(gpu) else gpu_absence, "gpu"),
        ("Processors", percent(machine.figure(f"{h}cpu_busy_ratio").value), panels["cpu"]["note"], "cpu"),
        ("Memory", percent(machine.figure(f"{h}memory_used_ratio").value), f"in use, {size(machine.figure(f'{h}memory_available_bytes').value)} available", "memory"),
        ("Leaks", NONE if not known else f"{len(leaks)} of {known}" if leaks else "none named", ", ".join(leaks) or f"of {known} process{'es' if known > 1 else ''}", "leaks"),
        ("Garbage", seconds(_pause(machine, 0.99)), "p99 of the console's pauses", "garbage"),
        ("Own cost", percent(machine.figure("deskvigil_profiler_overhead_ratio").value, 2), f"of a core for watching itself, limit {percent(OVERHEAD_LIMIT)}", "cost"),
    )  # fmt: skip
    return [
        {"cells": [name, reading, words if reading != NONE else ""], "severity": panels[key]["severity"], "title": words}
        for name, reading, words, key in cells
    ]  # fmt: skip


def _leaks(machine: Machine, room: ResourceRoom) -> dict[str, Any]:
    verdicts = machine.by(f"{L}verdict", "process")
    rows = [_leak_row(machine, name, int(verdicts[name].value)) for name in in_order(verdicts)]
    limit = room.leak_bytes_s * MB_MIN
    note = f"growth of the floor over two hours, with certainty above {number(limit, 2)} MB/min" if math.isfinite(limit) else ""  # fmt: skip
    return {"rows": rows, "note": note, "nothing": f"{NONE}: no process has reported its memory", "severity": worst(rows)}  # fmt: skip


def _leak_row(machine: Machine, name: str, verdict: int) -> Row:
    slope, low, high = (
        machine.figure(f"{L}{what}_bytes_per_second", process=name).value * MB_MIN
        for what in ("slope", "slope_low", "slope_high")
    )
    confidence = machine.figure(f"{L}confidence_ratio", process=name).value
    sites = machine.by(f"{L}site_bytes_per_second", "site", process=name)
    told = sorted(sites.items(), key=lambda pair: -pair[1].value)
    where = ", ".join(f"{site} ({number(one.value * MB_MIN, 2, 'MB/min', signed=True)})" for site, one in told)
    severity = machine.limits.severity("MemoryLeak", "MemoryGrowing", process=name)
    return {
        "cells": [
            name, VERDICTS.get(verdict, NONE), number(slope, 2, "MB/min", signed=True),
            f"{number(low, 2, signed=True)} to {number(high, 2, signed=True)}" if math.isfinite(low) else NONE,
            percent(confidence, 0), where or ("not known" if verdict >= SUSPECTED else ""),
        ],
        "severity": severity or ("warning" if verdict == LEAK else ""),
    }  # fmt: skip


def _garbage(machine: Machine) -> dict[str, Any]:
    """Pauses since the console's start: quantiles, the longest, and how many there were of each length."""
    longest = machine.figure(f"{P}gc_pause_longest_seconds", process=_TIMED)
    spent = machine.figure(f"{P}gc_pause_seconds_total", process=_TIMED)
    total = machine.figure(f"{_HISTOGRAM}_count", process=_TIMED)
    if not math.isfinite(total.value):
        return panel([], nothing=f"{NONE}: the console has told nothing of its collections")
    uses = [
        Use("half of them within", total.map(lambda _: _pause(machine, 0.5)), seconds),
        Use("99 % of them within", total.map(lambda _: _pause(machine, 0.99)), seconds),
        Use("longest", longest, seconds, severity=machine.limits.severity("ConsoleStandsStill")),
        Use("in all", spent, seconds),
    ]
    edges, counts = _buckets(machine)
    most = max(counts, default=0.0)
    bars = [
        {"cells": [f"up to {seconds(edge)}" if math.isfinite(edge) else f"over {seconds(edges[-2])}", count(n)], "severity": "", "part": n / most}
        for edge, n in zip(edges, counts, strict=True)
        if n > 0.0
    ]  # fmt: skip
    made = f"{count(total.value)} collections"
    started = machine.figure(f"{P}start_time_seconds", process=_TIMED)
    return panel(
        [("", [row(machine, use) for use in uses]), ("Pauses by length", bars)],
        f"{made} since the console started" if math.isfinite(started.value) else made,
    )


def _buckets(machine: Machine) -> tuple[list[float], list[float]]:
    """Upper edges of the histogram in seconds, ascending, and how many pauses lie in each."""
    found = machine.by(f"{_HISTOGRAM}_bucket", "le", process=_TIMED)
    rows = sorted((float(edge), figure.value) for edge, figure in found.items())  # "+Inf" is a float, too
    before = [0.0, *(value for _, value in rows)]
    return [edge for edge, _ in rows], [max(value - less, 0.0) for (_, value), less in zip(rows, before, strict=False)]


def _pause(machine: Machine, share: float) -> float:
    """The pause that this share of all did not exceed, interpolated inside its bucket, never above the longest."""
    edges, counts = _buckets(machine)
    rank, below = share * sum(counts), 0.0
    longest = machine.figure(f"{P}gc_pause_longest_seconds", process=_TIMED).value
    if not rank > 0.0:
        return math.nan
    for at, n in enumerate(counts):
        if below + n >= rank:
            low = edges[at - 1] if at else 0.0
            high = edges[at] if math.isfinite(edges[at]) else longest
            return min(low + (high - low) * (rank - below) / n, longest)
        below += n
    return math.nan


def _allocators(machine: Machine) -> dict[str, Any]:
    reports = machine.by(f"{P}memory_report_age_seconds", "process")
    rows = [
        {
            "cells": [
                name,
                *(size(machine.figure(f"{P}heap_bytes", process=name, state=state).value) for state in ("in_use", "free", "mapped")),
                percent(machine.figure(f"{P}heap_fragmentation_ratio", process=name).value),
                count(machine.figure(f"{P}python_blocks", process=name).value),
                span(reports[name].value + reports[name].age_s),
            ],
            "severity": "",
        }
        for name in in_order(reports)
    ]  # fmt: skip
    return {"rows": rows, "note": "malloc's heaps, from mallinfo2", "nothing": f"{NONE}: no process has reported its memory", "severity": ""}  # fmt: skip


def _measures(room: ResourceRoom) -> dict[str, Any]:
    rows = [{"cells": list(measure), "severity": ""} for measure in room.measures]
    return {"rows": rows, "note": "each with an off switch", "nothing": f"{NONE}: this console runs alone", "severity": ""}  # fmt: skip


def _cost(machine: Machine) -> dict[str, Any]:
    """What watching costs: the sampler against its limit, the collectors, the whole console, all processes."""
    watching = machine.figure("deskvigil_profiler_overhead_ratio")
    uses = [
        Use("sampling, search for bottlenecks", watching, _share, limit=f"≤ {percent(OVERHEAD_LIMIT)}", severity="warning" if watching.value > OVERHEAD_LIMIT else ""),
        Use("collectors, 1 min", machine.rate("deskvigil_collector_cpu_seconds_total"), _share),
        Use("rules and the live ring, 1 min", machine.rate("deskvigil_collector_handover_cpu_seconds_total"), _share),
        Use("the console, all of it", machine.figure(f"{P}cpu_ratio", process=_TIMED), _share, "ConsoleBusy"),
        Use("all our processes", machine.sum(f"{P}cpu_ratio"), _share),
    ]  # fmt: skip
    rows = [row(machine, use) for use in uses]
    return panel([("", rows)], "processor time, of a core")


def _share(value: float) -> str:
    return percent(value, 2 if value < 0.1 else 1)


def _bottleneck(search: Bottleneck) -> dict[str, str]:
    if search.sentence:
        since = f"since {show_time(search.since_ms)[11:]} UTC"
        return {"sentence": search.sentence, "note": since, "severity": "warning"}
    if search.absence:
        return {"sentence": f"{NONE.capitalize()}: {search.absence}.", "note": "", "severity": ""}
    if search.waits_s > 0:
        words = f"Nothing is said for another {span(search.waits_s)}: there is no calm time to compare with yet."
        return {"sentence": words, "note": "", "severity": ""}
    return {"sentence": "None: nothing is slower than in the calm hour before.", "note": "", "severity": ""}
