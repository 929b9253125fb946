"""Settlements: what each instrument came to at the end of each session, as the engine wrote it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from storage.database import Database
from storage.tables import settlement as table


@dataclass(frozen=True, slots=True)
class SettlementRow:
    """One instrument's end of one session; see the table for its columns."""

    id: int
    run_ns: int
    session: int
    symbol: str
    t_ms: int
    mark_usd: float
    mark_from: str
    position: int
    realised_usd: float
    unrealised_usd: float
    fees_usd: float
    pnl_usd: float
    detail: Mapping[str, Any]


def insert_settlements(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert what is not there yet; returns how many rows that were. rows: the columns but `id`."""
    if not rows:
        return 0
    runs = {row["run_ns"] for row in rows}
    columns = table.c.run_ns, table.c.session, table.c.symbol
    known = {tuple(row) for row in connection.execute(select(*columns).where(table.c.run_ns.in_(runs)))}
    fresh = {(row["run_ns"], row["session"], row["symbol"]): row for row in rows}
    wanted = [dict(row) for key, row in fresh.items() if key not in known]
    if wanted:
        connection.execute(insert(table), wanted)
    return len(wanted)


class Settlements:
    """The settlements in the database; reading may raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, limit: int = 200) -> list[SettlementRow]:
        """The newest settlements, newest first."""
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [SettlementRow(**row._mapping) for row in connection.execute(query)]
