"""Forwarding to a remote store: what is sent, what is kept, what is sent again."""

from __future__ import annotations

import logging
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from metrics.clock import ManualClock
from metrics.errors import ConfigError
from metrics.paths import RuntimePaths
from metrics.series import Series, make_labels
from storage.options import StorageOptions
from storage.remote.client import Answer, RemoteAway
from storage.remote.collector import RemoteCollector
from storage.remote.writer import RemoteWriter
from storage.stale import STALE_BITS
from storage.store import Store
from tests.storage.conftest import frame, schema
from tests.storage.remote_receiver import TAKEN, Receiver
from tests.storage.test_remote_encode import Decoded, decoded

T0 = 1_700_000_000_000
Opener = Callable[..., Store]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def opened(tmp_path: Path, clock: ManualClock, receiver: Receiver, empty_database: Path) -> Iterator[Opener]:
    """Opens the store of this test with the receiver as its remote store; opening again closes the one before."""
    stores: list[Store] = []
    shutil.copy(empty_database, RuntimePaths(tmp_path).database)

    def open_(**options: object) -> Store:
        if stores:
            stores.pop().close()
        options = {"url": f"prometheus+{receiver.url}", **options}
        stores.append(Store.open(StorageOptions(**options), RuntimePaths(tmp_path), clock))  # type: ignore[arg-type]
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def remote(store: Store) -> RemoteWriter:
    assert store.remote is not None
    return store.remote


def forward(store: Store) -> None:
    while remote(store).step():
        pass


def fill(store: Store, start: int, stop: int, name: str = "cpu") -> None:
    """One frame a second, valued like its number."""
    of = schema("host", name)
    for second in range(start, stop):
        store.live.append(frame(of, T0 + second * 1000, float(second)))
    store.archive.flush()


def expected(start: int, stop: int) -> list[tuple[int, bytes]]:
    return [(T0 + second * 1000, struct.pack("<d", second)) for second in range(start, stop)]


def test_frames_and_ingested_samples_go_out_under_external_labels(opened: Opener, receiver: Receiver) -> None:
    store = opened(external_labels={"desk": "london"})
    fill(store, 0, 5)
    pushed = Series("pushed", make_labels({"a": "ü"}))
    store.ingest([pushed], [np.array([T0 + 9, T0 + 1, T0 + 9])], [np.array([1.0, 2.0, 3.0])])
    forward(store)
    assert receiver.samples("cpu") == expected(0, 5)
    assert receiver.samples("pushed") == [(T0 + 1, struct.pack("<d", 2.0)), (T0 + 9, struct.pack("<d", 3.0))]
    labels = [labels for request in receiver.taken for labels, _ in request]
    assert labels == [
        {"__name__": "cpu", "desk": "london", "host": "a"},
        {"__name__": "pushed", "desk": "london", "a": "ü"},
    ]
    assert receiver.headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert receiver.headers["Content-Encoding"] == "snappy"
    assert remote(store).counts.samples == 7
    assert remote(store).status().queue.samples == 0


def test_a_run_of_missing_readings_is_one_stale_marker(opened: Opener, receiver: Receiver) -> None:
    store = opened(remote_batch_samples=100)
    of = schema("host", "cpu", "disk")
    for second in range(300):
        store.live.append(frame(of, T0 + second * 1000, np.nan if 100 <= second < 200 else second, 1.0))
    store.archive.flush()
    forward(store)
    found = receiver.samples("cpu")
    assert [t for t, _ in found] == [T0 + s * 1000 for s in [*range(101), *range(200, 300)]]
    bits = struct.unpack("<Q", found[100][1])[0]
    assert bits | 1 << 51 == STALE_BITS | 1 << 51
    assert len(receiver.samples("disk")) == 300


def test_what_came_before_the_remote_store_was_set_stays_here_unless_asked_for(
    opened: Opener, receiver: Receiver
) -> None:
    store = opened(url="")
    fill(store, 0, 5)
    store.seal(everything=True)
    fill(store, 5, 10)
    store = opened()
    forward(store)
    assert receiver.requests == 0
    fill(store, 10, 12)
    forward(store)
    assert receiver.samples("cpu") == expected(10, 12)


def test_with_backfill_everything_that_is_stored_goes_out(opened: Opener, receiver: Receiver) -> None:
    store = opened(url="")
    fill(store, 0, 5)
    store.ingest([Series("pushed")], [np.array([T0])], [np.array([1.0])])
    store.seal(everything=True)
    fill(store, 5, 10)
    store = opened(remote_backfill=True)
    forward(store)
    assert receiver.samples("cpu") == expected(0, 10)
    assert len(receiver.samples("pushed")) == 1


