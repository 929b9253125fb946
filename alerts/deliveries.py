"""Deliveries: messages to people as the outbox keeps them, to be shown, and one to try a channel with."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Row, select

from alerts.evaluate import new_event_id
from alerts.message import Message
from alerts.source import Transactions
from alerts.state import Reason
from alerts.views import DeliveryView
from metrics.severity import Severity
from storage.tables import outbox

MAX_ROWS = 2_000


def deliveries(store: Transactions, limit: int, status: str = "") -> list[DeliveryView]:
    """The newest messages first, at most `limit`; status: only those that are pending, sent or dead."""
    query = select(outbox).order_by(outbox.c.id.desc()).limit(max(1, min(limit, MAX_ROWS)))
    if status:
        query = query.where(outbox.c.status == status)
    with store.read() as connection:
        rows = connection.execute(query).all()
    return [_view(row) for row in rows]


def trial(channel: str, who: str, now_ms: int, external_url: str) -> Message:
    """A message that says that it is only a test."""
    event_id = new_event_id()
    words = "This is a test message. No alert is firing and nothing has to be done."
    return Message(
        message_id=event_id,
        reason=Reason.TEST,
        alert_id=f"test_{event_id}",
        fingerprint="test",
        rule="test",
        labels={"alertname": "TestMessage", "severity": Severity.INFO.label, "channel": channel},
        annotations={"summary": f"Test message to {channel}", "description": f"{words} It was sent by {who}."},
        severity=Severity.INFO,
        value=math.nan,
        comparison="",
        active_since_ms=now_ms,
        fired_at_ms=now_ms,
        resolved_at_ms=None,
        created_ms=now_ms,
        external_url=external_url,
    )


def outbox_row(message: Message, channel: str) -> dict[str, Any]:
    """The row of a message that goes to one channel at once and alone."""
    return {
        "event_id": message.message_id,
        "alert_id": message.alert_id,
        "channel": channel,
        "payload": message.to_payload(),
        "reason": message.reason.value,
        "created_ms": message.created_ms,
        "next_attempt_ms": message.created_ms,
    }


def _view(row: Row[Any]) -> DeliveryView:
    payload, target = row.payload or {}, row.target or {}
    try:
        severity = Severity.parse(str(payload.get("severity")))
    except ValueError:
        severity = Severity.INFO
    labels = payload.get("labels") or {}
    decided_ms = int(payload.get("created_ms") or row.created_ms)
    return DeliveryView(
        outbox_id=row.id,
        message_id=row.event_id,
        batch_id=row.batch_id or "",
        channel=row.channel,
        person=str(target.get("person", "")),
        alert_id=row.alert_id,
        name=str((payload.get("annotations") or {}).get("summary") or labels.get("alertname", row.alert_id)),
        severity=severity,
        reason=Reason(row.reason),
        status=row.status,
        attempts=row.attempts,
        decided_ms=decided_ms,
        crossed_ms=int(payload.get("active_since_ms") or decided_ms),
        next_attempt_ms=row.next_attempt_ms,
        sent_ms=row.sent_ms,
        error=row.last_error or "",
    )
