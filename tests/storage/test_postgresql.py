"""PostgreSQL as the home of the relational state: what it must hold, and what happens when it goes away."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, insert, select, text

from alerts.evaluate import Change, Tracked, new_event_id
from alerts.ledger import Ledger, Recipient
from alerts.options import AlertOptions
from alerts.policy.decide import Routing
from alerts.policy.file import default_policy
from alerts.policy.silences import Silences
from alerts.state import AlertState, Instant, Live, Reason
from metrics.clock import ManualClock, SystemClock
from metrics.errors import DeskvigilError
from metrics.paths import RuntimePaths
from metrics.severity import Severity
from storage.annotations import Annotations
from storage.audit import record
from storage.database import Database
from storage.deferred import Deferred
from storage.health import CommitUnknown, StorageUnavailable
from storage.migrations import HEAD, alembic_config, current_revision, migrate
from storage.options import DatabaseOptions, StorageOptions
from storage.postgresql import ServerAway
from storage.rest import Rest
from storage.store import Store
from storage.tables import alert_event, annotation, audit, job_run, meta, outbox, saved_view
from tests.conftest import PostgresqlServer
from tests.storage.conftest import frame, samples, schema

ODD = "Ωμέγα 🛑 \0 \ud800 ' \" \\ \r\n\t %s {} $1"
CLEANED = ODD.replace("\0", "\ufffd").replace("\ud800", "\ufffd")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        found = Database.sqlite(tmp_path / "test.sqlite", DatabaseOptions(), SystemClock())
    else:
        found = Database(request.getfixturevalue("own_postgresql_url"), DatabaseOptions(), SystemClock())
    yield found
    found.close()


@pytest.fixture
def served(own_postgresql_url: str, postgresql_server: PostgresqlServer) -> Iterator[Database]:
    """A migrated database on the server that a test may stop."""
    found = Database(own_postgresql_url, DatabaseOptions(), SystemClock())
    migrate(found)
    yield found
    found.close()


# --- what both must hold ----------------------------------------------------------------------


def test_every_earlier_revision_comes_up_to_this_one_with_its_rows(database: Database) -> None:
    revisions = [one.revision for one in ScriptDirectory.from_config(alembic_config(None)).walk_revisions()][::-1]
    for revision in revisions:
        with database.write() as connection:
            command.upgrade(alembic_config(connection), revision)
            if revision == revisions[0]:
                connection.execute(insert(meta).values(key="kept", value="yes"))
        with database.read() as connection:
            assert current_revision(connection) == revision
    assert not migrate(database)
    with database.read() as connection:
        assert current_revision(connection) == HEAD
        assert connection.execute(select(meta.c.value).where(meta.c.key == "kept")).scalar() == "yes"


def test_odd_text_huge_text_large_numbers_and_json_come_back_the_same_from_both(database: Database) -> None:
    migrate(database)
    nested = {ODD: [1, -1.5, None, True, {"deep": ["ü"] * 100}], "large": 2**53}
    huge = "ß" * 2_000_000
    far_ms = 253_402_300_799_999
    with database.write() as connection:
        row = {"t_ms": far_ms, "t_end_ms": -1, "kind": "k", "title": ODD, "text": huge, "tags": [ODD]}
        connection.execute(insert(annotation).values(row))
        connection.execute(
            insert(outbox).values(
                event_id="e", channel=ODD, alert_id="a", payload=nested, reason="r", created_ms=2**62, next_attempt_ms=0
            )
        )
        view = {"page": "history", "name": ODD, "search": "?expr=1", "created_ms": 1, "updated_ms": 2}
        connection.execute(insert(saved_view).values(view))
    with database.read() as connection:
        found = connection.execute(select(annotation)).one()
        sent = connection.execute(select(outbox)).one()
        assert (found.t_ms, found.t_end_ms, found.title, found.text) == (far_ms, -1, CLEANED, huge)
        assert found.tags == json.loads(json.dumps([ODD]))
        assert (sent.channel, sent.payload, sent.created_ms, sent.status, sent.attempts) == (
            CLEANED,
            nested,
            2**62,
            "pending",
            0,
        )
        assert connection.execute(select(saved_view.c.name)).scalar() == CLEANED


def test_a_read_sees_one_snapshot_however_much_is_written_meanwhile(database: Database) -> None:
    migrate(database)
    count = select(func.count()).select_from(annotation)
    notes = Annotations(database, SystemClock(), Deferred(database, SystemClock()))
    notes.add("k", "before")
    with database.read() as connection:
        assert connection.execute(count).scalar() == 1
        notes.add("k", "meanwhile")
        assert connection.execute(count).scalar() == 1
    with database.read() as connection:
        assert connection.execute(count).scalar() == 2


def test_reading_never_writes(database: Database) -> None:
    migrate(database)
    with pytest.raises(StorageUnavailable), database.read() as connection:
        connection.execute(insert(meta).values(key="k", value="v"))


def test_odd_words_in_the_audit_do_not_break_its_chain(tmp_path: Path, own_postgresql_url: str) -> None:
    for url in ("", own_postgresql_url):
        folder = tmp_path / (url[:4] or "file")
        options = DatabaseOptions(url=url)
        store = Store.open(StorageOptions(), RuntimePaths(folder), ManualClock(), database=options)
        store.audit.append(ODD, "halt", ODD, {"reason": ODD})
        assert store.audit.verify().ok
        assert store.audit.list()[0].who == CLEANED
        store.close()


def test_two_programs_that_append_to_one_audit_at_once_make_one_chain(own_postgresql_url: str) -> None:
    first = Database(own_postgresql_url, DatabaseOptions(), SystemClock())
    second = Database(own_postgresql_url, DatabaseOptions(), SystemClock())
    migrate(first)
    start = threading.Barrier(4)

    def append(database: Database) -> None:
        start.wait()
        for number in range(25):
            with database.write() as connection:
                record(connection, t_ms=number, who="w", action="a", object_="o")

    threads = [threading.Thread(target=append, args=(one,)) for one in (first, second, first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with first.read() as connection:
        rows = connection.execute(select(audit).order_by(audit.c.id)).all()
    assert [row.id for row in rows] == list(range(1, 101))
    assert all(after.prev_hash == before.hash for before, after in pairwise(rows))
    first.close()
    second.close()


# --- a server that cannot be used at all ------------------------------------------------------


def test_a_server_that_is_not_there_is_named_and_may_be_tried_again() -> None:
    clock = ManualClock()
    options = DatabaseOptions(password="hidden-password", start_wait_s=3)
    with pytest.raises(ServerAway, match=r"127\.0\.0\.1:9/desk cannot be used: .*does not answer") as caught:
        Database("postgresql+psycopg://u@127.0.0.1:9/desk", options, clock)
    assert not caught.value.permanent
    assert "hidden-password" not in str(caught.value)
    assert clock.monotonic_ns() >= 3_000_000_000  # it was waited for


def test_a_start_waits_for_a_server_that_comes_up(postgresql_server: PostgresqlServer, own_postgresql_url: str) -> None:
    postgresql_server.stop()

    class Watched(SystemClock):
        waits = 0

        def wait(self, event: threading.Event, timeout_s: float) -> bool:
            self.waits += 1
            if self.waits == 1:
                postgresql_server.start()
            return super().wait(event, 0.05)

    clock = Watched()
    Database(own_postgresql_url, DatabaseOptions(), clock).close()
    assert clock.waits >= 1


def test_a_wrong_database_name_is_not_waited_for(postgresql_url: str) -> None:
    clock = ManualClock()
    with pytest.raises(DeskvigilError, match='database "nowhere" does not exist') as caught:
        Database(postgresql_url.replace("/postgres", "/nowhere"), DatabaseOptions(), clock)
    assert caught.value.permanent
    assert clock.monotonic_ns() == 0


def test_a_database_that_cannot_hold_every_text_is_refused(postgresql_url: str) -> None:
    admin = Database(postgresql_url, DatabaseOptions(), ManualClock())
    with admin.maintenance() as raw:
        raw.autocommit = True
        raw.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(DeskvigilError, match="its encoding is LATIN1"):
        Database(postgresql_url.replace("/postgres", "/latin"), DatabaseOptions(), ManualClock())
    with admin.maintenance() as raw:
        raw.autocommit = True
        raw.execute("DROP DATABASE latin")
    admin.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://h/d", "scheme 'mysql' is not known"),
        ("postgresql+psycopg://h", "names no database"),
        ("no url at all", "it is no URL"),
        ("postgresql+psycopg://h:99999/d", "99999 is no port"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_settings(url: str, words: str) -> None:
    from metrics.errors import ConfigError
    from settings import load_settings

    with pytest.raises(ConfigError, match=rf"database\.url: \(a secret\) is not allowed .*{words}"):
        load_settings(None, {"DESKVIGIL_DATABASE__URL": url})


def test_the_password_may_lie_in_a_file_and_is_shown_nowhere(tmp_path: Path) -> None:
    from settings import describe, load_settings

    secret = tmp_path / "password"
    secret.write_text("s3cret-word\n")
    settings = load_settings(
        None,
        {
            "DESKVIGIL_DATABASE__URL": "postgresql+psycopg://u:other-w0rd@h/d",
            "DESKVIGIL_DATABASE__PASSWORD_FILE": str(secret),
        },
    )
    assert settings.database.password == "s3cret-word"
    for shown in (describe(settings), repr(settings)):
        assert "s3cret-word" not in shown
        assert "other-w0rd" not in shown


# --- a server that goes away and comes back ---------------------------------------------------


def test_while_the_server_is_away_callers_are_told_at_once_and_health_says_why(
    served: Database, postgresql_server: PostgresqlServer
) -> None:
    postgresql_server.stop("immediate")
    try:
        with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:\d+/test_\w+: "), served.read() as connection:
            connection.execute(text("SELECT 1"))
        assert not served.health.ok
        assert "127.0.0.1" in served.health.reason
        with pytest.raises(StorageUnavailable), served.write():
            raise AssertionError("nobody gets a transaction")
        assert not served.ping()
    finally:
        postgresql_server.start()
    assert _eventually(served.ping)
    assert served.health.ok


def test_a_server_is_left_alone_a_little_longer_after_each_failure() -> None:
    clock = ManualClock()
    rest = Rest(clock, longest_s=2)
    assert rest.reason == ""
    pauses = []
    for _ in range(8):
        rest.failed("away")
        assert rest.reason == "away"
        began = clock.monotonic_ns()
        while rest.reason and clock.monotonic_ns() - began < 10_000_000_000:
            clock.advance(10_000_000)
        pauses.append((clock.monotonic_ns() - began) / 1e9)
    assert pauses[0] <= 0.11
    assert 1.5 <= pauses[-1] <= 2.01
    rest.failed("away")
    rest.worked()
    assert rest.reason == ""


@pytest.mark.parametrize("applied", [True, False])
def test_a_commit_whose_answer_is_lost_is_known_later(
    served: Database, postgresql_server: PostgresqlServer, applied: bool
) -> None:
    """The server goes right before or right after it has committed; what it said never arrives."""

    def write() -> None:
        with served.write() as connection:
            connection.execute(insert(meta).values(key="doubt", value="1"))
            _lose_answer(connection, postgresql_server, applied)

    with pytest.raises(CommitUnknown) as caught:
        write()
    postgresql_server.start()
    assert _eventually(served.ping)
    assert served.committed(caught.value.token) is applied
    with served.read() as connection:
        assert (connection.execute(select(meta).where(meta.c.key == "doubt")).first() is not None) is applied


@pytest.mark.parametrize("applied", [True, False])
def test_a_deferred_write_whose_answer_was_lost_is_done_once(
    served: Database, postgresql_server: PostgresqlServer, applied: bool
) -> None:
    deferred = Deferred(served, SystemClock())
    attempts = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        connection.execute(insert(annotation).values(t_ms=1, kind="k", title="once", tags=[]))
        if len(attempts) == 1:
            _lose_answer(connection, postgresql_server, applied)

    deferred.put("a note", work)
    with pytest.raises(StorageUnavailable):
        deferred.drain()
    assert deferred.pending == 1
    postgresql_server.start()
    assert _eventually(served.ping)
    assert deferred.drain() == 1
    assert len(attempts) == (1 if applied else 2)
    with served.read() as connection:
        assert connection.execute(select(func.count()).select_from(annotation)).scalar() == 1


def test_jobs_run_and_numbers_flow_while_the_server_is_away(
    tmp_path: Path, own_postgresql_url: str, postgresql_server: PostgresqlServer
) -> None:
    options = DatabaseOptions(url=own_postgresql_url, password="any: this server trusts everybody")
    store = Store.open(StorageOptions(), RuntimePaths(tmp_path), SystemClock(), database=options)
    of = schema("host", "cpu")
    postgresql_server.stop("immediate")
    store.live.append(frame(of, 1_700_000_000_000, 1.0))
    store.archive.flush()
    store.annotations.note("session", "Opened", t_ms=5)
    run = store.job_runs.run("rollup", lambda: "done")
    assert (run.id, run.status) == (0, "ok")
    assert not store.health().ok
    assert store.archive.counts.failed_commits == 0
    assert samples(store, "cpu") == [(1_700_000_000_000, 1.0)]
    postgresql_server.start()
    assert _eventually(store.database.ping)
    assert store.deferred.drain() == 2
    assert [(one.job, one.status) for one in store.job_runs.list()] == [("rollup", "ok")]
    assert [one.title for one in store.annotations.list(0, 10)] == ["Opened"]
    assert store.health().ok
    store.close()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_restart_of_the_server_under_load_loses_nothing_and_doubles_nothing(
    served: Database, postgresql_server: PostgresqlServer, how: str
) -> None:
    _outages(served, postgresql_server, [how])


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_forty_restarts_and_kills_of_the_server_under_load(
    served: Database, postgresql_server: PostgresqlServer
) -> None:
    _outages(served, postgresql_server, ["restart", "kill"] * 20)


def _outages(database: Database, server: PostgresqlServer, kinds: list[str]) -> None:
    """Several threads write numbered rows, each until it is known to be stored, while the server goes down and up."""
    stop = threading.Event()
    written: dict[str, int] = {}
    unknown = []

    def write(name: str) -> None:
        number = 0
        while not stop.is_set():
            token = None
            while True:
                try:
                    if token is not None and database.committed(token):
                        break
                    token = None
                    with database.write() as connection:
                        row = {"job": name, "started_ms": number, "status": "ok", "detail": "x" * 500}
                        connection.execute(insert(job_run).values(row))
                        record(connection, t_ms=number, who=name, action="a", object_="o")
                    break
                except CommitUnknown as error:
                    token = error.token
                    unknown.append(token)
                except StorageUnavailable:
                    stop.wait(0.01)
            number += 1
            written[name] = number

    threads = [threading.Thread(target=write, args=(f"w{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for kind in kinds:
        before = sum(written.values())
        assert _eventually(lambda before=before: sum(written.values()) > before + 20)
        if kind == "kill":
            server.kill()
            _start_again(server)
        else:
            server.restart()
    before = sum(written.values())
    assert _eventually(lambda: sum(written.values()) > before + 20)
    stop.set()
    for thread in threads:
        thread.join(30)
    with database.read() as connection:
        rows = connection.execute(select(job_run.c.job, job_run.c.started_ms).order_by(job_run.c.id)).all()
        chain = connection.execute(select(audit).order_by(audit.c.id)).all()
    found: dict[str, list[int]] = {}
    for job, number in rows:
        found.setdefault(job, []).append(number)
    assert found == {name: list(range(count)) for name, count in written.items()}
    assert [row.id for row in chain] == list(range(1, len(rows) + 1))
    assert all(after.prev_hash == one.hash for one, after in pairwise(chain))
    sys.stdout.write(
        f"{len(kinds)} outages, {len(rows)} rows, {len(unknown)} commits without an answer: none lost, none doubled\n"
    )


def _start_again(server: PostgresqlServer) -> None:
    """Children of a killed server hold its memory until they notice: starting may fail at first."""

    def started() -> bool:
        try:
            server.start()
        except Exception:
            return False
        return True

    assert _eventually(started)


def _lose_answer(connection: Connection, server: PostgresqlServer, applied: bool) -> None:
    """Make the coming COMMIT fail as where the network breaks: with it done by the server, or not done."""
    raw = connection.connection.driver_connection
    assert raw is not None
    commit = raw.commit

    def broken() -> None:
        if applied:
            commit()
        server.stop("immediate")
        raw.execute("SELECT 1")  # which fails as the commit would have

    raw.commit = broken


def _eventually(condition: object, within_s: float = 30.0) -> bool:
    give_up = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():  # type: ignore[operator]
        if time.monotonic() > give_up:
            return False
        pause.wait(0.01)
    return True


class _LosesAnswers:
    """The database as the ledger uses it; while `applied` is set, each commit is done but its answer is lost."""

    def __init__(self, database: Database, server: PostgresqlServer) -> None:
        self._database = database
        self._server = server
        self.losing = True
        self.read = database.read
        self.committed = database.committed

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._database.write() as connection:
            yield connection
            if self.losing:
                _lose_answer(connection, self._server, applied=True)


def _fired(rule: str) -> Change:
    at = Instant(1_000, 1_000)
    live = Live(AlertState.FIRING, Severity.WARNING, at, at)
    tracked = Tracked(f"id-{rule}", f"print-{rule}", {"alertname": rule}, live, 1.0)
    return Change(rule, tracked, None, live, Reason.FIRST, at, 1.0, {}, None, new_event_id())


def test_the_history_of_alerts_names_every_change_once_where_answers_were_lost(
    served: Database, postgresql_server: PostgresqlServer
) -> None:
    first, second, third = (_fired(rule) for rule in "abc")
    store = _LosesAnswers(served, postgresql_server)
    recipients = [Recipient("mail")]
    routing = Routing(default_policy(["mail"], 0), recipients, Silences(store, SystemClock()))
    ledger = Ledger(store, recipients, AlertOptions(), routing)
    for waiting in ([first], [first, second]):  # as the service keeps what is not known to be written
        with pytest.raises(CommitUnknown):
            ledger.record(waiting)
        postgresql_server.start()
        assert _eventually(served.ping)
    store.losing = False
    assert ledger.record([first, second, third]) == 1
    with served.read() as connection:
        rules = connection.execute(select(alert_event.c.rule).order_by(alert_event.c.id)).scalars().all()
        waiting = connection.execute(select(outbox.c.alert_id).order_by(outbox.c.id)).scalars().all()
    assert rules == ["a", "b", "c"]
    assert waiting == ["id-a", "id-b", "id-c"]
