from __future__ import annotations

import pytest

from validation import bench_cost as cost


@pytest.mark.prove
def test_watching_three_hundred_series_keeps_its_limit() -> None:
    figures = {figure.what: figure for figure in cost.measure(lambda line: None, seconds=30, warm_up_s=5)}
    assert figures["series watched"].kept
    assert figures["collectors + storage + rules, no viewer, everything at 1 Hz"].kept


def test_a_collectors_time_is_split_by_what_it_was_spent_on() -> None:
    figures = cost._figures(
        cost.Cost(
            elapsed_s=10.0,
            cpu_s=0.1,
            threads_s={"collector-host": 0.05, "alerts": 0.03},
            work_s={"collector-host": (0.03, 0.01)},
            series=400,
            late_ticks=1,
            errors=2,
        ),
        "everything at 1 Hz",
        2.0,
    )
    by_name = {figure.what: figure for figure in figures}
    assert by_name["collectors + storage + rules, no viewer, everything at 1 Hz"].value == pytest.approx(1.0)
    assert by_name["collectors + storage + rules, no viewer, everything at 1 Hz"].kept
    assert "collect 0.300, hand over 0.100, wake and frame 0.100" in by_name["  of it thread collector-host"].peer
    assert by_name["  of it other threads"].value == pytest.approx(0.2)
    assert by_name["ticks late or failed"].value == 3
