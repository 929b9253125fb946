from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.schedule import Schedule

SECOND = 1_000_000_000
EPOCH = 1_700_000_000 * SECOND


def test_the_first_slot_lies_on_the_wall_clocks_next_boundary() -> None:
    schedule = Schedule(SECOND)
    assert schedule.start(monotonic_ns=5_000, wall_ns=EPOCH + 300_000_000) == 5_000 + 700_000_000


def test_a_start_on_the_boundary_ticks_at_once() -> None:
    assert Schedule(SECOND).start(0, EPOCH) == 0


def test_the_phase_moves_every_slot_past_the_boundary() -> None:
    assert Schedule(SECOND, phase_ns=20_000_000).start(0, EPOCH + SECOND // 2) == SECOND // 2 + 20_000_000


def test_ten_thousand_slots_lie_exactly_ten_thousand_intervals_apart() -> None:
    schedule = Schedule(SECOND // 10)
    first = schedule.start(0, EPOCH)
    slot = first
    for _ in range(10_000):
        slot, skipped = schedule.next(slot + 12_345_678, EPOCH + slot + 12_345_678)
        assert skipped == 0
    assert slot - first == 10_000 * SECOND // 10


def test_slots_that_went_by_are_skipped_and_counted() -> None:
    schedule = Schedule(SECOND)
    schedule.start(0, EPOCH)
    late = 3 * SECOND + 1
    assert schedule.next(late, EPOCH + late) == (4 * SECOND, 3)


def test_a_collection_that_ends_exactly_at_the_next_slot_has_missed_it() -> None:
    schedule = Schedule(SECOND)
    schedule.start(0, EPOCH)
    assert schedule.next(SECOND, EPOCH + SECOND) == (2 * SECOND, 1)


def test_a_wall_clock_set_by_an_hour_moves_no_slot() -> None:
    schedule = Schedule(SECOND)
    schedule.start(0, EPOCH)
    assert schedule.next(1, EPOCH + 3600 * SECOND + 1) == (SECOND, 0)


def test_a_wall_clock_set_by_a_third_of_a_second_moves_the_next_slot_into_phase() -> None:
    schedule = Schedule(SECOND)
    schedule.start(0, EPOCH)
    offset = EPOCH + SECOND // 3
    slot, skipped = schedule.next(1, offset + 1)
    assert (slot + offset) % SECOND == 0
    assert skipped == 0


@pytest.mark.parametrize(("interval_ns", "phase_ns"), [(0, 0), (-1, 0), (10, 10), (10, -1)])
def test_nonsense_is_refused(interval_ns: int, phase_ns: int) -> None:
    with pytest.raises(ValueError, match="no schedule"):
        Schedule(interval_ns, phase_ns)


@given(
    interval_ns=st.sampled_from([SECOND // 10, SECOND, 15 * SECOND]),
    phase=st.floats(0.0, 0.9),
    steps=st.lists(st.tuples(st.integers(0, 40 * SECOND), st.integers(-10 * SECOND, 10 * SECOND)), max_size=30),
)
def test_whatever_the_clocks_do_the_next_slot_is_ahead_near_and_in_phase(
    interval_ns: int, phase: float, steps: list[tuple[int, int]]
) -> None:
    phase_ns = int(phase * interval_ns)
    schedule = Schedule(interval_ns, phase_ns)
    monotonic_ns, offset_ns = 0, EPOCH
    slot = schedule.start(monotonic_ns, offset_ns)
    for busy_ns, step_ns in steps:
        monotonic_ns = slot + busy_ns
        offset_ns += step_ns
        before = slot
        slot, skipped = schedule.next(monotonic_ns, monotonic_ns + offset_ns)
        assert skipped == busy_ns // interval_ns
        assert monotonic_ns < slot <= monotonic_ns + 2 * interval_ns
        assert slot > before
        late_ns = (slot + offset_ns - phase_ns) % interval_ns
        assert min(late_ns, interval_ns - late_ns) <= interval_ns // 100
