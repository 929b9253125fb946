"""Courier: the thread of one channel. It delivers what is due, and knows when to try again."""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from alerts.batch import Batch
from alerts.channels.channel import Channel
from alerts.errors import ChannelError
from alerts.message import Message
from alerts.options import OutboxOptions
from alerts.queue import LeasedElsewhereError, Queue
from alerts.rate import TokenBucket
from alerts.sequence import Row, Unit, merged
from alerts.source import Transactions
from metrics.clock import Clock
from metrics.errors import DeskvigilError

LOG = logging.getLogger(__name__)
IDLE_S = 60.0
ELSEWHERE_S = 1.0
FAILURES_A_PASS = 3
LOOK_AGAIN_NS = 500_000_000
UNSTORED_KEPT = 256
DELIVERED_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """Counters of one channel since the start, its last failure in words, and whether its rate limit holds it now."""

    sent: int = 0
    failed: int = 0
    dead: int = 0
    last_error: str = ""
    limited: bool = False


class Courier:
    """Delivers for one channel: at least once, each alert and each group in order, what rises first."""

    def __init__(
        self,
        store: Transactions,
        channel: Channel,
        options: OutboxOptions,
        clock: Clock,
        on_attempt: Callable[[], None],
        digest_s: float,
    ) -> None:
        recipient = channel.recipient
        self.recipient = recipient
        self._channel = channel
        self._name = recipient.name
        self._options = options
        self._clock = clock
        self._on_attempt = on_attempt
        self._make_queue = partial(Queue, store, recipient.name, options, digest_s)
        self._queue = self._make_queue()
        self._bucket = TokenBucket(recipient.max_per_minute, recipient.burst)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._unstored: deque[Message] = deque(maxlen=UNSTORED_KEPT)
        self._delivered: deque[str] = deque(maxlen=DELIVERED_KEPT)  # of which it may not be on record
        self._was_down = False
        self.stats = ChannelStats()

    def start(self) -> None:
        """Begin. Where the thread of before still hangs in its channel, what it has in flight is leased to it."""
        if self._thread is None or not self._thread.is_alive():
            self._begin()
        elif self._stopping.is_set():
            self._queue = self._make_queue()
            self._begin()

    def _begin(self) -> None:
        self._stopping = threading.Event()
        arguments = (self._queue, self._stopping)
        self._thread = threading.Thread(target=self._run, args=arguments, name=f"alerts-{self._name}", daemon=True)
        self._thread.start()

    def request_stop(self) -> None:
        """Have the thread end after the message in flight."""
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
        """New rows are there."""
        self._wake.set()

    def send_unstored(self, message: Message) -> None:
        """Deliver a message that no row stands for."""
        self._unstored.append(message)
        self._wake.set()

    def _run(self, queue: Queue, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self._wake.clear()  # before looking: rows that come while we look wake us again
            wait_s = self.deliver(queue, stopping)
            if wait_s > 0:
                self._wake.wait(wait_s)

    def deliver(self, queue: Queue | None = None, stopping: threading.Event | None = None) -> float:
        """One pass over what is due; return how long nothing else will be, in seconds (0: go on at once)."""
        try:
            return self._pass(queue or self._queue, stopping or self._stopping)
        except DeskvigilError as error:  # the database is away; the rows are not
            self._note(last_error=str(error))
        except Exception as error:  # a fault of ours: loud, but the next pass may still get alerts out
            LOG.exception("channel %s: delivery failed", self._name)
            self._note(last_error=repr(error))
        return self._options.retry_first_s

    def _pass(self, queue: Queue, stopping: threading.Event) -> float:
        self._deliver_unstored(stopping)
        looked_ns = self._clock.monotonic_ns()
        order = queue.look(self._now_ms())
        waiting = deque(order.units)
        failures, handled, elsewhere, limited = 0, 0, False, False
        alerts: set[tuple[str, str]] = set()  # whose older message has just failed
        groups: set[tuple[str, str]] = set()
        while waiting and not stopping.is_set():
            if handled and self._wake.is_set() and self._clock.monotonic_ns() - looked_ns > LOOK_AGAIN_NS:
                return 0.0  # what came meanwhile may be more urgent
            unit = waiting.popleft()
            if not unit.urgent and self._bucket.limited:
                left = self._bucket.left(self._clock.monotonic_ns())
                if left < 1.0:
                    limited = True
                    continue
                if left < 2.0:
                    unit, waiting = self._gathered(unit, waiting)
            if unit.alerts & alerts or (unit.queue in groups and not unit.rises):
                self._wait_behind(queue, unit)
                continue
            try:
                error = self._deliver(queue, unit)
            except LeasedElsewhereError:
                elsewhere, error = True, None
                alerts |= unit.alerts
                groups |= {row.queue for row in unit.rows if row.group_key}
                continue
            handled += 1
            if error is None:
                continue
            failures += 1
            alerts |= unit.alerts
            groups |= {row.queue for row in unit.rows if row.group_key}
            if failures >= FAILURES_A_PASS:  # the channel is down: what else is due waits as long
                rest = [row for other in waiting for row in other.rows]
                queue.hold(rest, self._now_ms() + self._backoff_ms(unit.rows[0].attempts + 1), f"held: {error}")
                break
        self.stats = replace(self.stats, limited=limited)
        if handled:
            return 0.0
        return self._rest_s(order.next_ms, elsewhere, limited)

    def _rest_s(self, next_ms: int | None, elsewhere: bool, limited: bool) -> float:
        waits = [IDLE_S]
        if next_ms is not None:
            waits.append((next_ms - self._now_ms()) / 1000)
        if elsewhere:
            waits.append(ELSEWHERE_S)
        if limited:
            waits.append(self._bucket.next_s(self._clock.monotonic_ns()))
        return max(min(waits), 0.02)

    def _gathered(self, unit: Unit, waiting: deque[Unit]) -> tuple[Unit, deque[Unit]]:
        """One message is left of the channel's rate: all that waits goes with it as a digest."""
        loose = [other for other in waiting if not other.urgent and other.batch_id is None]
        if unit.batch_id is not None or not loose:
            return unit, waiting
        together, *others = merged([unit, *loose])
        return together, deque([*others, *(other for other in waiting if other.urgent or other.batch_id is not None)])

    def _wait_behind(self, queue: Queue, unit: Unit) -> None:
        """Have a unit wait like the older one that has just failed."""
        until_ms = self._now_ms() + self._backoff_ms(unit.rows[0].attempts + 1)
        queue.hold(unit.rows, until_ms, "held: an older message of its alert or group waits for another attempt")

    def _deliver(self, queue: Queue, unit: Unit) -> ChannelError | None:
        """Try one unit and record how it went; the error where it is to be tried again."""
        batch, rows, broken = queue.take(unit, self._now_ms())
        if broken:
            reason = "the stored message cannot be read"
            queue.close(broken, unit.batch_id or "", self._now_ms(), "dead", reason, 0.0)
            self._note(dead=1, last_error=reason)
        if batch is None:
            return None
        known = {row.id for row in rows if row.event_id in self._delivered}
        if known:
            queue.close([row for row in rows if row.id in known], batch.batch_id, self._now_ms(), "sent", "", 0.0)
            pairs = [pair for pair in zip(rows, batch.messages, strict=True) if pair[0].id not in known]
            if not pairs:
                self._note(sent=1)
                return None
            rows = tuple(row for row, _ in pairs)
            batch = replace(batch, messages=tuple(message for _, message in pairs))
        return self._attempt(queue, batch, rows, limit=not unit.urgent)

    def _attempt(self, queue: Queue, batch: Batch, rows: Sequence[Row], limit: bool) -> ChannelError | None:
        began_ns = self._clock.monotonic_ns()
        if limit:
            self._bucket.take(began_ns)
        error = self._hand_over(batch)
        took_ms = (self._clock.monotonic_ns() - began_ns) / 1e6
        now_ms = self._now_ms()
        if error is None:
            self._delivered.extend(row.event_id for row in rows)  # should recording it fail, it is not sent again
            queue.close(rows, batch.batch_id, now_ms, "sent", "", took_ms)
            self._note(sent=1)
            self._back_up(queue)
            return None
        age_s = (now_ms - max(row.created_ms for row in rows)) / 1000
        if error.permanent or age_s > self._options.give_up_after_s:
            reason = str(error) if error.permanent else f"given up after {age_s / 3600:.1f} h: {error}"
            queue.close(rows, batch.batch_id, now_ms, "dead", reason, took_ms)
            self._note(dead=1, last_error=reason)
            return None
        wait_ms = self._backoff_ms(rows[0].attempts + 1)
        if error.retry_after_s is not None:
            wait_ms = round(min(max(wait_ms, error.retry_after_s * 1000), self._options.retry_max_s * 1000))
        queue.postpone(rows, batch.batch_id, now_ms, now_ms + wait_ms, str(error), took_ms)
        self._was_down = True
        self._note(failed=1, last_error=str(error))
        return error

    def _hand_over(self, batch: Batch) -> ChannelError | None:
        try:
            self._channel.send(batch)
        except ChannelError as error:
            return error
        except Exception as error:  # a fault in a channel must not end its thread, and shows on every row
            return ChannelError(f"the channel failed: {error!r}")
        finally:
            self._on_attempt()
        return None

    def hasten(self) -> None:
        """A restart often is the repair: nothing waits for the rest of its backoff."""
        self._queue.hasten(self._now_ms())

    def _back_up(self, queue: Queue) -> None:
        """The channel works again: nothing waits any longer than it must."""
        if not self._was_down:
            return
        queue.hasten(self._now_ms())
        self._was_down = False
        self._note(last_error="")
        self._wake.set()

    def _backoff_ms(self, attempts: int) -> int:
        """1, 2, 4 ... seconds up to the limit, up to a fifth less at random so that retries spread."""
        full_s = min(self._options.retry_first_s * 2.0 ** min(attempts - 1, 32), self._options.retry_max_s)
        return round(full_s * random.uniform(0.8, 1.0) * 1000)

    def _deliver_unstored(self, stopping: threading.Event) -> None:
        while self._unstored and not stopping.is_set():
            message = self._unstored.popleft()
            error = self._hand_over(Batch.of(message))
            if error is None:
                self._delivered.append(message.message_id)
                self._note(sent=1)
            else:  # its row is written, and tried again, once the database is back
                self._note(failed=1, last_error=str(error))

    def _note(self, sent: int = 0, failed: int = 0, dead: int = 0, last_error: str | None = None) -> None:
        before = self.stats
        self.stats = replace(
            before,
            sent=before.sent + sent,
            failed=before.failed + failed,
            dead=before.dead + dead,
            last_error=before.last_error if last_error is None else last_error,
        )

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000
