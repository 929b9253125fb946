from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest

from collectors.runner import MAX_REASONS, OWN_METRICS, CollectorThread
from metrics.catalogue import series
from metrics.clock import ManualClock, SystemClock
from metrics.errors import TransientError
from metrics.frame import Frame
from metrics.series import Schema, Series

READING = series("deskvigil_host_cpus")
OTHER = series("deskvigil_host_cpu_busy_ratio")


class Scripted:
    """A collector that does at each tick what the test says, and ends the thread after the last."""

    name = "scripted"

    def __init__(self, *ticks: Callable[[], float | Schema], interval_s: float = 1.0) -> None:
        self.interval_s = interval_s
        self.schema = Schema(self.name, (READING,))
        self.ticks = list(ticks)
        self.closed = 0
        self.thread: CollectorThread | None = None

    def describe(self) -> Schema:
        return self.schema

    def collect(self, now_ns: int) -> Frame:
        tick = self.ticks.pop(0)
        if not self.ticks and self.thread is not None:
            self.thread.stop()
        result = tick()
        if isinstance(result, Schema):
            self.schema = result
            return Frame(result, now_ns, np.arange(len(result), dtype=np.float64))
        return Frame(self.schema, now_ns, np.full(len(self.schema), result))

    def close(self) -> None:
        self.closed += 1


def run(collector: Scripted, clock: ManualClock, sink: Callable[[Frame], None] | None = None) -> list[Frame]:
    frames: list[Frame] = []
    thread = CollectorThread(collector, clock, sink or frames.append, phase=0.0)
    collector.thread = thread
    thread.run()
    return frames


def fails(error: Exception) -> Callable[[], float]:
    def tick() -> float:
        raise error

    return tick


def own(frame: Frame, metric: str) -> float:
    return float(frame.values[frame.schema.index[series(metric, collector="scripted")]])


def test_frames_come_at_whole_seconds_of_the_wall_clock() -> None:
    clock = ManualClock(1_700_000_000_400_000_000)
    frames = run(Scripted(*[lambda: 1.0] * 3), clock)
    assert [frame.t_ns for frame in frames] == [1_700_000_001_000_000_000 + k * 10**9 for k in range(3)]


def test_a_slow_collection_skips_to_the_next_slot_and_is_counted() -> None:
    clock = ManualClock()

    def slow() -> float:
        clock.advance(2_300_000_000)
        return 1.0

    frames = run(Scripted(lambda: 1.0, slow, lambda: 1.0), clock)
    assert [frame.t_ns - frames[0].t_ns for frame in frames] == [0, 10**9, 4 * 10**9]
    assert [own(frame, "deskvigil_collector_late_ticks_total") for frame in frames] == [0, 0, 2]
    assert own(frames[1], "deskvigil_collector_collect_seconds") == pytest.approx(2.3)


def test_a_frame_carries_the_readings_and_then_the_collectors_own_cost() -> None:
    (frame,) = run(Scripted(lambda: 8.0), ManualClock())
    assert frame.schema.collector == "scripted"
    assert frame.schema.series == (READING, *(series(name, collector="scripted") for name in OWN_METRICS))
    assert frame.values[0] == 8.0
    assert own(frame, "deskvigil_collector_up") == 1
    assert own(frame, "deskvigil_collector_ticks_total") == 1
    assert own(frame, "deskvigil_collector_errors_total") == 0


def test_the_schema_object_stays_the_same_while_the_collectors_does() -> None:
    changed = Schema("scripted", (READING, OTHER))
    frames = run(Scripted(lambda: 1.0, lambda: 1.0, lambda: changed, lambda: changed), ManualClock())
    assert frames[0].schema is frames[1].schema
    assert frames[2].schema is not frames[1].schema
    assert frames[2].schema is frames[3].schema
    assert OTHER in frames[2].schema.index


def test_a_failing_collection_gives_missing_readings_and_goes_on() -> None:
    collector = Scripted(lambda: 1.0, fails(TransientError("no block")), lambda: 3.0)
    frames = run(collector, ManualClock())
    assert [own(frame, "deskvigil_collector_up") for frame in frames] == [1, 0, 1]
    assert math.isnan(frames[1].values[0])
    assert frames[1].schema is frames[0].schema
    assert own(frames[2], "deskvigil_collector_errors_total") == 1
    assert collector.closed == 1


def test_a_collector_that_fails_from_the_start_is_described_without_readings() -> None:
    (frame,) = run(Scripted(fails(OSError("gone"))), ManualClock())
    assert READING in frame.schema.index
    assert own(frame, "deskvigil_collector_up") == 0


def test_state_says_in_words_what_is_wrong_and_forgets_it_when_well() -> None:
    states = []
    collector = Scripted(fails(TransientError("engine not started")), lambda: 1.0, interval_s=0.5)
    thread = CollectorThread(collector, ManualClock(), lambda frame: states.append(thread.state))
    collector.thread = thread
    thread.run()
    assert (states[0].up, states[0].reason, states[0].errors) == (False, "engine not started", 1)
    assert (states[1].up, states[1].reason, states[1].ticks) == (True, "", 2)


def test_each_reason_is_logged_once_and_a_bug_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    ticks = [fails(TransientError("gone")), fails(TransientError("gone")), fails(KeyError("bug")), lambda: 1.0]
    with caplog.at_level(logging.INFO, logger="collectors.runner"):
        run(Scripted(*ticks), ManualClock())
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.exc_info is not None for record in warnings] == [False, True]
    assert "is back after" in caplog.records[-1].getMessage()


def test_reasons_that_never_repeat_do_not_pile_up() -> None:
    ticks = [fails(OSError(f"reason {number}")) for number in range(3 * MAX_REASONS)]
    collector = Scripted(*ticks)
    run(collector, ManualClock())
    assert collector.thread is not None
    assert len(collector.thread._logged) == MAX_REASONS


def test_a_failing_sink_is_counted_and_the_collecting_goes_on() -> None:
    seen: list[float] = []

    def sink(frame: Frame) -> None:
        seen.append(own(frame, "deskvigil_collector_errors_total"))
        raise RuntimeError("ring is closed")

    collector = Scripted(*[lambda: 1.0] * 3)
    run(collector, ManualClock(), sink)
    assert seen == [0, 1, 2]
    assert collector.thread is not None
    assert collector.thread.state.up
    assert "ring is closed" in collector.thread.state.reason


def test_a_thread_starts_once_collects_and_stops_twice() -> None:
    enough = threading.Event()
    frames: list[Frame] = []

    def sink(frame: Frame) -> None:
        frames.append(frame)
        if len(frames) == 5:
            enough.set()

    class Endless(Scripted):
        def collect(self, now_ns: int) -> Frame:
            return Frame(self.schema, now_ns, np.ones(1))

    collector = Endless(interval_s=0.05)
    thread = CollectorThread(collector, SystemClock(), sink)
    thread.start()
    thread.start()
    assert enough.wait(30)
    thread.stop()
    thread.stop()
    assert collector.closed == 1
    cpu: Series = series("deskvigil_collector_cpu_seconds_total", collector="scripted")
    assert frames[-1].values[frames[-1].schema.index[cpu]] > 0
    in_phase = [frame.t_ns % 50_000_000 for frame in frames]
    assert min(in_phase) >= 1_000_000  # never before the slot, which lies 2 % after the boundary


def test_a_thread_that_waits_for_a_far_slot_stops_at_once() -> None:
    collector = Scripted(lambda: 1.0, interval_s=60.0)
    thread = CollectorThread(collector, SystemClock(), lambda frame: None)
    thread.start()
    thread.stop()
    assert collector.closed == 1
