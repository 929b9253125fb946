"""Queue: one channel's rows of the outbox, read, leased, and closed.

A lease is taken before each attempt, by whom and until when, so that two processes, or a thread given up
as lost and its successor, never send the same message at once.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psutil
from sqlalchemy import ColumnElement, String, and_, case, cast, func, insert, or_, select, update

from alerts.batch import Batch
from alerts.evaluate import new_event_id
from alerts.message import Message
from alerts.options import OutboxOptions
from alerts.policy.decision import Priority, Target
from alerts.sequence import Order, Row, Timing, Unit, sequence
from alerts.source import Transactions
from metrics.errors import DeskvigilError
from storage.health import StorageUnavailable
from storage.tables import notification, outbox

LOOK = 20_000
T = TypeVar("T")
PENDING = outbox.c.status == "pending"
_HERE = f"{socket.gethostname()[:60]}:{os.getpid()}:{round(psutil.Process().create_time() * 1000)}"
_NUMBERS = itertools.count()


class LeasedElsewhereError(DeskvigilError):
    """Somebody else has the message in flight, or was done with it meanwhile."""


def void_leases(store: Transactions) -> None:
    """Free what processes of this machine that live no more had in flight."""
    with store.read() as connection:
        held = connection.execute(select(outbox.c.leased_by).where(PENDING, outbox.c.leased_by.is_not(None)).distinct())
        dead = [by for by in held.scalars() if not _alive(by)]
    if dead:
        with store.write() as connection:
            free = {"leased_by": None, "leased_until_ms": None}
            connection.execute(update(outbox).where(PENDING, outbox.c.leased_by.in_(dead)).values(free))


def _alive(holder: str) -> bool:
    """Whether a lease's holder may still run; of other machines that is not known."""
    host, pid, started, *_ = (*holder.rsplit(":", 3), "", "", "")
    if host != _HERE.rsplit(":", 2)[0] or not pid.isdigit():
        return True
    try:
        return str(round(psutil.Process(int(pid)).create_time() * 1000)) == started
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


