"""The ledger: alerts, their history and the messages they cause, written in one transaction.

A change of state, its line in the history and its outbox rows are committed together, so that
whatever kills the program, an alert that is on record is also told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from alerts.evaluate import Change, Tracked, new_event_id
from alerts.flapping import COUNTED, Verdict
from alerts.message import Message
from alerts.options import AlertOptions, SeverityName
from alerts.policy.decision import Why
from alerts.source import Transactions
from alerts.state import NOTIFIED, AlertState, Instant, Live, Reason
from alerts.views import AlertEvent, NotificationView
from metrics.severity import Severity
from storage.health import CommitUnknown
from storage.tables import alert_event, alert_state, notification, outbox, suppression

MAX_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Recipient:
    """What the ledger must know of a channel to address it."""

    name: str
    min_severity: SeverityName = "info"
    send_resolved: bool = True

    def wants(self, change: Change) -> bool:
        """Whether the channel is told of a change: of bad news by its tier, of better news where it had the bad."""
        known = self.name in change.tracked.told
        if change.after is None:
            return known and self.send_resolved
        if change.reason is Reason.TIER_FELL:
            return known
        return change.live.severity >= Severity.parse(self.min_severity)


@dataclass(frozen=True, slots=True)
class Restored:
    """One alert that was alive when the program stopped, as its row says."""

    rule: str
    tracked: Tracked
    annotations: Mapping[str, str]

    def gone(self, now: Instant) -> Change:
        """Its end, because no rule asks for it any more."""
        reason = Reason.RULE_GONE if self.tracked.live.state is AlertState.FIRING else Reason.WITHDRAWN
        before = self.tracked.live
        value, event_id = self.tracked.value, new_event_id()
        return Change(self.rule, self.tracked, before, None, reason, now, value, self.annotations, None, event_id)


class Ledger:
    """Writes and reads the alert tables."""

    def __init__(self, store: Transactions, recipients: Sequence[Recipient], options: AlertOptions) -> None:
        self._store = store
        self._recipients = tuple(recipients)
        self._external_url = options.external_url
        self._max_pending = options.outbox.max_pending
        self._doubtful: tuple[str, set[str]] | None = None
        self._written: set[str] = set()

    def record(self, changes: Sequence[Change]) -> int:
        """Write changes in one durable transaction; return how many messages they put into the outbox.

        StorageUnavailable where the database cannot be written: nothing was then. Its kind
        CommitUnknown leaves that open: what the next call brings again is written only where the first was not.
        """
        self._settle()
        new = [change for change in changes if change.event_id not in self._written]
        try:
            told = self._write(new) if new else 0
        except CommitUnknown as error:
            self._doubtful = (error.token, {change.event_id for change in new})
            raise
        self._written = set()
        return told or len(changes) - len(new)

    def _settle(self) -> None:
        """Find out whether the changes of a commit whose answer was lost are on record."""
        if self._doubtful is not None:
            if self._store.committed(self._doubtful[0]):
                self._written |= self._doubtful[1]
            self._doubtful = None

    def _write(self, changes: Sequence[Change]) -> int:
        addressed = [self.address(change) for change in changes if is_told(change)]
        damped = [_suppression_row(change) for change in changes if change.verdict is Verdict.DAMPED]
        rows = [row for message, channels in addressed for row in _outbox_rows(message, channels)]
        with self._store.write() as connection:
            for change in changes:
                _write_state(connection, change)
            connection.execute(insert(alert_event), [_event_row(change) for change in changes])
            if damped:
                connection.execute(insert(suppression), damped)
            for change in changes:
                if change.reason is Reason.SETTLED:
                    _lift(connection, change)
            if rows:
                self._bound(connection, rows)
                connection.execute(insert(outbox), rows)
        return len(rows)

    def acknowledge(self, connection: Connection, change: Change) -> bool:
        """Write an acknowledgement where nobody was faster; False where somebody was."""
        after = change.live
        won = connection.execute(
            update(alert_state)
            .where(alert_state.c.id == change.tracked.alert_id, alert_state.c.acked_by.is_(None))
            .values(
                acked_by=after.acked_by,
                acked_at_ms=after.acked_at_ms,
                ack_comment=after.ack_comment,
                updated_ms=change.at.wall_ms,
            )
        )
        if won.rowcount != 1:
            return False
        connection.execute(insert(alert_event), [_event_row(change)])
        return True

    def address(self, change: Change) -> tuple[Message, list[str]]:
        """What a change says to people, and the names of the channels that it goes to."""
        channels = [one.name for one in self._recipients if one.wants(change)]
        change.tracked.told.update(channels)
        return self._message(change), channels

    def _message(self, change: Change) -> Message:
        live = change.live
        return Message(
            message_id=change.event_id,
            reason=change.reason,
            alert_id=change.tracked.alert_id,
            fingerprint=change.tracked.fingerprint,
            rule=change.rule,
            labels={**change.tracked.labels, "severity": live.severity.label},
            annotations=change.annotations,
            severity=live.severity,
            value=change.value,
            comparison="" if change.comparison is None else str(change.comparison),
            active_since_ms=live.since.wall_ms,
            fired_at_ms=(live.fired or live.since).wall_ms,
            resolved_at_ms=change.at.wall_ms if change.after is None else None,
            created_ms=change.at.wall_ms,
            external_url=self._external_url,
        )

    def restore(self, now: Instant, tolerance_ms: int, last_alive_ms: int | None) -> list[Restored]:
        """Read what was alive at the last stop.

        last_alive_ms: when the program was last seen working. Pending alerts keep the time they had
        already held, the outage not counted; after an outage longer than the tolerance their clocks begin anew.
        """
        with self._store.read() as connection:
            rows = connection.execute(select(alert_state)).all()
            told = connection.execute(
                select(outbox.c.alert_id, outbox.c.channel)
                .where(outbox.c.alert_id.in_(select(alert_state.c.id)))
                .distinct()
            ).all()
        short = last_alive_ms is not None and 0 <= now.wall_ms - last_alive_ms <= tolerance_ms
        restored = []
        for row in rows:
            tracked = _tracked(row, now, last_alive_ms if short else None)
            tracked.told.update(channel for alert_id, channel in told if alert_id == row.id)
            restored.append(Restored(row.rule, tracked, _mapping(row.annotations)))
        return restored

    def since(self, t_ms: int) -> tuple[list[AlertEvent], dict[str, set[str]]]:
        """The events that flapping is made of from an instant on, oldest first, and the channels told of each alert."""
        wanted = [reason.value for reason in (*COUNTED, Reason.ESCALATED, Reason.TIER_FELL)]
        late = alert_event.c.t_ms >= t_ms
        with self._store.read() as connection:
            events = connection.execute(
                select(alert_event).where(late, alert_event.c.reason.in_(wanted)).order_by(alert_event.c.id)
            ).all()
            told = connection.execute(
                select(outbox.c.alert_id, outbox.c.channel)
                .where(outbox.c.alert_id.in_(select(alert_event.c.alert_id).where(late)))
                .distinct()
            ).all()
        channels: dict[str, set[str]] = {}
        for alert_id, channel in told:
            channels.setdefault(alert_id, set()).add(channel)
        return [_event(row) for row in events], channels

    def history(self, limit: int, before_ms: int | None) -> list[AlertEvent]:
        """The newest events first, at most `limit`, all before an instant where one is given."""
        query = select(alert_event).order_by(alert_event.c.t_ms.desc(), alert_event.c.id.desc())
        if before_ms is not None:
            query = query.where(alert_event.c.t_ms < before_ms)
        with self._store.read() as connection:
            rows = connection.execute(query.limit(max(1, min(limit, MAX_PAGE)))).all()
        return [_event(row) for row in rows]

    def notifications(self, limit: int, before_ms: int | None) -> list[NotificationView]:
        """The newest attempts first, at most `limit`, all before an instant where one is given."""
        query = select(notification).order_by(notification.c.t_ms.desc(), notification.c.id.desc())
        if before_ms is not None:
            query = query.where(notification.c.t_ms < before_ms)
        with self._store.read() as connection:
            rows = connection.execute(query.limit(max(1, min(limit, MAX_PAGE)))).all()
        return [_notification(row) for row in rows]

    def _bound(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Too many waiting messages are recorded as dead: visible, and never a full disk."""
        waiting = connection.execute(select(func.count()).select_from(outbox).where(outbox.c.status == "pending"))
        room = max(0, self._max_pending - int(waiting.scalar_one()))
        for row in rows[room:]:
            row["status"] = "dead"
            row["last_error"] = f"the outbox holds {self._max_pending} waiting messages already"


