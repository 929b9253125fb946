"""The room's own figures as a collector: structural, so that it runs in a collector thread like any other."""

from __future__ import annotations

import numpy as np

from alerts.service import AlertService
from alerts.state import AlertState
from metrics.catalogue import series
from metrics.frame import Frame
from metrics.series import Schema, Series
from metrics.severity import Severity

STATES = (AlertState.PENDING, AlertState.FIRING)
OUTCOMES = ("sent", "failed", "withheld")
STATUSES = ("sent", "failed", "dead")


class AlertsCollector:
    """Publishes counts of alerts, evaluations and notifications once a second."""

    name = "alerts"
    interval_s = 1.0

    def __init__(self, service: AlertService) -> None:
        self._service = service
        self._schema: Schema | None = None

    def describe(self) -> Schema:
        """The series; the same at every call, since channels do not change while the program runs."""
        if self._schema is None:
            self._schema = Schema(self.name, tuple(self._values()))
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """One frame of the present figures."""
        schema = self.describe()
        values = self._values()
        return Frame(schema, now_ns, np.array([values[one] for one in schema.series], dtype=np.float64))

    def close(self) -> None:
        """Nothing to close."""

    def _values(self) -> dict[Series, float]:
        stats, active = self._service.stats(), self._service.active()
        values: dict[Series, float] = {}
        for state in STATES:
            for tier in Severity:
                count = sum(1 for view in active if view.state is state and view.severity is tier)
                values[series("deskvigil_alerts", state=state.value, severity=tier.label)] = count
        values[series("deskvigil_alerts_acknowledged")] = sum(1 for view in active if view.acked_by is not None)
        figures = {
            "rules": stats.rules,
            "rules_failing": stats.rules_failing,
            "recording_rules": stats.records,
            "recording_rules_failing": stats.records_failing,
            "rules_reloads_total": stats.reloads,
            "rules_reload_failed": float(stats.reload_failed),
            "evaluations_total": stats.evaluations,
            "evaluation_failures_total": stats.failures,
            "evaluations_missed_total": stats.missed,
            "evaluation_seconds_total": stats.busy_s,
            "evaluation_passes_total": stats.passes,
            "changes_total": stats.changes,
            "changes_unwritten": stats.unwritten,
            "changes_lost_total": stats.lost,
            "outbox_pending": stats.waiting.pending,
            "outbox_oldest_seconds": stats.waiting.oldest_s,
            "escalations": stats.escalating,
            "escalation_steps_total": stats.steps,
            "audits_total": stats.audit.audits,
            "audit_findings": stats.audit.last,
            "audit_age_seconds": stats.audit_age_s,
            "heartbeat_age_seconds": stats.heartbeat.age_s,
        }
        for name, value in figures.items():
            values[series(f"deskvigil_alerts_{name}")] = value
        for kind, count in stats.audit.found.items():
            values[series("deskvigil_alerts_audit_findings_total", kind=kind)] = count
        for outcome in OUTCOMES:
            count = getattr(stats.heartbeat, outcome)
            values[series("deskvigil_alerts_heartbeats_total", outcome=outcome)] = count
        for channel, counts in stats.channels.items():
            for status in STATUSES:
                labelled = series("deskvigil_alerts_notifications_total", channel=channel, status=status)
                values[labelled] = getattr(counts, status)
        return values
