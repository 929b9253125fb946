"""Message: what one notification says, frozen when it was decided, rendered by each channel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alerts.state import AlertState, Reason
from metrics.severity import Severity

WORDS = {
    Reason.FIRST: "firing",
    Reason.ESCALATED: "escalated",
    Reason.TIER_FELL: "less severe",
    Reason.REPEAT: "still firing",
    Reason.RESOLVED: "resolved",
    Reason.RULE_GONE: "resolved (rule removed)",
    Reason.UNSUPPRESSED: "firing, no longer silenced",
    Reason.ACKNOWLEDGED: "acknowledged",
    Reason.UNACKNOWLEDGED: "no longer acknowledged",
    Reason.ACK_LAPSED: "acknowledged too long ago",
    Reason.ASSIGNED: "assigned to you",
    Reason.ESCALATION_STEP: "not acknowledged",
    Reason.UNTOLD: "firing, told late",
    Reason.TEST: "test message",
    Reason.SETTLED: "no longer coming and going",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One alert at one moment, and why it is told.

    message_id is stable over retries and restarts: receivers drop repeats by it. Times are ms since the
    epoch. value is NaN where the alert had none; comparison is text such as `> 0.9`, "" where there is none.
    who and comment: of the person or the step that changed it, "" where it changed by itself.
    """

    message_id: str
    reason: Reason
    alert_id: str
    fingerprint: str
    rule: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    severity: Severity
    value: float
    comparison: str
    active_since_ms: int
    fired_at_ms: int
    resolved_at_ms: int | None
    created_ms: int
    external_url: str
    who: str = ""
    comment: str = ""

    @property
    def resolved(self) -> bool:
        return self.resolved_at_ms is not None

    @property
    def state(self) -> AlertState:
        return AlertState.INACTIVE if self.resolved else AlertState.FIRING

    @property
    def name(self) -> str:
        return self.labels.get("alertname", self.rule)

    @property
    def link(self) -> str:
        """Where the alert is shown on the console."""
        return f"{self.external_url.rstrip('/')}/alerts?alert={self.alert_id}"

    @property
    def word(self) -> str:
        """The reason in words: firing, escalated, still firing, resolved, acknowledged by ana ..."""
        by = f" by {' '.join(self.who.split())}" if self.who else ""
        return WORDS.get(self.reason, self.reason.value) + by

    def to_payload(self) -> dict[str, Any]:
        """The message as plain JSON values; `from_payload` reads it back."""
        return {
            "reason": self.reason.value,
            "alert_id": self.alert_id,
            "fingerprint": self.fingerprint,
            "rule": self.rule,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "severity": self.severity.label,
            "value": self.value if math.isfinite(self.value) else str(self.value),
            "comparison": self.comparison,
            "active_since_ms": self.active_since_ms,
            "fired_at_ms": self.fired_at_ms,
            "resolved_at_ms": self.resolved_at_ms,
            "created_ms": self.created_ms,
            "external_url": self.external_url,
            "who": self.who,
            "comment": self.comment,
        }

    @classmethod
    def from_payload(cls, message_id: str, payload: Mapping[str, Any]) -> Message:
        """Read a stored message; KeyError or ValueError where the row is not one."""
        return cls(
            message_id=message_id,
            reason=Reason(payload["reason"]),
            alert_id=payload["alert_id"],
            fingerprint=payload["fingerprint"],
            rule=payload["rule"],
            labels=payload["labels"],
            annotations=payload["annotations"],
            severity=Severity.parse(payload["severity"]),
            value=float(payload["value"]),
            comparison=payload["comparison"],
            active_since_ms=payload["active_since_ms"],
            fired_at_ms=payload["fired_at_ms"],
            resolved_at_ms=payload["resolved_at_ms"],
            created_ms=payload["created_ms"],
            external_url=payload["external_url"],
            who=payload.get("who", ""),
            comment=payload.get("comment", ""),
        )
