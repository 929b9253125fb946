"""Silences: matchers, and from when to when nobody is told of what they match, by whom and why.

The semantics are Alertmanager's: pending, active, then expired; one that is active can only be made longer or
shorter, any other edit ends it and begins a new one with a new id. What decides is held in memory; the table is
what it is read from at a start.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from alerts.errors import SilenceError, UnknownSilenceError
from alerts.policy.matchers import (
    MAX_MATCHERS,
    Matchers,
    matcher_json,
    matcher_of_json,
    matches_all,
    show_matchers,
)
from alerts.source import Transactions
from metrics.clock import Clock
from storage import audit
from storage.tables import silence as silence_table

KEPT_MS = 5 * 86_400_000
MAX_SILENCES = 10_000
MAX_WORDS = 2000


class SilenceState(StrEnum):
    """Where a silence is in its life."""

    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Silence:
    """One silence. Times are ms since the epoch; it holds from starts_ms on, and no longer at ends_ms."""

    silence_id: str
    matchers: Matchers
    starts_ms: int
    ends_ms: int
    created_ms: int
    updated_ms: int
    created_by: str
    comment: str

    def state(self, now_ms: int) -> SilenceState:
        """What it is at an instant."""
        if now_ms >= self.ends_ms:
            return SilenceState.EXPIRED
        return SilenceState.PENDING if now_ms < self.starts_ms else SilenceState.ACTIVE

    def __str__(self) -> str:
        return show_matchers(self.matchers)


class Silences:
    """All silences that are not long over. Everything public may be called from any thread.

    changed: called after one was added, edited or expired.
    """

    def __init__(self, store: Transactions, clock: Clock, changed: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._clock = clock
        self.changed = changed
        self._lock = threading.Lock()
        self._all: dict[str, Silence] = {}  # replaced whole, never changed: readers take no lock
        self._edits = 0
        self.loaded = False

    def load(self) -> None:
        """Read what is stored; StorageUnavailable where it cannot be."""
        with self._lock:
            with self._store.read() as connection:
                rows = connection.execute(select(silence_table)).all()
            self._keep({row.id: _silence(row) for row in rows})
            self.loaded = True

    # --- what is ------------------------------------------------------------------------------

    def list(self) -> list[Silence]:
        """All of them: active first, then pending, then expired; those that end (or begin) soonest first."""
        now_ms = self._now_ms()
        order = (SilenceState.ACTIVE, SilenceState.PENDING, SilenceState.EXPIRED)

        def key(one: Silence) -> tuple[int, int]:
            state = one.state(now_ms)
            when = {"active": one.ends_ms, "pending": one.starts_ms, "expired": -one.ends_ms}[state]
            return order.index(state), when

        return sorted((one for one in self._all.values() if one.ends_ms >= now_ms - KEPT_MS), key=key)

    def get(self, silence_id: str) -> Silence:
        """The silence of an id; UnknownSilenceError where there is none."""
        try:
            return self._all[silence_id]
        except KeyError:
            raise UnknownSilenceError(f"there is no silence {silence_id[:80]!r}") from None

    def matching(self, labels: Mapping[str, str], now_ms: int) -> tuple[Silence, ...]:
        """The active silences that match an alert's labels."""
        return tuple(
            one
            for one in self._all.values()
            if one.starts_ms <= now_ms < one.ends_ms and matches_all(one.matchers, labels)
        )

    def epoch(self, now_ms: int) -> int:
        """A number that changes when another set of silences is active: by an edit, or because time passes."""
        active = sum(1 for one in self._all.values() if one.starts_ms <= now_ms < one.ends_ms)
        ended = sum(1 for one in self._all.values() if one.ends_ms <= now_ms)
        return (self._edits * (MAX_SILENCES + 1) + active) * (MAX_SILENCES + 1) + ended

    # --- what people do -----------------------------------------------------------------------

    def add(
        self,
        matchers: Matchers,
        ends_ms: int,
        who: str,
        comment: str,
        starts_ms: int | None = None,
        silence_id: str = "",
    ) -> Silence:
        """Add a silence, or edit the one of an id; returns it as it is now, under a new id where an edit began a new one.

        starts_ms None (or in the past): now. SilenceError says what is wrong, UnknownSilenceError where the
        id is not known; StorageUnavailable where it cannot be recorded (nothing has changed then).
        """
        who, comment = who.strip()[:MAX_WORDS], comment.strip()[:MAX_WORDS]
        with self._lock:
            now_ms = self._now_ms()
            before = self.get(silence_id) if silence_id else None
            first_ms = now_ms if starts_ms is None else starts_ms
            if starts_ms is None and before is not None and before.starts_ms < now_ms:
                first_ms = before.starts_ms
            _check(matchers, first_ms, ends_ms, who, comment, now_ms)
            if before is not None and _same_life(before, matchers, first_ms, ends_ms, now_ms):
                after = replace(
                    before, starts_ms=first_ms, ends_ms=ends_ms, updated_ms=now_ms, created_by=who, comment=comment
                )
                self._write(now_ms, who, "silence.edit", after)
            else:
                if len(self._all) >= MAX_SILENCES:
                    raise SilenceError(f"there are {MAX_SILENCES} silences already")
                begins_ms = max(first_ms, now_ms)
                after = Silence(str(uuid.uuid4()), matchers, begins_ms, ends_ms, now_ms, now_ms, who, comment)
                ended = None if before is None or now_ms >= before.ends_ms else _ended(before, now_ms)
                self._write(now_ms, who, "silence.add", after, ended)
        self.changed()
        return after

    def expire(self, silence_id: str, who: str) -> Silence:
        """End a silence now; SilenceError where it has ended already, UnknownSilenceError where there is none."""
        with self._lock:
            now_ms = self._now_ms()
            before = self.get(silence_id)
            if before.state(now_ms) is SilenceState.EXPIRED:
                raise SilenceError(f"silence {silence_id} has expired already")
            after = _ended(before, now_ms)
            self._write(now_ms, who, "silence.expire", after)
        self.changed()
        return after

    def _write(self, now_ms: int, who: str, action: str, after: Silence, ended: Silence | None = None) -> None:
        """Store silences and the line in the audit, forget those long over; then keep them in memory."""
        written = [one for one in (ended, after) if one is not None]
        with self._store.write() as connection:
            for one in written:
                _store(connection, one)
            old = silence_table.c.ends_ms < now_ms - KEPT_MS
            connection.execute(delete(silence_table).where(old))
            detail: dict[str, Any] = {"matchers": str(after), "ends_ms": after.ends_ms, "comment": after.comment}
            if ended is not None:
                detail["replaces"] = ended.silence_id
            audit.record(connection, t_ms=now_ms, who=who, action=action, object_=after.silence_id, detail=detail)
        kept = {key: one for key, one in self._all.items() if one.ends_ms >= now_ms - KEPT_MS}
        self._keep({**kept, **{one.silence_id: one for one in written}})

    def _keep(self, silences: dict[str, Silence]) -> None:
        self._all = silences
        self._edits += 1

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000


