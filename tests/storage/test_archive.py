import numpy as np
import pytest
from sqlalchemy import text

from metrics.clock import ManualClock
from metrics.frame import Frame
from storage import packs
from storage.options import MIB, DatabaseOptions
from storage.store import Store
from tests.storage.conftest import OpenStore, frame, samples, schema

HOST = schema("host", "a", "b")
HOUR_MS = 3_600_000


def append_each_second(store: Store, clock: ManualClock, seconds: int) -> list[tuple[int, float]]:
    """One frame a second with its own number; returns what was appended."""
    done = []
    for _ in range(seconds):
        t_ms = clock.now_ns() // 1_000_000
        store.live.append(frame(HOST, t_ms, t_ms % 1_000_000, 1.0))
        done.append((t_ms, float(t_ms % 1_000_000)))
        clock.advance(1_000_000_000)
        store.archive.tick(clock.now_ns())
    return done


def test_of_a_fast_collector_the_last_frame_of_each_second_is_kept(open_store: OpenStore) -> None:
    store = open_store()
    for tenth in range(25):
        store.live.append(frame(HOST, 10_000 + tenth * 100, tenth, 0.0))
    assert store.archive.tick(12_450_000_000) == 2  # the running second waits
    assert store.archive.tick(13_050_000_000) == 1
    assert samples(open_store(), "a") == [(10_900, 9.0), (11_900, 19.0), (12_400, 24.0)]


def test_what_was_committed_is_told_to_listeners(store: Store) -> None:
    committed: list[tuple[str, int]] = []
    store.archive.on_commit(committed.extend)
    store.live.append(frame(HOST, 1_000, 1.0, 2.0))
    store.live.append(frame(schema("gpu", "g"), 1_500, 1.0))
    store.archive.tick(2_000_000_000)
    assert sorted(committed) == [("gpu", 1_500), ("host", 1_000)]


def test_whole_numbers_are_stored_as_numbers(open_store: OpenStore) -> None:
    open_store().live.append(Frame(HOST, 1_000_000_000, np.array([3, 4])))  # type: ignore[arg-type]
    assert samples(open_store(), "a") == [(1_000, 3.0)]


def test_a_closed_store_has_written_the_running_second_too(open_store: OpenStore) -> None:
    open_store().live.append(frame(HOST, 1_000, 1.0, 2.0))
    assert samples(open_store(), "a") == [(1_000, 1.0)]


