"""RemoteWriter: sends what the remote store has not got yet, and keeps trying while it is away."""

from __future__ import annotations

import email.utils
import json
import logging
import random
import threading
from dataclasses import dataclass
from datetime import UTC

import cramjam
from sqlalchemy import delete, insert, select

from metrics.clock import Clock
from storage.database import Database
from storage.health import HealthMark, StorageUnavailable, StoreHealth
from storage.options import StorageOptions
from storage.remote.client import Answer, RemoteAway, RemoteClient
from storage.remote.encode import Part, Ragged, encode_request
from storage.remote.progress import Progress
from storage.remote.unsent import Batch, Queue, Unsent, halves
from storage.tables import meta

log = logging.getLogger(__name__)

PROGRESS_KEY = "remote_write"
REFUSED = frozenset({400, 409, 413, 422})
"""Answers that are about the samples: sending the same again cannot help. All others are about the store."""
_FIRST_PAUSE_S = 0.25
_LONGEST_RETRY_AFTER_S = 600.0
_IDLE_S = 1.0
_STOP_S = 5.0
_REQUESTS_A_REFUSAL = 32
_REASONS_KEPT = 20


@dataclass(slots=True)
class RemoteCounts:
    """What was sent since the start; refused: by the store, for good. Only the sender's thread changes it."""

    samples: int = 0
    refused: int = 0
    requests: int = 0
    failures: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """How forwarding goes: ok, or why not and since when; queue: what waits."""

    ok: bool
    reason: str
    since_ms: int
    queue: Queue


