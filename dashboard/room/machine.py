"""Machine: the newest figures of host, processes and GPUs, each with its age, and how counters have grown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from dashboard.room.limits import Limits, limits_of
from dashboard.room.words import NONE, span
from dashboard.services import Services
from metrics.errors import DeskvigilError
from metrics.series import Series, make_labels

H, P, G, L = "deskvigil_host_", "deskvigil_process_", "deskvigil_gpu_", "deskvigil_resource_leak_"
NAMES = (
    f"{H}(cpus|cpu_busy_ratio|cpu_core_busy_ratio|cpu_mode_ratio|cpu_quota_periods_total|processes_running|load_average|"
    "oom_kills_total|memory_total_bytes|memory_available_bytes|memory_used_ratio|swap_total_bytes|swap_used_ratio|pressure_ratio)|"
    f"{P}(up|start_time_seconds|cpu_ratio|resident_memory_bytes|anonymous_memory_bytes|heap_.*|python_blocks|"
    f"memory_report_age_seconds|gc_.*)|{L}.*|{G}.*|deskvigil_risk_gpu_pool_.*|deskvigil_profiler_overhead_ratio|deskvigil_engine_pressure_memory_ratio"
)
BACK_MS = 30_000  # memory is reported every ten seconds
SILENT_MS = 10_000  # a collector that has sent nothing for so long is named
LOST_MS = 3_600_000  # how far back its last word is looked for
SENTINELS = {"host": f"{H}cpus", "process": f"{P}up", "GPU": f"{G}devices"}
COUNTERS = (
    f"{H}(cpu_throttled_seconds_total|swap_bytes_total|page_faults_total)|{P}page_faults_total|"
    "deskvigil_profiler_run_delay_seconds_total|deskvigil_collector_(handover_)?cpu_seconds_total"
)
RATE_MS = 60_000  # over which the growth of counters is told


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and how old it is, in seconds; NaN both where there is none."""

    value: float = math.nan
    age_s: float = math.nan

    def map(self, change: Callable[[float], float]) -> Figure:
        """The same age with another value."""
        return Figure(change(self.value), self.age_s)


NOTHING = Figure()


@dataclass(frozen=True, slots=True)
class Machine:
    """figures by metric name and series; rates: growth of counters by the second over the last minute; said: what is silent or cannot
    be read, in words."""

    figures: Mapping[str, Mapping[Series, Figure]] = field(default_factory=dict)
    rates: Mapping[Series, float] = field(default_factory=dict)
    limits: Limits = field(default_factory=lambda: Limits({}))
    said: str = ""

    def figure(self, name: str, **labels: str) -> Figure:
        """One series' newest figure."""
        return self.of(name).get(Series(name, make_labels(labels)), NOTHING)

    def of(self, name: str) -> Mapping[Series, Figure]:
        """A metric's figures by series."""
        return self.figures.get(name, {})

    def by(self, name: str, label: str, **where: str) -> dict[str, Figure]:
        """A metric's figures by one label, of the series with these labels."""
        return {
            series.label(label): figure
            for series, figure in self.of(name).items()
            if all(series.label(key) == value for key, value in where.items())
        }

    def sum(self, name: str) -> Figure:
        """All series of a metric together, as old as the oldest of them."""
        found = self.of(name).values()
        return Figure(sum(one.value for one in found), max(one.age_s for one in found)) if found else NOTHING

    def largest(self, name: str) -> Figure:
        """The largest of a metric's figures."""
        return max(self.of(name).values(), key=lambda one: one.value, default=NOTHING)

    def rate(self, name: str, **labels: str) -> Figure:
        """A counter's growth by the second, its series with these labels together; it has no age, it is of a minute."""
        found = [
            rate
            for series, rate in self.rates.items()
            if series.name == name and all(series.label(key) == value for key, value in labels.items())
        ]
        return Figure(sum(found)) if found else NOTHING


def read_machine(services: Services, now_ms: int) -> Machine:
    """Read everything as of now; blocks. What cannot be read is said."""
    try:
        figures = _newest(services, NAMES, now_ms, BACK_MS)
        return Machine(
            figures, _rates(services, now_ms), limits_of(services.alerts), _silence(services, figures, now_ms)
        )
    except DeskvigilError as error:
        return Machine(said=f"Nothing can be read now: {error}")


def _newest(services: Services, names: str, now_ms: int, back_ms: int) -> dict[str, dict[Series, Figure]]:
    matchers = [("__name__", "=~", names), ("instance", "=", "")]
    found: dict[str, dict[Series, Figure]] = {}
    for data in services.reader.select(matchers, now_ms - back_ms, now_ms + 500):
        known = np.flatnonzero(np.isfinite(data.values))
        if len(known):
            at = known[-1]
            age_s = max(now_ms - int(data.t_ms[at]), 0) / 1e3
            found.setdefault(data.series.name, {})[data.series] = Figure(float(data.values[at]), age_s)
    return found


def _rates(services: Services, now_ms: int) -> dict[Series, float]:
    """What `rate()` of PromQL would say without its guess beyond the first and the last sample: nine questions cost ten times as much."""
    matchers = [("__name__", "=~", COUNTERS), ("instance", "=", "")]
    found = {}
    for data in services.reader.select(matchers, now_ms - RATE_MS, now_ms + 500):
        known = np.isfinite(data.values)
        t_ms, values = data.t_ms[known], data.values[known]
        if len(values) > 1:
            steps = np.diff(values)
            grown = float(
                np.where(steps < 0.0, values[1:], steps).sum()
            )  # a counter that began anew grew by what it has
            found[data.series] = grown * 1e3 / float(t_ms[-1] - t_ms[0])
    return found


def _silence(services: Services, figures: Mapping[str, Mapping[Series, Figure]], now_ms: int) -> str:
    """Which collectors say nothing now, and for how long; "" where all do."""
    words = []
    for collector, name in SENTINELS.items():
        ages = [figure.age_s for figure in figures.get(name, {}).values()]
        if ages and min(ages) * 1e3 <= SILENT_MS:
            continue
        if not ages:
            ages = [figure.age_s for figure in _newest(services, name, now_ms, LOST_MS).get(name, {}).values()]
        words.append(f"the {collector} collector {f'for {span(min(ages))}' if ages else '(none in the last hour)'}")
    return f"{NONE.capitalize()} from {', '.join(words)}." if words else ""
