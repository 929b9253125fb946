import math

import pytest

from query.errors import QueryError
from query.values import STALE
from tests.query.engines import answer, engine, series


@pytest.fixture
def source():
    return engine(
        {
            series("requests", job="a", code="200"): [10.0, 20.0],
            series("requests", job="a", code="500"): [1.0, 2.0],
            series("requests", job="b", code="200"): [5.0, 5.0],
            series("workers", job="a", region="eu"): [2.0, 4.0],
            series("workers", job="c", region="us"): [9.0, 9.0],
            series("odd", n="nan"): [math.nan, math.nan],
            series("odd", n="one"): [1.0, 1.0],
        }
    )


def at(source, expression, t_ms=0):
    return answer(source.instant(expression, t_ms))


def test_arithmetic_with_a_scalar_drops_the_name_and_comparison_keeps_it(source):
    assert at(source, 'requests{job="b"} * 2 + 1') == {'{code="200",job="b"}': 11.0}
    assert at(source, "requests > 4") == {
        'requests{code="200",job="a"}': 10.0,
        'requests{code="200",job="b"}': 5.0,
    }
    assert at(source, '4 < requests{job="b"}') == {'requests{code="200",job="b"}': 5.0}
    assert at(source, 'requests{job="a"} > bool 4') == {
        '{code="200",job="a"}': 1.0,
        '{code="500",job="a"}': 0.0,
    }


def test_scalar_operators_follow_ieee_754(source):
    for expression, value in (("1 / 0", math.inf), ("7 % -3", 1.0), ("2 ^ 10", 1024.0), ("1 > bool 2", 0.0)):
        assert source.instant(expression, 0).values[0, 0] == value
    assert math.isnan(source.instant("0 / 0", 0).values[0, 0])
    assert source.instant("-2 ^ 2", 0).values[0, 0] == -4.0


def test_one_to_one_matching_needs_equal_labels(source):
    assert at(source, "requests / requests") == {
        '{code="200",job="a"}': 1.0,
        '{code="500",job="a"}': 1.0,
        '{code="200",job="b"}': 1.0,
    }
    assert at(source, "requests / workers") == {}
    assert at(source, 'requests{code="200"} / on (job) workers') == {'{job="a"}': 5.0}


def test_group_left_takes_labels_from_the_one_side(source):
    assert at(source, "requests / on (job) group_left (region) workers") == {
        '{code="200",job="a",region="eu"}': 5.0,
        '{code="500",job="a",region="eu"}': 0.5,
    }
    assert at(source, "workers * on (job) group_right (region) requests") == {
        '{code="200",job="a",region="eu"}': 20.0,
        '{code="500",job="a",region="eu"}': 2.0,
    }


def test_many_to_many_matching_is_an_execution_error(source):
    for expression, words in (
        ("workers / on (job) requests", "found duplicate series for the match group"),
        ("requests / on (job) workers", "many-to-one matching must be explicit"),
        ("requests / on () group_left requests", "many-to-many matching not allowed"),
    ):
        with pytest.raises(QueryError, match=words) as caught:
            source.instant(expression, 0)
        assert caught.value.kind == "execution"


def test_duplicates_that_never_meet_are_no_error():
    source = engine({series("x", a="1"): [1.0, STALE], series("x", a="2"): [None, 5.0], series("y"): [1.0, 1.0]})
    result = source.range("y + on () x", 0, 1_000, 1_000)
    assert [(labels, v.tolist()) for labels, _, v in result.series()] == [({}, [2.0, 6.0])]


def test_set_operators_look_at_labels_only(source):
    assert at(source, 'requests and requests{code="500"}') == {'requests{code="500",job="a"}': 1.0}
    assert at(source, "requests unless on (job) workers") == {'requests{code="200",job="b"}': 5.0}
    assert at(source, "workers or on (job) requests") == {
        'workers{job="a",region="eu"}': 2.0,
        'workers{job="c",region="us"}': 9.0,
        'requests{code="200",job="b"}': 5.0,
    }


