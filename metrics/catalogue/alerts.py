"""Metrics of: alerts."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

METRICS: tuple[Metric, ...] = (
    Metric("deskvigil_alerts", "", "gauge", "Alerts that are pending or firing, by tier.", ("state", "severity")),
    Metric("deskvigil_alerts_acknowledged", "", "gauge", "Firing alerts that somebody acknowledged."),
    Metric("deskvigil_alerts_rules", "", "gauge", "Alerting rules that are loaded."),
    Metric("deskvigil_alerts_rules_failing", "", "gauge", "Rules whose last evaluation failed."),
    Metric("deskvigil_alerts_recording_rules", "", "gauge", "Recording rules that are loaded."),
    Metric("deskvigil_alerts_recording_rules_failing", "", "gauge", "Recording rules whose last evaluation failed."),
    Metric("deskvigil_alerts_rules_reloads_total", "", "counter", "Times that changed rule files were taken up."),
    Metric(
        "deskvigil_alerts_rules_reload_failed",
        "",
        "gauge",
        "1: a changed rule file is refused, and what it said before goes on.",
    ),
    Metric("deskvigil_alerts_evaluations_total", "", "counter", "Evaluations of rules."),
    Metric("deskvigil_alerts_evaluation_failures_total", "", "counter", "Evaluations of rules that failed."),
    Metric(
        "deskvigil_alerts_evaluations_missed_total",
        "",
        "counter",
        "Frames that a newer one replaced before the rules had looked at it.",
    ),
    Metric("deskvigil_alerts_evaluation_seconds_total", "seconds", "counter", "CPU time spent evaluating rules."),
    Metric("deskvigil_alerts_evaluation_passes_total", "", "counter", "Times the alert thread looked at new frames."),
    Metric("deskvigil_alerts_changes_total", "", "counter", "Changes of alerts that were recorded."),
    Metric(
        "deskvigil_alerts_changes_unwritten",
        "",
        "gauge",
        "Changes of alerts that wait because the database cannot be written.",
    ),
    Metric(
        "deskvigil_alerts_changes_lost_total",
        "",
        "counter",
        "Changes of alerts that never reached the database: too many waited for it.",
    ),
    Metric(
        "deskvigil_alerts_notifications_total",
        "",
        "counter",
        "Attempts to hand a message over: sent, failed (tried again) or dead (given up).",
        ("channel", "status"),
    ),
    Metric("deskvigil_alerts_escalations", "", "gauge", "Escalations that run: firing alerts nobody acknowledged."),
    Metric("deskvigil_alerts_escalation_steps_total", "", "counter", "Steps of escalations that were run."),
    Metric("deskvigil_alerts_audits_total", "", "counter", "Audits of whether all that fires was told and escalates."),
    Metric("deskvigil_alerts_audit_age_seconds", "seconds", "gauge", "Time since the last audit that went through."),
    Metric("deskvigil_alerts_audit_findings", "", "gauge", "Alerts that the last audit found not told or escalated."),
    Metric(
        "deskvigil_alerts_audit_findings_total",
        "",
        "counter",
        "Alerts that audits found not told or escalated as they should.",
        ("kind",),
    ),
    Metric(
        "deskvigil_alerts_heartbeats_total",
        "",
        "counter",
        "Requests of the dead man's switch: sent, failed, or withheld because nothing was proven.",
        ("outcome",),
    ),
    Metric(
        "deskvigil_alerts_heartbeat_age_seconds",
        "seconds",
        "gauge",
        "Time since the dead man's switch was last answered.",
    ),
    Metric("deskvigil_alerts_outbox_pending", "", "gauge", "Messages that wait to be delivered."),
    Metric("deskvigil_alerts_outbox_oldest_seconds", "seconds", "gauge", "Age of the oldest message that waits."),
)
