import numpy as np
import pytest

from metrics.frame import Frame
from metrics.series import Series
from storage.stale import NORMAL_BITS, STALE_BITS, is_stale, mark_missing
from storage.store import Store
from tests.storage.conftest import OpenStore, frame, schema

HOST = schema("host", "a", "b")


def test_the_latest_value_of_a_series_is_that_of_the_newest_frame(store: Store) -> None:
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    store.live.append(frame(HOST, 2000, 3.0, 4.0))
    assert store.live.latest(HOST.series[1]) == (2000, 4.0)
    assert store.live.latest(Series("unknown")) is None


def test_subscribers_are_told_after_the_frame_can_be_read(store: Store) -> None:
    seen: list[tuple[int, float] | None] = []
    store.live.subscribe(lambda _: seen.append(store.live.latest(HOST.series[0])))
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    assert seen == [(1000, 1.0)]


def test_a_failing_subscriber_is_counted_and_does_not_stop_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Frame] = []

    def fail(_: Frame) -> None:
        raise RuntimeError("broken")

    store.live.subscribe(fail)
    store.live.subscribe(seen.append)
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    assert len(seen) == 1
    assert store.live.callback_errors == 1
    assert "broken" in caplog.text


def test_a_subscription_that_was_ended_hears_nothing(store: Store) -> None:
    seen: list[Frame] = []
    unsubscribe = store.live.subscribe(seen.append)
    unsubscribe()
    unsubscribe()
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    assert seen == []


def test_equal_schemas_of_a_restarted_collector_share_a_ring(store: Store) -> None:
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    store.live.append(frame(schema("host", "a", "b"), 2000, 3.0, 4.0))
    times, values = store.live.window(HOST.series[0], 0, 10_000)
    assert (times.tolist(), values.tolist()) == ([1000, 2000], [1.0, 3.0])


def test_a_table_has_all_series_of_the_current_schema(store: Store) -> None:
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    found = store.live.table("host", 0, 10_000)
    assert found is not None
    assert (found[0], found[1].tolist(), found[2].tolist()) == (HOST, [1000], [[1.0], [2.0]])
    assert store.live.table("nobody", 0, 10_000) is None


def test_the_current_schema_of_each_collector_is_listed(store: Store) -> None:
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    changed = schema("host", "a")
    store.live.append(frame(changed, 2000, 1.0))
    assert dict(store.live.schemas) == {"host": changed}


def test_a_series_that_is_not_described_any_more_ends_with_a_stale_marker(store: Store) -> None:
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    store.live.append(frame(schema("host", "a"), 2000, 3.0))
    (gone,) = store.reader.select([("__name__", "=", "b")], 0, 10_000)
    assert gone.t_ms.tolist() == [1000, 2000]
    assert is_stale(gone.values).tolist() == [False, True]
    (kept,) = store.reader.select([("__name__", "=", "a")], 0, 10_000)
    assert (kept.t_ms.tolist(), kept.values.tolist()) == ([1000, 2000], [1.0, 3.0])


@pytest.mark.parametrize("sealed", [False, True])
def test_a_series_that_is_gone_after_a_restart_ends_with_a_stale_marker(open_store: OpenStore, sealed: bool) -> None:
    store = open_store()
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    store.archive.flush()
    if sealed:
        store.seal(everything=True)
    store = open_store()
    store.live.append(frame(schema("host", "a"), 2000, 3.0))
    store.archive.flush()
    (gone,) = open_store().reader.select([("__name__", "=", "b")], 0, 10_000)
    assert is_stale(gone.values).tolist() == [False, True]


def test_schemas_that_come_and_go_stay_bounded_and_readable(open_store: OpenStore) -> None:
    store = open_store(ring_generations=2)
    for number in range(40):
        store.live.append(frame(schema("host", "a", f"disk{number % 7}"), number * 1000, number, -number))
        store.archive.tick((number + 1) * 1_000_000_000)
    (kept,) = store.reader.select([("__name__", "=", "a")], 0, 10**9)
    assert kept.t_ms.tolist() == [number * 1000 for number in range(40)]
    assert kept.values.tolist() == list(range(40))


def test_frames_beyond_the_series_limit_are_refused_and_counted(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(max_series=100)
    wide = schema("wide", *(f"m{number}" for number in range(101)))
    store.live.append(Frame(wide, 0, np.zeros(101)))
    assert store.live.refused_frames == 1
    assert "max_series" in caplog.text


def test_an_empty_schema_is_no_trouble(store: Store) -> None:
    store.live.append(frame(schema("gpu"), 1000))
    store.archive.flush()
    assert store.seal(everything=True) == 1


def test_a_nan_that_is_a_value_is_kept_and_any_other_means_no_reading() -> None:
    normal = np.array([NORMAL_BITS], np.uint64).view(np.float64)[0]
    marked = mark_missing(np.array([1.0, np.nan, normal]))
    assert marked.view(np.uint64).tolist()[1:] == [STALE_BITS, NORMAL_BITS]
    kept = np.array([1.0, normal])
    assert mark_missing(kept) is kept


def test_frames_refused_for_too_many_series_are_told_by_collector_until_they_are_taken_again(
    open_store: OpenStore,
) -> None:
    store = open_store(max_series=100)
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    many = schema("crowd", *(f"s{n}" for n in range(101)))
    store.live.append(frame(many, 1000, *range(101)))
    assert "storage.max_series" in store.live.refused["crowd"]
    store.live.append(frame(HOST, 2000, 1.0, 2.0))
    assert list(store.live.refused) == ["crowd"]
    store.live.append(frame(schema("crowd", "s0"), 2000, 1.0))
    assert store.live.refused == {}


def test_rings_of_many_collectors_share_a_bounded_memory(open_store: OpenStore) -> None:
    store = open_store(ring_total_bytes=4 << 20, ring_frames=9000)
    for number in range(50):
        store.live.append(frame(schema(f"c{number}", *(f"s{n}" for n in range(20))), 1000, *range(20)))
    assert store.live.bytes < 6 << 20
    assert min(store.live._current[f"c{number}"].ring.capacity for number in range(50)) == 128
