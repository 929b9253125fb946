"""Marks: what happened in a window: restarts and deploys, halts and overrides, alerts, wraps of the tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alerts.state import AlertState
from alerts.views import AlertEvent
from dashboard.services import Annotation, Services
from dashboard.timerange import TimeRange
from metrics.severity import Severity

MOST = 300
_PAGE = 200
_MOST_PAGES = 25
KINDS: Mapping[str, str] = {
    "deploy": "Deploys, restarts",
    "alert": "Alerts",
    "trading": "Halts, overrides",
    "session": "Sessions, tape",
    "other": "Other",
}
_GROUPS: Mapping[str, str] = {
    "restart": "deploy",
    "deploy": "deploy",
    "config": "deploy",
    "start": "deploy",
    "trading": "trading",
    "halt": "trading",
    "resume": "trading",
    "breaker": "trading",
    "degraded": "trading",
    "poison": "deploy",
    "override": "trading",
    "session": "session",
    "tape": "session",
    "wrap": "session",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """Something at t_ms, or from t_ms to end_ms (None: it lasts). severity: of an alert, else None."""

    t_ms: int
    end_ms: int | None
    kind: str
    text: str
    detail: str = ""
    href: str = ""
    severity: Severity | None = None
    is_span: bool = False


def marks(services: Services, span: TimeRange, without: frozenset[str]) -> tuple[list[Mark], int]:
    """The newest MOST marks that touch the window, oldest first, and how many older ones are left out; blocks."""
    found: list[Mark] = []
    if "alert" not in without:
        found += _alerts(services, span)
    noted = services.annotations(span.start_ms, span.end_ms)
    found += [mark for mark in map(_noted, noted) if mark.kind not in without]
    found.sort(key=lambda mark: (mark.t_ms, mark.text))
    return found[-MOST:], max(len(found) - MOST, 0)


def _noted(note: Annotation) -> Mark:
    kind = _GROUPS.get(note.kind, "other" if note.kind not in KINDS else note.kind)
    return Mark(note.t_ms, note.end_ms, kind, note.text, note.detail, note.href, None, note.end_ms is not None)


def _alerts(services: Services, span: TimeRange) -> list[Mark]:
    """Alerts that fired in the window: an ended one tells at its end when it began, a living one is among the active."""
    found = [
        _alert(view.alert_id, view.name, view.annotations, view.severity, view.fired_at_ms, None)
        for view in services.alerts.active()
        if view.state == AlertState.FIRING and view.fired_at_ms is not None and view.fired_at_ms <= span.end_ms
    ]
    for event in _events_since(services, span.start_ms):
        ended = event.from_state == AlertState.FIRING and event.to_state != AlertState.FIRING
        if ended and event.fired_at_ms is not None and event.fired_at_ms <= span.end_ms:
            name = event.labels.get("alertname", event.rule)
            found.append(_alert(event.alert_id, name, event.annotations, event.severity, event.fired_at_ms, event.t_ms))
    return found


def _events_since(services: Services, start_ms: int) -> Sequence[AlertEvent]:
    """Every event from start_ms to now, newest first; of very many the newest."""
    out: list[AlertEvent] = []
    before_ms: int | None = None
    for _ in range(_MOST_PAGES):
        page = services.alerts.history(_PAGE, before_ms)
        out += [event for event in page if event.t_ms >= start_ms]
        if len(page) < _PAGE or page[-1].t_ms < start_ms:
            break
        before_ms = page[-1].t_ms
    return out


def _alert(
    alert_id: str, name: str, annotations: Mapping[str, str], severity: Severity, fired_ms: int, end_ms: int | None
) -> Mark:
    summary = annotations.get("summary") or name
    return Mark(fired_ms, end_ms, "alert", summary, severity.label, f"/alerts?alert={alert_id}", severity, True)
