"""Fsck of what people and alerts did: the audit's chain, the outbox, alerts' states, job runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, select

from metrics.clock import SystemClock
from storage.audit import Audit
from storage.database import Database
from storage.fsck import Problem, Report
from storage.tables import alert_event, alert_state, audit, job_run, notification, outbox

_ALLOWED = (
    (outbox, "status", ("pending", "sent", "dead")),
    (notification, "outcome", ("sent", "failed", "dead")),
    (alert_state, "state", ("inactive", "pending", "firing", "resolved")),
    (job_run, "status", ("running", "ok", "failed", "interrupted")),
)


def check_records(database: Database, report: Report) -> None:
    """Check the relational half; StorageUnavailable where it cannot be read."""
    chain = Audit(database, SystemClock()).verify()
    report.count("audit entries", chain.rows)
    if not chain.ok:
        report.problems.append(Problem("audit", f"audit {chain.broken_id}", f"the chain is broken: {chain.problem}"))
    for table, column, allowed in _ALLOWED:
        _values(database, table, column, allowed, report)
    _outbox(database, report)
    _states(database, report)
    for table in (alert_event, audit):
        with database.read() as connection:
            wrong = connection.execute(select(table.c.id).where(table.c.t_ms < 0)).scalars().all()
        report.problems += [Problem(table.name, f"{table.name} {i}", "is dated before 1970") for i in wrong]


def _values(database: Database, table: Table, column: str, allowed: tuple[str, ...], report: Report) -> None:
    key = next(iter(table.primary_key.columns))
    query = select(key, table.c[column]).where(table.c[column].not_in(allowed))
    with database.read() as connection:
        for row_id, value in connection.execute(query):
            what = f"{column} is {value!r}, not one of {', '.join(allowed)}"
            report.problems.append(Problem(table.name, f"{table.name} {row_id}", what))


def _outbox(database: Database, report: Report) -> None:
    """Each message can be sent: its payload is an object, and times fit its status."""
    count = 0
    columns = outbox.c
    query = select(columns.id, columns.status, columns.attempts, columns.sent_ms, columns.created_ms, columns.event_id)
    with database.read() as connection:
        for row in connection.execute(query.order_by(columns.id)):
            count += 1
            what = ""
            if row.attempts < 0:
                what = f"has been tried {row.attempts} times"
            elif (row.status == "sent") != (row.sent_ms is not None):
                what = f"is {row.status}, but was sent at {row.sent_ms}"
            elif not row.event_id:
                what = "has no event id: a receiver could not tell a repeat"
            if what:
                report.problems.append(Problem("outbox", f"outbox {row.id}", what))
    report.count("outbox messages", count)
    for row_id in _unreadable(database, outbox, "payload"):
        report.problems.append(Problem("outbox", f"outbox {row_id}", "its payload is no JSON object"))


def _states(database: Database, report: Report) -> None:
    columns = alert_state.c
    query = select(columns.fingerprint, columns.state, columns.fired_at_ms, columns.active_since_ms)
    with database.read() as connection:
        rows = connection.execute(query).all()
    report.count("alerts", len(rows))
    for row in rows:
        if row.state == "firing" and row.fired_at_ms is None:
            what = "is firing, but nothing says since when"
            report.problems.append(Problem("alert_state", f"alert_state {row.fingerprint}", what))
    for column in ("labels", "annotations"):
        for fingerprint in _unreadable(database, alert_state, column):
            what = f"its {column} are no JSON object"
            report.problems.append(Problem("alert_state", f"alert_state {fingerprint}", what))


def _unreadable(database: Database, table: Table, column: str) -> list[Any]:
    """Keys of the rows whose JSON column does not hold an object; a server lets none in that is no JSON."""
    key = next(iter(table.primary_key.columns)).name
    with database.read() as connection:
        if connection.dialect.name == "postgresql":
            statement = f"SELECT {key} FROM {table.name} WHERE json_typeof({column}) <> 'object'"  # noqa: S608
        else:
            kind = f"CASE WHEN json_valid({column}) THEN json_type({column}) ELSE '' END"
            statement = f"SELECT {key} FROM {table.name} WHERE {kind} <> 'object'"  # noqa: S608
        return [row[0] for row in connection.exec_driver_sql(statement)]
