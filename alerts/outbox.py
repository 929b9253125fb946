"""The outbox: delivers what the ledger promised, at least once, in order for each alert.

Rows wait in the database until a channel has taken them, so a restart forgets nothing. Each channel
has a thread of its own: one that hangs or fails does not delay the others.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, insert, or_, select, update

from alerts.channels.channel import Channel
from alerts.errors import ChannelError
from alerts.message import Message
from alerts.options import OutboxOptions
from alerts.source import Transactions
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from storage.tables import notification, outbox

LOG = logging.getLogger(__name__)
IDLE_S = 60.0
FAILURES_A_PASS = 3
UNSTORED_KEPT = 256


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """Counters of one channel since the start, and its last failure in words."""

    sent: int = 0
    failed: int = 0
    dead: int = 0
    last_error: str = ""


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
    ) -> None:
        self._store = store
        self._clock = clock
        self._options = options
        self._couriers = {
            channel.recipient.name: Courier(store, channel, options, clock, on_attempt) for channel in channels
        }
        if len(self._couriers) != len(channels):
            raise ValueError("two channels have the same name")

    def start(self) -> None:
        """Begin to deliver, what waited for a later attempt at once; rows of channels that are gone are given up."""
        try:
            self._give_up_orphans()
            self._retry_now()
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

    def _retry_now(self) -> None:
        """A restart often is the repair: nothing waits for the rest of its backoff."""
        now_ms = self._clock.now_ns() // 1_000_000
        later = and_(outbox.c.status == "pending", outbox.c.next_attempt_ms > now_ms)
        with self._store.read() as connection:
            found = connection.execute(select(outbox.c.id).where(later).limit(1)).first()
        if found is not None:
            with self._store.write() as connection:
                connection.execute(update(outbox).where(later).values(next_attempt_ms=now_ms))


class Courier:
    """The thread of one channel."""

    def __init__(
        self,
        store: Transactions,
        channel: Channel,
        options: OutboxOptions,
        clock: Clock,
        on_attempt: Callable[[], None],
    ) -> None:
        self._store = store
        self._channel = channel
        self._name = channel.recipient.name
        self._options = options
        self._clock = clock
        self._on_attempt = on_attempt
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._unstored: deque[Message] = deque(maxlen=UNSTORED_KEPT)
        self._delivered: deque[str] = deque(maxlen=4 * UNSTORED_KEPT)
        self._was_down = False
        self.stats = ChannelStats()

    def start(self) -> None:
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name=f"alerts-{self._name}", daemon=True)
            self._thread.start()

    def request_stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the message in flight; close the channel where it ended in time."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            if not self._thread.is_alive():
                self._thread = None
                self._channel.close()

    def wake(self) -> None:
        self._wake.set()

    def send_unstored(self, message: Message) -> None:
        self._unstored.append(message)
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()  # before looking: rows that come while we look wake us again
            try:
                wait_s = self._pass()
            except DeskvigilError as error:  # the database is away; the rows are not
                self._note(last_error=str(error))
                wait_s = self._options.retry_first_s
            except Exception as error:  # a fault of ours: loud, but the next pass may still get alerts out
                LOG.exception("channel %s: delivery failed", self._name)
                self._note(last_error=repr(error))
                wait_s = self._options.retry_first_s
            if wait_s > 0:
                self._wake.wait(wait_s)

    def _pass(self) -> float:
        """Deliver what is due; return how long nothing else will be, in seconds (0: go on at once)."""
        self._deliver_unstored()
        rows = self._due()
        failures = 0
        held: set[str] = set()
        for row in rows:
            if self._stopping.is_set() or row.alert_id in held:
                continue
            if self._deliver(row):
                continue
            held.add(row.alert_id)  # a later message of the same alert must not overtake
            failures += 1
            if failures >= FAILURES_A_PASS:
                self._hold_all(rows[0].attempts + 1)
                break
        return 0.0 if rows and failures == 0 else self._next_due_s()

    def _due(self) -> Sequence[Row[Any]]:
        """The oldest due rows whose alert has no older message waiting, or only such as are in the list too."""
        now_ms = self._now_ms()
        mine = and_(outbox.c.status == "pending", outbox.c.channel == self._name)
        blocked = select(outbox.c.alert_id).where(mine, ~self._is_due(now_ms)).scalar_subquery()
        query = (
            select(outbox)
            .where(mine, self._is_due(now_ms), outbox.c.alert_id.not_in(blocked))
            .order_by(outbox.c.id)
            .limit(self._options.batch)
        )
        with self._store.read() as connection:
            return connection.execute(query).all()

    def _is_due(self, now_ms: int) -> ColumnElement[bool]:
        """Due by the clock, or so far ahead that the clock must have been set back."""
        horizon_ms = now_ms + round(self._options.retry_max_s * 1000) + 1000
        return or_(outbox.c.next_attempt_ms <= now_ms, outbox.c.next_attempt_ms > horizon_ms)

    def _next_due_s(self) -> float:
        mine = and_(outbox.c.status == "pending", outbox.c.channel == self._name)
        with self._store.read() as connection:
            due_ms = connection.execute(select(func.min(outbox.c.next_attempt_ms)).where(mine)).scalar_one()
        if due_ms is None:
            return IDLE_S
        return min(max((int(due_ms) - self._now_ms()) / 1000, 0.02), IDLE_S)

    def _deliver(self, row: Row[Any]) -> bool:
        """Try one row; record how it went. True where it is done with (sent or dead)."""
        if row.event_id in self._delivered:
            self._close(row, "sent", "", 0.0)
            return True
        began_ns = self._clock.monotonic_ns()
        error = self._send(row)
        took_ms = (self._clock.monotonic_ns() - began_ns) / 1e6
        if error is None:
            self._delivered.append(row.event_id)  # should recording it fail, it is not sent again
            self._close(row, "sent", "", took_ms)
            self._back_up()
            return True
        age_s = (self._now_ms() - row.created_ms) / 1000
        if error.permanent or age_s > self._options.give_up_after_s:
            reason = str(error) if error.permanent else f"given up after {age_s / 3600:.1f} h: {error}"
            self._close(row, "dead", reason, took_ms)
            return True
        self._postpone(row, error, took_ms)
        return False

    def _send(self, row: Row[Any]) -> ChannelError | None:
        try:
            message = Message.from_payload(row.event_id, row.payload)
        except (KeyError, TypeError, ValueError) as error:
            return ChannelError(f"the stored message cannot be read: {error!r}", permanent=True)
        return self._hand_over(message)

    def _hand_over(self, message: Message) -> ChannelError | None:
        try:
            self._channel.send(message)
        except ChannelError as error:
            return error
        except Exception as error:  # a fault in a channel must not end its thread, and shows on every row
            return ChannelError(f"the channel failed: {error!r}")
        finally:
            self._on_attempt()
        return None

    def _close(self, row: Row[Any], status: str, error: str, took_ms: float) -> None:
        now_ms = self._now_ms()
        values = {"status": status, "attempts": row.attempts + 1, "last_error": error or None}
        if status == "sent":
            values["sent_ms"] = now_ms
        self._record(row, values, status, error, took_ms)
        if status == "sent":
            self._note(sent=1)
        else:
            self._note(dead=1, last_error=error)

    def _postpone(self, row: Row[Any], error: ChannelError, took_ms: float) -> None:
        wait_s = self._backoff_s(row.attempts + 1)
        if error.retry_after_s is not None:
            wait_s = min(max(wait_s, error.retry_after_s), self._options.retry_max_s)
        values = {
            "attempts": row.attempts + 1,
            "next_attempt_ms": self._now_ms() + round(wait_s * 1000),
            "last_error": str(error),
        }
        self._record(row, values, "failed", str(error), took_ms)
        self._was_down = True
        self._note(failed=1, last_error=str(error))

    def _record(self, row: Row[Any], values: dict[str, Any], outcome: str, error: str, took_ms: float) -> None:
        attempt = {
            "outbox_id": row.id,
            "event_id": row.event_id,
            "alert_id": row.alert_id,
            "channel": self._name,
            "t_ms": self._now_ms(),
            "attempt": row.attempts + 1,
            "outcome": outcome,
            "reason": row.reason,
            "error": error or None,
            "took_ms": took_ms,
        }
        with self._store.write() as connection:
            connection.execute(update(outbox).where(outbox.c.id == row.id).values(values))
            connection.execute(insert(notification), [attempt])

    def _hold_all(self, attempts: int) -> None:
        """The channel is down: what else is due waits as long as the rows just tried."""
        now_ms = self._now_ms()
        until_ms = now_ms + round(self._backoff_s(attempts) * 1000)
        due = and_(outbox.c.status == "pending", outbox.c.channel == self._name, self._is_due(now_ms))
        with self._store.write() as connection:
            connection.execute(update(outbox).where(due).values(next_attempt_ms=until_ms))

    def _back_up(self) -> None:
        """The channel works again: nothing waits any longer than it must."""
        if not self._was_down:
            return
        waiting = and_(outbox.c.status == "pending", outbox.c.channel == self._name)
        with self._store.write() as connection:
            connection.execute(update(outbox).where(waiting).values(next_attempt_ms=self._now_ms()))
        self._was_down = False
        self._note(last_error="")
        self._wake.set()

    def _backoff_s(self, attempts: int) -> float:
        """1, 2, 4 ... seconds up to the limit, up to a fifth less at random so that retries spread."""
        full = min(self._options.retry_first_s * 2.0 ** min(attempts - 1, 32), self._options.retry_max_s)
        return full * random.uniform(0.8, 1.0)

    def _deliver_unstored(self) -> None:
        while self._unstored and not self._stopping.is_set():
            message = self._unstored.popleft()
            error = self._hand_over(message)
            if error is None:
                self._delivered.append(message.message_id)
                self._note(sent=1)
            else:  # its row is written, and tried again, once the database is back
                self._note(failed=1, last_error=str(error))

    def _note(self, sent: int = 0, failed: int = 0, dead: int = 0, last_error: str | None = None) -> None:
        before = self.stats
        self.stats = ChannelStats(
            before.sent + sent,
            before.failed + failed,
            before.dead + dead,
            before.last_error if last_error is None else last_error,
        )

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000
