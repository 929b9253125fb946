"""UseColumns: processors, memory and GPUs as lists of utilisation, saturation and errors.

A row is a figure with its unit, the limit of the rule that looks at it, its severity (that rule fires) and its age.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.room.machine import NOTHING, Figure, G, H, Machine, P
from dashboard.room.words import NONE, count, number, percent, seconds, size
from metrics.severity import Severity

Row = dict[str, Any]
Write = Callable[[float], str]
ORDER = ("engine", "risk", "feed", "console", "supervisor")
POOL = "deskvigil_risk_gpu_pool_"
DELAY = "deskvigil_profiler_run_delay_seconds_total"
_BY_UNIT: dict[str, Write] = {"bytes": size, "ratio": percent, "seconds": seconds, "total": count}


@dataclass(frozen=True, slots=True)
class Use:
    """One figure of a column. rule: whose limit and severity it has; limit: in words, where no rule has one."""

    name: str
    figure: Figure
    write: Write
    rule: str = ""
    limit: str = ""
    severity: str = ""


def panel(groups: Sequence[tuple[str, Sequence[Row]]], note: str = "", nothing: str = "") -> dict[str, Any]:
    """A panel of rows below their headings; headings without rows are left out."""
    rows: list[Row] = []
    for title, members in groups:
        rows += [{"group": title}, *members] if members and title else members
    return {"rows": rows, "note": note, "nothing": nothing, "severity": worst(rows)}


def worst(rows: Iterable[Row]) -> str:
    """The worst severity among rows, "" where all are well."""
    found = [Severity.parse(row["severity"]) for row in rows if row.get("severity")]
    return max(found).label if found else ""


def row(machine: Machine, use: Use) -> Row:
    """The figure in words."""
    return {
        "cells": [
            use.name,
            use.write(use.figure.value) if math.isfinite(use.figure.value) else NONE,
            machine.limits.text(use.rule, use.write) or use.limit,
            seconds(use.figure.age_s) if math.isfinite(use.figure.age_s) else "",
        ],
        "severity": use.severity or machine.limits.severity(use.rule),
    }


def in_order(names: Iterable[str]) -> list[str]:
    """Our processes as they are always listed."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def cpu_column(machine: Machine) -> dict[str, Any]:
    """Processors."""
    cores = machine.figure(f"{H}cpus").value
    busy = machine.figure(f"{H}cpu_busy_ratio")
    shares = machine.by(f"{P}cpu_ratio", "process")
    ours = sum(figure.value for figure in shares.values())
    others = busy.map(lambda value: max(value * cores - ours, 0.0)) if shares else NOTHING
    used = [
        Use("all cores", busy, percent, "HostCpuBusy"),
        Use("busiest core", machine.largest(f"{H}cpu_core_busy_ratio"), percent),
        *(
            Use(f"{name}, of a core", shares[name], percent, "ConsoleBusy" if name == "console" else "")
            for name in in_order(shares)
        ),
        Use("other programs", others, _cores),
    ]  # fmt: skip
    delayed = {one.label("process") for one in machine.rates if one.name == DELAY}
    delays = [
        Use(f"{name} kept waiting, 1 min", machine.rate(DELAY, process=name), _fine) for name in in_order(delayed)
    ]
    waiting = [
        Use("running or waiting, a core", machine.figure(f"{H}processes_running").map(lambda n: n / cores), _two),
        Use("load of 5 min, a core", machine.figure(f"{H}load_average", window="5m").map(lambda n: n / cores), _two, "HostOverloaded"),
        Use("some task waited (PSI, 10 s)", _pressure(machine, "cpu", "some"), percent, "HostCpuPressure"),
        *delays,
    ]  # fmt: skip
    lost = [
        Use("stolen by the hypervisor", machine.figure(f"{H}cpu_mode_ratio", mode="steal"), percent),
        _quota(machine),
    ]
    return panel(_groups(machine, used, waiting, lost), _plural(cores, "core"), NONE)


