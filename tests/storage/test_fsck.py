"""Fsck finds each kind of damage, says where, and calls every healthy store clean."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics.clock import ManualClock
from metrics.errors import DeskvigilError
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series, make_labels
from storage import packs, series_pages
from storage.blocks import ID_BITS
from storage.columns import encode_times, pack
from storage.fsck import Report, check_file, repair
from storage.options import StorageOptions
from storage.rollups import DAY_MS
from storage.stale import STALE_NAN
from storage.store import Store

DAY = 20_000
START_MS = DAY * DAY_MS
HOST = Schema("host", tuple(Series(f"m{i}", make_labels({"host": "a"})) for i in range(30)))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything: rolled and unrolled blocks, frames, ingested samples, audit, outbox; closed."""
    folder = tmp_path_factory.mktemp("healthy")
    clock = ManualClock(START_MS * 1_000_000)
    store = Store.open(StorageOptions(seal_minutes=1), RuntimePaths(folder), clock)
    rng = np.random.default_rng(5)
    for second in range(200):
        values = np.round(rng.normal(size=30), 3)
        values[:3] = 7.0  # constants
        values[3:6] = second
        values[6] = np.nan
        store.live.append(Frame(HOST, clock.now_ns(), values))
        clock.advance(1_000_000_000)
        store.archive.tick(clock.now_ns())
    t_ms = START_MS + 500 * np.arange(300)
    store.ingest([Series("pushed")], [t_ms], [rng.normal(size=300)])
    store.seal(everything=True)
    store.rollup_writer.run(START_MS + DAY_MS, START_MS + DAY_MS)
    for _ in range(20):
        store.live.append(Frame(HOST, clock.now_ns(), rng.normal(size=30)))
        clock.advance(1_000_000_000)
        store.archive.tick(clock.now_ns())
    store.ingest([Series("pushed")], [t_ms + DAY_MS], [rng.normal(size=300)])
    for number in range(3):
        store.audit.append("ann", "halt", "engine", {"number": number})
    with store.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO outbox (event_id, channel, alert_id, payload, reason, created_ms, next_attempt_ms) "
            "VALUES ('e1', 'mail', 'a1', '{}', 'first', 1, 1)"
        )
    store.close()
    return RuntimePaths(folder).database


@pytest.fixture
def copy(healthy: Path, tmp_path: Path) -> Path:
    path = tmp_path / "deskvigil.sqlite"
    path.write_bytes(healthy.read_bytes())
    return path


def check(path: Path) -> Report:
    return check_file(path, say=lambda _: None)


def change(path: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, parameters).rowcount > 0, "nothing was damaged"


def row(path: Path, statement: str) -> tuple:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchone()


def test_a_healthy_store_is_clean(copy: Path) -> None:
    report = check(copy)
    assert report.problems == []
    assert report.notes == []
    counts = report.counts
    assert counts["series"] == 31
    assert counts["frames"] == 20
    assert counts["unsealed ingested samples"] == 300
    assert counts["samples"] == 200 * 30 + 300
    assert counts["rollups"] >= 2
    assert counts["audit entries"] == 3
    assert counts["outbox messages"] == 1


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :]


