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
    "memory_total_bytes|memory_available_bytes|memory_used_ratio|swap_total_bytes|swap_used_ratio|pressure_ratio)|"
    f"{P}(up|start_time_seconds|cpu_ratio|resident_memory_bytes|anonymous_memory_bytes|heap_.*|python_blocks|"
    f"memory_report_age_seconds|gc_.*)|{L}.*|{G}.*|deskvigil_profiler_overhead_ratio|deskvigil_engine_pressure_memory_ratio"
)
BACK_MS = 30_000  # memory is reported every ten seconds
SILENT_MS = 10_000  # a collector that has sent nothing for so long is named
LOST_MS = 3_600_000  # how far back its last word is looked for
SENTINELS = {"host": f"{H}cpus", "process": f"{P}up", "GPU": f"{G}devices"}
_OURS = '{instance=""}'
GROWTH = {
    "run_delay": f"rate(deskvigil_profiler_run_delay_seconds_total{_OURS}[1m])",
    "throttled": f"rate({H}cpu_throttled_seconds_total{_OURS}[1m])",
    "swapping": f"sum(rate({H}swap_bytes_total{_OURS}[1m]))",
    "major": f'rate({H}page_faults_total{{kind="major",instance=""}}[1m])',
    "own_major": f'rate({P}page_faults_total{{kind="major",instance=""}}[1m])',
    "oom_kills": f"increase({H}oom_kills_total{_OURS}[1h])",
    "gpu_lost": f"increase({G}lost_total{_OURS}[1h])",
    "collecting": f"sum(rate(deskvigil_collector_cpu_seconds_total{_OURS}[1m]))",
    "handing_over": f"sum(rate(deskvigil_collector_handover_cpu_seconds_total{_OURS}[1m]))",
}


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
    """figures by series; grown: by question (see GROWTH) and series; said: what is silent or cannot be read, in words."""

    figures: Mapping[Series, Figure] = field(default_factory=dict)
    grown: Mapping[str, Mapping[Series, float]] = field(default_factory=dict)
    limits: Limits = field(default_factory=lambda: Limits({}))
    said: str = ""

    def figure(self, name: str, **labels: str) -> Figure:
        """One series' newest figure."""
        return self.figures.get(Series(name, make_labels(labels)), NOTHING)

    def by(self, name: str, label: str, **where: str) -> dict[str, Figure]:
        """A metric's figures by one label, of the series with these labels."""
        return {
            series.label(label): figure
            for series, figure in self.figures.items()
            if series.name == name and all(series.label(key) == value for key, value in where.items())
        }

    def sum(self, name: str) -> Figure:
        """All series of a metric together, as old as the oldest of them."""
        found = [figure for series, figure in self.figures.items() if series.name == name]
        return Figure(sum(one.value for one in found), max(one.age_s for one in found)) if found else NOTHING

    def largest(self, name: str) -> Figure:
        """The largest of a metric's figures."""
        found = [figure for series, figure in self.figures.items() if series.name == name]
        return max(found, key=lambda one: one.value, default=NOTHING)

    def grew(self, question: str, **labels: str) -> Figure:
        """The growth that `question` found, summed over the series with these labels; it has no age, it is of a time."""
        rows = self.grown.get(question, {})
        found = [v for s, v in rows.items() if all(s.label(key) == value for key, value in labels.items())]
        return Figure(sum(found)) if found else NOTHING


def read_machine(services: Services, now_ms: int) -> Machine:
    """Read everything as of now; blocks. What cannot be read is said."""
    try:
        figures = _newest(services, NAMES, now_ms, BACK_MS)
        grown = {question: _grown(services, words, now_ms) for question, words in GROWTH.items()}
        return Machine(figures, grown, limits_of(services.alerts), _silence(services, figures, now_ms))
    except DeskvigilError as error:
        return Machine(said=f"Nothing can be read now: {error}")


def _newest(services: Services, names: str, now_ms: int, back_ms: int) -> dict[Series, Figure]:
    matchers = [("__name__", "=~", names), ("instance", "=", "")]
    found = {}
    for data in services.reader.select(matchers, now_ms - back_ms, now_ms + 500):
        known = np.flatnonzero(np.isfinite(data.values))
        if len(known):
            at = known[-1]
            found[data.series] = Figure(float(data.values[at]), max(now_ms - int(data.t_ms[at]), 0) / 1e3)
    return found


def _grown(services: Services, expression: str, now_ms: int) -> dict[Series, float]:
    result = services.query.range(expression, now_ms, now_ms, 1000)
    rows = zip(result.labels, result.values, result.present, strict=True)
    return {Series("", make_labels(dict(labels))): float(v[-1]) for labels, v, there in rows if there[-1]}


def _silence(services: Services, figures: Mapping[Series, Figure], now_ms: int) -> str:
    """Which collectors say nothing now, and for how long; "" where all do."""
    words = []
    for collector, name in SENTINELS.items():
        ages = [figure.age_s for series, figure in figures.items() if series.name == name]
        if ages and min(ages) * 1e3 <= SILENT_MS:
            continue
        if not ages:
            ages = [figure.age_s for figure in _newest(services, name, now_ms, LOST_MS).values()]
        words.append(f"the {collector} collector {f'for {span(min(ages))}' if ages else '(none in the last hour)'}")
    return f"{NONE.capitalize()} from {', '.join(words)}." if words else ""
