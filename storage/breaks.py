"""Breaks: where our executions and the drop copy do not agree, and what people have found out about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, func, insert, select, update

from metrics.clock import Clock
from metrics.errors import DeskvigilError
from storage.audit import record
from storage.database import Database
from storage.tables import fill_break as table

OPEN, EXPLAINED, CLOSED = "open", "explained", "closed"


class BreakError(DeskvigilError):
    """A break that cannot be found or changed so; the message names it."""


@dataclass(frozen=True, slots=True)
class FillBreak:
    """One break; see the table for its columns."""

    id: int
    key: str
    kind: str
    t_ms: int
    found_ms: int
    run_ns: int
    session: int
    execution: int
    symbol: str
    detail: Mapping[str, Any]
    state: str
    who: str
    comment: str
    changed_ms: int
    explained_by: str
    explanation: str


def insert_breaks(connection: Connection, rows: Sequence[Mapping[str, Any]], found_ms: int) -> int:
    """Insert the breaks that are not there yet, open; returns how many that were.

    rows: key, kind, t_ms, run_ns, session, execution, symbol, detail.
    """
    if not rows:
        return 0
    keys = [row["key"] for row in rows]
    known = set(connection.execute(select(table.c.key).where(table.c.key.in_(keys))).scalars())
    fresh = {
        row["key"]: {**row, "found_ms": found_ms, "changed_ms": found_ms, "state": OPEN, "who": "", "comment": ""}
        for row in rows
        if row["key"] not in known
    }
    if fresh:
        connection.execute(insert(table), list(fresh.values()))
    return len(fresh)


def explain_arrived(connection: Connection, keys: Sequence[str], now_ms: int) -> None:
    """What was missing has come after all: an open break becomes explained by itself."""
    if keys:
        words = "it arrived late"
        who = "reconciliation"
        values = {"state": EXPLAINED, "changed_ms": now_ms, "who": who, "comment": words}
        values |= {"explained_by": who, "explanation": words}
        connection.execute(update(table).where(table.c.key.in_(keys), table.c.state == OPEN).values(values))


def missing_executions(connection: Connection, most: int) -> list[tuple[str, Mapping[str, Any]]]:
    """Kind and detail of what is missing in a stream and has not arrived, oldest first; the newest `most`.

    Also of breaks that somebody has explained or closed: should the record come after all, it is late, not a second one.
    """
    late = table.alias()
    has_come = exists().where(late.c.key == "late/" + func.substr(table.c.key, len("missing_") + 1))
    query = select(table.c.kind, table.c.detail).where(table.c.kind.in_(("missing_own", "missing_copy")), ~has_come)
    rows = connection.execute(query.order_by(table.c.id.desc()).limit(most)).all()
    return [(kind, detail) for kind, detail in reversed(rows)]


class Breaks:
    """The breaks in the database. Every method may raise StorageUnavailable."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.changes = 0  # made through this object: who counts the open ones need not ask the database all the time

    def list(self, state: str | None = None, limit: int = 200) -> list[FillBreak]:
        """The breaks that were found or changed last, those in one state or all; newest first."""
        query = select(table).order_by(table.c.changed_ms.desc(), table.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(table.c.state == state)
        with self._database.read() as connection:
            return [FillBreak(**row._mapping) for row in connection.execute(query)]

    def count_open(self) -> int:
        """How many are open."""
        with self._database.read() as connection:
            query = select(func.count()).select_from(table).where(table.c.state == OPEN)
            return int(connection.execute(query).scalar_one())

    def explain(self, break_id: int, who: str, comment: str) -> FillBreak:
        """Somebody knows why: open becomes explained. Raises BreakError."""
        return self._change(break_id, EXPLAINED, (OPEN,), who, comment)

    def close(self, break_id: int, who: str, comment: str) -> FillBreak:
        """It is put right: open or explained becomes closed. Raises BreakError."""
        return self._change(break_id, CLOSED, (OPEN, EXPLAINED), who, comment)

    def _change(self, break_id: int, state: str, before: tuple[str, ...], who: str, comment: str) -> FillBreak:
        if not who.strip() or not comment.strip():
            raise BreakError(f"break {break_id}: who says so, and why?")
        now_ms = self._clock.now_ns() // 1_000_000
        values = {"state": state, "who": who, "comment": comment, "changed_ms": now_ms}
        if state == EXPLAINED:
            values |= {"explained_by": who, "explanation": comment}
        with self._database.write() as connection:
            changed = connection.execute(
                update(table)
                .where(table.c.id == break_id, table.c.state.in_(before))
                .values(values)
                .returning(*table.c)
            ).one_or_none()
            if changed is None:
                is_state = connection.execute(select(table.c.state).where(table.c.id == break_id)).scalar()
                raise BreakError(
                    f"there is no break {break_id}" if is_state is None else f"break {break_id} is {is_state}"
                )
            detail = {"key": changed.key, "state": state, "comment": comment}
            record(connection, t_ms=now_ms, who=who, action=f"break_{state}", object_="reconciliation", detail=detail)
            found = FillBreak(**changed._mapping)
        self.changes += 1
        return found
