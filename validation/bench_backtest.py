"""Backtest of 50 rules over 30 stored days, one sample a second of each series."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from alerts.backtest import backtest
from alerts.options import AlertOptions
from alerts.rules import parse_rules
from metrics.clock import SystemClock
from query.engine import QueryEngine
from query.options import QueryOptions
from validation.figure import NO_PEER, Figure
from validation.stores.generated import START_MS, Shape, generated_store

RULES = 50
LIMIT_S = 60.0


def rules_text(rules: int = RULES) -> str:
    """Rules over the generated series: plain ones with tiers and recovery, some with `for`, some over rates."""
    lines = ["groups:", "- name: bench", "  interval: 1s", "  rules:"]
    for n in range(rules):
        lines.append(f"  - alert: Rule{n:02d}")
        if n % 5 == 4:
            lines.append(f'    expr: rate(bench_cpu_seconds_total{{cpu="{n % 19}",mode="user"}}[5m]) > {2 + n % 7}')
        else:
            lines.append(f'    expr: bench_level{{item="{n:03d}"}} > {60 + n % 30}')
        lines.append(f"    for: {(0, 30, 300)[n % 3]}s")
        lines.append("    labels: {severity: warning}")
        if n % 5 != 4:
            lines.append(
                f"    annotations: {{deskvigil: '{{tiers: {{critical: {95 + n % 5}}}, recovery: {55 + n % 5}}}'}}"
            )
    return "\n".join(lines)


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Run the rules over all of the generated store; DESKVIGIL_BENCH_DIR and _DAYS as in bench_archive."""
    shape = Shape(days=int(os.environ.get("DESKVIGIL_BENCH_DAYS", "30")), series=600)
    keep = os.environ.get("DESKVIGIL_BENCH_DIR")
    if keep:
        return _measure(Path(keep), shape, say)
    with tempfile.TemporaryDirectory(prefix="deskvigil-bench-") as name:
        return _measure(Path(name), shape, say)


def _measure(folder: Path, shape: Shape, say: Callable[[str], None]) -> list[Figure]:
    store = generated_store(folder, shape, say)
    try:
        query = QueryEngine(store.reader, QueryOptions(), SystemClock())
        result = backtest(parse_rules(rules_text(), "bench"), query, AlertOptions(), START_MS, shape.end_ms - 1000)
    finally:
        store.close()
    errors = [one.error for one in result.rules if one.error]
    if errors:
        raise RuntimeError(errors[0])
    fired = sum(one.fired for one in result.rules)
    return [
        Figure(
            benchmark="backtest",
            what=f"{RULES} rules over {shape.days} days ({result.rules[0].step_s:g} s steps, {fired:,} episodes)",
            value=result.took_s,
            unit="s",
            limit=LIMIT_S,
            peer=NO_PEER,
        )
    ]
