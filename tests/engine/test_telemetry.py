"""Telemetry blocks: one writer, many readers, no half-written state."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.buckets import bucket_of
from engine.histogram import BUCKETS, EDGES_NS, MAX_NS, quantiles_ns
from engine.telemetry import BlockReader, BlockSpec, BlockWriter, TableSpec
from metrics.errors import TransientError
from metrics.series import Series, make_labels

SPEC = BlockSpec(
    "engine",
    scalars=tuple(Series("deskvigil_engine_position", make_labels({"symbol": f"S{i}"})) for i in range(40)),
    histograms=(Series("deskvigil_engine_gate_seconds"), Series("deskvigil_engine_step_seconds")),
    tables={"fills": TableSpec([("t_ns", "<i8"), ("instrument", "<i4"), ("qty", "<f8")], 4)},
    info={"instruments": ["S0", "S1"], "tape": None, "speed": 1.0},
)


def write_until_told(path: Path, stop, started) -> None:
    writer = BlockWriter(path, SPEC)
    value = 0
    while not stop.is_set():
        value += 1
        writer.scalars[:] = value
        writer.counts[:] = value
        writer.publish(value)
        started.set()


def test_a_spec_survives_json() -> None:
    again = BlockSpec.from_json(SPEC.to_json())
    assert again.scalars == SPEC.scalars
    assert again.histograms == SPEC.histograms
    assert again.info == SPEC.info
    assert again.tables["fills"].capacity == 4
    assert np.dtype(again.tables["fills"].dtype) == np.dtype(SPEC.tables["fills"].dtype)


def test_a_hidden_block_leaves_the_one_before_in_its_place_until_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "engine.block"
    running, reader = BlockWriter(path, SPEC), BlockReader(path)
    running.publish(1)
    spare = BlockWriter(path, SPEC, hidden=True)
    beside = BlockWriter(path.with_suffix(".orders"), SPEC, hidden=True)
    spare.touch()
    spare.scalars[0] = 5.0
    running.publish(2)
    assert reader.heartbeat() == 2
    spare.publish(3)
    beside.publish(4)
    assert reader.heartbeat() == 3
    assert reader.read().scalars[0] == 5.0
    assert BlockReader(path.with_suffix(".orders")).heartbeat() == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["engine.block", "engine.orders"]


def test_nothing_is_seen_before_publish(tmp_path: Path) -> None:
    writer = BlockWriter(tmp_path / "b" / "engine.block", SPEC)
    reader = BlockReader(tmp_path / "b" / "engine.block")
    with pytest.raises(TransientError, match="nothing published"):
        reader.read()
    assert reader.heartbeat() is None
    writer.scalars[3] = 7.0
    writer.publish(1_000)
    assert reader.heartbeat() == 1_000
    snapshot = reader.read()
    assert snapshot.scalar(SPEC.scalars[3]) == 7.0
    assert np.isnan(snapshot.scalar(SPEC.scalars[4]))
    assert np.isnan(snapshot.scalar(Series("deskvigil_engine_unknown")))
    assert snapshot.pid == os.getpid()
    writer.scalars[3] = 8.0
    assert reader.read().scalar(SPEC.scalars[3]) == 7.0


def test_a_snapshot_does_not_change_with_the_writer(tmp_path: Path) -> None:
    writer = BlockWriter(tmp_path / "engine.block", SPEC)
    writer.scalars[:] = 1.0
    writer.publish(1)
    snapshot = BlockReader(tmp_path / "engine.block").read()
    writer.scalars[:] = 2.0
    writer.publish(2)
    assert (snapshot.scalars == 1.0).all()


def test_a_ring_gives_its_youngest_records_oldest_first(tmp_path: Path) -> None:
    writer = BlockWriter(tmp_path / "engine.block", SPEC)
    reader = BlockReader(tmp_path / "engine.block")
    for number in range(11):
        row = writer.tables["fills"][writer.written[0] % 4]
        row["t_ns"], row["qty"] = number, number / 2
        writer.written[0] += 1
        writer.publish(number)
        expected = list(range(max(0, number - 3), number + 1))
        snapshot = reader.read()
        assert snapshot.tables["fills"]["t_ns"].tolist() == expected
        assert snapshot.written["fills"] == number + 1


def test_a_reader_follows_a_restarted_writer_and_keeps_an_equal_spec(tmp_path: Path) -> None:
    path = tmp_path / "engine.block"
    BlockWriter(path, SPEC).publish(1)
    reader = BlockReader(path)
    before = reader.read()
    second = BlockWriter(path, SPEC)
    with pytest.raises(TransientError):
        reader.read()
    second.scalars[0] = 5.0
    second.publish(2)
    after = reader.read()
    assert after.spec is before.spec
    assert after.scalars[0] == 5.0
    BlockWriter(path, BlockSpec("engine", SPEC.scalars[:1])).publish(3)
    assert len(reader.read().scalars) == 1


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 4096, os.urandom(4096)])
def test_a_file_that_is_no_block_is_an_expected_failure(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "engine.block"
    path.write_bytes(content)
    reader = BlockReader(path)
    with pytest.raises(TransientError):
        reader.read()
    assert reader.heartbeat() is None


def test_a_missing_block_is_an_expected_failure_and_is_found_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "engine.block"
    reader = BlockReader(path)
    with pytest.raises(TransientError, match="has not started"):
        reader.read()
    BlockWriter(path, SPEC).publish(1)
    assert reader.read().heartbeat_ns == 1
    path.unlink()
    with pytest.raises(TransientError):
        reader.read()


def test_a_writer_killed_in_the_middle_of_a_copy_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "engine.block"
    writer = BlockWriter(path, SPEC)
    writer.publish(1)
    writer._header[2] += 1  # as after SIGKILL between the two increments
    started = time.monotonic()
    with pytest.raises(TransientError, match="stopped in the middle"):
        BlockReader(path).read()
    assert time.monotonic() - started < 30.0


def test_readers_never_see_a_torn_state_of_another_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    stop, started = context.Event(), context.Event()
    path = tmp_path / "engine.block"
    process = context.Process(target=write_until_told, args=(path, stop, started))
    process.start()
    try:
        assert started.wait(90)
        reader = BlockReader(path)
        torn, seen = 0, set()
        until = time.monotonic() + 90.0
        while len(seen) <= 1000 and time.monotonic() < until:
            try:
                snapshot = reader.read()
            except TransientError:
                continue
            first = snapshot.scalars[0]
            seen.add(first)
            torn += not ((snapshot.scalars == first).all() and (snapshot.counts == first).all())
        assert torn == 0
        assert len(seen) > 100
    finally:
        stop.set()
        process.join(60)
        assert process.exitcode == 0


def test_many_threads_may_each_have_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "engine.block"
    writer = BlockWriter(path, SPEC)
    writer.publish(1)
    failures: list[BaseException] = []

    def read_often() -> None:
        reader = BlockReader(path)
        try:
            for _ in range(200):
                values = reader.read().scalars
                assert np.isnan(values).all() or (values == values[0]).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for value in range(500):
        writer.scalars[:] = value
        writer.publish(value + 2)
    for thread in threads:
        thread.join(30)
    assert not failures


def test_info_is_plain_json(tmp_path: Path) -> None:
    assert json.loads(SPEC.to_json())["info"]["instruments"] == ["S0", "S1"]


@settings(deadline=None)
@given(st.integers(min_value=-(2**40), max_value=2**45))
def test_every_duration_lies_inside_its_bucket(value_ns: int) -> None:
    bucket = bucket_of(value_ns)
    assert bucket == bucket_of.py_func(value_ns)
    assert 0 <= bucket < BUCKETS
    clamped = min(max(value_ns, 0), MAX_NS)
    assert EDGES_NS[bucket] <= clamped
    assert clamped < EDGES_NS[bucket + 1] or bucket == BUCKETS - 1


@settings(deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=10**9), min_size=1, max_size=200))
def test_quantiles_are_as_near_as_a_bucket_is_wide(values: list[int]) -> None:
    counts = np.zeros(BUCKETS, dtype=np.int64)
    for value in values:
        counts[bucket_of(value)] += 1
    q = np.array([0.0, 0.5, 0.99, 1.0])
    found = quantiles_ns(counts, q)
    assert (np.diff(found) >= 0).all()
    exact = np.quantile(values, q, method="inverted_cdf")
    assert (np.abs(found - exact) <= exact * 0.126 + 1).all()


def test_quantiles_of_nothing_are_no_number() -> None:
    assert np.isnan(quantiles_ns(np.zeros(BUCKETS, dtype=np.int64), np.array([0.5]))).all()