def damage_a_pack(path: Path) -> None:
    key, data = row(path, "SELECT id, data FROM chunk ORDER BY length(data) DESC")
    change(path, "UPDATE chunk SET data = ? WHERE id = ?", flip(data, len(data) // 2), key)


def shorten_a_pack(path: Path) -> None:
    """A valid pack whose columns have too few values."""
    key, count, n = row(
        path, f"SELECT c.id, c.count, b.n FROM chunk c JOIN block b ON b.id = c.id >> {ID_BITS} WHERE b.n > 10"
    )
    (short,) = packs.pack([np.arange(n - 5.0)] * count)
    change(path, "UPDATE chunk SET data = ? WHERE id = ?", short.data, key)


def shorten_a_pack_of_fractions(path: Path) -> None:
    key, count, n = row(
        path, f"SELECT c.id, c.count, b.n FROM chunk c JOIN block b ON b.id = c.id >> {ID_BITS} WHERE b.n > 10"
    )
    (short,) = packs.pack([np.arange(n - 5.0) + 0.5] * count)
    change(path, "UPDATE chunk SET data = ? WHERE id = ?", short.data, key)


def lose_a_pack(path: Path) -> None:
    change(path, "DELETE FROM chunk WHERE id = (SELECT max(id) FROM chunk)")


def lose_all_packs_of_a_block(path: Path) -> None:
    change(path, f"DELETE FROM chunk WHERE id >> {ID_BITS} = (SELECT min(id) FROM block)")


def orphan_chunks(path: Path) -> None:
    change(path, "DELETE FROM block WHERE id = (SELECT max(id) FROM block)")


def wrong_header_time(path: Path) -> None:
    change(path, "UPDATE block SET t1_ms = t1_ms + 1 WHERE id = (SELECT max(id) FROM block)")


def wrong_header_count(path: Path) -> None:
    change(path, "UPDATE block SET n = n + 1 WHERE id = (SELECT max(id) FROM block)")


def damaged_times(path: Path) -> None:
    change(path, "UPDATE block SET times = x'02010203' WHERE id = (SELECT max(id) FROM block)")


def block_without_layout(path: Path) -> None:
    change(path, "UPDATE block SET layout_id = 999 WHERE id = (SELECT max(id) FROM block)")


def layout_without_series(path: Path) -> None:
    data = encode_times(np.array([1, 2, 777_777]))
    change(path, "UPDATE layout SET series_ids = ? WHERE id = (SELECT max(id) FROM layout)", data)


def series_twice(path: Path) -> None:
    data = series_pages.encode([(500, Series("m1", make_labels({"host": "a"})))])
    change(path, "INSERT INTO series_page (n, data) VALUES (1, ?)", data)


def damaged_series_page(path: Path) -> None:
    change(path, "UPDATE series_page SET data = x'00112233'")


def frame_of_a_sealed_block(path: Path) -> None:
    block, layout, t_ms = row(path, "SELECT id, layout_id, t0_ms FROM block WHERE n > 10")
    key = block << ID_BITS
    change(path, "INSERT INTO frame (id, layout_id, t_ms, data) VALUES (?, ?, ?, ?)", key, layout, t_ms, bytes(240))


def short_frame(path: Path) -> None:
    change(path, "UPDATE frame SET data = x'00' WHERE id = (SELECT max(id) FROM frame)")


def frames_out_of_order(path: Path) -> None:
    change(path, "UPDATE frame SET t_ms = 5 WHERE id = (SELECT max(id) FROM frame)")


def damaged_ingest(path: Path) -> None:
    change(path, "UPDATE ingest SET n = n + 1")


def block_twice(path: Path) -> None:
    """The same block sealed under two ids."""
    block = row(path, "SELECT b.id FROM block b JOIN layout l ON l.id = b.layout_id WHERE l.collector = 'host'")[0]
    columns = "layout_id, t0_ms, t1_ms, n, times, rollup_id, sealed_ms"
    change(path, f"INSERT INTO block (id, {columns}) SELECT 900, {columns} FROM block WHERE id = ?", block)
    change(
        path,
        f"INSERT INTO chunk (id, count, data) SELECT (900 << {ID_BITS}) | (id & 4294967295), count, data FROM chunk "
        f"WHERE id >> {ID_BITS} = ?",
        block,
    )


def rollup_that_lies(path: Path) -> None:
    key, n = row(path, f"SELECT c.id, r.n FROM rollup_chunk c JOIN rollup_block r ON r.id = c.id >> {ID_BITS}")
    columns = [np.full(n, value) for value in (1.0, 2.0, 60 * 3.0, 60.0, 3.0)]
    change(path, "UPDATE rollup_chunk SET data = ? WHERE id = ?", pack(columns), key)


def damaged_rollup(path: Path) -> None:
    change(path, "UPDATE rollup_chunk SET data = x'0102030405' WHERE id = (SELECT max(id) FROM rollup_chunk)")


def lost_rollup_chunk(path: Path) -> None:
    change(path, "DELETE FROM rollup_chunk WHERE id = (SELECT min(id) FROM rollup_chunk)")


def lost_rollup(path: Path) -> None:
    change(path, "DELETE FROM rollup_block WHERE id = (SELECT min(id) FROM rollup_block)")


def changed_audit(path: Path) -> None:
    change(path, "UPDATE audit SET who = 'bob' WHERE id = 2")


def lost_audit_entry(path: Path) -> None:
    change(path, "DELETE FROM audit WHERE id = 2")


def outbox_status(path: Path) -> None:
    change(path, "UPDATE outbox SET status = 'maybe'")


def outbox_payload(path: Path) -> None:
    change(path, "UPDATE outbox SET payload = 'no json'")


def outbox_sent_at_no_time(path: Path) -> None:
    change(path, "UPDATE outbox SET status = 'sent'")


def lost_index_entry(path: Path) -> None:
    """An index that does not know a row: what SQLite's own check sees."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        kept = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ix_audit_t_ms'").fetchone()[0]
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'ix_audit_t_ms'", (kept + " WHERE id > 1",))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("REINDEX ix_audit_t_ms")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'ix_audit_t_ms'", (kept,))


DAMAGES: list[tuple[Callable[[Path], None], str, str]] = [
    (damage_a_pack, "chunk", "checksum"),
    (shorten_a_pack, "chunk", "fewer than"),
    (shorten_a_pack_of_fractions, "chunk", "fewer than"),
    (lose_a_pack, "block", "has no chunks|are missing"),
    (lose_all_packs_of_a_block, "block", "has no chunks"),
    (orphan_chunks, "orphan", "block that does not exist"),
    (wrong_header_time, "block", "its header says"),
    (wrong_header_count, "block", "its header says"),
    (damaged_times, "block", "times cannot be read"),
    (block_without_layout, "block", "layout 999 does not exist"),
    (layout_without_series, "layout", "777777"),
    (series_twice, "series", "has the id"),
    (damaged_series_page, "series", "cannot be read"),
    (frame_of_a_sealed_block, "frame", "sealed already"),
    (short_frame, "frame", "1 bytes"),
    (frames_out_of_order, "frame", "not after"),
    (damaged_ingest, "ingest", "cannot be read|instead of"),
    (block_twice, "duplicate", "same samples"),
    (rollup_that_lies, "rollup", "of the samples"),
    (damaged_rollup, "rollup", "cannot be decoded"),
    (lost_rollup_chunk, "rollup", "minutes are missing"),
    (lost_rollup, "rollup", "does not exist"),
    (changed_audit, "audit", "was changed"),
    (lost_audit_entry, "audit", "is missing"),
    (outbox_status, "outbox", "'maybe'"),
    (outbox_payload, "outbox", "no JSON"),
    (outbox_sent_at_no_time, "outbox", "was sent at None"),
    (lost_index_entry, "sqlite", "ix_audit_t_ms"),
]


@pytest.mark.parametrize(("damage", "kind", "words"), DAMAGES, ids=[one[0].__name__ for one in DAMAGES])
def test_damage_is_found_and_named(copy: Path, damage: Callable[[Path], None], kind: str, words: str) -> None:
    damage(copy)
    problems = check(copy).problems
    found = [p for p in problems if p.kind == kind and re.search(words, p.what)]
    assert found, [f"{p.kind} {p}" for p in problems]
    assert found[0].where


MENDED = [
    damage_a_pack, lose_a_pack, lose_all_packs_of_a_block, orphan_chunks, damaged_times, frame_of_a_sealed_block, short_frame,
    frames_out_of_order, damaged_ingest, block_twice, rollup_that_lies, damaged_rollup, lost_rollup,
]  # fmt: skip


@pytest.mark.parametrize("damage", MENDED, ids=[one.__name__ for one in MENDED])
def test_what_can_be_mended_is_mended_and_the_rest_stays_readable(copy: Path, damage: Callable[[Path], None]) -> None:
    damage(copy)
    for _ in range(2):  # what one damage hid shows after it is mended: a rollup of a block that is gone
        repair(copy, check(copy))
    assert [str(problem) for problem in check(copy).problems] == []
    store = Store.open(StorageOptions(), RuntimePaths(copy.parent), ManualClock(START_MS * 1_000_000))
    try:
        found = store.reader.select([("__name__", "=", "m5")], 0, 2**60)
        assert found[0].t_ms.size > 0
        assert {v for v in found[0].values.tolist() if v >= 100} <= set(range(100, 200))
    finally:
        store.close()


def test_a_running_store_can_be_checked_but_not_mended(open_store, clock) -> None:
    store = open_store()
    store.live.append(Frame(HOST, clock.now_ns(), np.zeros(30)))
    store.archive.flush()
    path = store.series_database.path
    report = check(path)
    assert report.problems == []
    assert report.counts["frames"] == 1
    with pytest.raises(DeskvigilError, match="in use"):
        repair(path, report)


def test_a_torn_page_is_told_and_the_other_parts_are_still_checked(copy: Path) -> None:
    change(copy, "UPDATE audit SET who = 'bob' WHERE id = 2")
    size, root = row(copy, "SELECT page_size, rootpage FROM pragma_page_size, sqlite_master WHERE name = 'frame'")
    with copy.open("r+b") as file:
        file.seek(size * (root - 1))
        file.write(b"\x77" * size)
    kinds = {problem.kind for problem in check(copy).problems}
    assert {"sqlite", "audit"} <= kinds


def test_what_is_no_store_is_refused_with_words(tmp_path: Path) -> None:
    with pytest.raises(DeskvigilError, match="there is no database"):
        check(tmp_path / "nothing.sqlite")
    (tmp_path / "text.sqlite").write_text("no database at all" * 100)
    with pytest.raises(DeskvigilError, match="not a database"):
        check(tmp_path / "text.sqlite")


# What a store may go through: each step one of these.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("frames"), st.integers(1, 90)),
        st.tuples(st.just("set clock"), st.integers(-200, 200)),
        st.tuples(st.just("ingest"), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2)), max_size=40)),
        st.tuples(st.just("seal"), st.booleans()),
        st.tuples(st.just("reopen"), st.none()),
        st.tuples(st.just("other schema"), st.integers(0, 2)),
        st.tuples(st.just("roll up"), st.none()),
        st.tuples(st.just("join"), st.none()),
        st.tuples(
            st.just("delete"), st.tuples(st.sampled_from(["s0", "s1", "i1"]), st.integers(0, 300), st.integers(0, 300))
        ),
    ),
    max_size=14,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, seed=st.integers(0, 1000))
def test_whatever_a_store_goes_through_it_is_clean(
    steps: list, seed: int, empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    paths = RuntimePaths(folder)
    paths.database.write_bytes(empty_database.read_bytes())
    clock = ManualClock(START_MS * 1_000_000)
    rng = np.random.default_rng(seed)
    schema = Schema("c", tuple(Series(f"s{i}") for i in range(5)))
    number = 0
    store = Store.open(StorageOptions(seal_minutes=1), paths, clock)
    try:
        for kind, argument in steps:
            if kind == "frames":
                for _ in range(argument):
                    number += 1
                    values = np.array([number, rng.normal(), np.nan, 3.0, rng.choice([np.inf, -0.0, STALE_NAN])])
                    store.live.append(Frame(schema, clock.now_ns(), values[: len(schema)]))
                    clock.advance(1_000_000_000)
                    store.archive.tick(clock.now_ns())
            elif kind == "set clock":
                clock.step_wall(argument * 1_000_000_000)
            elif kind == "ingest" and argument:
                t_ms = [START_MS + 1_000 * t for t, _ in argument]
                store.ingest(
                    [Series(f"i{which}") for which in range(3)],
                    [np.array([t for t, (_, w) in zip(t_ms, argument, strict=True) if w == which], np.int64) for which in range(3)],
                    [rng.normal(size=sum(w == which for _, w in argument)) for which in range(3)],
                )  # fmt: skip
            elif kind == "seal":
                store.seal(everything=argument)
            elif kind == "reopen":
                store.close()
                store = Store.open(StorageOptions(seal_minutes=1), paths, clock)
            elif kind == "other schema":
                schema = Schema("c", tuple(Series(f"s{i}") for i in range(5 - argument)))
            elif kind == "roll up":
                store.rollup_writer.run(START_MS + 2 * DAY_MS, START_MS + 2 * DAY_MS)
            elif kind == "join":
                store.compaction.run(START_MS + 2 * DAY_MS)
                store.compaction.run_rollups(START_MS + 2 * DAY_MS)
            elif kind == "delete":
                name, since, length = argument
                t0_ms = START_MS + 1_000 * since
                store.delete_series([("__name__", "=", name)], t0_ms, t0_ms + 1_000 * length, "ann")
        assert [str(problem) for problem in check(paths.database).problems] == []
    finally:
        store.close()
    assert [str(problem) for problem in check(paths.database).problems] == []