def test_a_restart_goes_on_where_the_last_run_stopped(opened: Opener, receiver: Receiver) -> None:
    store = opened()
    fill(store, 0, 5)
    forward(store)
    fill(store, 5, 10)
    store = opened()
    store.seal(everything=True)
    fill(store, 10, 15)
    forward(store)
    assert receiver.samples("cpu") == expected(0, 15)
    store = opened()
    forward(store)
    assert receiver.samples("cpu") == expected(0, 15)


def test_after_a_kill_the_same_samples_are_sent_again_and_none_is_missed(
    opened: Opener, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    fill(store, 0, 5)
    monkeypatch.setattr(remote(store), "_store_progress", lambda: None)  # as where the kill comes first
    forward(store)
    store.seal(everything=True)
    fill(store, 5, 8)
    store = opened()
    forward(store)
    assert receiver.samples("cpu") == expected(0, 5) + expected(0, 8)


def test_another_remote_store_gets_what_comes_from_then_on(opened: Opener, receiver: Receiver) -> None:
    store = opened()
    fill(store, 0, 5)
    store = opened(write_url=f"{receiver.url}/other")
    fill(store, 5, 7)
    forward(store)
    assert receiver.samples("cpu") == expected(5, 7)


def test_while_the_store_is_away_samples_wait_and_their_age_is_shown(
    opened: Opener, receiver: Receiver, clock: ManualClock
) -> None:
    store = opened()
    fill(store, 0, 3)
    clock.step_wall((T0 + 63_000) * 1_000_000 - clock.now_ns())
    refusals = iter([(503, {"Retry-After": "7"}, "busy"), (502, {}, ""), (429, {}, "slow down"), (401, {}, "who?")])
    seen: list[tuple[float, float, float, str]] = []
    collector = RemoteCollector(remote(store))

    def verdict(_: Decoded) -> tuple[int, dict[str, str], str]:
        values = dict(zip([s.name for s in collector.describe().series], collector.collect(0).values, strict=True))
        seen.append(
            (
                values["deskvigil_remote_write_up"],
                values["deskvigil_remote_write_samples_pending"],
                values["deskvigil_remote_write_queue_age_seconds"],
                remote(store).health.reason,
            )
        )
        return next(refusals, TAKEN)

    receiver.verdict = verdict
    forward(store)
    assert receiver.samples("cpu") == expected(0, 3)
    assert [row[:2] for row in seen] == [(1, 3), (0, 3), (0, 3), (0, 3), (0, 3)]
    assert seen[0][2] == 63.0
    assert seen[1][2] >= 70.0  # Retry-After was kept
    assert [row[3] for row in seen][1:] == [
        "the remote store answered 503: busy",
        "the remote store answered 502: no reason given",
        "the remote store answered 429: slow down",
        "the remote store answered 401: who?",
    ]
    status = remote(store).status()
    assert (status.ok, status.queue.samples, status.queue.age_s) == (True, 0, 0.0)
    assert (remote(store).counts.failures, remote(store).counts.refused) == (4, 0)


def test_a_store_that_is_not_there_is_tried_until_it_is(opened: Opener, receiver: Receiver) -> None:
    store = opened(url="prometheus+http://127.0.0.1:9")
    fill(store, 0, 3)
    client = remote(store)._client
    attempts: list[str] = []

    class Flaky:
        endpoint = client.endpoint

        def write(self, body: bytes) -> Answer:
            if len(attempts) < 5:
                try:
                    return client.write(body)
                except RemoteAway as error:
                    attempts.append(str(error))
                    raise
            receiver.taken.append(decoded(_unpacked(body)))
            return Answer(204, b"")

        def close(self) -> None:
            client.close()

    remote(store)._client = Flaky()  # type: ignore[assignment]
    forward(store)
    assert len(attempts) == 5
    assert "http://127.0.0.1:9 cannot be reached" in attempts[0]
    assert receiver.samples("cpu") == expected(0, 3)


def test_a_refused_sample_costs_itself_only_and_is_named_once(
    opened: Opener, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened()

    def verdict(request: Decoded) -> tuple[int, dict[str, str], str]:
        bad = [t for labels, some in request if labels["__name__"] == "cpu" for t, _ in some if t // 1000 % 10 == 3]
        return (400, {}, f"out of order sample at {bad[0]}") if bad else TAKEN

    receiver.verdict = verdict
    of = schema("host", "cpu", "disk")
    for second in range(30):
        store.live.append(frame(of, T0 + second * 1000, second, second))
    store.archive.flush()
    with caplog.at_level(logging.ERROR):
        forward(store)
    assert sorted(receiver.samples("cpu")) == [one for one in expected(0, 30) if one[0] // 1000 % 10 != 3]
    assert sorted(receiver.samples("disk")) == expected(0, 30)
    assert remote(store).counts.refused == 3
    assert len([one for one in caplog.messages if "out of order sample" in one]) == 1
    assert remote(store).status().queue.samples == 0


def test_a_store_that_refuses_everything_does_not_stop_the_queue(opened: Opener, receiver: Receiver) -> None:
    store = opened()
    receiver.verdict = lambda request: (413, {}, "too large")
    fill(store, 0, 60)
    forward(store)
    assert remote(store).counts.refused == 60
    assert receiver.requests <= 32 + 3 * 60
    receiver.verdict = lambda request: TAKEN
    fill(store, 60, 61)
    forward(store)
    assert receiver.samples("cpu") == expected(60, 61)


def test_ingested_samples_are_not_sent_again_when_they_are_sealed(opened: Opener, receiver: Receiver) -> None:
    store = opened()
    pushed = Series("pushed")

    def push(second: int) -> None:
        store.ingest([pushed], [np.array([T0 + second * 1000])], [np.array([float(second)])])

    push(0)
    forward(store)
    store.seal(everything=True)
    push(1)
    store.seal(everything=True)  # before it could be sent
    push(2)
    forward(store)
    assert sorted(receiver.samples("pushed")) == expected(0, 3)
    store = opened()
    push(3)  # its row's number was there before: rows are numbered anew where the table is empty
    forward(store)
    assert sorted(receiver.samples("pushed")) == expected(0, 4)


def test_a_large_ingest_goes_in_pieces(opened: Opener, receiver: Receiver) -> None:
    store = opened(remote_batch_samples=1000)
    many = [Series("pushed", make_labels({"n": str(n)})) for n in range(50)]
    times = np.arange(T0, T0 + 100)
    store.ingest(many, [times] * 50, [times.astype(float)] * 50)
    forward(store)
    assert max(sum(len(some) for _, some in request) for request in receiver.taken) <= 1000
    assert len(set(receiver.samples("pushed"))) == 100
    assert len(receiver.samples("pushed")) == 5000


def test_what_retention_deletes_before_it_is_sent_is_counted(
    opened: Opener, receiver: Receiver, clock: ManualClock
) -> None:
    store = opened(raw_days=1)
    fill(store, 0, 10)
    store.seal(everything=True)
    assert remote(store).status().queue.samples == 10
    store.retention.run(T0 + 5 * 86_400_000)
    assert remote(store).status().queue.lost == 10
    fill(store, 20, 21)
    forward(store)
    assert receiver.samples("cpu") == expected(20, 21)


def test_blocks_that_were_written_anew_are_not_sent_again(opened: Opener, receiver: Receiver) -> None:
    store = opened()
    fill(store, 0, 10)
    forward(store)
    store.seal(everything=True)
    (block,) = store._blocks.all()
    unsent = remote(store).unsent
    unsent.rewritten([block.id], [77])
    assert unsent._progress.is_done(77)


def test_a_clock_that_is_set_back_loses_nothing(opened: Opener, receiver: Receiver) -> None:
    store = opened()
    fill(store, 100, 105)
    forward(store)
    fill(store, 50, 55)
    forward(store)
    assert receiver.samples("cpu") == expected(100, 105) + expected(50, 55)


def test_a_series_that_goes_ends_with_a_stale_marker_there_too(opened: Opener, receiver: Receiver) -> None:
    store = opened()
    store.live.append(frame(schema("host", "cpu", "disk"), T0, 1.0, 1.0))
    store.live.append(frame(schema("host", "cpu"), T0 + 1000, 2.0))
    store.archive.flush()
    forward(store)
    assert [t for t, _ in receiver.samples("disk")] == [T0, T0 + 1000]
    assert receiver.samples("cpu") == [(T0, struct.pack("<d", 1.0)), (T0 + 1000, struct.pack("<d", 2.0))]


def test_an_end_waits_a_moment_for_what_comes_after_it(opened: Opener, receiver: Receiver, clock: ManualClock) -> None:
    """The old schema's stale markers may be committed a second before the first frame of the new one."""
    store = opened()
    store.live.append(frame(schema("host", "cpu", "disk"), T0, 1.0, 1.0))
    store.archive.flush()
    clock.step_wall(T0 * 1_000_000 - clock.now_ns() + 1_900_000_000)
    store.live.append(frame(schema("host", "cpu"), T0 + 1000, 2.0))
    store.archive.tick(clock.now_ns())
    forward(store)
    assert len(receiver.samples("cpu")) == len(receiver.samples("disk")) == 1
    store.archive.flush()
    forward(store)
    assert receiver.samples("cpu") == [(T0, struct.pack("<d", 1.0)), (T0 + 1000, struct.pack("<d", 2.0))]
    assert len(receiver.samples("disk")) == 2


def test_a_collector_that_ends_for_good_ends_there_too(opened: Opener, receiver: Receiver, clock: ManualClock) -> None:
    store = opened()
    of = schema("host", "cpu")
    store.live.append(frame(of, T0, 1.0))
    store.live.append(frame(of, T0 + 1000, np.nan))
    store.archive.flush()
    clock.step_wall(T0 * 1_000_000 - clock.now_ns() + 1_100_000_000)
    forward(store)
    assert len(receiver.samples("cpu")) == 1
    clock.advance(6_000_000_000)
    forward(store)
    assert len(receiver.samples("cpu")) == 2


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"url": "prometheus+{0}", "bearer_token": "t0ken"}, "Bearer t0ken"),
        ({"url": "prometheus+http://me:p%40ss@{1}"}, "Basic bWU6cEBzcw=="),
        ({"url": "prometheus+http://me@{1}", "password": "p@ss"}, "Basic bWU6cEBzcw=="),
        ({"url": "prometheus+{0}", "headers": ("Authorization: Custom 1",)}, "Custom 1"),
    ],
)
def test_the_store_is_told_who_we_are(
    opened: Opener, receiver: Receiver, options: dict[str, object], header: str, caplog: pytest.LogCaptureFixture
) -> None:
    options["url"] = str(options["url"]).format(receiver.url, receiver.url.removeprefix("http://"))
    receiver.verdict = lambda request: (403, {}, "") if receiver.requests < 3 else TAKEN
    store = opened(**options)
    fill(store, 0, 1)
    forward(store)
    assert receiver.headers["Authorization"] == header
    assert "p@ss" not in caplog.text + repr(store.remote) + repr(remote(store)._client.endpoint)
    assert "t0ken" not in caplog.text + repr(remote(store)._client.endpoint)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("URL", "http://h:1", "the scheme 'http' is not known; prometheus+http"),
        ("URL", "prometheus+http://", "names no host"),
        ("URL", "prometheus+http://h:1?x=1", "a query or a fragment"),
        ("WRITE_URL", "ftp://h", "the scheme 'ftp' is not known"),
        ("EXTERNAL_LABELS", "{1a: x}", "'1a' is no name for a label"),
        ("EXTERNAL_LABELS", "{__name__: x}", "'__name__' is no name for a label"),
        ("HEADERS", "[nocolon]", "a header must be `Name: value`"),
    ],
)
def test_wrong_settings_are_named(key: str, value: str, words: str) -> None:
    from settings import load_settings

    with pytest.raises(ConfigError, match=rf"storage\.{key.lower()}: .*{re.escape(words)}"):
        load_settings(None, {f"DESKVIGIL_STORAGE__{key}": value})


