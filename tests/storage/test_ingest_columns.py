"""Ingest in columns: many series at once, keys that remember ids, and calls that share a transaction."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.series import Series
from storage.health import StorageUnavailable
from storage.ingest import MAX_T_MS, decode_row, encode_row
from storage.keys import SeriesKey, SeriesKeys
from tests.storage.conftest import samples


def key(name):
    return SeriesKey(Series(name))


def put(store, *runs):
    """Store runs of (key, {time: value})."""
    return store.ingest_columns(
        [one for one, _ in runs],
        np.array([len(points) for _, points in runs]),
        np.array([t for _, points in runs for t in points], np.int64),
        np.array([v for _, points in runs for v in points.values()], np.float64),
    )


def test_runs_are_stored_under_their_series_in_any_order_and_again_after_a_restart(open_store):
    store = open_store()
    x, y = key("x"), key("y")
    result = put(store, (y, {5: 1.0, 3: 2.0}), (x, {1: 3.0}), (y, {3: 4.0}))
    assert (result.accepted, result.rejected) == (4, 0)
    put(store, (x, {2: 5.0}), (y, {9: 6.0}))
    for again in (store, open_store()):
        assert samples(again, "x") == [(1, 3.0), (2, 5.0)]
        assert samples(again, "y") == [(3, 4.0), (5, 1.0), (9, 6.0)]


def test_times_out_of_range_and_series_beyond_the_limit_are_left_out_and_told(open_store):
    store = open_store(max_series=100)
    assert put(store, (key("x"), {-1: 1.0, 0: 2.0, MAX_T_MS + 1: 3.0})).rejected == 2
    many = [(key(f"s{i}"), {1: 1.0}) for i in range(120)]
    result = put(store, *many)
    assert (result.accepted, result.rejected) == (99, 21)
    assert "storage.max_series" in result.reason
    assert put(store, *many[:50]).rejected == 0


def test_a_key_finds_its_series_anew_after_it_was_forgotten(store):
    x = key("x")
    put(store, (x, {1: 1.0}))
    before = x.id
    assert store.delete_series([("__name__", "=", "x")], 0, 10, "tester") == 1
    put(store, (x, {2: 2.0}))
    assert x.id != before
    assert samples(store, "x") == [(2, 2.0)]


def test_calls_that_meet_share_a_transaction_and_each_gets_its_own_answer(open_store):
    store = open_store()
    writing, go_on, commits = threading.Event(), threading.Event(), []
    ingest = store._ingest
    original = ingest._write

    def slow(batch):
        commits.append(len(batch.ids))
        writing.set()
        go_on.wait(30)
        original(batch)

    ingest._write = slow
    keys = [key(f"s{i}") for i in range(9)]
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(put, store, (keys[0], {1: 0.0}))
        assert writing.wait(30)
        others = [pool.submit(put, store, (one, {1: float(i), -1: 0.0})) for i, one in enumerate(keys[1:], 1)]
        until = threading.Event()
        while len(ingest._waiting) < 8 and not until.wait(0.001):
            pass
        go_on.set()
        assert first.result(30).accepted == 1
        assert [(one.result(30).accepted, one.result(30).rejected) for one in others] == [(1, 1)] * 8
    assert commits == [1, 8]
    assert [samples(open_store() if i == 5 else store, f"s{i}") for i in (1, 8)] == [[(1, 1.0)], [(1, 8.0)]]


def test_where_the_write_fails_every_call_of_the_group_is_told_and_nothing_is_there(store):
    def fails(batch):
        raise StorageUnavailable("disk full")

    ingest = store._ingest
    original, ingest._write = ingest._write, fails
    x = key("x")
    with pytest.raises(StorageUnavailable):
        put(store, (x, {1: 1.0}))
    ingest._write = original
    assert samples(store, "x") == []
    put(store, (x, {2: 1.0}))
    assert samples(store, "x") == [(2, 1.0)]


def test_more_than_waits_to_be_sealed_is_refused_and_the_rest_taken(open_store):
    store = open_store(ingest_max_samples=1_000)
    with pytest.raises(StorageUnavailable, match="try again later"):
        put(store, (key("x"), dict.fromkeys(range(1001), 1.0)))
    assert put(store, (key("x"), dict.fromkeys(range(1000), 1.0))).accepted == 1_000
    store.seal(everything=True)
    assert put(store, (key("x"), {5_000: 1.0})).accepted == 1


rows = st.lists(
    st.tuples(st.integers(1, 2**40), st.integers(0, MAX_T_MS), st.floats(width=64)), min_size=1, max_size=50
)


@given(rows)
def test_rows_are_read_back_bit_for_bit_in_both_forms(content):
    ids, t_ms = (np.array(column, np.int64) for column in list(zip(*content, strict=True))[:2])
    values = np.array([value for _, _, value in content])
    old = ids.tobytes() + t_ms.tobytes() + values.tobytes()
    for data in (encode_row(ids, t_ms, values), old):
        found = decode_row(len(ids), data)
        assert [column.tobytes() for column in found] == [ids.tobytes(), t_ms.tobytes(), values.tobytes()]


def test_a_series_has_one_key_until_there_are_too_many():
    keys = SeriesKeys(most=2)
    a, b, c = Series("a"), Series("b"), Series("c")
    assert keys.of(a) is keys.of(Series("a"))
    first = keys.of(b)
    keys.of(c)
    assert keys.of(b) is not first
