"""What housekeeping does to samples: nothing that a reader could see, until retention deletes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics.clock import ManualClock
from metrics.paths import RuntimePaths
from metrics.series import Series
from storage import jobs
from storage.options import MIB, StorageOptions
from storage.rollups import DAY_MS
from storage.store import Store
from tests.storage.conftest import OpenStore, frame, samples, schema

HOST = schema("host", "a", "b")
M = Series("m")
START_MS = 1_790_000_000_000 // DAY_MS * DAY_MS
NEXT_DAY_MS = START_MS + 2 * DAY_MS


def write_hours(store: Store, hours: int, n: int = 20, seed: int = 1) -> dict[int, float]:
    """Blocks of an hour with n frames each; returns what series a must hold."""
    random = np.random.default_rng(seed)
    written = {}
    for hour in range(hours):
        for number in range(n):
            t_ms = START_MS + hour * 3_600_000 + number * 1_000
            written[t_ms] = float(random.normal())
            store.live.append(frame(HOST, t_ms, written[t_ms], 5.0))
            store.archive.flush()
        store.seal(everything=True)
    return written


def blocks(store: Store) -> int:
    return int(store.stats()[Series("deskvigil_storage_blocks")])


def test_small_blocks_become_one_and_answers_stay(open_store: OpenStore) -> None:
    store = open_store(ring_frames=16)
    written = write_hours(store, 6)
    rewritten: list[tuple[int, int]] = []
    store.on_rewritten = lambda old, new: rewritten.append((len(old), len(new)))
    assert samples(store, "a") == sorted(written.items())
    assert jobs.join(store, NEXT_DAY_MS) == "6 blocks joined into 1, 0 of minutes into 0"
    assert rewritten == [(6, 1)]
    assert samples(store, "a") == sorted(written.items())
    assert blocks(store) == 1
    assert jobs.join(store, NEXT_DAY_MS) == "0 blocks joined into 0, 0 of minutes into 0"
    store = open_store()
    assert samples(store, "a") == sorted(written.items())
    assert store.series_database.integrity_problems() == []


def test_blocks_of_the_running_day_and_large_ones_stay(open_store: OpenStore) -> None:
    store = open_store()
    write_hours(store, 3)
    assert jobs.join(store, START_MS + DAY_MS // 2).startswith("0 blocks")
    assert "off" in jobs.join(open_store(compact=False), NEXT_DAY_MS)


def test_a_joined_block_that_was_rolled_up_stays_so(open_store: OpenStore) -> None:
    store = open_store(ring_frames=16)
    write_hours(store, 6)
    before = store.reader.rollup([("__name__", "=", "a")], 0, 2**60)[0]
    assert jobs.rollup(store, NEXT_DAY_MS) == "6 blocks rolled up"
    jobs.join(store, NEXT_DAY_MS)
    store = open_store()
    assert jobs.rollup(store, NEXT_DAY_MS) == "0 blocks rolled up"
    after = store.reader.rollup([("__name__", "=", "a")], 0, 2**60)[0]
    assert after.count.tolist() == before.count.tolist()
    assert after.min.tolist() == before.min.tolist()


def test_what_is_larger_than_max_bytes_goes_oldest_first(open_store: OpenStore, clock: ManualClock) -> None:
    store = open_store(ring_frames=16)
    written = write_hours(store, 24, n=6)
    jobs.rollup(store, NEXT_DAY_MS)
    assert "max_bytes" not in jobs.retention(store, NEXT_DAY_MS)
    store = open_store(max_bytes=store.retention.bytes_held() - 1_000, ring_frames=16)
    assert store.reader.raw_since_ms() is None
    assert "10 blocks for storage.max_bytes" in jobs.retention(store, NEXT_DAY_MS)
    since_ms = store.reader.raw_since_ms()
    assert since_ms is not None
    assert since_ms > START_MS
    assert samples(store, "a") == sorted((t, v) for t, v in written.items() if t >= since_ms)
    assert sum(store.reader.rollup([("__name__", "=", "a")], 0, 2**60)[0].count) == len(written)
    assert store.stats()[Series("deskvigil_storage_capped_blocks_total")] > 0
    assert open_store().reader.raw_since_ms() == since_ms


writes = st.lists(st.tuples(st.integers(0, 40), st.floats(allow_nan=False, width=32)), min_size=1, max_size=8)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ingest"), writes),
        st.tuples(st.just("frame"), st.tuples(st.integers(0, 40), st.floats(allow_nan=False, width=32))),
        st.tuples(st.sampled_from(["seal", "rollup", "join", "restart"]), st.none()),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_whatever_happens_the_reader_is_a_dictionary(
    steps: list[tuple[str, object]], tmp_path_factory: pytest.TempPathFactory, empty_database: object
) -> None:
    """Late, early and repeated samples of one source each, through sealing, rollup, compaction and restart."""
    folder = tmp_path_factory.mktemp("model")
    (folder / RuntimePaths(folder).database.name).write_bytes(empty_database.read_bytes())  # type: ignore[attr-defined]
    options = StorageOptions(ring_frames=16, column_cache_bytes=MIB)
    store = Store.open(options, RuntimePaths(folder), ManualClock())
    model: dict[str, dict[int, float]] = {"m": {}, "a": {}}
    try:
        for what, argument in steps:
            if what == "ingest":
                pairs: list[tuple[int, float]] = argument  # type: ignore[assignment]
                times = np.array([START_MS + t * 1_000 for t, _ in pairs])
                store.ingest([M], [times], [np.array([v for _, v in pairs])])
                model["m"].update(zip(times.tolist(), (v for _, v in pairs), strict=True))
            elif what == "frame":
                second, value = argument  # type: ignore[misc]
                store.live.append(frame(HOST, START_MS + second * 1_000, value, 0.0))
                store.archive.flush()
                model["a"][START_MS + second * 1_000] = value
            elif what == "seal":
                store.seal(everything=True)
            elif what == "rollup":
                store.rollup_writer.run(NEXT_DAY_MS, NEXT_DAY_MS)
            elif what == "join":
                jobs.join(store, NEXT_DAY_MS)
            else:
                store.close()
                store = Store.open(options, RuntimePaths(folder), ManualClock())
            for name, expected in model.items():
                assert samples(store, name) == sorted(expected.items())
    finally:
        store.close()