def test_the_thread_sends_soon_after_a_commit_and_stops(opened: Opener, receiver: Receiver) -> None:
    import threading

    arrived = threading.Event()

    def verdict(_: Decoded) -> tuple[int, dict[str, str], str]:
        arrived.set()
        return TAKEN

    receiver.verdict = verdict
    from metrics.clock import SystemClock

    store = opened()
    writer = remote(store)
    writer._clock = SystemClock()
    writer.start()
    fill(store, 0, 1)
    assert arrived.wait(60)
    writer.stop()
    writer.stop()
    assert receiver.samples("cpu") == expected(0, 1)


def _unpacked(body: bytes) -> bytes:
    import cramjam

    return bytes(cramjam.snappy.decompress_raw(body))


class _Kept:
    """A remote store in memory, at the network's edge: keeps what it is sent."""

    def __init__(self, endpoint: object) -> None:
        self.endpoint = endpoint
        self.taken: dict[tuple[str, int], bytes] = {}
        self.twice = 0

    def write(self, body: bytes) -> Answer:
        for labels, samples in decoded(_unpacked(body)):
            for t, value in samples:
                key = (labels["__name__"], t)
                if key in self.taken:
                    assert self.taken[key] == value
                    self.twice += labels["__name__"] != "pushed"
                self.taken[key] = value
        return Answer(204, b"")

    def close(self) -> None:
        pass


