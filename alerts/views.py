"""What the alerts room shows of itself: frozen views for pages, messages and the Prometheus API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from alerts.state import AlertState, Reason
from metrics.severity import Severity

if TYPE_CHECKING:
    from alerts.evaluate import Posted
    from alerts.policy.decision import Suppression


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert as it is now. Times are ms since the epoch; value is NaN where there is none.

    labels carry `alertname` and `severity` (the present tier); threshold is the present tier's, None
    where the rule's expression has no single one. expression: what gives the value, of this alert's series where
    it can be narrowed to them. alert_id names this episode, fingerprint the label set. suppressed: why nobody is
    told now. posted: of an alert that another program sent. flapping: it comes and goes, which people are told once.
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
    ack_until_ms: int | None = None
    assigned_to: str | None = None
    expression: str = ""
    suppressed: tuple[Suppression, ...] = ()
    posted: Posted | None = None
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


@dataclass(frozen=True, slots=True)
class EscalationView:
    """The escalation of one firing alert. step: the next one to run, from 1, of `steps`; words: whom it tells.

    state: running, acknowledged or exhausted. due_ms: when the next step runs, None where none does.
    """

    alert_id: str
    policy: str
    state: str
    step: int
    steps: int
    round: int
    words: str
    due_ms: int | None
    started_ms: int


@dataclass(frozen=True, slots=True)
class DutyView:
    """Who is on duty (None: nobody) from when to when; stands_in: by an override."""

    person: str | None
    begins_ms: int
    ends_ms: int
    stands_in: bool


@dataclass(frozen=True, slots=True)
class RotaView:
    """One rota: its time zone, and who is on duty, the present one first."""

    name: str
    zone: str
    duties: tuple[DutyView, ...]


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One message to one channel. status: pending, sent or dead; decided_ms is when the change was decided.

    crossed_ms: when the alert's expression began to hold. batch_id: the message that it went out with, "" before.
    """

    outbox_id: int
    message_id: str
    batch_id: str
    channel: str
    person: str
    alert_id: str
    name: str
    severity: Severity
    reason: Reason
    status: str
    attempts: int
    decided_ms: int
    crossed_ms: int
    next_attempt_ms: int
    sent_ms: int | None
    error: str

    @property
    def took_ms(self) -> int | None:
        """From decided to taken by the other side."""
        return None if self.sent_ms is None else self.sent_ms - self.decided_ms


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One channel: what it was given since the start, and how it is now."""

    name: str
    min_severity: str
    max_per_minute: float
    burst: int
    waiting: int
    oldest_ms: int | None
    dead: int
    sent: int
    failed: int
    last_error: str
    limited: bool


def rfc3339(t_ms: int) -> str:
    """An instant as Prometheus's JSON writes it."""
    return datetime.fromtimestamp(t_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
