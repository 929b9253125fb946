"""Messages for tests of channels and outbox."""

from alerts.message import Message
from alerts.state import Reason
from metrics.severity import Severity


def message(number: int = 0, alert: str = "alert", reason: Reason = Reason.FIRST, **changes) -> Message:
    resolved = reason is Reason.RESOLVED
    keys = {
        "message_id": f"msg_{alert}_{number}",
        "reason": reason,
        "alert_id": alert,
        "fingerprint": "f" * 16,
        "rule": "host/Busy",
        "labels": {"alertname": "Busy", "host": "a", "severity": "critical"},
        "annotations": {"summary": "Host a is 93 % busy", "description": "All cores <busy> & hot."},
        "severity": Severity.CRITICAL,
        "value": 0.93,
        "comparison": "> 0.9",
        "active_since_ms": 1_700_000_000_000,
        "fired_at_ms": 1_700_000_060_000,
        "resolved_at_ms": 1_700_000_120_000 if resolved else None,
        "created_ms": 1_700_000_060_000 + number,
        "external_url": "http://127.0.0.1:8050",
    }
    return Message(**{**keys, **changes})
