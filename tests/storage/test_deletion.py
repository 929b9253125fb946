"""Deleting series: gone from memory, frames, blocks and minutes, and nothing comes back after a restart."""

import numpy as np

from metrics.frame import Frame
from metrics.series import Schema, Series
from storage.keys import SeriesKey

DAY_MS = 86_400_000
EVER = (0, 253_402_300_799_999)


def series(name, **labels):
    return Series(name, tuple(sorted(labels.items())))


def put(store, one, t_ms, values):
    t = np.asarray(list(t_ms), np.int64)
    store.ingest([one], [t], [np.asarray(list(values), np.float64)])


def samples(store, name, t0_ms=0, t1_ms=EVER[1]):
    """Times of each series of a metric, without stale markers."""
    found = {}
    for one in store.reader.select([("__name__", "=", name)], t0_ms, t1_ms):
        here = one.t_ms[~np.isnan(one.values)].tolist()
        if here:
            found[str(one.series)] = here
    return found


def delete(store, name, t0_ms=0, t1_ms=EVER[1]):
    return store.delete_series([("__name__", "=", name)], t0_ms, t1_ms, "tester")


def test_a_range_of_ingested_samples_goes_sealed_or_not_and_stays_away(open_store, clock):
    store = open_store()
    now = clock.now_ns() // 1_000_000
    old = now - 10 * DAY_MS
    for name in ("gone", "kept"):
        put(store, series(name, a="1"), range(old, old + 10_000, 1_000), range(10))
    store.seal(everything=True)
    for name in ("gone", "kept"):
        put(store, series(name, a="1"), range(old + 10_000, old + 20_000, 1_000), range(10))
    assert len(samples(store, "gone")['gone{a="1"}']) == 20  # and what was read is kept decoded
    assert delete(store, "gone", old + 5_000, old + 14_000) == 1
    left = [*range(old, old + 5_000, 1_000), *range(old + 15_000, old + 20_000, 1_000)]
    assert samples(store, "gone") == {'gone{a="1"}': left}
    assert samples(store, "kept") == {'kept{a="1"}': list(range(old, old + 20_000, 1_000))}
    store = open_store()
    assert samples(store, "gone") == {'gone{a="1"}': left}
    assert samples(store, "kept") == {'kept{a="1"}': list(range(old, old + 20_000, 1_000))}


def test_a_series_of_which_all_is_deleted_is_not_listed_any_more(open_store, clock):
    store = open_store()
    old = clock.now_ns() // 1_000_000 - DAY_MS
    put(store, series("gone", a="1"), range(old, old + 5_000, 1_000), range(5))
    put(store, series("kept"), range(old, old + 5_000, 500), range(10))
    assert delete(store, "gone") == 1
    assert [str(one) for one in store.reader.series()] == ["kept"]
    store = open_store()
    assert [str(one) for one in store.reader.series()] == ["kept"]
    key = SeriesKey(series("gone", a="1"))
    for _ in range(2):  # it may come again, and its sender's key need not know that it was away
        store.ingest_columns([key], np.array([1]), np.array([old]), np.array([1.0]))
        assert samples(store, "gone") == {'gone{a="1"}': [old]}
        delete(store, "gone")
        assert samples(store, "gone") == {}


def test_frames_go_from_ring_tail_and_database_and_new_ones_come(open_store, clock):
    store = open_store()
    schema = Schema("host", (series("gone"), series("kept")))

    def tick(value):
        clock.advance(10**9)
        store.live.append(Frame(schema, clock.now_ns(), np.array([value, value])))
        store.archive.tick(clock.now_ns())
        return clock.now_ns() // 1_000_000

    times = [tick(float(i)) for i in range(20)]
    assert delete(store, "gone", times[5], times[9]) == 1
    left = times[:5] + times[10:]
    assert samples(store, "gone") == {"gone": left}
    assert samples(store, "kept") == {"kept": times}
    assert delete(store, "gone") == 1
    assert samples(store, "gone") == {}
    assert np.isnan(store.live.window(series("gone"), 0, EVER[1])[1]).all()
    assert store.live.last_frame("host").values.tolist() == [19.0, 19.0]  # what a collector said stays its own
    later = tick(20.0)
    assert samples(store, "gone") == {"gone": [later]}
    store.archive.flush()
    store = open_store()
    assert samples(store, "gone") == {"gone": [later]}
    assert samples(store, "kept") == {"kept": [*times, later]}


def test_minutes_lose_what_is_deleted_and_cut_ones_are_counted_again(open_store, clock):
    store = open_store()
    now = clock.now_ns() // 1_000_000
    day = (now - 5 * DAY_MS) // DAY_MS * DAY_MS
    for name in ("gone", "kept"):
        put(store, series(name), range(day, day + 300_000, 1_000), range(300))
    store.seal(everything=True)
    assert store.rollup_writer.run(now - DAY_MS, now) > 0

    def minutes(name):
        [found] = store.reader.rollup([("__name__", "=", name)], day, day + DAY_MS)
        here = found.count > 0
        return dict(zip(((found.t_ms[here] - day) // 60_000).tolist(), found.count[here].tolist(), strict=True))

    assert minutes("gone") == dict.fromkeys(range(5), 60.0)
    delete(store, "gone", day + 90_000, day + 209_000)
    assert minutes("gone") == {0: 60.0, 1: 30.0, 3: 30.0, 4: 60.0}
    assert minutes("kept") == dict.fromkeys(range(5), 60.0)
    store = open_store()
    assert minutes("gone") == {0: 60.0, 1: 30.0, 3: 30.0, 4: 60.0}
    delete(store, "gone")
    assert store.reader.rollup([("__name__", "=", "gone")], day, day + DAY_MS) == []


def test_who_deleted_what_is_in_the_audit(store, clock):
    put(store, series("x"), [1_000], [1.0])
    delete(store, "x", 500, 2_000)
    entry = store.audit.list(limit=1)[0]
    assert (entry.who, entry.action) == ("tester", "delete series")
    assert entry.detail == {"match": ["__name__=x"], "start_ms": 500, "end_ms": 2_000, "series": 1}
    assert delete(store, "nothing") == 0
    assert store.audit.list(limit=1)[0].id == entry.id
