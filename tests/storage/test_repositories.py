"""One contract for the relational parts, over SQLite and PostgreSQL."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update

from metrics.clock import ManualClock
from metrics.paths import RuntimePaths
from storage.audit import record
from storage.options import DatabaseOptions, StorageOptions
from storage.store import Store
from storage.tables import alert_state, annotation, audit, outbox
from tests.storage.conftest import frame, samples, schema


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    url = request.getfixturevalue("own_postgresql_url") if request.param == "postgresql" else ""
    found = Store.open(StorageOptions(), RuntimePaths(tmp_path), clock, database=DatabaseOptions(url=url))
    yield found
    found.close()


def test_annotations_are_listed_by_the_time_they_touch(store: Store, clock: ManualClock) -> None:
    store.annotations.add("session", "Opened", t_ms=1_000)
    store.annotations.add("outage", "Feed down", "no packets", ("feed",), t_ms=2_000, t_end_ms=5_000)
    now = store.annotations.add("deploy", "Version 2")
    assert [found.title for found in store.annotations.list(4_000, 10_000)] == ["Feed down"]
    assert [found.title for found in store.annotations.list(0, 10_000)] == ["Opened", "Feed down"]
    (latest,) = store.annotations.list(0, 2**60, limit=1)
    assert (latest.id, latest.t_ms, latest.tags) == (now, clock.now_ns() // 1_000_000, ())
    assert store.annotations.list(4_000, 10_000)[0].tags == ("feed",)


def test_the_audit_is_a_chain_that_holds(store: Store) -> None:
    for number in range(5):
        store.audit.append("ann", "halt", "engine", {"number": number, "reason": "prüfen"})
    check = store.audit.verify()
    assert (check.ok, check.rows) == (True, 5)
    newest = store.audit.list(limit=2)
    assert [entry.id for entry in newest] == [5, 4]
    assert newest[0].detail == {"number": 4, "reason": "prüfen"}
    assert [entry.id for entry in store.audit.list(before_id=3)] == [2, 1]


@pytest.mark.parametrize(
    "change",
    [
        update(audit).where(audit.c.id == 3).values(who="bob"),
        update(audit).where(audit.c.id == 3).values(detail="{}"),
        update(audit).where(audit.c.id == 3).values(t_ms=1),
        audit.delete().where(audit.c.id == 3),
        audit.delete().where(audit.c.id == 1),
    ],
)
def test_a_changed_or_missing_audit_entry_shows(store: Store, change: object) -> None:
    for number in range(5):
        store.audit.append("ann", "halt", "engine", {"number": number})
    with store.write() as connection:
        connection.execute(change)  # type: ignore[call-overload]
    check = store.audit.verify()
    assert not check.ok
    assert check.broken_id is not None
    assert check.problem


def test_an_audit_entry_is_part_of_the_transaction_that_writes_it(store: Store) -> None:
    def fail() -> None:
        with store.write() as connection:
            record(connection, t_ms=1, who="ann", action="resume", object_="engine")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert store.audit.list() == []
    store.audit.append("ann", "halt", "engine")
    assert store.audit.verify().rows == 1


def test_a_good_run_of_a_job_is_a_row(store: Store, clock: ManualClock) -> None:
    run = store.job_runs.run("retention", lambda: "3 blocks deleted")
    assert (run.status, run.detail) == ("ok", "3 blocks deleted")
    assert store.job_runs.list(job="retention") == [run]


def test_a_job_that_raises_is_a_row_too(store: Store) -> None:
    def fail() -> str:
        raise ValueError("broken")

    run = store.job_runs.run("rollup", fail)
    assert (run.status, run.detail) == ("failed", "ValueError: broken")
    assert store.job_runs.missed("rollup", 3_600_000)


def test_a_missed_job_is_known_from_its_rows(store: Store, clock: ManualClock) -> None:
    assert store.job_runs.missed("rollup", 3_600_000)
    store.job_runs.run("rollup", lambda: "")
    clock.advance(3_599_000_000_000)
    assert not store.job_runs.missed("rollup", 3_600_000)
    clock.advance(1_000_000_000)
    assert store.job_runs.missed("rollup", 3_600_000)


def test_a_run_that_was_interrupted_is_marked_at_the_next_start(store: Store) -> None:
    store.job_runs.run("a", lambda: store.job_runs.list()[0].status)
    with store.write() as connection:
        connection.execute(text("UPDATE job_run SET status = 'running', finished_ms = NULL"))
    assert store.job_runs.recover() == 1
    assert store.job_runs.list()[0].status == "interrupted"


def test_state_and_outbox_go_into_one_transaction(store: Store) -> None:
    state = {
        "fingerprint": "f", "id": "1", "rule": "g/r", "labels": {"host": "a"}, "annotations": {}, "state": "firing",
        "severity": "critical", "active_since_ms": 1, "updated_ms": 2, "value": math.inf,
    }  # fmt: skip
    message = {
        "event_id": "1/first", "channel": "mail", "alert_id": "1", "payload": {"n": [1, 2.5, None]}, "reason": "first",
        "created_ms": 2, "next_attempt_ms": 2,
    }  # fmt: skip
    with store.write() as connection:
        connection.execute(insert(alert_state), state)
        connection.execute(insert(outbox), message)
    with store.read() as connection:
        row = connection.execute(select(alert_state)).one()
        assert (row.labels, row.value) == ({"host": "a"}, math.inf)
        sent = connection.execute(select(outbox)).one()
        assert (sent.payload, sent.status, sent.attempts) == ({"n": [1, 2.5, None]}, "pending", 0)


def test_numbers_stay_in_the_file_wherever_the_records_are(store: Store) -> None:
    store.live.append(frame(schema("host", "a"), 1000, 1.0))
    store.archive.flush()
    store.seal(everything=True)
    assert samples(store, "a") == [(1000, 1.0)]
    assert store.health().ok


def test_what_one_writes_another_reads(store: Store) -> None:
    store.annotations.add("k", "t", t_ms=1)
    with store.read() as connection:
        assert connection.execute(select(annotation.c.title)).scalars().all() == ["t"]
