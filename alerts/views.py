"""What the alerts room shows of itself: frozen views for pages, messages and the Prometheus API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from alerts.state import AlertState, Reason
from metrics.severity import Severity


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert as it is now. Times are ms since the epoch; value is NaN where there is none.

    labels carry `alertname` and `severity` (the present tier); threshold is the present tier's, None
    where the rule's expression has no single one. flapping: it comes and goes, which people are told once. alert_id names this episode, fingerprint the label set.
    """

    alert_id: str
    fingerprint: str
    rule: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    severity: Severity
    state: AlertState
    value: float
    threshold: float | None
    comparison: str
    active_since_ms: int
    fired_at_ms: int | None
    acked_by: str | None
    acked_at_ms: int | None
    ack_comment: str | None
    flapping: bool = False

    @property
    def name(self) -> str:
        """The alert's name."""
        return self.labels.get("alertname", self.rule)

    @property
    def summary(self) -> str:
        """One sentence for people: the summary annotation, else the name."""
        return self.annotations.get("summary") or self.annotations.get("description") or self.name


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One line of the history: a change of one alert, and why."""

    event_id: int
    t_ms: int
    alert_id: str
    fingerprint: str
    rule: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    from_state: AlertState
    to_state: AlertState
    reason: Reason
    severity: Severity
    value: float
    threshold: float | None
    active_since_ms: int | None
    fired_at_ms: int | None
    who: str | None
    comment: str | None


@dataclass(frozen=True, slots=True)
class NotificationView:
    """One attempt to hand one message to one channel. outcome: sent, failed (tried again later) or dead."""

    notification_id: int
    t_ms: int
    alert_id: str
    message_id: str
    channel: str
    reason: Reason
    attempt: int
    outcome: str
    error: str
    took_ms: float


def rfc3339(t_ms: int) -> str:
    """An instant as Prometheus's JSON writes it."""
    return datetime.fromtimestamp(t_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
