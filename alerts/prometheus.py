"""Rules and alerts in the words of Prometheus's HTTP API."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alerts.options import AlertOptions
from alerts.recording import Recording
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
    groups: Iterable[Group],
    watched: Sequence[Watched],
    recordings: Iterable[Recording],
    views: Sequence[AlertView],
    options: AlertOptions,
) -> list[dict[str, Any]]:
    """The `groups` array of /api/v1/rules; `watched` in the order of the groups' rules."""
    by_rule: dict[int, list[AlertView]] = {}
    owners = {tracked.alert_id: id(one) for one in watched for tracked in one.run.alerts.values()}
    for view in views:
        by_rule.setdefault(owners.get(view.alert_id, 0), []).append(view)
    rest = iter(watched)
    runs = {id(one.rule): one for one in recordings}
    result = []
    for group in groups:
        mine = [next(rest) for _ in group.rules]
        records = [runs[id(rule)] for rule in group.records if id(rule) in runs]
        shown = [(one.run.rule.line, _rule_json(one, by_rule.get(id(one), []))) for one in mine]
        shown += [(one.rule.line, _record_json(one)) for one in records]
        evaluated = [at for at in (*(one.evaluated for one in mine), *(one.evaluated for one in records)) if at]
        result.append(
            {
                "name": group.name,
                "file": group.file,
                "rules": [rule for _, rule in sorted(shown, key=lambda pair: pair[0])],
                "interval": group.interval_s or options.interval_s,
                "limit": group.limit,
                "evaluationTime": sum(one.took_s for one in mine) + sum(one.took_s for one in records),
                "lastEvaluation": _moment(max(evaluated, key=_age, default=None)),
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


def _record_json(recording: Recording) -> dict[str, Any]:
    rule = recording.rule
    shown: dict[str, Any] = {
        "name": rule.name,
        "query": rule.text,
        "labels": dict(rule.labels),
        "health": "err" if recording.error else "ok" if recording.evaluated else "unknown",
        "evaluationTime": recording.took_s,
        "lastEvaluation": _moment(recording.evaluated),
        "type": "recording",
    }
    if recording.error:
        shown["lastError"] = recording.error
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
