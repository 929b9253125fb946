"""Kernels over windows against slow, obvious references."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query.functions import over_time, rates, trends
from query.windows import Window, locate, reduce, sums

VALUES = st.floats(-1e6, 1e6, allow_nan=False, width=32) | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf])
PLAIN = st.floats(-1e6, 1e6, allow_nan=False, width=32) | st.integers(-3, 3).map(float)


@st.composite
def windows(draw, values=VALUES, least=1):
    n = draw(st.integers(1, 40))
    t = np.cumsum(draw(st.lists(st.integers(1, 5000), min_size=n, max_size=n))).astype(np.int64)
    rows = draw(st.integers(1, 3))
    v = np.array([draw(st.lists(values, min_size=n, max_size=n)) for _ in range(rows)], dtype=np.float64)
    steps = draw(st.integers(1, 6))
    first, step, width = draw(st.integers(-2000, 60_000)), draw(st.integers(1, 20_000)), draw(st.integers(1, 60_000))
    ends = first + step * np.arange(steps, dtype=np.int64)
    lo, hi = locate(t, ends, width)
    return Window(t, v, lo, hi, ends, ends, width)


def samples(window, row, step):
    """The samples that one window sees, by its definition: open on the left, closed on the right."""
    end = int(window.ends[step])
    return [
        (int(t), float(x)) for t, x in zip(window.t, window.v[row], strict=True) if end - window.range_ms < t <= end
    ]


def agree(window, result, reference, *, least=1, rel=1e-9, absolute=1e-9):
    assert np.broadcast_to(result, (len(window.v), window.steps)).shape == (len(window.v), window.steps)
    for row in range(len(window.v)):
        for step in range(window.steps):
            seen = samples(window, row, step)
            if len(seen) >= least:
                expected = reference(seen, step)
                got = float(result[row, step])
                assert got == pytest.approx(expected, rel=rel, abs=absolute, nan_ok=True), (seen, step)


def once(window, step):
    """The same window as an instant evaluation."""
    part = slice(step, step + 1)
    return Window(
        window.t, window.v, window.lo[part], window.hi[part], window.ends[part], window.at[part], window.range_ms
    )


@given(windows())
def test_count_and_ends_of_windows(window):
    agree(window, over_time.count_over_time(window), lambda s, _: len(s))
    agree(window, over_time.first_over_time(window), lambda s, _: s[0][1])
    agree(window, over_time.last_over_time(window), lambda s, _: s[-1][1])


@given(windows())
def test_sums_and_means(window):
    with np.errstate(all="ignore"):
        agree(window, over_time.sum_over_time(window), lambda s, _: _sum([x for _, x in s]), rel=1e-7)
        agree(window, over_time.avg_over_time(window), lambda s, _: _sum([x for _, x in s]) / len(s), rel=1e-7)


def _sum(values):
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):
        return sum(values)


def test_sums_of_values_that_cancel_are_exact():
    v = np.array([[1.0, 1e100, 1.0, -1e100, 3.0]])
    assert sums(v, np.array([0, 1]), np.array([4, 5])).tolist() == [[2.0, 4.0]]


def test_a_mean_survives_a_sum_that_overflows():
    v = np.array([[1.5e308, 1.5e308, 1.5e308]])
    window = Window(np.array([1, 2, 3]), v, np.array([0]), np.array([3]), np.array([3]), np.array([3]), 10)
    assert over_time.avg_over_time(window)[0, 0] == 1.5e308


@given(windows())
def test_minimum_and_maximum_ignore_nan(window):
    def low(seen, _):
        numbers = [x for _, x in seen if not math.isnan(x)]
        return min(numbers) if numbers else math.nan

    def high(seen, _):
        numbers = [x for _, x in seen if not math.isnan(x)]
        return max(numbers) if numbers else math.nan

    agree(window, over_time.min_over_time(window), low)
    agree(window, over_time.max_over_time(window), high)


@given(windows())
def test_the_time_of_an_extreme_is_its_last(window):
    for function, worst in ((over_time.ts_of_max_over_time, max), (over_time.ts_of_min_over_time, min)):
        result = function(window)
        for row in range(len(window.v)):
            for step in range(window.steps):
                part = slice(int(window.lo[step]), int(window.hi[step]))
                seen = list(zip(window.v[row, part].tolist(), window.t[part].tolist(), strict=True))
                if not seen:
                    continue
                numbers = [value for value, _ in seen if not math.isnan(value)]
                extreme = worst(numbers) if numbers else math.nan
                times = [t for value, t in seen if value == extreme or (not numbers and math.isnan(value))]
                assert result[row, step] == times[-1] / 1000.0


@given(windows())
def test_changes_and_resets(window):
    def differs(a, b):
        return a != b and not (math.isnan(a) and math.isnan(b))

    agree(window, over_time.changes(window), lambda s, _: sum(differs(a[1], b[1]) for a, b in pairwise(s)))
    agree(window, over_time.resets(window), lambda s, _: sum(b[1] < a[1] for a, b in pairwise(s)))


@given(windows(PLAIN))
def test_variance(window):
    def variance(seen, _):
        mean = math.fsum(x for _, x in seen) / len(seen)
        return math.fsum((x - mean) ** 2 for _, x in seen) / len(seen)

    agree(window, over_time.stdvar_over_time(window), variance, rel=1e-6, absolute=1e-6)
    for step in range(window.steps):
        if window.count[step] > 0:
            part = once(window, step)
            agree(part, over_time.stdvar_over_time(part), variance, rel=1e-6, absolute=1e-6)


@given(windows(PLAIN), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0, -1.0, 2.0]))
def test_quantiles(window, q):
    def quantile(seen, _):
        if q < 0 or q > 1:
            return -math.inf if q < 0 else math.inf
        ordered = sorted(x for _, x in seen)
        rank = q * (len(ordered) - 1)
        low = math.floor(rank)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] * (1 - (rank - low)) + ordered[high] * (rank - low)

    agree(window, over_time.quantile_over_time(window, np.full(window.steps, q)), quantile)


def reference_rate(window, counter, per_second):
    """Prometheus's extrapolatedRate, sample by sample."""

    def rate(seen, step):
        change = seen[-1][1] - seen[0][1]
        if counter:
            for (_, a), (_, b) in pairwise(seen):
                change += a if b < a else 0.0
        end = int(window.ends[step])
        to_start = (seen[0][0] - (end - window.range_ms)) / 1000
        to_end = (end - seen[-1][0]) / 1000
        sampled = (seen[-1][0] - seen[0][0]) / 1000
        mean = sampled / (len(seen) - 1)
        if to_start >= mean * 1.1:
            to_start = mean / 2
        if counter and change > 0 and seen[0][1] >= 0:
            to_start = min(to_start, sampled * (seen[0][1] / change))
        if to_end >= mean * 1.1:
            to_end = mean / 2
        factor = (sampled + to_start + to_end) / sampled
        return change * factor / (window.range_ms / 1000 if per_second else 1)

    return rate