def test_frames_survive_sealing_and_restarts_once_each(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(seal_minutes=1)
    written = append_each_second(store, clock, 150)
    assert store.seal() == 2
    assert samples(store, "a") == written
    store = open_store(seal_minutes=1)
    assert samples(store, "a") == written
    written += append_each_second(store, clock, 30)
    assert samples(store, "a") == written
    store.seal(everything=True)
    assert samples(open_store(), "a") == written


def test_a_block_goes_on_after_a_restart(open_store: OpenStore, clock: ManualClock) -> None:
    append_each_second(open_store(), clock, 5)
    store = open_store()
    append_each_second(store, clock, 5)
    assert store.seal(everything=True) == 1


def test_a_collector_that_fell_silent_is_sealed_too(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(seal_minutes=1)
    append_each_second(store, clock, 3)
    clock.advance(120_000_000_000)
    store.archive.tick(clock.now_ns())
    assert store.archive.due.is_set()
    assert store.seal() == 1


@pytest.mark.parametrize("step_ms", [-HOUR_MS, HOUR_MS, -500, -1_000])
def test_when_the_clock_is_stepped_nothing_is_lost_and_nothing_doubled(
    open_store: OpenStore, clock: ManualClock, step_ms: int
) -> None:
    store = open_store(seal_minutes=5, ring_frames=100)
    written = dict(append_each_second(store, clock, 400))
    clock.step_wall(step_ms * 1_000_000 + 7_000_000)
    written |= dict(append_each_second(store, clock, 400))
    store.seal()
    clock.step_wall(-step_ms * 1_000_000 + 5_000_000)
    written |= dict(append_each_second(store, clock, 50))
    expected = sorted(written.items())
    assert len(expected) == 850
    assert samples(store, "a") == expected
    now_ms = clock.now_ns() // 1_000_000
    assert samples(store, "a", now_ms - 60_000, now_ms) == [
        sample for sample in expected if now_ms - 60_000 <= sample[0] <= now_ms
    ]
    store.seal(everything=True)
    assert samples(open_store(), "a") == expected


def test_at_an_instant_that_comes_again_the_later_frame_counts(open_store: OpenStore) -> None:
    store = open_store()
    for t_ms, value in ((1_000, 1.0), (2_000, 2.0), (1_000, 3.0), (2_500, 4.0)):
        store.live.append(frame(HOST, t_ms, value, 0.0))
        store.archive.flush()
    expected = [(1_000, 3.0), (2_000, 2.0), (2_500, 4.0)]
    assert samples(store, "a") == expected
    store.seal(everything=True)
    assert samples(open_store(), "a") == expected


def test_while_the_database_is_full_frames_wait_and_health_says_why(open_store: OpenStore, clock: ManualClock) -> None:
    pages = 160
    store = open_store(database=DatabaseOptions(max_pages=pages))
    wide = schema("wide", *(f"m{number}" for number in range(500)))
    t_ms = 0

    def write_one() -> None:
        nonlocal t_ms
        t_ms += 1_000
        store.live.append(Frame(wide, t_ms * 1_000_000, np.full(500, float(t_ms))))
        clock.advance(1_000_000_000)
        store.archive.tick((t_ms + 1_000) * 1_000_000)

    while store.health().ok:
        write_one()
        assert t_ms < 1_000_000
    since_ms = store.health().since_ms
    for _ in range(5):
        write_one()
    assert "full" in store.health().reason
    assert store.health().since_ms == since_ms
    assert store.stats()[_series("degraded")] == 1.0
    assert store.archive.backlog_frames == 6
    stored = samples(store, "m7")
    assert [t for t, _ in stored] == list(range(1_000, t_ms + 1, 1_000))  # the ring still has what waits

    with store.series_database.maintenance() as connection:  # somebody made room
        connection.execute("PRAGMA max_page_count = 100000").fetchall()
    write_one()
    assert store.health().ok
    assert store.archive.backlog_frames == 0
    assert [t for t, _ in samples(open_store(), "m7")] == list(range(1_000, t_ms + 1, 1_000))


def test_a_backlog_that_overflows_drops_the_oldest_and_counts_them(open_store: OpenStore) -> None:
    store = open_store(backlog_bytes=MIB, database=DatabaseOptions(max_pages=60))
    wide = schema("wide", *(f"m{number}" for number in range(5_000)))
    for second in range(1, 31):
        store.live.append(Frame(wide, second * 1_000_000_000, np.full(5_000, float(second))))
        if second % 10 == 0:
            store.archive.tick((second + 1) * 1_000_000_000)
    counts = store.archive.counts
    assert counts.frames == 0
    assert counts.dropped_frames == 30 - store.archive.backlog_frames > 0


def test_sealed_frames_lie_in_packs(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store()
    for t_ms, value in ((1_000, 3.0), (2_000, np.nan), (3_000, 1.0)):
        store.live.append(frame(HOST, t_ms, value, 5.0))
        store.archive.flush()
    store.seal(everything=True)
    with store.series_database.read() as connection:
        ((key, count, data),) = connection.execute(text("SELECT id, count, data FROM chunk")).all()
        assert (key & 0xFFFF_FFFF, count, packs.check(data)) == (0, 2, None)
        assert connection.execute(text("SELECT count(*) FROM frame")).scalar() == 0


def test_the_writer_thread_commits_and_stops(tmp_path: object, open_store: OpenStore) -> None:
    import threading
    import time

    from metrics.clock import SystemClock
    from metrics.paths import RuntimePaths
    from storage.options import StorageOptions

    store = Store.open(StorageOptions(), RuntimePaths(tmp_path / "real"), SystemClock())  # type: ignore[operator]
    committed = threading.Event()
    store.archive.on_commit(lambda _: committed.set())
    store.start()
    store.start()
    try:
        store.live.append(frame(HOST, time.time_ns() // 1_000_000, 1.0, 2.0))
        assert committed.wait(60)
    finally:
        store.close()
        store.close()


def _series(name: str) -> object:
    from metrics.catalogue import series

    return series(f"deskvigil_storage_{name}")
