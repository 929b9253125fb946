"""An alert in people's words: its value with its unit, its threshold likewise, and the address of its chart."""

from __future__ import annotations

import math
from functools import lru_cache

from alerts.views import AlertView
from dashboard.history.question import Question
from dashboard.history.scale import Scale, scale_for
from dashboard.history.unit import Unit, unit_of

BEFORE_MS = 15 * 60_000  # of the chart, before the alert began


def shown(alert: AlertView) -> tuple[str, str]:
    """The value and the comparison on one scale: ("612 µs", "> 500 µs"); "" where there is none."""
    sizes = [abs(one) for one in (alert.value, alert.threshold) if one is not None and math.isfinite(one)]
    scale = scale_for(_unit(alert.expression), max(sizes, default=0.0))
    value = _words(alert.value, scale)
    operator = alert.comparison.partition(" ")[0]
    limit = f"{operator} {_words(alert.threshold, scale)}" if operator and alert.threshold is not None else ""
    return value, limit


def chart_address(alert: AlertView) -> str:
    """The History page with what the rule looks at and its threshold, from before the alert on; "" where there is nothing."""
    if not alert.expression:
        return ""
    lines = () if alert.threshold is None or not math.isfinite(alert.threshold) else (alert.threshold,)
    start = f"{alert.active_since_ms - BEFORE_MS}"
    return "/history" + Question((alert.expression,), start=start, follow=True, lines=lines).to_search()


@lru_cache(maxsize=1024)
def _unit(expression: str) -> Unit | None:
    return unit_of(expression) if expression else None


def _words(value: float, scale: Scale) -> str:
    if not math.isfinite(value):
        return ""
    unit = "" if scale.words in ("", "no unit") else f" {scale.words}"
    return f"{value * scale.factor:,.4g}{unit}"