@given(windows(PLAIN))
def test_rate_increase_and_delta(window):
    with np.errstate(all="ignore"):
        agree(window, rates.rate(window), reference_rate(window, True, True), least=2, rel=1e-7)
        agree(window, rates.increase(window), reference_rate(window, True, False), least=2, rel=1e-7, absolute=1e-6)
        agree(window, rates.delta(window), reference_rate(window, False, False), least=2, rel=1e-7, absolute=1e-6)


@given(windows(PLAIN))
def test_an_instant_gives_what_a_range_gives_at_that_step(window):
    with np.errstate(all="ignore"):
        for kernel in (rates.rate, rates.delta, over_time.sum_over_time, over_time.min_over_time, trends.deriv):
            whole = kernel(window)
            for step in range(window.steps):
                if window.count[step] >= 2:
                    np.testing.assert_allclose(kernel(once(window, step))[:, 0], whole[:, step], rtol=1e-9, atol=1e-6)


@given(windows(PLAIN))
def test_irate_and_idelta_see_the_last_two_samples(window):
    def irate(seen, _):
        (t0, a), (t1, b) = seen[-2:]
        return (b if b < a else b - a) / ((t1 - t0) / 1000)

    with np.errstate(all="ignore"):
        agree(window, rates.irate(window), irate, least=2)
        agree(window, rates.idelta(window), lambda s, _: s[-1][1] - s[-2][1], least=2)


@given(windows(PLAIN))
def test_lines_are_least_squares(window):
    def line(seen, origin):
        x = np.array([(t - origin) / 1000 for t, _ in seen])
        y = np.array([value for _, value in seen])
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        return slope, y.mean() - slope * x.mean()

    with np.errstate(all="ignore"):
        agree(window, trends.deriv(window), lambda s, _: line(s, s[0][0])[0], least=2, rel=1e-6, absolute=1e-6)
        ahead = trends.predict_linear(window, np.full(window.steps, 60.0))

        def predicted(seen, step):
            slope, intercept = line(seen, int(window.at[step]))
            return slope * 60 + intercept

        agree(window, ahead, predicted, least=2, rel=1e-5, absolute=1e-3)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(600, 3000), st.sampled_from([np.add, np.fmin, np.fmax]))
def test_long_windows_reduce_to_the_same_as_short_ones(seed, width, ufunc):
    rng = np.random.default_rng(seed)
    v = rng.integers(-1000, 1000, (2, 5000)).astype(np.float64)
    hi = np.sort(rng.integers(0, 5001, 50))
    lo = np.maximum(hi - width, 0)
    got = reduce(ufunc, v, lo, hi)
    for step in range(50):
        if hi[step] > lo[step]:
            assert (got[:, step] == ufunc.reduce(v[:, lo[step] : hi[step]], axis=1)).all()
