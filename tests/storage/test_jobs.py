import numpy as np
import pytest
from sqlalchemy import func, insert, select

from metrics.clock import ManualClock
from metrics.series import Series
from storage import jobs
from storage.rollups import DAY_MS, minutes
from storage.store import Store
from storage.tables import alert_event, block, chunk, layout, outbox, rollup_chunk, series_page
from tests.storage.conftest import OpenStore, frame, samples, schema

HOST = schema("host", "a", "b")
DAY_NS = DAY_MS * 1_000_000
START_NS = 1_700_006_400_000_000_000  # midnight, UTC


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_NS)


def now_ms(clock: ManualClock) -> int:
    return clock.now_ns() // 1_000_000


def a_day(store: Store, clock: ManualClock, every_s: int = 20) -> dict[int, float]:
    """A day of frames, sealed; returns what series a must hold."""
    written = {}
    rng = np.random.default_rng(now_ms(clock) % 2**32)
    for value in rng.normal(size=86_400 // every_s).tolist():
        store.live.append(frame(HOST, now_ms(clock), value, np.nan if value > 1 else 5.0))
        written[now_ms(clock)] = value
        clock.advance(every_s * 1_000_000_000)
        if len(written) % 100 == 0:
            store.archive.tick(clock.now_ns())
    store.archive.flush()
    store.seal(everything=True)
    return written


def obvious_minutes(written: dict[int, float]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for t_ms, value in sorted(written.items()):
        if not np.isnan(value):
            found.setdefault(t_ms // 60_000 * 60_000, []).append(value)
    return found


def check_rollup(store: Store, name: str, written: dict[int, float]) -> None:
    (data,) = store.reader.rollup([("__name__", "=", name)], 0, 2**60)
    expected = obvious_minutes(written)
    assert data.t_ms.tolist() == sorted(expected)
    groups = [expected[t_ms] for t_ms in sorted(expected)]
    assert data.min.tolist() == [min(group) for group in groups]
    assert data.max.tolist() == [max(group) for group in groups]
    assert data.count.tolist() == [len(group) for group in groups]
    assert data.last.tolist() == [group[-1] for group in groups]
    assert np.allclose(data.sum, [sum(group) for group in groups])


def count(store: Store, table: object) -> int:
    with store.series_database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def test_minutes_are_the_same_before_and_after_they_are_rolled_up(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(ring_frames=100)
    written = a_day(store, clock)
    check_rollup(store, "a", written)
    assert jobs.rollup(store, now_ms(clock)) == "18 blocks rolled up"  # late samples of the last quarter may still come
    check_rollup(store, "a", written)
    clock.advance(3 * 3_600_000_000_000)
    assert jobs.rollup(store, now_ms(clock)) == "6 blocks rolled up"
    check_rollup(store, "a", written)
    assert jobs.join(store, now_ms(clock)).endswith("4 of minutes into 1")
    check_rollup(store, "a", written)
    check_rollup(store, "a", written)
    check_rollup(store, "b", {t: 5.0 for t, v in written.items() if v <= 1})
    assert jobs.rollup(store, now_ms(clock)) == "0 blocks rolled up"
    store = open_store()
    check_rollup(store, "a", written)


def test_old_samples_that_come_late_join_the_minutes_that_are_there(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store()
    written = a_day(store, clock)
    clock.advance(DAY_NS)
    jobs.rollup(store, now_ms(clock))
    late = START_NS // 1_000_000 + 5_000
    store.ingest([HOST.series[0]], [np.array([late])], [np.array([99.0])])
    written[late] = 99.0
    store.seal(everything=True)
    jobs.rollup(store, now_ms(clock))
    (data,) = store.reader.rollup([("__name__", "=", "a")], 0, 2**60)
    first = obvious_minutes(written)[START_NS // 1_000_000]
    assert (data.max[0], data.count[0]) == (99.0, 4.0)
    assert np.isclose(data.sum[0], sum(first))


def test_samples_go_after_their_days_and_minutes_stay(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(raw_days=2, ring_frames=100)
    written = a_day(store, clock)
    clock.advance(3 * DAY_NS)
    jobs.rollup(store, now_ms(clock))
    store = open_store(raw_days=2, rollup_days=10)
    assert "24 blocks, 0 rollups, 0 series" in jobs.retention(store, now_ms(clock))
    assert samples(store, "a") == []
    assert count(store, chunk) == count(store, block) == 0
    check_rollup(store, "a", written)
    clock.advance(10 * DAY_NS)
    store = open_store(raw_days=2, rollup_days=10)
    assert "0 blocks, 1 rollups, 2 series" in jobs.retention(store, now_ms(clock))
    for table in (rollup_chunk, layout, series_page):
        assert count(store, table) == 0
    assert store.reader.label_names() == []
    store.live.append(frame(HOST, now_ms(clock), 1.0, 2.0))
    assert samples(open_store(), "a") == [(now_ms(clock), 1.0)]


def test_samples_that_are_not_rolled_up_yet_are_kept_a_while_longer(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(raw_days=2)
    a_day(store, clock, every_s=600)
    clock.advance(2 * DAY_NS)
    store = open_store(raw_days=2)
    assert jobs.retention(store, now_ms(clock)).startswith("0 blocks")


def test_a_clock_that_jumps_forward_by_years_deletes_nothing(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(raw_days=2)
    written = a_day(store, clock, every_s=600)
    clock.step_wall(1000 * DAY_NS)
    assert "clock was set forward by 24000 h" in jobs.retention(store, now_ms(clock))
    assert dict(samples(store, "a")) == written


def test_retention_leaves_recent_and_ingested_series_alone(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(raw_days=2)
    a_day(store, clock, every_s=600)
    clock.advance(9 * DAY_NS)
    store = open_store(raw_days=2)
    store.ingest([HOST.series[0], Series("new")], [np.array([5]), np.array([6])], [np.array([1.0]), np.array([2.0])])
    assert "1 series" in jobs.retention(store, now_ms(clock))
    assert samples(store, "a") == [(5, 1.0)]
    store = open_store()
    assert samples(store, "a") == [(5, 1.0)]
    assert samples(store, "new") == [(6, 2.0)]
    assert store.reader.series() == [HOST.series[0], Series("new")]


def test_histories_are_kept_for_their_days_but_what_must_be_sent_stays(
    open_store: OpenStore, clock: ManualClock
) -> None:
    store = open_store(history_days=10)
    event = {"alert_id": "1", "fingerprint": "f", "rule": "r", "labels": {}, "annotations": {}, "severity": "info"}
    with store.write() as connection:
        for age_days in (5, 15):
            t_ms = now_ms(clock) - age_days * DAY_MS
            states = {"from_state": "inactive", "to_state": "firing", "reason": "first"}
            connection.execute(insert(alert_event).values(t_ms=t_ms, **event, **states))
            for status in ("pending", "sent"):
                row = {"event_id": f"{age_days}{status}", "channel": "c", "alert_id": "1", "payload": {}, "reason": "x"}
                times = {"created_ms": t_ms, "next_attempt_ms": t_ms, "status": status}
                connection.execute(insert(outbox).values(**row, **times))
    assert "2 rows of histories" in jobs.retention(store, now_ms(clock))
    with store.read() as connection:
        left = connection.execute(select(outbox.c.event_id).order_by(outbox.c.event_id)).scalars().all()
    assert left == ["15pending", "5pending", "5sent"]


def test_space_is_given_back_to_the_file_system(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(raw_days=1)
    wide = schema("wide", *(f"m{number}" for number in range(200)))
    from metrics.frame import Frame

    rng = np.random.default_rng(1)
    for _ in range(400):
        store.live.append(Frame(wide, clock.now_ns(), rng.normal(size=200)))
        clock.advance(1_000_000_000)
    store.archive.flush()
    store.seal(everything=True)
    jobs.compact(store)
    size = store.series_database.path.stat().st_size
    clock.advance(10 * DAY_NS)
    store = open_store(raw_days=1)
    jobs.retention(store, now_ms(clock))
    assert jobs.compact(store) == "checkpoint done, 0 free pages left"
    assert store.series_database.path.stat().st_size < size / 2
    assert store.series_database.integrity_problems() == []


def test_missing_values_have_no_part_in_minutes() -> None:
    times = np.array([0, 1000, 60_000, 61_000, 180_000])
    values = np.array([[1.0, np.nan, np.nan, 4.0, np.nan], [1.0, 2.0, 3.0, 4.0, 5.0]])
    starts, columns = minutes(times, values)
    assert starts.tolist() == [0, 60_000, 180_000]
    assert columns[3, 0].tolist() == [1.0, 1.0, 0.0]
    assert columns[4, 0, :2].tolist() == [1.0, 4.0]
    assert columns[:, 1].tolist() == [[1, 3, 5], [2, 4, 5], [3, 7, 5], [2, 2, 1], [2, 4, 5]]
