"""Times: what is kept never falls, and sound recordings lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.feeds.times import in_order


@given(st.lists(st.integers(0, 50), max_size=40))
def test_what_is_kept_never_falls_and_sorted_times_are_all_kept(times) -> None:
    some = np.array(times, dtype=np.int64)
    assert (np.diff(some[in_order(some)]) >= 0).all()
    assert in_order(np.sort(some)).all()


@pytest.mark.parametrize(
    ("times", "left_out"),
    [([1, 2, 99, 3, 4], [2]), ([5, 6, 1, 7, 8], [2]), ([99, 1, 2, 3], [0]), ([1, 2, 3, 0], [3]), ([1, 3, 2, 3], [2])],
)
def test_one_damaged_time_costs_one_row(times, left_out) -> None:
    assert np.flatnonzero(~in_order(np.array(times))).tolist() == left_out