def _same_life(before: Silence, matchers: Matchers, starts_ms: int, ends_ms: int, now_ms: int) -> bool:
    """Whether an edit leaves the silence what it is."""
    if matchers != before.matchers:
        return False
    state = before.state(now_ms)
    if state is SilenceState.ACTIVE:
        return starts_ms == before.starts_ms and ends_ms >= now_ms
    return state is SilenceState.PENDING and starts_ms >= now_ms


def _check(matchers: Matchers, starts_ms: int, ends_ms: int, who: str, comment: str, now_ms: int) -> None:
    if not who:
        raise SilenceError("a silence needs a name: who silences")
    if not comment:
        raise SilenceError("a silence needs a comment: why")
    if not matchers or len(matchers) > MAX_MATCHERS:
        raise SilenceError(f"a silence needs matchers (at most {MAX_MATCHERS})")
    if all(one.test("") for one in matchers):
        raise SilenceError("at least one matcher must not match an empty value: this would silence everything")
    if ends_ms <= now_ms:
        raise SilenceError("the end lies in the past")
    if ends_ms <= starts_ms:
        raise SilenceError("the start must be before the end")


def _ended(one: Silence, now_ms: int) -> Silence:
    return replace(one, starts_ms=min(one.starts_ms, now_ms), ends_ms=now_ms, updated_ms=now_ms)


def _store(connection: Connection, one: Silence) -> None:
    values = {
        "matchers": [matcher_json(matcher) for matcher in one.matchers],
        "starts_ms": one.starts_ms,
        "ends_ms": one.ends_ms,
        "updated_ms": one.updated_ms,
        "created_by": one.created_by,
        "comment": one.comment,
    }
    row = silence_table.c.id == one.silence_id
    if connection.execute(update(silence_table).where(row).values(values)).rowcount == 0:
        new = {**values, "id": one.silence_id, "created_ms": one.created_ms}
        connection.execute(insert(silence_table), [new])


def _silence(row: Row[Any]) -> Silence:
    return Silence(
        silence_id=row.id,
        matchers=tuple(matcher_of_json(raw) for raw in row.matchers),
        starts_ms=row.starts_ms,
        ends_ms=row.ends_ms,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        created_by=row.created_by,
        comment=row.comment,
    )
