"""Deferred: small writes that nobody waits for, done once each as soon as the database can be written."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from metrics.clock import Clock
from storage.database import Database
from storage.health import CommitUnknown, StorageUnavailable

log = logging.getLogger(__name__)

MOST = 1_000
_LOOK_S = 1.0
_STOP_S = 5.0


@dataclass(eq=False, slots=True)
class _Entry:
    """token: of the last attempt, where its answer was lost."""

    what: str
    work: Callable[[Connection], object]
    token: str | None = None


class Deferred:
    """A bounded queue in memory in front of one database; in order, the oldest dropped and counted when full.

    Its thread also asks a database server once a second whether it is there, so that the health
    is fresh where nobody writes.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._entries: deque[_Entry] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    @property
    def pending(self) -> int:
        return len(self._entries)

    def put(self, what: str, work: Callable[[Connection], object]) -> None:
        """Have `work` done in a write transaction of its own, soon; `what` names it in the log. Never waits."""
        with self._lock:
            if len(self._entries) >= MOST:
                gone = self._entries.popleft()
                self.dropped += 1
                log.error("%s is given up: %d writes wait for the database already", gone.what, MOST)
            self._entries.append(_Entry(what, work))
        self._wake.set()

    def drain(self) -> int:
        """Do what waits; returns how much was done. Raises StorageUnavailable, keeping the rest."""
        done = 0
        with self._turn:
            while self._entries:
                entry = self._entries[0]
                self._attempt(entry)
                with self._lock:
                    if self._entries and self._entries[0] is entry:
                        self._entries.popleft()
                done += 1
        return done

    def start(self) -> None:
        """Begin; does nothing where it has begun."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="storage-deferred", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread after a last attempt; what still waits is lost and named in the log."""
        if self._thread is not None:
            self._stopping.set()
            self._wake.set()
            self._thread.join(_STOP_S)
            self._thread = None
        try:
            self.drain()
        except StorageUnavailable as error:
            log.error("%d writes are lost with the end of the program: %s", self.pending, error)

    def _attempt(self, entry: _Entry) -> None:
        try:
            if entry.token is not None and self._database.committed(entry.token):
                return
            entry.token = None
            with self._database.write() as connection:
                entry.work(connection)
        except CommitUnknown as error:
            entry.token = error.token
            raise
        except StorageUnavailable:
            raise
        except Exception:  # a fault of ours: it would fail again and block all later ones
            log.exception("%s is refused by the database and given up", entry.what)
            self.dropped += 1

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                if self._database.ping():
                    self.drain()
            except StorageUnavailable as error:
                log.debug("%d writes wait: %s", self.pending, error)
            except Exception:
                log.exception("deferred writes failed; trying again")
            # A queue that cannot be emptied must not spin on its own wake-up.
            self._clock.wait(self._stopping if self._entries else self._wake, _LOOK_S)