class Forwarding(RuleBasedStateMachine):
    """Anything in any order: in the end every committed sample is there.

    Only kills send frames again; ingested samples may come twice also where some were sealed unsent.
    """

    empty: Path

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._clock = ManualClock()
        self._next = 0
        self._names: tuple[str, ...] = ("a", "b")
        self._store: Store | None = None
        self._kept: _Kept | None = None
        self._killed = False
        self._pushed: set[int] = set()
        shutil.copy(self.empty, RuntimePaths(Path(self._folder.name)).database)
        self._open()

    def _open(self) -> None:
        options = StorageOptions(
            url="prometheus+http://127.0.0.1:9", remote_batch_samples=100, seal_minutes=1, remote_retry_max_s=0.1
        )
        self._store = Store.open(options, RuntimePaths(Path(self._folder.name)), self._clock)
        writer = remote(self._store)
        self._kept = self._kept or _Kept(writer._client.endpoint)
        writer._client.close()
        writer._client = self._kept  # type: ignore[assignment]

    @property
    def store(self) -> Store:
        assert self._store is not None
        return self._store

    @rule(count=st.integers(1, 90), missing=st.booleans(), gap=st.integers(0, 100))
    def frames(self, count: int, missing: bool, gap: int) -> None:
        self._next += gap
        of = schema("host", *self._names)
        for _ in range(count):
            self._next += 1
            values = [np.nan if missing and i else float(self._next) for i in range(len(self._names))]
            self.store.live.append(frame(of, T0 + self._next * 1000, *values))
        self.store.archive.flush()

    @rule(names=st.sampled_from([("a",), ("a", "b"), ("b", "c", "a")]))
    def other_schema(self, names: tuple[str, ...]) -> None:
        self._names = names

    @rule(count=st.integers(1, 60), late=st.integers(0, 5000))
    def ingest(self, count: int, late: int) -> None:
        """Times that no frame and no other push has: half seconds, and a millisecond of their own."""
        self._next += 1
        t = T0 + (self._next - late) * 1000 + 500 + np.arange(count) * 7 + self._next % 7
        fresh = [one for one in t.tolist() if one not in self._pushed]
        self._pushed |= set(fresh)
        if fresh:
            self.store.ingest([Series("pushed")], [np.array(fresh)], [np.array(fresh, np.float64)])

    @rule(everything=st.booleans())
    def seal(self, everything: bool) -> None:
        self.store.seal(everything)

    @rule(steps=st.integers(1, 5))
    def send(self, steps: int) -> None:
        for _ in range(steps):
            remote(self.store).step()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self._open()

    @rule()
    def kill(self) -> None:
        """Nothing is stored on the way out that was not stored before."""
        self._killed = True
        remote(self.store)._store_progress = lambda: None  # type: ignore[method-assign]
        self.store.close()
        self._open()

    @invariant()
    def nothing_comes_twice_without_a_kill(self) -> None:
        if self._kept is not None and not self._killed:
            assert self._kept.twice == 0

    def teardown(self) -> None:
        assert self._kept is not None
        forward(self.store)
        stale = struct.pack("<Q", STALE_BITS), struct.pack("<Q", STALE_BITS | 1 << 51)
        there = {key for key, value in self._kept.taken.items() if value not in stale}
        here = set()
        for data in self.store.reader.select([("__name__", "=~", ".+")], -(2**60), 2**60):
            for t, value in zip(data.t_ms.tolist(), data.values.tolist(), strict=True):
                if value == value:
                    here.add((data.series.name, t))
        queue = remote(self.store).status().queue
        self.store.close()
        self._folder.cleanup()
        assert here == there
        assert (queue.samples, queue.lost) == (0, 0)


_FEW = settings(
    max_examples=3,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
_MANY = settings(_FEW, max_examples=100, stateful_step_count=50)


@pytest.mark.parametrize("how", [_FEW, pytest.param(_MANY, marks=[pytest.mark.prove, pytest.mark.timeout(1800)])])
def test_whatever_happens_in_whatever_order_every_sample_arrives(how: settings, empty_database: Path) -> None:
    Forwarding.empty = empty_database
    run_state_machine_as_test(Forwarding, settings=how)
