"""The soak's arithmetic, its load, and (long) the soak itself for half a minute."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.api.options import IngestOptions
from dashboard.api.remote_write import RemoteWriteDecoder
from validation.remotewrite import WriteRequests
from validation.soak import SEAL_MINUTES, slope, soak


def test_the_slope_of_a_line_under_garbage_is_the_line() -> None:
    rng = np.random.default_rng(1)
    readings = [(float(t), 2e8 + 5e6 * t / 3600 + rng.exponential(3e7)) for t in range(7_200)]
    found = slope(readings)
    assert found.theil_sen_mb_h == pytest.approx(5.0, abs=1.0)
    assert found.least_squares_mb_h == pytest.approx(5.0, abs=1.0)
    assert found.hours == pytest.approx(2.0, abs=0.05)


def test_one_step_is_no_slope_for_theil_sen() -> None:
    readings = [(float(t), 2e8 + (3e7 if t > 6_900 else 0)) for t in range(0, 7_200, 5)]
    assert slope(readings).theil_sen_mb_h == pytest.approx(0.0, abs=0.01)
    assert slope(readings).least_squares_mb_h > 1.0


def test_a_saw_of_seals_is_no_growth_and_growth_below_it_is_seen() -> None:
    saw = [(float(t), 2e8 + 3e7 * (t % (60 * SEAL_MINUTES)) / 900) for t in range(0, 1_500, 5)]
    assert slope(saw).seasonal_mb_h == pytest.approx(0.0, abs=0.01)
    assert slope(saw).theil_sen_mb_h > 4.0
    growing = [(t, size + 6e6 * t / 3_600) for t, size in saw]
    assert slope(growing).seasonal_mb_h == pytest.approx(6.0, abs=0.1)
    assert np.isnan(slope(saw[:150]).seasonal_mb_h)


def test_too_few_minutes_give_no_slope() -> None:
    assert np.isnan(slope([(0.0, 1.0), (61.0, 2.0)]).theil_sen_mb_h)


def test_the_load_is_remote_write_with_counters_that_never_fall() -> None:
    load = WriteRequests(30)
    decoder = RemoteWriteDecoder(IngestOptions())
    values = []
    for t_ms in (1_000, 2_000, 3_000):
        samples = decoder.decode(load.at(t_ms))
        assert samples.t_ms.tolist() == [t_ms] * 30
        assert len({key.series for key in samples.keys}) == 30
        values.append(samples.values)
    counters = np.array(values)[:, ::10]
    assert (np.diff(counters, axis=0) >= 0).all()
    assert len(decoder.decode(load.at(4_000, 5_000))) == 60


@pytest.mark.prove
def test_a_short_soak_measures_what_it_says() -> None:
    lines: list[str] = []
    figures = {figure.what.split(",")[0].split(" (")[0]: figure for figure in soak(0.5, 700, lines.append)}
    assert figures["series at 1 Hz"].value >= 700
    assert figures["memory of the console at the end"].value > 50
    assert figures["failed requests"].value == 0
    longest = next(figure for what, figure in figures.items() if what.startswith("longest of"))
    assert longest.value > 0
    assert np.isfinite(next(f for what, f in figures.items() if what.startswith("history query")).value)
