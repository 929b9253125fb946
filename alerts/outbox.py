"""The outbox: delivers what the ledger promised, at least once, in order for each alert.

Rows wait in the database until a channel has taken them, so a restart forgets nothing. Each channel
has a thread of its own: one that hangs or fails does not delay the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, insert, select, update

from alerts.channels.channel import Channel
from alerts.courier import ChannelStats, Courier
from alerts.deliveries import outbox_row, trial
from alerts.errors import UnknownMessageError
from alerts.message import Message
from alerts.options import OutboxOptions
from alerts.queue import void_leases
from alerts.source import Transactions
from alerts.views import ChannelView
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from storage import audit
from storage.tables import outbox

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much waits in the outbox: rows, and the age of the oldest in seconds."""

    pending: int
    oldest_s: float


class Outbox:
    """All channels and their threads."""

    def __init__(
        self,
        store: Transactions,
        channels: Sequence[Channel],
        options: OutboxOptions,
        clock: Clock,
        on_attempt: Callable[[], None] = lambda: None,
        digest_interval_s: float = 900.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._options = options
        self._couriers = {
            channel.recipient.name: Courier(store, channel, options, clock, on_attempt, digest_interval_s)
            for channel in channels
        }
        if len(self._couriers) != len(channels):
            raise ValueError("two channels have the same name")

    def start(self) -> None:
        """Begin to deliver, what waited for a later attempt at once; rows of channels that are gone are given up."""
        try:
            self._give_up_orphans()
            void_leases(self._store)
            for courier in self._couriers.values():
                courier.hasten()
        except DeskvigilError as error:
            LOG.error("the outbox cannot be put in order: %s", error)
        for courier in self._couriers.values():
            courier.start()

    def stop(self) -> None:
        """Stop after the messages in flight, bounded by `stop_timeout_s` in all; what waits stays for the next start."""
        for courier in self._couriers.values():
            courier.request_stop()
        deadline_ns = self._clock.monotonic_ns() + round(self._options.stop_timeout_s * 1e9)
        for courier in self._couriers.values():
            courier.join(max(0.0, (deadline_ns - self._clock.monotonic_ns()) / 1e9))

    def wake(self) -> None:
        """New rows are there."""
        for courier in self._couriers.values():
            courier.wake()

    def send_unstored(self, message: Message, channels: Sequence[str]) -> None:
        """Deliver a message that cannot be stored because the database cannot be written.

        Once it can, the row arrives with the same id and is closed without being sent again.
        """
        for name in channels:
            self._couriers[name].send_unstored(message)

    def stats(self) -> dict[str, ChannelStats]:
        """Counters per channel."""
        return {name: courier.stats for name, courier in self._couriers.items()}

    def waiting(self) -> Waiting:
        """How much waits now, read from the database."""
        with self._store.read() as connection:
            row = connection.execute(
                select(func.count(), func.min(outbox.c.created_ms)).where(outbox.c.status == "pending")
            ).one()
        oldest_ms = self._clock.now_ns() // 1_000_000 - int(row[1]) if row[1] is not None else 0
        return Waiting(int(row[0]), max(0.0, oldest_ms / 1000))

    def replay(self, outbox_id: int, who: str) -> int:
        """Send a dead letter again, with all that was in the same message and under the same id; audited.

        Returns how many notifications that are. UnknownMessageError where it is not dead, or its channel is gone.
        """
        now_ms = self._clock.now_ns() // 1_000_000
        with self._store.write() as connection:
            row = connection.execute(select(outbox).where(outbox.c.id == outbox_id)).one_or_none()
            if row is None or row.status != "dead":
                raise UnknownMessageError(f"there is no dead letter {outbox_id}")
            if row.channel not in self._couriers:
                raise UnknownMessageError(f"its channel {row.channel!r} is no longer configured")
            same = outbox.c.id == outbox_id
            if row.batch_id is not None:
                same = and_(outbox.c.batch_id == row.batch_id, outbox.c.channel == row.channel)
            again = {"status": "pending", "attempts": 0, "created_ms": now_ms, "next_attempt_ms": now_ms}
            freed = {"last_error": None, "leased_until_ms": None, "leased_by": None}
            dead = and_(same, outbox.c.status == "dead")
            count = connection.execute(update(outbox).where(dead).values({**again, **freed})).rowcount
            detail = {"channel": row.channel, "alert": row.alert_id, "error": row.last_error, "notifications": count}
            audit.record(
                connection, t_ms=now_ms, who=who, action="notification.replay", object_=str(outbox_id), detail=detail
            )
        self._couriers[row.channel].wake()
        return count

    def try_channel(self, name: str, who: str, external_url: str) -> None:
        """Put a test message for one channel into the outbox; audited."""
        if name not in self._couriers:
            raise UnknownMessageError(f"there is no channel {name!r}")
        now_ms = self._clock.now_ns() // 1_000_000
        message = trial(name, who, now_ms, external_url)
        with self._store.write() as connection:
            connection.execute(insert(outbox), [outbox_row(message, name)])
            audit.record(connection, t_ms=now_ms, who=who, action="channel.test", object_=name)
        self._couriers[name].wake()

    def channels(self) -> list[ChannelView]:
        """Each channel, in the order of the settings, and how it is now."""
        with self._store.read() as connection:
            counted = connection.execute(
                select(outbox.c.channel, outbox.c.status, func.count(), func.min(outbox.c.created_ms))
                .where(outbox.c.status != "sent")
                .group_by(outbox.c.channel, outbox.c.status)
            ).all()
        counts = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in counted}
        found = []
        for name, courier in self._couriers.items():
            recipient, stats = courier.recipient, courier.stats
            waiting, oldest_ms = counts.get((name, "pending"), (0, None))
            found.append(
                ChannelView(
                    name=name,
                    min_severity=recipient.min_severity,
                    max_per_minute=recipient.max_per_minute,
                    burst=recipient.burst,
                    waiting=waiting,
                    oldest_ms=oldest_ms,
                    dead=counts.get((name, "dead"), (0, 0))[0],
                    sent=stats.sent,
                    failed=stats.failed,
                    last_error=stats.last_error,
                    limited=stats.limited,
                )
            )
        return found

    def unproven(self, limit_s: float) -> str:
        """Why it is not proven that messages leave, read from the database; "" where it is.

        A channel that is down is known: its attempts fail and are counted. But a message that is due and not
        even tried for limit_s shows a courier that stands still, and where every channel has failed for that
        long nobody hears anything.
        """
        limit_ms = self._clock.now_ns() // 1_000_000 - round(limit_s * 1000)
        waits = outbox.c.status == "pending"
        untried = select(func.count()).select_from(outbox).where(waits, outbox.c.next_attempt_ms < limit_ms)
        failing = select(outbox.c.channel).where(waits, outbox.c.attempts > 0, outbox.c.created_ms < limit_ms)
        with self._store.read() as connection:
            late = int(connection.execute(untried).scalar_one())
            down = set(connection.execute(failing.distinct()).scalars())
        if late:
            return f"{late} messages are due and were not tried for {limit_s:g} s"
        if self._couriers and down.issuperset(self._couriers):
            return f"no channel has taken its messages for {limit_s:g} s"
        return ""

    def _give_up_orphans(self) -> None:
        orphans = and_(outbox.c.status == "pending", outbox.c.channel.not_in(list(self._couriers)))
        with self._store.read() as connection:
            found = connection.execute(select(outbox.c.id).where(orphans).limit(1)).first()
        if found is not None:
            with self._store.write() as connection:
                gone = {"status": "dead", "last_error": "its channel is no longer configured"}
                connection.execute(update(outbox).where(orphans).values(gone))
