"""The reader against an obvious reference: a dictionary of instants and values per series."""

import atexit
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from metrics.clock import ManualClock
from metrics.errors import DeskvigilError
from metrics.paths import RuntimePaths
from metrics.series import Series
from storage import chunks
from storage.options import StorageOptions
from storage.stale import STALE_NAN, is_stale
from storage.store import Store
from tests.storage.conftest import OpenStore, frame, schema

SCHEMAS = (schema("c", "a", "b"), schema("c", "b", "x"), schema("d", "a2", "y"))
INGESTED = (Series("ingested"), SCHEMAS[0].series[1])
T0_MS = 1_000_000
_template: list[Path] = []


def _database() -> Path:
    if not _template:
        folder = Path(tempfile.mkdtemp(prefix="deskvigil-test-"))
        Store.open(StorageOptions(), RuntimePaths(folder), ManualClock()).close()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _template.append(RuntimePaths(folder).database)
    return _template[0]


class StoreMachine(RuleBasedStateMachine):
    """Frames of changing schemas under a clock that jumps, ingest, sealing, restarts: reads never differ."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="deskvigil-test-"))
        self.paths = RuntimePaths(self.folder)
        shutil.copy(_database(), self.paths.database)
        self.clock = ManualClock(T0_MS * 1_000_000)
        self.expected: dict[Series, dict[int, float]] = {}
        self.current: dict[str, int] = {}
        self.value = 0.0
        self.restarted = False
        self._open()

    def _open(self) -> None:
        options = StorageOptions(ring_frames=16, ring_generations=2, seal_minutes=1)
        self.store = Store.open(options, self.paths, self.clock)
        self.cursor = self.store.reader.cursor([("__name__", "!=", "nothing")])

    @rule(which=st.integers(0, 2), steps=st.lists(st.sampled_from([1, 2, 7, 65, -3, -40, -200]), max_size=8))
    def append(self, which: int, steps: list[int]) -> None:
        if which < 2 and self.restarted:
            which = self.current.get("c", which)
            self.restarted = not steps
        of = SCHEMAS[which]
        for step in steps:
            self.clock.step_wall(step * 1_000_000_000)
            # A millisecond apart: which of two schemas wins an instant that comes again is left open.
            t_ms = self.clock.now_ns() // 1_000_000 + which
            values = [self.value + 0.5 * row if (self.value + row) % 5 else np.nan for row in range(len(of))]
            self.value += 1.0
            self.store.live.append(frame(of, t_ms, *values))
            before = self.current.get(of.collector)
            if before is not None and before != which:
                for series in SCHEMAS[before].series:
                    self._expect(series, t_ms, STALE_NAN)
            self.current[of.collector] = which
            for series, value in zip(of.series, values, strict=True):
                self._expect(series, t_ms, STALE_NAN if np.isnan(value) else value)
        self.store.archive.flush()

    def _expect(self, series: Series, t_ms: int, value: float) -> None:
        known = self.expected.setdefault(series, {})
        if not (np.isnan(value) and t_ms in known):
            known[t_ms] = value

    @rule(offsets=st.lists(st.integers(-5, 300), min_size=1, max_size=10), which=st.integers(0, 1))
    def ingest(self, offsets: list[int], which: int) -> None:
        # Half a second off the frames' instants: which of two writers wins an instant is not the point here.
        times = np.array([T0_MS + 500 + offset * 1000 for offset in offsets], np.int64)
        values = np.arange(len(times)) + self.value
        self.value += len(times)
        self.store.ingest([INGESTED[which]], [times], [values])
        for t_ms, value in zip(times.tolist(), values.tolist(), strict=True):
            self.expected.setdefault(INGESTED[which], {})[t_ms] = value

    @rule(everything=st.booleans())
    def seal(self, everything: bool) -> None:
        self.store.seal(everything)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self._open()
        self.restarted = True  # schemas that alternated before are only followed from the next frame on

    @rule(
        at_s=st.integers(-20, 300),
        every_ms=st.sampled_from([1_000, 3_000, 7_500, 60_000, 3_600_000]),
        count=st.integers(2, 40),
    )
    def ask_at_steps(self, at_s: int, every_ms: int, count: int) -> None:
        """Samples that no step sees may be missing, the others not."""
        steps = [T0_MS + at_s * 1000 + number * every_ms for number in range(count)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunks, "_THIN", 0)  # also where it would save nothing
            found = {
                series: (block.t_ms, _bits(row))
                for block in self.cursor.blocks(steps[0] - 299_999, steps[-1], (steps[0], every_ms))
                for series, row in zip(block.series, block.values, strict=True)
            }
        for series, samples in self.expected.items():
            times, bits = found.get(series, (np.empty(0, np.int64), []))
            for step in steps:
                newest = max((t for t in samples if steps[0] - 299_999 <= t <= step), default=None)
                at = int(np.searchsorted(times, step, side="right")) - 1
                assert (int(times[at]) if at >= 0 else None) == newest, (series, step)
                assert newest is None or bits[at] == _bits(np.array([samples[newest]]))[0], (series, step)

    @invariant()
    def everything_reads_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        self._compare(-(2**60), 2**60)
        now_ms = self.clock.now_ns() // 1_000_000
        self._compare(now_ms - 5_000, now_ms)
        self._compare(T0_MS + 20_000, T0_MS + 90_000)

    def _compare(self, t0_ms: int, t1_ms: int) -> None:
        found = {}
        for block in self.cursor.blocks(t0_ms, t1_ms):
            for series, row in zip(block.series, block.values, strict=True):
                assert series not in found
                found[series] = (block.t_ms.tolist(), _bits(row))
        last = {}
        for block in self.cursor.last(t0_ms, t1_ms):
            assert len(block.t_ms) == 1
            last |= {series: int(block.t_ms[0]) for series in block.series}
        for series, all_samples in self.expected.items():
            inside = [t for t in all_samples if t0_ms <= t <= t1_ms]
            assert (series in last) == bool(inside)
            pairs = sorted((t, v) for t, v in all_samples.items() if t0_ms <= t <= t1_ms)
            want = ([t for t, _ in pairs], _bits(np.array([v for _, v in pairs])))
            assert found.get(series, ([], [])) == want, series

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)


def _bits(values: np.ndarray) -> list[int]:
    return np.ascontiguousarray(values, np.float64).view(np.int64).tolist()


StoreMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestReads = StoreMachine.TestCase


HOST = schema("host", "a", "b")


def test_a_reader_beside_writing_and_sealing_never_misses_and_never_doubles(open_store: OpenStore) -> None:
    store = open_store(ring_frames=16, seal_minutes=1)
    appended, done, troubles = 0, threading.Event(), []

    def seal() -> None:
        while not done.is_set():
            store.archive.due.wait(0.01)
            store.seal(everything=True)

    def read() -> None:
        cursor = store.reader.cursor([("__name__", "=", "a")])
        while not done.is_set():
            before = appended
            times = [t for block in cursor.blocks(0, 2**60) for t in block.t_ms.tolist()]
            if times != [n * 1000 for n in range(len(times))] or len(times) < before:
                troubles.append((before, times))

    threads = [threading.Thread(target=target) for target in (seal, read, read)]
    for thread in threads:
        thread.start()
    for number in range(600):
        store.live.append(frame(HOST, number * 1000, number, 0.0))
        store.archive.flush()
        appended = number + 1
    done.set()
    for thread in threads:
        thread.join(20)
    assert troubles == []


def test_series_of_one_collector_come_as_one_block(store: Store) -> None:
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    (block,) = store.reader.cursor([("host", "=", "a")]).blocks(0, 2000)
    assert block.series == HOST.series
    assert block.values.tolist() == [[1.0], [2.0]]


def test_a_cursor_keeps_its_tuple_of_series_until_there_is_a_new_one(store: Store) -> None:
    cursor = store.reader.cursor([("host", "=", "a")])
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    first = cursor.blocks(0, 5000)[0].series
    store.live.append(frame(HOST, 2000, 1.0, 2.0))
    assert cursor.blocks(0, 5000)[0].series is first
    store.live.append(frame(schema("other", "c"), 2000, 1.0))
    assert {series.name for block in cursor.blocks(0, 5000) for series in block.series} == {"a", "b", "c"}


def test_the_last_sample_is_looked_for_inside_the_time_given(store: Store) -> None:
    for t_ms in (1000, 2000, 3000):
        store.live.append(frame(HOST, t_ms, t_ms, 0.0))
    cursor = store.reader.cursor([("__name__", "=", "a")])
    assert cursor.last(0, 5000)[0].values.tolist() == [[3000.0]]
    assert cursor.last(0, 2500)[0].t_ms.tolist() == [2000]
    assert cursor.last(3001, 9000) == []


def test_missing_readings_are_stale_markers(store: Store) -> None:
    store.live.append(frame(HOST, 1000, np.nan, 2.0))
    (data,) = store.reader.select([("__name__", "=", "a")], 0, 2000)
    assert is_stale(data.values).all()


def test_a_read_that_would_be_too_large_is_refused_before_it_begins(open_store: OpenStore) -> None:
    store = open_store(select_max_samples=1000)
    for second in range(600):
        store.live.append(frame(HOST, second * 1000, 1.0, 2.0))
    store.archive.flush()
    store.seal(everything=True)
    store = open_store(select_max_samples=1000)
    assert len(store.reader.select([("__name__", "=", "a")], 0, 10**9)) == 1
    with pytest.raises(DeskvigilError, match=r"1,200 samples, more than storage\.select_max_samples"):
        store.reader.select([("host", "=", "a")], 0, 10**9)


def test_labels_and_series_can_be_listed(store: Store) -> None:
    store.live.append(frame(HOST, 1000, 1.0, 2.0))
    reader = store.reader
    assert reader.label_names() == ["__name__", "host"]
    assert reader.label_values("__name__") == ["a", "b"]
    assert reader.label_values("host", [("__name__", "=", "a")]) == ["a"]
    assert reader.series([("__name__", "=~", "a|b")]) == list(HOST.series)
    assert reader.series([], 0, 999) == []
    assert reader.series([], 1000, 1000) == list(HOST.series)