def test_set_operators_work_step_by_step():
    source = engine({series("x"): [1.0, 9.0, 1.0], series("y"): [7.0, 7.0, 7.0]})
    result = source.range("(x > 5) or on () y", 0, 2_000, 1_000)
    assert [(labels["__name__"], v.tolist()) for labels, _, v in result.series()] == [("x", [9.0]), ("y", [7.0, 7.0])]


def test_names_that_are_dropped_may_not_leave_equal_series():
    both = engine({series("x"): [1.0], series("y"): [2.0]})
    with pytest.raises(QueryError, match="same labelset"):
        both.instant('-{__name__=~"x|y"}', 0)
    assert at(both, 'label_replace(-{__name__=~"x|y"}, "was", "$1", "__name__", "(.*)")') == {
        '{was="x"}': -1.0,
        '{was="y"}': -2.0,
    }


def test_aggregations_group_by_or_without(source):
    assert at(source, "sum by (job) (requests)") == {'{job="a"}': 11.0, '{job="b"}': 5.0}
    assert at(source, "max without (code) (requests)") == {'{job="a"}': 10.0, '{job="b"}': 5.0}
    assert at(source, "count(requests)") == {"": 3.0}
    assert at(source, "avg(requests)") == {"": 16.0 / 3}
    assert at(source, "group by (code) (requests)") == {'{code="200"}': 1.0, '{code="500"}': 1.0}
    assert at(source, "stdvar(requests)")[""] == pytest.approx(13.5555555555)
    assert at(source, "quantile(0.5, requests)") == {"": 5.0}
    assert at(source, 'count_values("v", requests)') == {'{v="10"}': 1.0, '{v="1"}': 1.0, '{v="5"}': 1.0}


def test_minimum_maximum_and_ranks_put_nan_last(source):
    assert at(source, "min(odd)") == {"": 1.0}
    assert at(source, "max(odd)") == {"": 1.0}
    assert at(source, "topk(1, odd)") == {'odd{n="one"}': 1.0}
    assert at(source, "bottomk(1, odd)") == {'odd{n="one"}': 1.0}
    assert math.isnan(at(source, "sum(odd)")[""])
    assert [labels["n"] for labels, _ in source.instant("sort(odd)", 0).samples()] == ["one", "nan"]
    assert [labels["n"] for labels, _ in source.instant("sort_desc(odd)", 0).samples()] == ["one", "nan"]


def test_topk_keeps_labels_and_orders_an_instant(source):
    assert list(at(source, "topk(2, requests)").items()) == [
        ('requests{code="200",job="a"}', 10.0),
        ('requests{code="200",job="b"}', 5.0),
    ]
    assert list(at(source, "bottomk by (job) (1, requests)")) == [
        'requests{code="500",job="a"}',
        'requests{code="200",job="b"}',
    ]


def test_sums_that_cancel_are_exact():
    source = engine({series("x", i=str(i)): [value] for i, value in enumerate((1.0, 1e100, 1.0, -1e100))})
    assert at(source, "sum(x)") == {"": 2.0}
    assert at(source, "avg(x)") == {"": 0.5}


def test_equal_values_have_no_deviation():
    source = engine({series("x", i=str(i)): [1.1] for i in range(7)})
    assert at(source, "stddev(x)") == {"": 0.0}
    assert at(source, "stddev_over_time(x[1m])") == {f'{{i="{i}"}}': 0.0 for i in range(7)}


def test_or_keeps_apart_what_has_lost_its_name_and_what_has_not():
    source = engine({series("x"): [-1.0, 1.0]})
    result = source.range("(x > 0) or abs(x)", 0, 1000, 1000)
    assert list(result.labels) == [{}, {"__name__": "x"}]
    assert result.present.tolist() == [[True, False], [False, True]]
