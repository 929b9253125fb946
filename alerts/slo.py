"""Service level objectives: from what is promised to burn-rate alerts, as Prometheus rules.

The alerts are the multi-window, multi-burn-rate ones of Google's SRE Workbook (chapter 5): a burn rate of 1 spends exactly
the error budget of 30 days in 30 days. Each alert wants the rate over a long window, so that a blip does not fire it, and
over a short one, so that it ends soon after the trouble does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from alerts.errors import RuleError
from alerts.options import DEFAULT_SLOS, AlertOptions, SloOptions
from alerts.rules import Group, parse_rules

WINDOW = "$window"
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Burn:
    """One alert: budget spent `factor` times too fast over both windows. interval: how often it is looked at."""

    severity: str
    factor: float
    long: str
    short: str
    interval: str


BURNS = (
    Burn("critical", 14.4, "1h", "5m", "30s"),
    Burn("warning", 6.0, "6h", "30m", "1m"),
    Burn("info", 1.0, "3d", "6h", "5m"),
)
RECORDED = ("5m", "30m", "1h", "6h", "3d")


def objectives(options: AlertOptions) -> tuple[SloOptions, ...]:
    """The configured objectives; the shipped ones belong to the shipped rules."""
    return options.slos or (() if options.rules else DEFAULT_SLOS)


def slo_groups(slos: Sequence[SloOptions]) -> tuple[Group, ...]:
    """The burn-rate alerts; RuleError (a ConfigError) names the objective that is wrong."""
    return parse_rules(slo_rules(slos, records=False), "alerts.slos") if slos else ()


def slo_rules(slos: Sequence[SloOptions], *, records: bool = True) -> str:
    """A Prometheus rule file: the alerts and, where asked for, each error ratio and the budget left as recorded series."""
    names = [slo.name for slo in slos]
    for slo in slos:
        _check(slo)
        if names.count(slo.name) > 1:
            raise RuleError(f"alerts.slos: {slo.name!r} is there twice")
    lines = ["groups:"]
    for burn in BURNS:
        lines += [f"  - name: slo burn {burn.long}", f"    interval: {burn.interval}", "    rules:"]
        for slo in slos:
            lines += _alert(slo, burn)
    if records:
        lines += ["  - name: slo records", "    interval: 1m", "    rules:"]
        for slo in slos:
            lines += _records(slo)
    return "\n".join(lines) + "\n"


def errors_over(slo: SloOptions, window: str) -> str:
    """The share of bad events over a window, as PromQL."""
    if slo.errors:
        return slo.errors.replace(WINDOW, window)
    return f"1 - sum(rate({slo.good}[{window}])) / sum(rate({slo.total}[{window}]))"


def _check(slo: SloOptions) -> None:
    where = f"alerts.slos, {slo.name!r}"
    if not _NAME.match(slo.name):
        raise RuleError(f"{where}: a name is letters, digits, - and _, 63 at most")
    if bool(slo.errors) == bool(slo.good or slo.total) or bool(slo.good) != bool(slo.total):
        raise RuleError(f"{where}: give either errors, or both good and total")
    if slo.errors and WINDOW not in slo.errors:
        raise RuleError(
            f"{where}: errors must be a ratio over {WINDOW}, for example rate(failed_total[{WINDOW}]) / ..."
        )


def _alert(slo: SloOptions, burn: Burn) -> list[str]:
    limit = f"{burn.factor * (1 - slo.objective):.6g}"
    long, short = (f"({errors_over(slo, window)})" for window in (burn.long, burn.short))
    summary = (
        f"{slo.name}: errors of {{{{ $value | humanizePercentage }}}} over {burn.long} spend the budget "
        f"{burn.factor:g} times too fast"
    )
    description = (
        f"The objective is {slo.objective:.6g} over 30 days. {slo.description} "
        f"{_spent(burn)} of the budget is gone within {burn.long} at this rate."
    )
    return [
        f"      - alert: SloBurn_{slo.name.replace('-', '_')}",
        f"        expr: {json.dumps(f'{long} > {limit} and {short} > {limit}')}",
        f"        labels: {{severity: {burn.severity}, slo: {json.dumps(slo.name)}, window: {burn.long}}}",
        "        annotations:",
        f"          summary: {json.dumps(summary)}",
        f"          description: {json.dumps(' '.join(description.split()))}",
        "          runbook_url: docs/ALERTS.md#objectives-and-error-budgets",
    ]


def _spent(burn: Burn) -> str:
    hours = int(burn.long[:-1]) * (24 if burn.long.endswith("d") else 1)
    return f"{burn.factor * hours / 720:.0%}"


def _records(slo: SloOptions) -> list[str]:
    recorded = [(f"slo:error_ratio:rate{window}", errors_over(slo, window)) for window in RECORDED]
    left = f"1 - ({errors_over(slo, '30d')}) / {1 - slo.objective:.6g}"
    lines = []
    for name, expression in (*recorded, ("slo:error_budget_left:ratio30d", left)):
        lines += [
            f"      - record: {name}",
            f"        expr: {json.dumps(expression)}",
            f"        labels: {{slo: {json.dumps(slo.name)}}}",
        ]
    return lines
