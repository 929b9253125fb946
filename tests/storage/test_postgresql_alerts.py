"""Alerts over a PostgreSQL server that goes away in the middle: told meanwhile, on record afterwards, each once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import select

from alerts.state import Reason
from storage.tables import outbox
from tests.alerts.desk import Desk, rules_file
from tests.alerts.receivers import wait_until
from tests.alerts.test_outbox import Spy
from tests.conftest import PostgresqlServer

HIGH = """
- alert: High
  expr: x > 1
  labels: {severity: warning}
- alert: Low
  expr: y < 1
  labels: {severity: critical}
"""


@pytest.mark.parametrize("how", ["stopped", pytest.param("killed", marks=pytest.mark.prove)])
def test_alerts_are_told_while_the_server_is_away_and_are_on_record_once_when_it_is_back(
    tmp_path: Path, own_postgresql_url: str, postgresql_server: PostgresqlServer, how: str
) -> None:
    spy = Spy()
    with Desk(tmp_path, rules_file(tmp_path, HIGH), [spy], database=own_postgresql_url) as desk:
        desk.frame("a", {"x": 1.5, "y": 2.0})
        wait_until(lambda: len(spy.taken) == 1)
        if how == "killed":
            postgresql_server.kill()
        else:
            postgresql_server.stop("immediate")
        try:
            desk.frame("a", {"x": 1.5, "y": 0.0})
            wait_until(lambda: len(spy.taken) == 2)
            wait_until(lambda: not desk.store.health().ok)
            assert desk.store.numbers_health().ok
            assert re.search(r"127\.0\.0\.1:\d+/test_\w+: the database server", desk.store.health().reason)
            wait_until(lambda: desk.states() == {"High": "firing", "Low": "firing"})  # shown after it was told
            wait_until(lambda: desk.service.stats().unwritten == 1)
        finally:
            wait_until(lambda: _started(postgresql_server))
        wait_until(lambda: desk.store.health().ok)
        wait_until(lambda: desk.service.stats().unwritten == 0)
        wait_until(lambda: _statuses(desk) == ["sent", "sent"])
        assert [(one.rule, one.reason) for one in desk.service.history()] == [
            ("g/Low", Reason.FIRST),
            ("g/High", Reason.FIRST),
        ]
    assert len(spy.taken) == 2


def _started(server: PostgresqlServer) -> bool:
    """Children of a killed server hold its memory until they notice: starting may fail at first."""
    try:
        server.start()
    except Exception:
        return False
    return True


def _statuses(desk: Desk) -> list[str]:
    with desk.store.read() as connection:
        return list(connection.execute(select(outbox.c.status).order_by(outbox.c.id)).scalars())
