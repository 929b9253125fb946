"""What each algorithm decides, against plain Python: schedules, participation, when the peg crosses, who is in the control group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.algos.choice import ALGOS, CODE_OF, MARKET, MIX, PEG, TWAP, Algo, algo_of, duration_ns, is_control
from engine.algos.peg import imbalance, is_worth_crossing, is_worth_waiting, pressure_of
from engine.algos.pov import lots_by_participation
from engine.algos.twap import lots_by_slice, slices_over
from engine.algos.vwap import lots_by_volume, volume_until
from engine.figures import load_volume_curve
from metrics.errors import ConfigError

HOUR_NS = 3_600_000_000_000
targets = st.integers(1, 10**6)
bins = st.lists(st.floats(0, 100), min_size=1, max_size=20).filter(lambda sizes: sum(sizes) > 1e-3)


def curve_of(sizes: list[float]) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(sizes) / np.sum(sizes)])


@given(targets, st.integers(1, 50))
def test_slices_add_up_to_the_parent(target, slices) -> None:
    done = [lots_by_slice.py_func(target, k, slices) for k in range(slices + 1)]
    assert done[0] == 0
    assert done[-1] == lots_by_slice.py_func(target, slices + 3, slices) == target
    steps = np.diff(done)
    assert (steps >= 0).all()
    assert steps.max() - steps.min() <= 1


@given(st.integers(0, 10**12), st.integers(1, 10**10), st.integers(0, 60))
def test_a_slice_is_over_at_its_end_and_not_before(start, slice_ns, k) -> None:
    assert slices_over.py_func(start + k * slice_ns, start, slice_ns) == k
    assert slices_over.py_func(start + (k + 1) * slice_ns - 1, start, slice_ns) == k


@given(bins, st.integers(-100, 10_100))
def test_the_volume_curve_is_straight_between_its_points(sizes, place) -> None:
    curve = curve_of(sizes)
    expected = np.interp(place, np.linspace(0, 10_000, len(curve)), curve)
    assert volume_until.py_func(curve, 500 + place, 500, 10_500) == pytest.approx(expected, abs=1e-9)


@given(bins, targets, st.integers(0, 9_000), st.integers(1, 3_000), st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_vwap_fills_in_step_with_the_volume_that_is_usual(sizes, target, start, lasts, shares) -> None:
    curve = curve_of(sizes)
    times = [start + round(lasts * share) for share in sorted(shares)] + [start + lasts]
    lots = [lots_by_volume.py_func(curve, target, t, start, start + lasts, 0, 10_000) for t in times]
    assert lots == sorted(lots)
    assert lots[-1] == target
    grid = np.linspace(0, 10_000, len(curve))
    before, after = np.interp([start, start + lasts], grid, curve)
    for t, found in zip(times[:-1], lots[:-1], strict=True):
        if after - before > 1e-6 and t < start + lasts:
            expected = target * (np.interp(t, grid, curve) - before) / (after - before)
            assert expected - 1.5 <= found <= expected + 0.5


def test_vwap_goes_by_time_where_no_volume_is_expected() -> None:
    curve = curve_of([1.0, 0.0, 1.0])
    assert lots_by_volume.py_func(curve, 100, 1_300, 1_200, 1_600, 0, 3_000) == 25


@given(targets, st.integers(0, 10**7), st.floats(0.001, 1))
def test_participation_is_a_share_of_what_others_traded_and_never_more_than_the_parent(target, seen, share) -> None:
    lots = lots_by_participation.py_func(target, seen, share)
    assert lots <= target
    assert lots <= seen * share
    assert lots == target or lots > seen * share - 1


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_imbalance_is_signed_and_bounded(bid, offered) -> None:
    found = imbalance.py_func(bid, offered)
    assert -1.0 <= found <= 1.0
    assert found == -imbalance.py_func(offered, bid)
    assert (found > 0) == (bid > offered)


def test_a_signal_takes_the_place_of_the_imbalance() -> None:
    assert pressure_of.py_func(float("nan"), 300, 100) == 0.5
    assert pressure_of.py_func(-0.25, 300, 100) == -0.25
    assert pressure_of.py_func(-7.0, 300, 100) == -1.0


@given(
    st.sampled_from([1, -1]), st.integers(1, 100), st.floats(0.1, 100), st.floats(-1, 1), st.floats(0, 1),
    st.floats(0, 2), st.floats(0, 2),
)  # fmt: skip
def test_the_peg_crosses_the_sooner_the_cheaper_and_the_later_it_is(
    side, spread, usual, pressure, gone, patience, urgency
) -> None:
    def crosses(spread=spread, pressure=pressure, gone=gone) -> bool:
        return is_worth_crossing.py_func(side, spread, usual, pressure, gone, patience, urgency)

    if crosses():
        assert crosses(gone=1.0)
        assert crosses(spread=max(spread - 1, 0))
        assert crosses(pressure=float(side))
    assert not is_worth_crossing.py_func(side, spread, float("nan"), pressure, gone, patience, urgency)


@given(st.floats(-1, 1), st.floats(0, 1))
def test_the_peg_never_waits_where_the_price_presses_against_it(pressure, hold) -> None:
    waits = [is_worth_waiting.py_func(side, pressure, hold) for side in (1, -1)]
    assert not all(waits)
    assert not is_worth_waiting.py_func(1, abs(pressure), hold)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("instrument", [0, 1, 7])
def test_the_control_group_is_that_share_of_every_stretch_of_parents_and_of_both_sides(share, instrument) -> None:
    drawn = np.array([is_control.py_func(number, instrument, share) for number in range(2000)])
    for start in range(0, 2000, 500):
        for parity in (0, 1):
            assert drawn[start + parity : start + 500 : 2].mean() == pytest.approx(share, abs=0.02)


def test_the_control_group_has_the_same_durations_as_the_others() -> None:
    lasts = np.array([duration_ns.py_func(number, 3, 4e9, 12e9) for number in range(1, 4001)]) / 1e9
    control = np.array([is_control.py_func(number, 3, 0.1) for number in range(1, 4001)])
    assert lasts.min() >= 4.0
    assert lasts.max() <= 12.0
    assert lasts[control].mean() == pytest.approx(lasts[~control].mean(), abs=0.15)


def test_a_mix_takes_every_algorithm_but_the_baseline_in_turn() -> None:
    assert [algo_of.py_func(number, MIX, False) for number in range(5)] == [1, 2, 3, 4, 1]
    assert algo_of.py_func(3, MIX, True) == MARKET
    assert algo_of.py_func(3, TWAP, False) == TWAP
    assert CODE_OF["peg"] == PEG
    assert len(CODE_OF) == ALGOS + 1 == len(Algo) + 1


def test_the_shipped_volume_curve_is_a_days(tmp_path) -> None:
    curve = load_volume_curve()
    assert curve[0] == 0.0
    assert curve[-1] == pytest.approx(1.0)
    assert (np.diff(curve) > 0).all()
    share = np.diff(curve)
    assert share[:3].sum() > 1.5 * share[18:21].sum() < share[-3:].sum()  # busy at both ends of the day
    damaged = tmp_path / "market.json"
    damaged.write_text('{"format": 1, "volume": {"curve": [0, 0]}}')
    with pytest.raises(ConfigError, match="one above 0"):
        load_volume_curve(damaged)