def memory_column(machine: Machine) -> dict[str, Any]:
    """Memory of the machine, and of our processes."""
    own = machine.by(f"{P}anonymous_memory_bytes", "process")
    some, full = (_pressure(machine, "memory", kind) for kind in ("some", "full"))
    swaps = machine.figure(f"{H}swap_total_bytes").value > 0.0
    swap = Use("swap in use", machine.figure(f"{H}swap_used_ratio"), percent if swaps else _no_swap, "HostSwapUsed" if swaps else "")  # fmt: skip
    used = [
        Use("in use", machine.figure(f"{H}memory_used_ratio"), percent, "HostMemoryLow"),
        Use("available", machine.figure(f"{H}memory_available_bytes"), size),
        Use("our processes together", machine.sum(f"{P}resident_memory_bytes"), size, "MemoryOverBudget"),
        Use("of what they may have", machine.figure("deskvigil_engine_pressure_memory_ratio"), percent, "MemoryNearLimit"),
        *(Use(f"{name}, anonymous", own[name], size) for name in in_order(own)),
        swap,
    ]  # fmt: skip
    waiting = [
        Use("some task waited (PSI, 10 s)", some, percent),
        Use("all tasks waited (PSI, 10 s)", full, percent, "HostMemoryPressure"),
        Use("swapping, 1 min", machine.rate(f"{H}swap_bytes_total"), _size_a_second, "HostSwapping"),
        Use("faults that wait for a disk, 1 min", machine.rate(f"{H}page_faults_total", kind="major"), _a_second),
        Use("of them in our processes", machine.rate(f"{P}page_faults_total", kind="major"), _a_second),
    ]
    kills = Use(
        "killed for want of memory, since the boot",
        machine.figure(f"{H}oom_kills_total"),
        count,
        severity=machine.limits.severity("HostOutOfMemoryKill"),
    )
    total = machine.figure(f"{H}memory_total_bytes").value
    return panel(_groups(machine, used, waiting, [kills]), size(total) if math.isfinite(total) else "", NONE)


def gpu_column(machine: Machine, absence: str, device: str) -> dict[str, Any]:
    """GPUs, or in words why there is none; the risk process's pool of GPU memory where it publishes one."""
    gpus = machine.by(f"{G}up", "gpu")
    pool = [row(machine, use) for use in _pool(machine)]
    groups: list[tuple[str, Sequence[Row]]] = []
    for gpu in gpus:
        prefix = f"GPU {gpu}: " if len(gpus) > 1 else ""
        groups += [(prefix + title, rows) for title, rows in _groups(machine, *_one_gpu(machine, gpu))]
    words = f"{absence[:1].upper()}{absence[1:].rstrip('.')}." if absence else f"{NONE.capitalize()} of a GPU."
    nothing = f"{words} Monte-Carlo runs on the {device}."
    return panel([*groups, ("Memory pool of the risk process", pool)], _gpu_names(machine), nothing)


