import math

import numpy as np

from metrics.clock import SystemClock
from query.engine import QueryEngine, QueryOptions
from query.source import MemorySource
from query.values import STALE
from tests.query.engines import answer, engine, series


def test_the_newest_sample_within_the_lookback_counts():
    source = engine({series("x"): [1.0, 2.0]})
    assert answer(source.instant("x", 1_000)) == {"x": 2.0}
    assert answer(source.instant("x", 300_999)) == {"x": 2.0}


def test_the_lookback_is_open_on_its_left():
    source = engine({series("x"): [1.0]})
    assert answer(source.instant("x", 299_999)) == {"x": 1.0}
    assert answer(source.instant("x", 300_000)) == {}


def test_ranges_are_open_on_their_left():
    source = engine({series("x"): [1.0, 2.0, 3.0]})
    assert answer(source.instant("count_over_time(x[1s])", 1_000)) == {"": 1.0}


def test_a_stale_marker_ends_a_series_at_once():
    source = engine({series("x"): [1.0, STALE, 3.0]})
    assert answer(source.instant("x", 1_000)) == {}
    assert answer(source.instant("x", 2_000)) == {"x": 3.0}
    assert source.range("x", 0, 2_000, 1_000).present.tolist() == [[True, False, True]]


def test_ranges_leave_stale_markers_out():
    source = engine({series("x"): [1.0, STALE, 3.0], series("x", a="1"): [1.0, 1.0, 1.0]})
    assert answer(source.instant("count_over_time(x[1m])", 2_000)) == {"": 2.0, '{a="1"}': 3.0}
    assert answer(source.instant("sum(sum_over_time(x[1m]))", 2_000)) == {"": 7.0}


def test_nan_is_a_value():
    source = engine({series("x"): [math.nan]})
    result = source.instant("x", 0)
    assert len(result) == 1
    assert math.isnan(result.values[0, 0])


def test_offsets_look_back_and_ahead():
    source = engine({series("x"): [1.0, 2.0, 3.0]})
    assert answer(source.instant("x offset 1s", 2_000)) == {"x": 2.0}
    assert answer(source.instant("x offset -1s", 1_000)) == {"x": 3.0}


def test_at_pins_a_selector_to_one_time():
    source = engine({series("x"): [1.0, 2.0, 3.0]})
    assert source.range("x @ 1", 0, 2_000, 1_000).values.tolist() == [[2.0, 2.0, 2.0]]
    assert source.range("x @ end() - x", 0, 2_000, 1_000).values.tolist() == [[2.0, 1.0, 0.0]]
    assert source.range("sum_over_time(x[10s] @ start())", 0, 2_000, 1_000).values.tolist() == [[1.0, 1.0, 1.0]]


def test_regular_expressions_match_the_whole_value_the_re2_way():
    source = engine({series("x", a="foo"): [1.0], series("x", a="foobar"): [2.0], series("x"): [3.0]})
    assert answer(source.instant('x{a=~"foo"}', 0)) == {'x{a="foo"}': 1.0}
    assert answer(source.instant('x{a!~"foo.*"}', 0)) == {"x": 3.0}
    assert answer(source.instant('x{a=~"foo|"}', 0)) == {'x{a="foo"}': 1.0, "x": 3.0}
    assert answer(source.instant('x{a=~"(a+)+b"}', 0)) == {}


def test_subqueries_evaluate_on_an_absolute_grid():
    source = engine({series("x"): [float(i) for i in range(100)]})
    assert answer(source.instant("count_over_time(x[30s:10s])", 55_000)) == {"": 3.0}
    assert answer(source.instant("max_over_time(x[30s:10s])", 55_000)) == {"": 50.0}
    assert answer(source.instant("last_over_time((x > 52)[30s:1s])", 55_000)) == {"x": 55.0}


def test_a_subquery_with_gaps_counts_only_what_is_there():
    source = engine({series("x"): [float(i) for i in range(100)], series("x", a="1"): [99.0] * 100})
    result = answer(source.instant("count_over_time((x > 52)[10s:1s])", 55_000))
    assert result == {"": 3.0, '{a="1"}': 10.0}


def test_timestamp_gives_the_samples_time():
    source = engine({series("x"): [1.0]})
    assert answer(source.instant("timestamp(x)", 2_000)) == {"": 0.0}
    assert answer(source.instant("timestamp(x + 0)", 2_000)) == {"": 2.0}
    assert source.range("timestamp(x)", 0, 2_000, 1_000).values.tolist() == [[0.0, 0.0, 0.0]]


def test_a_range_selector_by_itself_gives_its_samples():
    result = engine({series("x"): [1.0, 2.0, 3.0], series("x", a="1"): [None, 5.0]}).instant("x[2s]", 2_000)
    assert result.kind == "matrix"
    assert [(labels, t.tolist(), v.tolist()) for labels, t, v in result.series()] == [
        ({"__name__": "x"}, [1_000, 2_000], [2.0, 3.0]),
        ({"__name__": "x", "a": "1"}, [1_000], [5.0]),
    ]


def test_an_instant_equals_the_range_at_every_step():
    rng = np.random.default_rng(7)
    columns = {series("x_total", i=str(i)): np.cumsum(rng.integers(0, 9, 120)).astype(float).tolist() for i in range(4)}
    source = engine(columns)
    for expression in (
        "x_total",
        "rate(x_total[10s])",
        "sum(rate(x_total[10s]))",
        "avg_over_time(x_total[7s])",
        "topk(1, x_total)",
        "x_total > 300",
        "x_total / ignoring(i) group_left sum(x_total)",
        "quantile(0.5, x_total)",
        "stddev(x_total)",
        "max_over_time(rate(x_total[10s])[20s:5s])",
        "count_values('v', x_total % 3)",
        "x_total and x_total > 100",
        "deriv(x_total[10s])",
    ):
        whole = source.range(expression, 0, 119_000, 7_000)
        for step, t in enumerate(whole.t_ms.tolist()):
            at_once = answer(source.instant(expression, t))
            stepwise = {
                key: value
                for key, value in zip(
                    [str_of(labels) for labels in whole.labels], whole.values[:, step].tolist(), strict=True
                )
                if whole.present[[str_of(labels) for labels in whole.labels].index(key), step]
            }
            assert at_once.keys() == stepwise.keys(), expression
            for key, value in at_once.items():
                np.testing.assert_allclose(value, stepwise[key], rtol=1e-12)


def str_of(labels):
    one = series(labels.get("__name__", ""), **{k: v for k, v in labels.items() if k != "__name__"})
    return str(one)


def test_a_source_without_series_gives_empty_answers():
    source = QueryEngine(MemorySource(), QueryOptions(), SystemClock())
    for expression in (
        "x",
        "rate(x[1m])",
        "sum(x)",
        "x + y",
        "topk(1, x)",
        "histogram_quantile(0.9, x)",
        "-x",
        "x or y",
    ):
        assert len(source.instant(expression, 0)) == 0
        assert len(source.range(expression, 0, 10_000, 1_000)) == 0
