"""Readings: the newest values of the engine's series, and how they have grown, as of one instant.

While the engine is silent the readings are those of its last moments, and say how old they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dashboard.services import Services
from metrics.errors import DeskvigilError
from metrics.series import Series, make_labels
from metrics.severity import Severity

NAMES = (
    "deskvigil_engine_.*|deskvigil_kpi_latency_seconds|deskvigil_process_(up|restarts_total|start_time_seconds|cpu_ratio|"
    "resident_memory_bytes)|deskvigil_reconciliation_(open_breaks|lag_seconds|accuracy_ratio)"
)
_NOT_BUCKETS = ".*_bucket"
BACK_MS = 3_000
_NAME = re.compile(r"deskvigil_\w+")


@dataclass(frozen=True)
class Readings:
    """values by series; age_s: how old the engine's are, NaN where it was never seen; is_silent: it says nothing now.

    problem: why nothing can be read at all. firing: the severity of alerts by the metrics that their rules look at.
    """

    values: Mapping[Series, float] = field(default_factory=dict)
    grown: Mapping[str, Mapping[Series, float]] = field(default_factory=dict)
    age_s: float = math.nan
    is_silent: bool = True
    problem: str = ""
    firing: Mapping[str, Severity] = field(default_factory=dict)

    def value(self, name: str, **labels: str) -> float:
        """One series' newest value, NaN where there is none."""
        return self.values.get(Series(name, make_labels(labels)), math.nan)

    def by(self, name: str, label: str) -> dict[str, float]:
        """A metric's values by one label; of several series with the same value of it, their sum."""
        found: dict[str, float] = {}
        for series, value in self._of(name):
            key = series.label(label)
            found[key] = found.get(key, 0.0) + value
        return found

    def grew(self, question: str, **labels: str) -> float:
        """The growth that `question` (see GROWTH) found, summed over the series with these labels; NaN where none."""
        rows = self.grown.get(question, {})
        found = [v for s, v in rows.items() if all(s.label(key) == value for key, value in labels.items())]
        return sum(found) if found else math.nan

    def severity(self, name: str) -> str:
        """The label of the worst alert that fires on this metric, or ""."""
        found = self.firing.get(name)
        return "" if found is None else found.label

    def _of(self, name: str) -> Iterator[tuple[Series, float]]:
        return ((series, value) for series, value in self.values.items() if series.name == name)


_E = "deskvigil_engine_"
GROWTH = {
    "rejects": f"increase({_E}orders_rejected_total[5m])",
    "messages": f"rate({_E}messages_total[10s])",
    "events": f"sum(rate({_E}events_total[10s]))",
    "late": f"increase({_E}late_events_total[5m])",
    "rebases": f"increase({_E}timeline_rebases_total[5m])",
    "journal": f"rate({_E}journal_records_total[10s])",
    "requests": f"rate({_E}client_requests_total[10s])",
}


def read(services: Services, now_ms: int, *, growth: Sequence[str] = ()) -> Readings:
    """Read everything as of now; blocks. What cannot be read is said in `problem`."""
    try:
        own = _newest(services, "deskvigil_engine_(up|heartbeat_age_seconds)", now_ms)
        up = own.get(Series(_E + "up", ()), 0.0)
        age_s = own.get(Series(_E + "heartbeat_age_seconds", ()), math.nan)
        is_silent = up != 1.0
        at_ms = now_ms - (round(age_s * 1000) if is_silent and math.isfinite(age_s) else 0)
        values = _newest(services, NAMES, at_ms) if not is_silent or math.isfinite(age_s) else {}
        if is_silent:
            values |= _newest(services, "deskvigil_process_.*", now_ms)
        grown = {} if is_silent else {name: _grown(services, GROWTH[name], now_ms) for name in growth}
    except DeskvigilError as error:
        return Readings(problem=str(error), firing=_firing(services))
    return Readings(values, grown, age_s, is_silent, "", _firing(services))


def _newest(services: Services, names: str, at_ms: int) -> dict[Series, float]:
    matchers = [("__name__", "=~", names), ("__name__", "!~", _NOT_BUCKETS), ("instance", "=", "")]
    found = {}
    for data in services.reader.select(matchers, at_ms - BACK_MS, at_ms + 500):
        known = data.values[np.isfinite(data.values)]
        if len(known):
            found[data.series] = float(known[-1])
    return found


def _grown(services: Services, expression: str, now_ms: int) -> dict[Series, float]:
    result = services.query.range(expression, now_ms, now_ms, 1000)
    rows = zip(result.labels, result.values, result.present, strict=True)
    return {Series("", make_labels(dict(labels))): float(v[-1]) for labels, v, there in rows if there[-1]}


def _firing(services: Services) -> dict[str, Severity]:
    """What fires, by the metrics named in its rule: so a page marks what the rules mark, by their limits."""
    active = [alert for alert in services.alerts.active() if alert.state.value == "firing"]
    if not active:
        return {}
    queries = {rule["name"]: str(rule["query"]) for group in services.alerts.rules() for rule in group["rules"]}
    found: dict[str, Severity] = {}
    for alert in active:
        for name in _NAME.findall(queries.get(alert.name, "")):
            metric = name.removesuffix("_bucket")
            found[metric] = max(found.get(metric, alert.severity), alert.severity)
    return found
