"""Profiles: stacks taken of a process on demand, with who asked for them and why. The newest MOST are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from metrics.clock import Clock
from metrics.errors import DeskvigilError
from storage.audit import record
from storage.database import Database
from storage.tables import profile as table

MOST = 100
MOST_BYTES = 8 << 20
_HEAD = [column for column in table.c if column.name != "data"]


class ProfileError(DeskvigilError):
    """A profile that cannot be kept or found; the message names it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a stored profile; see the table for its columns."""

    id: int
    t_ms: int
    process: str
    kind: str
    seconds: float
    unit: str
    total: int
    who: str
    reason: str


class Profiles:
    """The profiles in the database. Every method may raise StorageUnavailable."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def list(self) -> Sequence[Profile]:
        """All of them without their stacks, the newest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(*_HEAD).order_by(table.c.id.desc()).limit(MOST))
            return [Profile(**row._mapping) for row in rows]

    def get(self, profile_id: int) -> tuple[Profile, bytes]:
        """One profile and its stacks as they were packed. Raises ProfileError where there is none."""
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.id == profile_id)).one_or_none()
        if row is None:
            raise ProfileError(f"there is no profile {profile_id}")
        head = {key: value for key, value in row._mapping.items() if key != "data"}
        return Profile(**head), bytes(row.data)

    def add(self, row: Mapping[str, Any]) -> Profile:
        """Keep one (t_ms, process, kind, seconds, unit, total, who, reason, data), delete the oldest beyond MOST.

        Written into the audit in the same transaction. Raises ProfileError where it is too large.
        """
        if len(row["data"]) > MOST_BYTES:
            raise ProfileError(f"the profile of {row['process']} has {len(row['data']) >> 20} MiB, too much to keep")
        with self._database.write() as connection:
            made = connection.execute(insert(table).values(row).returning(*_HEAD)).one()
            found = Profile(**made._mapping)
            self._note(connection, found.who, "profile_stored", found.process, {"id": found.id, "total": found.total})
            oldest = connection.execute(select(table.c.id).order_by(table.c.id.desc()).offset(MOST).limit(1)).scalar()
            if oldest is not None:
                connection.execute(delete(table).where(table.c.id <= oldest))
        return found

    def note(self, who: str, action: str, process: str, detail: Mapping[str, Any]) -> None:
        """Write into the audit what was asked for, or why nothing was stored."""
        with self._database.write() as connection:
            self._note(connection, who, action, process, detail)

    def _note(self, connection: Connection, who: str, action: str, process: str, detail: Mapping[str, Any]) -> None:
        t_ms = self._clock.now_ns() // 1_000_000
        record(connection, t_ms=t_ms, who=who, action=action, object_=process, detail=detail)
