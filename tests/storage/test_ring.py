import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metrics.series import Schema, Series
from storage.ring import Ring

SCHEMA = Schema("c", (Series("a"), Series("b"), Series("c")))


def filled(steps: list[int], capacity: int) -> tuple[Ring, dict[int, float]]:
    """A ring and what it must show: of the frames that it can hold, the last for each instant."""
    ring = Ring(SCHEMA, capacity)
    t_ms, frames = 1_000_000, []
    for number, step in enumerate(steps):
        t_ms += step
        ring.append(t_ms, np.array([number, number + 0.25, number + 0.5]))
        frames.append((t_ms, float(number)))
    return ring, dict(frames[-(capacity - 1) :])


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(2, 20), st.integers(-20, 2000), st.integers(0, 800))
def test_a_window_holds_the_frames_of_its_time(steps: list[int], capacity: int, since: int, length: int) -> None:
    ring, frames = filled(steps, capacity)
    t0_ms, t1_ms = 1_000_000 + since, 1_000_000 + since + length
    times, values = ring.window(slice(0, 3), t0_ms, t1_ms)
    expected = sorted((t, v) for t, v in frames.items() if t0_ms <= t <= t1_ms)
    assert list(zip(times.tolist(), values[0].tolist(), strict=True)) == expected
    assert (values[1] - values[0] == 0.25).all()


@given(st.lists(st.integers(-60, 60), max_size=60), st.integers(2, 20))
def test_with_a_clock_that_goes_back_and_forth_windows_are_sorted_and_unique(steps: list[int], capacity: int) -> None:
    ring, frames = filled(steps, capacity)
    times, values = ring.window(np.array([2, 0]), 0, 2_000_000)
    assert list(zip(times.tolist(), values[1].tolist(), strict=True)) == sorted(frames.items())


@given(st.lists(st.integers(-5, 60), min_size=1, max_size=60), st.integers(2, 20), st.integers(0, 2000))
def test_a_ring_that_covers_a_time_holds_every_frame_since(steps: list[int], capacity: int, since: int) -> None:
    ring, _ = filled(steps, capacity)
    t0_ms = 1_000_000 + since
    if ring.covers(t0_ms):
        every = np.cumsum(steps) + 1_000_000
        assert ring.window(slice(0, 1), t0_ms, 2**60)[0].tolist() == sorted(set(every[every >= t0_ms].tolist()))


@given(st.lists(st.integers(-20, 60), max_size=60), st.integers(2, 20), st.integers(-20, 2000), st.integers(0, 800))
def test_the_last_column_is_that_of_the_window(steps: list[int], capacity: int, since: int, length: int) -> None:
    ring, _ = filled(steps, capacity)
    rows, t0_ms, t1_ms = slice(0, 3), 1_000_000 + since, 1_000_000 + since + length
    times, values = ring.window(rows, t0_ms, t1_ms)
    last_times, last_values = ring.last(rows, t0_ms, t1_ms)
    assert last_times.tolist() == times[-1:].tolist()
    assert last_values.tolist() == values[:, -1:].tolist()


def test_readers_beside_a_fast_writer_never_see_torn_or_unsorted_data() -> None:
    ring = Ring(SCHEMA, 64)
    done = threading.Event()

    def write() -> None:
        for number in range(1, 40_000):
            ring.append(number, np.array([number, number * 2.0, number * 3.0]))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or reads == 0:
        times, values = ring.window(slice(0, 3), 0, 2**60)
        assert (np.diff(times) == 1).all()
        assert (values[0] == times).all()
        assert (values[2] == times * 3.0).all()
        reads += 1
    writer.join(60)