def _one_gpu(machine: Machine, gpu: str) -> tuple[list[Use], list[Use], list[Use]]:
    def figure(name: str, **labels: str) -> Figure:
        return machine.figure(G + name, gpu=gpu, **labels)

    def ruled(name: str, of: str, write: Write, rule: str, limit: str = "") -> Use:
        return Use(name, figure(of), write, rule, limit, machine.limits.severity(rule, gpu=gpu))

    total, watts = figure("memory_total_bytes").value, figure("power_limit_watts").value
    used = [
        Use("a kernel runs", figure("utilisation_ratio"), percent),
        Use("memory read or written", figure("memory_utilisation_ratio"), percent),
        ruled("memory in use", "memory_used_ratio", percent, "GpuMemoryLow"),
        Use("that is", figure("memory_used_bytes"), size, limit=f"of {size(total)}"),
    ]
    reasons = [name for name, one in machine.by(f"{G}throttle", "reason", gpu=gpu).items() if one.value == 1.0]
    waiting = [
        ruled("clocks held down", "throttled", lambda value: ", ".join(reasons) or "yes" if value else "no", "GpuThrottled"),
        Use("power", figure("power_watts"), _watts, limit=f"≤ {_watts(watts)}" if math.isfinite(watts) else ""),
        ruled("temperature", "temperature_celsius", _degrees, "GpuHot"),
    ]  # fmt: skip
    errors = [
        Use("memory errors not corrected", figure("ecc_errors_total", kind="uncorrected"), count, severity=machine.limits.severity("GpuMemoryErrors", gpu=gpu)),
        ruled("row waits for a reset", "row_remap_pending", _yes_or_no, "GpuRowRemapPending"),
        ruled("row could not be replaced", "row_remap_failed", _yes_or_no, "GpuRowRemapFailed"),
        Use("PCIe packets sent again", figure("pcie_replays_total"), count, severity=machine.limits.severity("GpuPcieReplays", gpu=gpu)),
        Use("answers", figure("up"), _yes_or_no, severity=machine.limits.severity("GpuDown", gpu=gpu)),
        Use("GPU or driver lost", machine.figure(f"{G}lost_total"), count, severity=machine.limits.severity("GpuLost")),
    ]  # fmt: skip
    return used, waiting, errors


def _pool(machine: Machine) -> list[Use]:
    """Whatever series of a pool there are, written by the unit that their names end in."""
    found = []
    pooled = [pair for name in sorted(machine.figures) if name.startswith(POOL) for pair in machine.of(name).items()]
    for series, figure in pooled:
        parts = series.name.removeprefix(POOL).split("_")
        write = _BY_UNIT.get(parts[-1], count)
        words = " ".join(parts[:-1] if parts[-1] in _BY_UNIT and len(parts) > 1 else parts)
        labels = ", ".join(value for _, value in series.labels)
        found.append(Use(f"{words}, {labels}" if labels else words, figure, write))
    return found


def _gpu_names(machine: Machine) -> str:
    return ", ".join(machine.by(f"{G}info", "name"))


def _groups(machine: Machine, *uses: Sequence[Use]) -> list[tuple[str, list[Row]]]:
    """Utilisation, saturation, errors; none at all where nothing is known."""
    if all(math.isnan(use.figure.value) for group in uses for use in group):
        return []
    titles = ("Utilisation", "Saturation", "Errors")
    return [(title, [row(machine, use) for use in group]) for title, group in zip(titles, uses, strict=True)]


def _pressure(machine: Machine, resource: str, kind: str) -> Figure:
    return machine.figure(f"{H}pressure_ratio", resource=resource, kind=kind)


def _quota(machine: Machine) -> Use:
    """How long a quota of the control group has held us back."""
    periods = machine.figure(f"{H}cpu_quota_periods_total")
    if periods.value == 0.0:
        return Use("held back by a quota", periods, lambda _: "no quota")
    return Use("held back by a quota, 1 min", machine.rate(f"{H}cpu_throttled_seconds_total"), percent)


def _plural(n: float, one: str) -> str:
    return f"{count(n)} {one}{'' if n == 1 else 's'}" if math.isfinite(n) else ""


def _two(value: float) -> str:
    return number(value, 2)


def _fine(value: float) -> str:
    return percent(value, 2)


def _cores(value: float) -> str:
    return number(value, 2, "cores")


def _size_a_second(value: float) -> str:
    return f"{size(value)}/s"


def _degrees(value: float) -> str:
    return number(value, 0, "°C")


def _watts(value: float) -> str:
    return number(value, 0, "W")


def _a_second(value: float) -> str:
    return number(value, 1, "/s")


def _no_swap(_value: float) -> str:
    return "there is none"


def _yes_or_no(value: float) -> str:
    return "yes" if value else "no"
