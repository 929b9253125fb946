"""On call: who stands in for whoever a rota names, kept in the database, every change audited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from alerts.errors import OverrideError, UnknownPersonError
from alerts.policy.roster import Roster
from alerts.policy.rota import DAY_MS, Override
from alerts.source import Transactions
from alerts.views import DutyView, RotaView
from metrics.clock import Clock
from storage import audit
from storage.tables import oncall_override

MAX_OVERRIDES = 1000
MAX_COMMENT = 2000
LONGEST_DAYS = 366
SHOWN_DAYS = 28
SHOWN_DUTIES = 6


def overrides(connection: Connection, now_ms: int) -> tuple[Override, ...]:
    """Those that have not ended, the ones that begin first first."""
    columns = oncall_override.c
    query = select(oncall_override).where(columns.ends_ms > now_ms).order_by(columns.starts_ms, columns.id)
    return tuple(_override(row) for row in connection.execute(query.limit(MAX_OVERRIDES)))


class OnCall:
    """Rotas with their overrides; everything may be called from any thread. roster: the one in force."""

    def __init__(self, store: Transactions, clock: Clock, roster: Callable[[], Roster]) -> None:
        self._store = store
        self._clock = clock
        self._roster = roster
        self._standing_in: tuple[Override, ...] = ()

    def load(self) -> None:
        """Read who stands in, for `standing_in`."""
        self._standing_in = self.overrides()

    def standing_in(self) -> tuple[Override, ...]:
        """The overrides as last read or changed here; asks nobody."""
        return self._standing_in

    def rotas(self) -> list[RotaView]:
        """Each rota, who is on duty now, and who is next, in the file's order."""
        roster, now_ms = self._roster(), self._now_ms()
        standing_in = self.overrides()
        shown = []
        for rota in roster.rotas.values():
            duties = rota.duties(now_ms, now_ms + SHOWN_DAYS * DAY_MS, standing_in)[:SHOWN_DUTIES]
            views = [DutyView(duty.person, duty.begins_ms, duty.ends_ms, duty.override is not None) for duty in duties]
            shown.append(RotaView(rota.name, rota.zone.key, tuple(views)))
        return shown

    def people(self) -> list[str]:
        """Everybody whom the policy file names."""
        return sorted(self._roster().people)

    def overrides(self) -> tuple[Override, ...]:
        """Those that have not ended."""
        with self._store.read() as connection:
            return overrides(connection, self._now_ms())

    def add(self, rota: str, person: str, starts_ms: int, ends_ms: int, who: str, comment: str) -> Override:
        """Put a person on duty for a time; OverrideError or UnknownPersonError says what is wrong."""
        now_ms, roster = self._now_ms(), self._roster()
        if rota not in roster.rotas:
            raise OverrideError(f"there is no rota {rota!r} (there are: {', '.join(roster.rotas) or 'none'})")
        if person not in roster.people:
            raise UnknownPersonError(f"there is no person {person!r} (there are: {', '.join(self.people()) or 'none'})")
        if not comment.strip():
            raise OverrideError("an override needs a reason")
        if not max(starts_ms, now_ms) < ends_ms <= starts_ms + LONGEST_DAYS * DAY_MS:
            raise OverrideError(f"it must end after it begins, in the future, and last at most {LONGEST_DAYS} days")
        row: dict[str, Any] = {
            "rota": rota,
            "person": person,
            "starts_ms": starts_ms,
            "ends_ms": ends_ms,
            "created_by": who,
            "comment": comment.strip()[:MAX_COMMENT],
            "created_ms": now_ms,
        }
        with self._store.write() as connection:
            if len(overrides(connection, now_ms)) >= MAX_OVERRIDES:
                raise OverrideError(f"there are {MAX_OVERRIDES} overrides already")
            made = connection.execute(insert(oncall_override).returning(oncall_override.c.id), [row]).scalar_one()
            audit.record(
                connection, t_ms=now_ms, who=who, action="oncall.override", object_=rota, detail={"id": made, **row}
            )
        self.load()
        return Override(id=int(made), **row)

    def remove(self, override_id: int, who: str, comment: str = "") -> Override:
        """End an override now, or take it away before it begins; OverrideError where there is none."""
        now_ms = self._now_ms()
        mine = oncall_override.c.id == override_id
        with self._store.write() as connection:
            row = connection.execute(select(oncall_override).where(mine)).first()
            if row is None or row.ends_ms <= now_ms:
                raise OverrideError(f"there is no override {override_id} that could be removed")
            if row.starts_ms < now_ms:
                connection.execute(update(oncall_override).where(mine).values(ends_ms=now_ms))
            else:
                connection.execute(delete(oncall_override).where(mine))
            found = _override(row)
            detail = {"id": override_id, "person": found.person, "comment": comment.strip()[:MAX_COMMENT]}
            audit.record(connection, t_ms=now_ms, who=who, action="oncall.remove", object_=found.rota, detail=detail)
        self.load()
        return found

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000


def _override(row: Row[Any]) -> Override:
    return Override(
        row.id, row.rota, row.person, row.starts_ms, row.ends_ms, row.created_by, row.comment, row.created_ms
    )
