"""Desk: everything the live pages say beside numbers, as messages ready to send.

What is asked here may block (files, the database), so the hub asks from a worker thread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from alerts.state import AlertState
from alerts.views import AlertEvent, AlertView
from dashboard.alertwords import chart_address, shown
from dashboard.judge import Verdict
from dashboard.sentence import Sentence, compose
from dashboard.services import EngineInfo, Fill, RemoteState, Services
from metrics.errors import DeskvigilError

MAX_ALERTS = 200
RECENT_RESOLVED = 3
ANNOTATIONS_BACK_MS = 3_600_000
ANNOTATIONS_EVERY_NS = 2_000_000_000
MAX_ANNOTATIONS = 50
MAX_FILLS = 12
_ENDS = frozenset({"resolved", "rule_gone"})


class DeskWords:
    """Asks for everything that is said, and keeps what needs the database for a little while.

    May block; one call at a time per method.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._annotations: list[list[Any]] = []
        self._annotations_due_ns = 0
        self._resolved: list[dict[str, Any]] = []

    def state(self, verdicts: Sequence[Verdict]) -> dict[str, Any]:
        """Trading state, sentence, verdicts, fills, annotations, processes and absences in words."""
        services = self._services
        engine = services.engine()
        processes = services.processes()
        store = services.store_health()
        remote = services.remote()
        sentence = compose(verdicts, services.alerts.active(), engine, processes, store, remote)
        return {
            "k": "state",
            "engine": _engine(engine),
            "processes": [{"name": one.name, "state": one.state, "restarts": one.restarts} for one in processes],
            "store": {"ok": store.ok, "reason": store.reason},
            "remote": _remote(remote),
            "gpu": services.gpu(),
            "risk_device": services.risk_device(),
            "sentence": _sentence(sentence),
            "kpis": {one.kpi.key: _verdict(one) for one in verdicts},
            "fills": [_fill(fill) for fill in engine.fills[-MAX_FILLS:][::-1]],
            "annotations": self._annotated(),
            "version": services.version,
        }

    def alerts(self, changed: bool) -> dict[str, Any]:
        """Alerts that are alive, worst first, and the last few that ended (asked for again where `changed`)."""
        active = self._services.alerts.active()
        if changed:
            self._resolved = _resolved(self._services)
        return {
            "k": "alerts",
            "total": len(active),
            "active": [alert_row(alert) for alert in active[:MAX_ALERTS]],
            "resolved": self._resolved,
        }

    def _annotated(self) -> list[list[Any]]:
        clock = self._services.clock
        if clock.monotonic_ns() >= self._annotations_due_ns:
            self._annotations_due_ns = clock.monotonic_ns() + ANNOTATIONS_EVERY_NS
            self._annotations = _annotations(self._services, clock.now_ns() // 1_000_000)
        return self._annotations


def alert_row(alert: AlertView) -> dict[str, Any]:
    """One alert as the pages' script shows it."""
    value, limit = shown(alert)
    return {
        "id": alert.alert_id,
        "name": alert.name,
        "summary": alert.summary,
        "rule": alert.rule,
        "severity": alert.severity.label,
        "state": alert.state.value,
        "value": alert.value if math.isfinite(alert.value) else None,
        "comparison": alert.comparison,
        "shown": value,
        "limit": limit,
        "chart": chart_address(alert),
        "since": alert.active_since_ms,
        "fired": alert.fired_at_ms,
        "acked_by": alert.acked_by,
        "acked_at": alert.acked_at_ms,
        "comment": alert.ack_comment,
        "untold": " and ".join(dict.fromkeys(one.why.value for one in alert.suppressed)),
        "sender": "" if alert.posted is None else alert.posted.sender,
        "description": alert.annotations.get("description", ""),
        "labels": {name: value for name, value in alert.labels.items() if name not in {"alertname", "severity"}},
    }


def _resolved(services: Services) -> list[dict[str, Any]]:
    try:
        events: Sequence[AlertEvent] = services.alerts.history(limit=50)
    except DeskvigilError:
        return []  # the store is not well, which the sentence says
    ended = [event for event in events if event.to_state is AlertState.INACTIVE and event.reason.value in _ENDS]
    return [
        {
            "name": event.annotations.get("summary") or event.labels.get("alertname", event.rule),
            "severity": event.severity.label,
            "t": event.t_ms,
            "fired": event.fired_at_ms,
        }
        for event in ended[:RECENT_RESOLVED]
    ]


def _remote(remote: RemoteState | None) -> dict[str, Any] | None:
    if remote is None:
        return None
    return {"ok": remote.ok, "reason": remote.reason, "pending": remote.samples_pending, "age": round(remote.age_s, 1)}


def _engine(engine: EngineInfo) -> dict[str, Any]:
    return {
        "state": engine.state,
        "reason": engine.reason,
        "source": engine.source,
        "simulated_market": engine.simulated_market,
        "session_started": engine.session_started_ms,
        "session_ends": engine.session_ends_ms,
    }


def _sentence(sentence: Sentence) -> dict[str, Any]:
    return {
        "severity": sentence.severity.label if sentence.severity is not None else None,
        "words": [[word.text, word.href] for word in sentence.words],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    severity = verdict.severity
    return {
        "met": verdict.met,
        "severity": severity.label if severity is not None else None,
        "since": verdict.since_ms,
    }


def _fill(fill: Fill) -> list[Any]:
    return [fill.t_ms, fill.symbol, fill.side, fill.quantity, fill.price, fill.liquidity]


def _annotations(services: Services, now_ms: int) -> list[list[Any]]:
    try:
        found = services.annotations(now_ms - ANNOTATIONS_BACK_MS, now_ms)
    except DeskvigilError:
        return []
    return [[one.t_ms, one.text] for one in found[-MAX_ANNOTATIONS:]]