def is_told(change: Change) -> bool:
    """Whether a change is one that people are told at all, and not one of those that flapping damps."""
    return change.reason in NOTIFIED and change.verdict is not Verdict.DAMPED


def _lift(connection: Connection, change: Change) -> None:
    mine = (suppression.c.fingerprint == change.tracked.fingerprint) & (suppression.c.kind == Why.FLAPPING.value)
    connection.execute(
        update(suppression).where(mine, suppression.c.lifted_ms.is_(None)).values(lifted_ms=change.at.wall_ms)
    )


def _suppression_row(change: Change) -> dict[str, Any]:
    return {
        "t_ms": change.at.wall_ms,
        "event_id": change.event_id,
        "alert_id": change.tracked.alert_id,
        "fingerprint": change.tracked.fingerprint,
        "kind": Why.FLAPPING.value,
        "by": change.rule,
        "until_ms": None,
    }


def _outbox_rows(message: Message, channels: Sequence[str]) -> list[dict[str, Any]]:
    payload = message.to_payload()
    return [
        {
            "event_id": message.message_id,
            "alert_id": message.alert_id,
            "channel": channel,
            "payload": payload,
            "reason": message.reason.value,
            "created_ms": message.created_ms,
            "next_attempt_ms": message.created_ms,
            "attempts": 0,
            "status": "pending",
            "last_error": None,
        }
        for channel in channels
    ]


