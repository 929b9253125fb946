import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.errors import QueryError
from query.histogram import bucket_quantile
from tests.query.engines import answer, engine, series


def at(source, expression, t_ms=0):
    return answer(source.instant(expression, t_ms))


def test_mathematics_of_each_value():
    source = engine({series("x"): [2.5], series("y"): [-2.5]})
    for expression, value in (
        ("ceil(x)", 3.0),
        ("floor(y)", -3.0),
        ("abs(y)", 2.5),
        ("sgn(y)", -1.0),
        ("round(x)", 3.0),
        ("round(y)", -2.0),
        ("round(x, 2)", 2.0),
        ("sqrt(x * 10)", 5.0),
        ("exp(x - 2.5)", 1.0),
        ("ln(x / 2.5)", 0.0),
        ("log2(x / 2.5 * 8)", 3.0),
        ("log10(x * 400)", 3.0),
        ("clamp(x, 0, 1)", 1.0),
        ("clamp_min(y, 0)", 0.0),
        ("clamp_max(x, 1)", 1.0),
        ("deg(x * 0 + pi())", 180.0),
    ):
        assert at(source, expression) == {"": pytest.approx(value)}, expression
    assert at(source, "clamp(x, 2, 1)") == {}
    assert math.isnan(at(source, "sqrt(y)")[""])


def test_calendar_in_utc():
    source = engine()
    second = 1_709_208_930  # 2024-02-29 12:15:30, a Thursday
    for name, value in (
        ("year", 2024),
        ("month", 2),
        ("day_of_month", 29),
        ("day_of_week", 4),
        ("day_of_year", 60),
        ("days_in_month", 29),
        ("hour", 12),
        ("minute", 15),
    ):
        assert at(source, f"{name}(vector({second}))") == {"": float(value)}
        assert at(source, f"{name}()", second * 1000) == {"": float(value)}
    assert at(source, "year(vector(NaN))") == {"": 292277026596.0}  # as Go's calendar wraps around


def test_labels_are_replaced_and_joined():
    source = engine({series("x", a="src-7", b="q"): [1.0]})
    assert at(source, 'label_replace(x, "n", "v$1", "a", "src-(.*)")') == {'x{a="src-7",b="q",n="v7"}': 1.0}
    assert at(source, 'label_replace(x, "n", "${num}!", "a", "src-(?P<num>.*)")') == {'x{a="src-7",b="q",n="7!"}': 1.0}
    assert at(source, 'label_replace(x, "a", "", "a", ".*")') == {'x{b="q"}': 1.0}
    assert at(source, 'label_replace(x, "n", "v", "a", "src")') == {'x{a="src-7",b="q"}': 1.0}
    assert at(source, 'label_join(x, "n", "/", "a", "b", "nope")') == {'x{a="src-7",b="q",n="src-7/q/"}': 1.0}
    assert at(source, 'label_replace(rate(x[1m]) or x, "__name__", "y", "b", "q")') == {'y{a="src-7",b="q"}': 1.0}


def test_absence_tells_what_was_asked_for():
    source = engine({series("x"): [1.0, 1.0]})
    assert at(source, 'absent(nope{job="a", code=~"5.."})') == {'{job="a"}': 1.0}
    assert at(source, "absent(x)") == {}
    assert at(source, 'absent_over_time(nope{job="a"}[5m])') == {'{job="a"}': 1.0}
    assert at(source, "absent_over_time(x[5m])") == {}
    assert source.range("absent(x)", 299_000, 302_000, 1_000).series()[0][1].tolist() == [301_000, 302_000]


def test_scalars_and_vectors():
    source = engine({series("x"): [4.0], series("y", i="1"): [1.0], series("y", i="2"): [2.0]})
    assert at(source, "vector(scalar(x) + 1)") == {"": 5.0}
    assert math.isnan(at(source, "vector(scalar(y))")[""])
    assert at(source, "time() + x", 2_000) == {"": 6.0}


def buckets(counts, name="h", **labels):
    return {series(f"{name}_bucket", le=le, **labels): [float(count)] for le, count in counts.items()}


def test_histogram_quantiles_interpolate_linearly():
    source = engine(buckets({"1": 10, "2": 30, "4": 40, "+Inf": 40}, job="a"))
    assert at(source, "histogram_quantile(0.5, h_bucket)") == {'{job="a"}': 1.5}
    assert at(source, "histogram_quantile(0.125, h_bucket)") == {'{job="a"}': 0.5}
    assert at(source, "histogram_quantile(1, h_bucket)") == {'{job="a"}': 4.0}
    assert at(source, "histogram_quantile(2, h_bucket)") == {'{job="a"}': math.inf}
    assert at(source, "histogram_fraction(1, 2, h_bucket)") == {'{job="a"}': 0.5}
    assert source.instant("histogram_quantile(2, h_bucket)", 0).warnings


def test_histograms_without_infinite_bucket_or_observations_are_nan():
    source = engine(buckets({"1": 1, "2": 2}) | buckets({"1": 0, "+Inf": 0}, name="g"))
    assert math.isnan(at(source, "histogram_quantile(0.5, h_bucket)")[""])
    assert math.isnan(at(source, "histogram_quantile(0.5, g_bucket)")[""])


def test_a_bucket_that_is_missing_at_a_step_is_left_out_there():
    source = engine(
        {
            series("h_bucket", le="1"): [10.0, 10.0],
            series("h_bucket", le="2"): [None, 30.0],
            series("h_bucket", le="4"): [40.0, 40.0],
            series("h_bucket", le="+Inf"): [40.0, 40.0],
        }
    )
    result = source.range("histogram_quantile(0.5, h_bucket)", 0, 1_000, 1_000)
    assert result.values.tolist() == [[pytest.approx(2.0), pytest.approx(1.5)]]


def test_rows_that_are_no_buckets_warn():
    source = engine({series("x"): [1.0]})
    result = source.instant("histogram_quantile(0.5, x)", 0)
    assert len(result) == 0
    assert "le" in result.warnings[0]


@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=12),
    st.floats(0, 1),
    st.floats(-5, 5),
)
def test_bucket_quantile_against_a_sequential_reference(increments, q, first_bound):
    counts = np.cumsum(increments).astype(float)
    bounds = np.array([*(first_bound + np.arange(len(counts) - 1)), math.inf])
    with np.errstate(all="ignore"):
        got = bucket_quantile(np.array([q]), bounds, counts[None, :, None])[0, 0]
    assert got == pytest.approx(_reference_quantile(q, bounds.tolist(), counts.tolist()), nan_ok=True)


def _reference_quantile(q, bounds, counts):
    if counts[-1] == 0:
        return math.nan
    rank = q * counts[-1]
    b = next((i for i in range(len(counts) - 1) if counts[i] >= rank), len(counts) - 1)
    if b == len(counts) - 1:
        return bounds[-2]
    if b == 0 and bounds[0] <= 0:
        return bounds[0]
    start, before = (bounds[b - 1], counts[b - 1]) if b else (0.0, 0.0)
    return math.nan if counts[b] == before else start + (bounds[b] - start) * (rank - before) / (counts[b] - before)


def test_smoothing_follows_holt():
    source = engine({series("x"): [0.0, 10.0, 20.0, 30.0, 40.0]})
    assert at(source, "double_exponential_smoothing(x[1m], 0.5, 0.5)", 4_000)[""] == pytest.approx(40.0)
    with pytest.raises(QueryError, match="smoothing factor"):
        source.instant("double_exponential_smoothing(x[1m], 0, 0.5)", 4_000)
