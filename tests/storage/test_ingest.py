import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.clock import ManualClock
from metrics.series import Series
from storage.health import StorageUnavailable
from storage.merge import merge, sorted_unique
from storage.options import DatabaseOptions
from storage.stale import STALE_BITS
from storage.store import Store
from tests.storage.conftest import OpenStore, frame, samples, schema

M = Series("m")


def ingest(store: Store, *pairs: tuple[int, float], series: Series = M) -> None:
    store.ingest([series], [np.array([t for t, _ in pairs])], [np.array([v for _, v in pairs])])


def test_samples_can_be_read_at_once_sorted_and_without_repeats(store: Store) -> None:
    ingest(store, (5, 50.0), (0, 1.0), (5, 51.0), (3, 30.0))
    ingest(store, (3, 31.0), (4, 40.0))
    assert samples(store, "m") == [(0, 1.0), (3, 31.0), (4, 40.0), (5, 51.0)]


def test_what_was_accepted_survives_a_restart_unsealed_and_sealed(open_store: OpenStore) -> None:
    ingest(open_store(), (1, 1.0), (2, 2.0))
    store = open_store()
    assert samples(store, "m") == [(1, 1.0), (2, 2.0)]
    ingest(store, (2, 22.0), (3, 3.0))
    assert store.seal(everything=True) == 1
    assert samples(store, "m") == [(1, 1.0), (2, 22.0), (3, 3.0)]
    store = open_store()
    ingest(store, (1, 11.0))
    assert samples(store, "m") == [(1, 11.0), (2, 22.0), (3, 3.0)]


def test_a_sample_that_is_sent_again_after_sealing_replaces_the_sealed_one(open_store: OpenStore) -> None:
    store = open_store()
    other = Series("n")
    for number in range(4):
        ingest(store, (1, float(number)), (2 + number, 0.0))
        if number % 2:
            ingest(store, (1, 0.0), (2 + number, 0.0), series=other)
        store.seal(everything=True)
    assert samples(store, "m")[0] == (1, 3.0)
    assert samples(open_store(), "m")[0] == (1, 3.0)


def test_stale_markers_and_other_nans_keep_their_bits(open_store: OpenStore) -> None:
    bits = [STALE_BITS, 0x7FF8_0000_0000_0001]
    values = np.array(bits, np.uint64).view(np.float64)
    store = open_store()
    store.ingest([M], [np.array([1, 2])], [values])
    for _ in range(2):
        (data,) = store.reader.select([("__name__", "=", "m")], 0, 10)
        assert np.ascontiguousarray(data.values).view(np.uint64).tolist() == bits
        store.seal(everything=True)


def test_samples_of_a_live_series_join_its_frames(store: Store) -> None:
    of = schema("host", "a")
    store.live.append(frame(of, 2000, 2.0))
    ingest(store, (1000, 1.0), (3000, 3.0), series=of.series[0])
    assert samples(store, "a") == [(1000, 1.0), (2000, 2.0), (3000, 3.0)]


def test_series_with_the_same_times_share_a_block(store: Store) -> None:
    names = [Series(f"s{number}") for number in range(50)]
    times = np.arange(100) * 15_000
    store.ingest(names, [times] * 50, [np.full(100, float(number)) for number in range(50)])
    assert store.seal(everything=True) == 1
    blocks = store.reader.cursor([]).blocks(0, 10**9)
    assert len(blocks) == 1
    assert blocks[0].values.shape == (50, 100)


def test_a_long_series_is_cut_so_that_a_short_read_decodes_little(store: Store) -> None:
    times = np.arange(20_000) * 1000
    store.ingest([M], [times], [times / 1000.0])
    assert store.seal(everything=True) == 3
    assert len(samples(store, "m")) == 20_000
    assert samples(store, "m", 10_000_000, 10_001_000) == [(10_000_000, 10_000.0), (10_001_000, 10_001.0)]


def test_times_that_cannot_be_are_left_out_and_counted(store: Store) -> None:
    result = store.ingest([M], [np.array([-1, 5, 2**60])], [np.array([1.0, 2.0, 3.0])])
    assert (result.accepted, result.rejected) == (1, 2)
    assert "1970" in result.reason
    assert samples(store, "m") == [(5, 2.0)]


def test_series_beyond_the_limit_are_left_out_and_counted(open_store: OpenStore) -> None:
    store = open_store(max_series=100)
    names = [Series(f"s{number}") for number in range(103)]
    result = store.ingest(names, [np.array([1])] * 103, [np.array([1.0])] * 103)
    assert (result.accepted, result.rejected) == (100, 3)
    assert "max_series" in result.reason


def test_samples_that_come_faster_than_they_are_sealed_are_refused(open_store: OpenStore) -> None:
    store = open_store(ingest_max_samples=1000, ingest_seal_samples=1000)
    store.ingest([M], [np.arange(1000)], [np.zeros(1000)])
    assert store.archive.due.is_set()
    with pytest.raises(StorageUnavailable, match="try again later"):
        ingest(store, (5000, 1.0))
    store.seal()
    ingest(store, (5000, 1.0))
    assert len(samples(store, "m")) == 1001


def test_samples_that_waited_long_enough_are_sealed(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(seal_minutes=1)
    ingest(store, (1, 1.0))
    assert store.seal() == 0
    clock.advance(61_000_000_000)
    assert store.seal() == 1


def test_a_full_database_refuses_and_stores_nothing(open_store: OpenStore) -> None:
    store = open_store(database=DatabaseOptions(max_pages=60))
    with pytest.raises(StorageUnavailable, match="full"):
        store.ingest([M], [np.arange(100_000)], [np.zeros(100_000)])
    assert samples(store, "m") == []
    assert not store.health().ok


times_and_values = st.lists(st.tuples(st.integers(0, 30), st.floats(allow_nan=False)), max_size=15)


@given(st.lists(times_and_values, max_size=6))
def test_merged_pieces_are_what_a_dictionary_would_hold(parts: list[list[tuple[int, float]]]) -> None:
    expected: dict[int, float] = {}
    pieces = []
    for part in parts:
        expected |= dict(part)
        unsorted = np.array([t for t, _ in part], np.int64), np.array([[v for _, v in part]])
        pieces.append(sorted_unique(*unsorted))
    times, values = merge(pieces, 1)
    assert list(zip(times.tolist(), values[0].tolist(), strict=True)) == sorted(expected.items())
