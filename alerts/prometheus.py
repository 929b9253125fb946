"""Rules and alerts in the words of Prometheus's HTTP API."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alerts.options import AlertOptions
from alerts.rules import Group
from alerts.state import AlertState, Instant
from alerts.views import AlertView, rfc3339
from alerts.watch import Watched

NEVER = "0001-01-01T00:00:00Z"


def alert_json(view: AlertView) -> dict[str, Any]:
    """One element of /api/v1/alerts."""
    return {
        "labels": dict(view.labels),
        "annotations": dict(view.annotations),
        "state": view.state.value,
        "activeAt": rfc3339(view.active_since_ms),
        "value": _value(view.value),
    }


def groups_json(
    groups: Iterable[Group], watched: Sequence[Watched], views: Sequence[AlertView], options: AlertOptions
) -> list[dict[str, Any]]:
    """The `groups` array of /api/v1/rules; `watched` in the order of the groups' rules."""
    by_rule: dict[int, list[AlertView]] = {}
    owners = {tracked.alert_id: id(one) for one in watched for tracked in one.run.alerts.values()}
    for view in views:
        by_rule.setdefault(owners.get(view.alert_id, 0), []).append(view)
    rest = iter(watched)
    result = []
    for group in groups:
        mine = [next(rest) for _ in group.rules]
        result.append(
            {
                "name": group.name,
                "file": group.file,
                "rules": [_rule_json(one, by_rule.get(id(one), [])) for one in mine],
                "interval": group.interval_s or options.interval_s,
                "limit": group.limit,
                "evaluationTime": sum(one.took_s for one in mine),
                "lastEvaluation": _moment(
                    max((one.evaluated for one in mine if one.evaluated), key=_age, default=None)
                ),
            }
        )
    return result


def _rule_json(watched: Watched, views: Sequence[AlertView]) -> dict[str, Any]:
    rule = watched.run.rule
    states = {view.state for view in views}
    state = next((one for one in (AlertState.FIRING, AlertState.PENDING) if one in states), AlertState.INACTIVE)
    shown: dict[str, Any] = {
        "state": state.value,
        "name": rule.name,
        "query": rule.expression.text,
        "duration": rule.for_s,
        "keepFiringFor": rule.keep_firing_for_s,
        "labels": dict(rule.label_texts),
        "annotations": dict(rule.annotation_texts),
        "alerts": [alert_json(view) for view in views],
        "health": "err" if watched.error else "ok" if watched.evaluated else "unknown",
        "evaluationTime": watched.took_s,
        "lastEvaluation": _moment(watched.evaluated),
        "type": "alerting",
    }
    if watched.error:
        shown["lastError"] = watched.error
    return shown


def _age(instant: Instant) -> int:
    return instant.mono_ms


def _moment(instant: Instant | None) -> str:
    return NEVER if instant is None else rfc3339(instant.wall_ms)


def _value(value: float) -> str:
    """A number as Go's 'e' format writes it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(np.format_float_scientific(value, trim="-", exp_digits=2))
