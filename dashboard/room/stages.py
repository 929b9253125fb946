"""Stages: where an order's time goes, the slowest orders, and what the recording costs, as the Latency page shows it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from dashboard.room.engineroom import PARTS, EngineRoom
from dashboard.room.panels import silence
from dashboard.room.readings import Readings
from dashboard.room.words import seconds
from dashboard.services import Alerts
from dashboard.timerange import show_time
from metrics.kpi import KPIS

_E = "deskvigil_engine_"
# In the order of an order's way.
STAGES: Mapping[str, tuple[str, str]] = {
    "market_data": ("Feed to book", "an event's due time until it is in the book"),
    "decision": ("Decision", "event in the book until the strategy has decided"),
    "gate": ("Gates", "pre-trade check of one order"),
    "order_to_ack": ("Order to acknowledgement", "due time of what caused an order until the book has accepted it"),
    "order_to_fill": ("Order to fill", "the same, of a marketable order, until its first fill"),
    "client_order_to_ack": ("Client's order to acknowledgement", "a client's intended time until the book has accepted it"),
    "client_order_to_fill": ("Client's order to fill", "the same, of a marketable order, until its first fill"),
    "step": ("One run of the loop", "all events that were due"),
}  # fmt: skip
QUANTILES = ("0.5", "0.95", "0.99", "0.999")
_LIMIT = re.compile(r"histogram_quantile\(([\d.]+),.*deskvigil_engine_(\w+)_seconds_bucket\b.*>\s*([\d.eE+-]+)\s*$")


def limits(alerts: Alerts) -> dict[str, tuple[float, str]]:
    """Seconds and words of each stage's limit: the rules' own, and the target of the key figure."""
    kpi = next(kpi for kpi in KPIS if kpi.key == "order_to_fill_p99")
    found = {"order_to_fill": (kpi.target / kpi.scale, f"target {kpi.target:g} {kpi.unit} (p99)")}
    for group in alerts.rules():
        for rule in group["rules"]:
            match = _LIMIT.search(str(rule["query"]).replace("\n", " "))
            if match:
                bound = float(match[3])
                found[match[2]] = (bound, f"{rule['name']}: p{float(match[1]) * 100:g} over {seconds(bound)}")
    return found


def latency_now(readings: Readings, room: EngineRoom, bounds: Mapping[str, tuple[float, str]]) -> dict[str, Any]:
    """The last minute of every stage, the slowest orders, the recorder's cost; numbers in seconds, None where unknown."""
    return {
        "said": silence(readings, room),
        "stale": readings.is_silent,
        "stages": [_stage(name, readings, bounds) for name in STAGES],
        "parts": PARTS,
        "slowest": _slowest(room),
        "cost": [
            {"words": words, "text": seconds(readings.value(_E + "recorder_cost_seconds", part=part))}
            for part, words in (("record", "one record"), ("clock", "one look at the clock"))
        ],
    }


def _stage(name: str, readings: Readings, bounds: Mapping[str, tuple[float, str]]) -> dict[str, Any]:
    title, words = STAGES[name]
    values = [readings.value("deskvigil_kpi_latency_seconds", stage=name, quantile=q) for q in QUANTILES]
    values.append(readings.value(_E + "latency_max_seconds", stage=name))
    if values[-1] == 0.0:
        values[-1] = math.nan  # nothing was recorded in these two seconds
    bound, said = bounds.get(name, (math.nan, ""))
    over = math.isfinite(bound) and values[2] > bound
    return {
        "name": name,
        "title": title,
        "words": words,
        "values": [_or_none(value) for value in values],
        "texts": [*(seconds(value) for value in values[:-1]), _longest(values)],
        "limit": _or_none(bound),
        "limit_words": said,
        "severity": readings.severity(f"{_E}{name}_seconds") or ("warning" if over else ""),
    }


def _longest(values: list[float]) -> str:
    return "none" if math.isfinite(values[0]) and not math.isfinite(values[-1]) else seconds(values[-1])


def _slowest(room: EngineRoom) -> list[dict[str, Any]]:
    return [
        {
            "time": show_time(one.t_ms)[11:],
            "order": f"{one.symbol} {one.order_id}",
            "kind": "filled" if one.filled else "acknowledged",
            "total": one.total_s,
            "text": seconds(one.total_s),
            "parts": one.parts_s,
            "texts": [seconds(part) for part in one.parts_s],
        }
        for one in room.slowest
    ]


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