class Queue:
    """What waits for one channel. `me` names the holder of its leases: another one for each Queue."""

    def __init__(self, store: Transactions, channel: str, options: OutboxOptions, digest_s: float) -> None:
        self._store = store
        self._channel = channel
        self._options = options
        self._me = f"{_HERE}:{next(_NUMBERS)}"
        self._mine = and_(PENDING, outbox.c.channel == channel)
        self._lease_ms = round(options.lease_s * 1000)
        self._timing = Timing(round(digest_s * 1000), round(options.retry_max_s * 1000), self._lease_ms)

    def look(self, now_ms: int) -> Order:
        """What may go now; of more than LOOK waiting rows the risen and the oldest are looked at."""
        rises = case((outbox.c.priority >= Priority.RISEN, 0), else_=1)
        grouped = outbox.c.group_key != ""
        mine = case((outbox.c.leased_by == self._me, 0), else_=func.coalesce(outbox.c.leased_until_ms, 0))
        interval = case((grouped, outbox.c.payload["group_interval_ms"].as_integer()), else_=0)
        query = (
            select(
                outbox.c.id,
                outbox.c.event_id,
                outbox.c.alert_id,
                outbox.c.reason,
                outbox.c.group_key,
                func.coalesce(cast(outbox.c.target, String), ""),
                outbox.c.priority,
                func.coalesce(outbox.c.payload["severity"].as_string(), ""),
                func.coalesce(interval, 0),
                outbox.c.batch_id,
                outbox.c.attempts,
                outbox.c.created_ms,
                outbox.c.next_attempt_ms,
                outbox.c.last_error.is_not(None),
                mine,
            )
            .where(self._mine)
            .order_by(rises, outbox.c.id)
            .limit(LOOK)
        )
        with self._store.read() as connection:
            rows = sorted(Row(*found) for found in connection.execute(query))
            keys = {row.group_key for row in rows if row.group_key and row.interval_ms and row.batch_id is None}
            last_sent: dict[tuple[str, str], int] = {}
            for some in _chunks(sorted(keys), 500):
                target = func.coalesce(cast(outbox.c.target, String), "")
                sent = (
                    select(outbox.c.group_key, target, func.max(outbox.c.sent_ms))
                    .where(outbox.c.channel == self._channel, outbox.c.group_key.in_(some), outbox.c.status == "sent")
                    .group_by(outbox.c.group_key, target)
                )
                last_sent |= {(key, to): int(at_ms or 0) for key, to, at_ms in connection.execute(sent)}
        return sequence(rows, last_sent, self._timing, now_ms)

    def take(self, unit: Unit, now_ms: int) -> tuple[Batch | None, tuple[Row, ...], tuple[Row, ...]]:
        """Fix what goes out together, lease it, and load it: the batch, its rows, and rows that cannot be read.

        What is more than `max_batch` is fixed too, as messages of their own that follow. LeasedElsewhereError where
        somebody was faster. Where the database cannot be written, what needs no fixing is loaded all the same:
        rather twice than never.
        """
        rows, *others = _chunks(unit.rows, self._options.max_batch) if unit.batch_id is None else [unit.rows]
        batch_id = unit.batch_id or _name(rows)
        try:
            payloads = self._lease(rows, batch_id, others, now_ms)
        except StorageUnavailable:
            if unit.batch_id is None and (len(rows) > 1 or others):
                raise
            with self._store.read() as connection:
                found = connection.execute(select(*_PAYLOAD).where(outbox.c.id.in_([row.id for row in rows])))
                payloads = {row.id: (row.payload, row.target) for row in found}
        return _batch(batch_id, rows, payloads)

    def _lease(
        self, rows: Sequence[Row], batch_id: str, others: Sequence[Sequence[Row]], now_ms: int
    ) -> dict[int, tuple[Any, Any]]:
        until = outbox.c.leased_until_ms
        free = or_(until.is_(None), until <= now_ms, until > now_ms + self._lease_ms, outbox.c.leased_by == self._me)
        lease = {"batch_id": batch_id, "leased_until_ms": now_ms + self._lease_ms, "leased_by": self._me}
        unfixed = or_(outbox.c.batch_id.is_(None), outbox.c.batch_id == batch_id)
        ids = [row.id for row in rows]
        with self._store.write() as connection:
            won = connection.execute(
                update(outbox).where(outbox.c.id.in_(ids), self._mine, free, unfixed).values(lease)
            ).rowcount
            if won != len(ids):
                raise LeasedElsewhereError(f"{len(ids) - won} of {len(ids)} messages are in other hands")
            for some in others:
                values = {"batch_id": _name(some)}
                loose = and_(outbox.c.id.in_([row.id for row in some]), outbox.c.batch_id.is_(None), PENDING)
                connection.execute(update(outbox).where(loose).values(values))
            found = connection.execute(select(*_PAYLOAD).where(outbox.c.id.in_(ids))).all()
        return {row.id: (row.payload, row.target) for row in found}

    def close(self, rows: Sequence[Row], batch_id: str, now_ms: int, status: str, error: str, took_ms: float) -> None:
        """Record that rows are done with: status sent or dead."""
        values: dict[str, Any] = {"status": status, "last_error": error or None, **_FREE}
        if status == "sent":
            values["sent_ms"] = now_ms
        self._record(rows, batch_id, now_ms, values, status, error, took_ms)

    def postpone(
        self, rows: Sequence[Row], batch_id: str, now_ms: int, until_ms: int, error: str, took_ms: float
    ) -> None:
        """Record an attempt that failed, to be repeated."""
        values = {"next_attempt_ms": until_ms, "last_error": error, **_FREE}
        self._record(rows, batch_id, now_ms, values, "failed", error, took_ms)

    def hold(self, rows: Sequence[Row], until_ms: int, why: str) -> None:
        """Have rows that were not tried wait too."""
        with self._store.write() as connection:
            for some in _chunks(rows, 5000):
                held = and_(outbox.c.id.in_([row.id for row in some]), PENDING)
                connection.execute(update(outbox).where(held).values(next_attempt_ms=until_ms, last_error=why))

    def hasten(self, now_ms: int) -> None:
        """What waits only because something failed may go now."""
        held = and_(self._mine, outbox.c.last_error.is_not(None), outbox.c.next_attempt_ms > now_ms)
        with self._store.read() as connection:
            found = connection.execute(select(outbox.c.id).where(held).limit(1)).first()
        if found is not None:
            with self._store.write() as connection:
                connection.execute(update(outbox).where(held).values(next_attempt_ms=now_ms))

    def _record(
        self,
        rows: Sequence[Row],
        batch_id: str,
        now_ms: int,
        values: Mapping[str, Any],
        outcome: str,
        error: str,
        took_ms: float,
    ) -> None:
        attempts = [
            {
                "outbox_id": row.id,
                "event_id": row.event_id,
                "alert_id": row.alert_id,
                "channel": self._channel,
                "t_ms": now_ms,
                "attempt": row.attempts + 1,
                "outcome": outcome,
                "reason": row.reason,
                "error": error or None,
                "took_ms": took_ms,
                "batch_id": batch_id,
            }
            for row in rows
        ]
        done: ColumnElement[bool] = outbox.c.id.in_([row.id for row in rows])
        with self._store.write() as connection:
            connection.execute(update(outbox).where(done).values(attempts=outbox.c.attempts + 1, **values))
            connection.execute(insert(notification), attempts)


_FREE: dict[str, Any] = {"leased_until_ms": None, "leased_by": None}
_PAYLOAD = (outbox.c.id, outbox.c.payload, outbox.c.target)


def _chunks(rows: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (rows[at : at + most] for at in range(0, len(rows), most))


def _name(rows: Sequence[Row]) -> str:
    """The id of a message: its only event's, or a new one."""
    return rows[0].event_id if len(rows) == 1 else new_event_id()


def _batch(
    batch_id: str, rows: Sequence[Row], payloads: Mapping[int, tuple[Any, Any]]
) -> tuple[Batch | None, tuple[Row, ...], tuple[Row, ...]]:
    messages: list[Message] = []
    read: list[Row] = []
    broken: list[Row] = []
    target, labels = None, {}
    for row in rows:
        payload, to = payloads.get(row.id, (None, None))
        try:
            message = Message.from_payload(row.event_id, payload)
            target = None if to is None else Target(str(to["person"]), tuple(map(str, to.get("to") or ())))
            labels = dict(payload.get("group_labels") or {})
        except (KeyError, TypeError, ValueError, AttributeError):
            broken.append(row)
            continue
        messages.append(message)
        read.append(row)
    if not read:
        return None, (), tuple(broken)
    keys = {row.group_key for row in read}
    one_group = len(keys) == 1 and bool(read[0].group_key)
    batch = Batch(
        batch_id, tuple(messages), read[0].group_key if one_group else "", labels if one_group else {}, target
    )
    return batch, tuple(read), tuple(broken)