class RemoteWriter:
    """One thread, one request at a time, so that samples of a series arrive in order.

    A sample counts as sent when the store has answered 2xx; then progress is stored in the SQLite
    file. After a kill, or a request whose answer did not come, one request's samples are sent again, the same.
    """

    def __init__(
        self, unsent: Unsent, client: RemoteClient, database: Database, options: StorageOptions, clock: Clock
    ) -> None:
        self.unsent = unsent
        self._client = client
        self._database = database
        self._options = options
        self._clock = clock
        self._health = HealthMark(clock)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._stored = ""
        self._reasons: set[str] = set()
        self.counts = RemoteCounts()

    @property
    def health(self) -> StoreHealth:
        return self._health.value

    def load(self) -> None:
        """Take up where the last run with the same store stopped. Raises StorageUnavailable."""
        with self._database.read() as connection:
            raw = connection.execute(select(meta.c.value).where(meta.c.key == PROGRESS_KEY)).scalar()
        progress = None
        if raw:
            try:
                stored = json.loads(raw)
                if stored["to"] == self._client.endpoint.write:
                    progress = Progress.from_json(stored["progress"])
                else:
                    log.warning("the remote store is another one now; it gets what comes from now on")
            except (ValueError, KeyError, TypeError, AttributeError):
                log.error("the stored progress of remote write is unreadable; it goes on with what comes from now on")
        self.unsent.begin(progress, backfill=self._options.remote_backfill and not raw)
        self._store_progress()

    def start(self) -> None:
        """Begin to send; does nothing where it has begun."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="remote-write", daemon=True)
            self._thread.start()

    def wake(self, *_: object) -> None:
        """Something new is in the archive."""
        self._wake.set()

    def stop(self) -> None:
        """End after the request in flight; what waits stays for the next start. May be called twice."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            if self._thread.is_alive():
                log.warning("the remote store holds a request for more than %g s; it is left alone", _STOP_S)
            self._thread = None
        self._store_progress()

    def close(self) -> None:
        self._client.close()

    def status(self) -> RemoteStatus:
        """How it goes, for pages."""
        health = self._health.value
        return RemoteStatus(health.ok, health.reason, health.since_ms, self.unsent.queue())

    def step(self) -> bool:
        """Send one request; False where nothing waited or the program is stopping."""
        batch = self.unsent.next(self._options.remote_batch_samples)
        if batch is None:
            self._store_progress()
            return False
        if not self._send_batch(batch):
            return False
        self.unsent.done(batch)
        self._store_progress()
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                sent = self.step()
            except StorageUnavailable as error:
                log.warning("the archive cannot be read for forwarding: %s", error)
                sent = False
            except Exception:  # a fault of ours: loud, and tried again
                log.exception("forwarding failed")
                sent = False
                self._clock.wait(self._stopping, _IDLE_S)
            if not sent and not self._stopping.is_set():
                self._clock.wait(self._wake, _IDLE_S)

    def _send_batch(self, batch: Batch) -> bool:
        """Send a batch until the store has taken or refused it; False where the program stops first."""
        stack: list[list[Part | Ragged]] = [batch.parts]
        # A store that keeps order refuses what it has already: then every instant of the batch may have to go alone.
        left = _REQUESTS_A_REFUSAL + 2 * max((part.instants for part in batch.parts), default=0)
        while stack:
            parts = stack.pop()
            answer = self._deliver(parts)
            if answer is None:
                return False
            samples = sum(part.samples for part in parts)
            if answer.status < 300:
                self.counts.samples += samples
                continue
            left -= 1
            smaller = [one for one in halves(parts) if one] if left > 0 else []
            if smaller:
                stack += reversed(smaller)
            else:
                self._give_up(samples, answer)
        return True

    def _deliver(self, parts: list[Part | Ragged]) -> Answer | None:
        """Send one request until it is answered by 2xx or by a refusal; None where the program stops first."""
        body = encode_request(parts)
        if not body:
            return Answer(204, b"")
        packed = bytes(cramjam.snappy.compress_raw(body))
        pause_s = _FIRST_PAUSE_S
        while True:
            began_ns = self._clock.monotonic_ns()
            wait_s = pause_s * random.uniform(0.5, 1.0)
            try:
                answer = self._client.write(packed)
            except RemoteAway as error:
                self._failed(str(error))
            else:
                self.counts.requests += 1
                self.counts.seconds += (self._clock.monotonic_ns() - began_ns) / 1e9
                self.counts.bytes += len(packed)
                if answer.status < 300 or answer.status in REFUSED:
                    self._worked()
                    return answer
                self._failed(f"the remote store answered {answer.status}: {answer.first_line or 'no reason given'}")
                wait_s = max(wait_s, _retry_after_s(answer.retry_after, self._clock.now_ns() / 1e9))
            self._store_progress()
            if self._clock.wait(self._stopping, wait_s):
                return None
            pause_s = min(2 * pause_s, self._options.remote_retry_max_s)

    def _give_up(self, samples: int, answer: Answer) -> None:
        self.counts.refused += samples
        reason = f"{answer.status}: {answer.first_line}"
        kind = "".join(character for character in reason if not character.isdigit())[:80]
        if kind not in self._reasons and len(self._reasons) < _REASONS_KEPT:
            self._reasons.add(kind)
            log.error(
                "the remote store refuses samples for good (%d so far, further ones are only counted): %s",
                self.counts.refused,
                reason,
            )

    def _failed(self, reason: str) -> None:
        self.counts.failures += 1
        if self._health.value.ok:
            log.warning("%s; samples wait in the archive", reason)
        self._health.failed(reason)

    def _worked(self) -> None:
        if not self._health.value.ok:
            log.info("the remote store takes samples again")
        self._health.recovered()

    def _store_progress(self) -> None:
        """Store how far it is; where that fails the next time tries again."""
        progress = self.unsent.progress()
        if progress == self._stored:
            return
        value = json.dumps({"to": self._client.endpoint.write, "progress": json.loads(progress)})
        try:
            with self._database.write() as connection:
                connection.execute(delete(meta).where(meta.c.key == PROGRESS_KEY))
                connection.execute(insert(meta).values(key=PROGRESS_KEY, value=value))
        except StorageUnavailable as error:
            log.debug("progress of remote write is not stored: %s", error)
            return
        self._stored = progress


def _retry_after_s(text: str, now_s: float) -> float:
    """Seconds to wait from a Retry-After header, a number or an HTTP date; 0 where it says nothing."""
    if text.strip().isdigit():
        return min(float(text), _LONGEST_RETRY_AFTER_S)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)
