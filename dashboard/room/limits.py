"""Limits: what the shipped rules, or the desk's own, compare a figure with, and how severe it is now."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alerts.views import AlertView
from dashboard.services import Alerts
from metrics.severity import Severity

_COMPARED = re.compile(r"(>=|<=|==|!=|>|<)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*$")
_WORDS = {">": "≤", ">=": "<", "<": "≥", "<=": ">"}


@dataclass(frozen=True, slots=True)
class Limits:
    """bounds: by the rule's name, its last comparison as (operator, number); firing: alerts that fire now."""

    bounds: Mapping[str, tuple[str, float]]
    firing: Sequence[AlertView] = ()

    def text(self, rule: str, write: Callable[[float], str]) -> str:
        """On which side of its limit a figure is well, "" where the desk has no such rule."""
        found = self.bounds.get(rule)
        return f"{_WORDS[found[0]]} {write(found[1])}" if found is not None and found[0] in _WORDS else ""

    def severity(self, *rules: str, **labels: str) -> str:
        """The label of the worst alert of these rules that fires, with these labels; "" where none does."""
        found: list[Severity] = [
            alert.severity
            for alert in self.firing
            if alert.name in rules and all(alert.labels.get(key) == value for key, value in labels.items())
        ]
        return max(found).label if found else ""


def limits_of(alerts: Alerts) -> Limits:
    """As of now."""
    bounds = {}
    for group in alerts.rules():
        for rule in group["rules"]:
            if match := _COMPARED.search(str(rule["query"]).strip()):
                bounds[str(rule["name"])] = match[1], float(match[2])
    return Limits(bounds, [alert for alert in alerts.active() if alert.state.value == "firing"])