def _write_state(connection: Connection, change: Change) -> None:
    connection.execute(delete(alert_state).where(alert_state.c.fingerprint == change.tracked.fingerprint))
    if change.after is not None:
        connection.execute(insert(alert_state), [_state_row(change, change.after)])


def _state_row(change: Change, live: Live) -> dict[str, Any]:
    return {
        "fingerprint": change.tracked.fingerprint,
        "id": change.tracked.alert_id,
        "rule": change.rule,
        "labels": change.tracked.labels,
        "annotations": dict(change.annotations),
        "state": live.state.value,
        "severity": live.severity.label,
        "threshold": _threshold(change),
        "active_since_ms": live.since.wall_ms,
        "fired_at_ms": None if live.fired is None else live.fired.wall_ms,
        "notified_ms": None if live.notified is None else live.notified.wall_ms,
        "last_eval_ms": change.at.wall_ms,
        "value": _finite(change.value),
        "acked_by": live.acked_by,
        "acked_at_ms": live.acked_at_ms,
        "ack_comment": live.ack_comment,
        "flapping": int(change.tracked.flapping),
        "updated_ms": change.at.wall_ms,
    }


def _event_row(change: Change) -> dict[str, Any]:
    live = change.live
    return {
        "t_ms": change.at.wall_ms,
        "alert_id": change.tracked.alert_id,
        "fingerprint": change.tracked.fingerprint,
        "rule": change.rule,
        "labels": {**change.tracked.labels, "severity": live.severity.label},
        "annotations": dict(change.annotations),
        "from_state": _state(change.before).value,
        "to_state": _state(change.after).value,
        "reason": change.reason.value,
        "severity": live.severity.label,
        "value": _finite(change.value),
        "threshold": _threshold(change),
        "active_since_ms": live.since.wall_ms,
        "fired_at_ms": None if live.fired is None else live.fired.wall_ms,
        "who": change.who,
        "comment": change.comment,
    }


def _state(live: Live | None) -> AlertState:
    return AlertState.INACTIVE if live is None else live.state


def _threshold(change: Change) -> float | None:
    return None if change.comparison is None else change.comparison.threshold


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(raw: float | None) -> float:
    return math.nan if raw is None else float(raw)


def _tracked(row: Row[Any], now: Instant, last_alive_ms: int | None) -> Tracked:
    """An alert from its row. Ages are put on today's monotonic clock; a pending one's stops during the outage."""

    def instant(wall_ms: int | None, until_ms: int) -> Instant | None:
        return None if wall_ms is None else Instant(wall_ms, now.mono_ms - max(0, until_ms - wall_ms))

    pending = row.state == AlertState.PENDING
    until_ms = now.wall_ms if not pending else row.active_since_ms if last_alive_ms is None else last_alive_ms
    live = Live(
        state=AlertState(row.state),
        severity=Severity.parse(row.severity),
        since=instant(row.active_since_ms, until_ms) or now,
        fired=instant(row.fired_at_ms, now.wall_ms),
        notified=instant(row.notified_ms, now.wall_ms),
        acked_by=row.acked_by,
        acked_at_ms=row.acked_at_ms,
        ack_comment=row.ack_comment,
    )
    return Tracked(row.id, row.fingerprint, dict(row.labels), live, _number(row.value), stored=True, restored=True)


def _event(row: Row[Any]) -> AlertEvent:
    return AlertEvent(
        event_id=row.id,
        t_ms=row.t_ms,
        alert_id=row.alert_id,
        fingerprint=row.fingerprint,
        rule=row.rule,
        labels=_mapping(row.labels),
        annotations=_mapping(row.annotations),
        from_state=AlertState(row.from_state),
        to_state=AlertState(row.to_state),
        reason=Reason(row.reason),
        severity=Severity.parse(row.severity),
        value=_number(row.value),
        threshold=row.threshold,
        active_since_ms=row.active_since_ms,
        fired_at_ms=row.fired_at_ms,
        who=row.who,
        comment=row.comment,
    )


def _notification(row: Row[Any]) -> NotificationView:
    return NotificationView(
        notification_id=row.id,
        t_ms=row.t_ms,
        alert_id=row.alert_id,
        message_id=row.event_id,
        channel=row.channel,
        reason=Reason(row.reason),
        attempt=row.attempt,
        outcome=row.outcome,
        error=row.error or "",
        took_ms=_number(row.took_ms),
    )


def _mapping(raw: Mapping[str, str] | None) -> dict[str, str]:
    return dict(raw or {})
