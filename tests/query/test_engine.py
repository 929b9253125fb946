import threading

import pytest

from metrics.clock import ManualClock
from query.engine import QueryEngine, QueryError, QueryOptions
from query.source import MemorySource
from tests.query.engines import answer, engine, series


def test_a_prepared_expression_sees_series_that_appear_later():
    source = MemorySource()
    source.put(series("x", i="1"), [0], [1.0])
    prepared = QueryEngine(source, QueryOptions(), ManualClock()).prepare("sum by (i) (x) > 0")
    assert answer(prepared.instant(0)) == {'{i="1"}': 1.0}
    source.put(series("x", i="2"), [0], [2.0])
    assert answer(prepared.instant(0)) == {'{i="1"}': 1.0, '{i="2"}': 2.0}
    source.put(series("x", i="1"), [0, 1], [1.0, 5.0])
    assert answer(prepared.instant(1)) == {'{i="1"}': 5.0, '{i="2"}': 2.0}


def test_a_prepared_expression_tells_what_it_reads():
    prepared = engine().prepare('sum(rate(a_total{job="x"}[1m])) / on () b > scalar(c) or {__name__=~"d.*"}')
    assert prepared.metric_names() == {"a_total", "b", "c"}
    assert prepared.matches(series("a_total", job="x"))
    assert not prepared.matches(series("a_total", job="y"))
    assert prepared.matches(series("d1"))
    assert len(prepared.selectors) == 4


def test_results_keep_their_label_dicts_between_evaluations():
    prepared = engine({series("x"): [1.0]}).prepare("x > 0")
    assert prepared.instant(0).labels[0] is prepared.instant(0).labels[0]


def test_kinds_of_results():
    source = engine({series("x"): [1.0]})
    assert [source.instant(text, 0).kind for text in ("x", "1", "'a'", "x[1m]")] == [
        "vector",
        "scalar",
        "string",
        "matrix",
    ]
    assert source.instant("'a'", 0).text == "a"
    assert source.range("1", 0, 2_000, 1_000).series()[0][2].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", 0, 10, 0), "step"),
        (("x", 10, 0, 1), "end timestamp"),
        (("x", 0, 100_000_000, 1), "exceeded maximum resolution"),
        (("x[1m]", 0, 10, 1), "invalid expression type"),
        (("'a'", 0, 10, 1), "invalid expression type"),
    ],
)
def test_impossible_ranges_are_bad_data(arguments, words):
    with pytest.raises(QueryError, match=words) as caught:
        engine().range(*arguments)
    assert caught.value.kind == "bad_data"


def test_samples_are_limited():
    options = QueryOptions(max_samples=1_000)
    source = engine({series("x", i=str(i)): [1.0] * 600 for i in range(2)}, options=options)
    with pytest.raises(QueryError, match="too many samples") as caught:
        source.instant("rate(x[10m])", 599_000)
    assert caught.value.kind == "execution"
    assert len(source.instant("x", 0)) == 2


def test_the_samples_of_nested_subqueries_are_limited():
    options = QueryOptions(max_samples=10_000)
    source = engine({series("x"): [1.0] * 100}, options=options)
    with pytest.raises(QueryError, match="too many samples"):
        source.instant("sum_over_time(x[1d:1ms])", 86_400_000)


def test_series_are_limited():
    source = engine({series("x", i=str(i)): [1.0] for i in range(5)}, options=QueryOptions(max_series=4))
    for expression in ("x", "rate(x[1m])"):
        with pytest.raises(QueryError, match="matches 5 series"):
            source.instant(expression, 0)


def test_the_pairs_of_a_match_are_limited():
    source = engine({series("x", i=str(i)): [1.0] for i in range(400)})
    with pytest.raises(QueryError, match="pairs of series"):
        source.instant("x * on () group_left x", 0)


def test_time_is_limited():
    class Late(ManualClock):
        def monotonic_ns(self) -> int:
            self.advance(20_000_000_000)
            return super().monotonic_ns()

    source = MemorySource({})
    source.put(series("x"), [0, 1], [1.0, 2.0])
    slow = QueryEngine(source, QueryOptions(timeout_s=10), Late())
    with pytest.raises(QueryError) as caught:
        slow.range("rate(x[1m])", 0, 10, 1)
    assert caught.value.kind == "timeout"


def test_a_request_may_ask_for_a_shorter_time_and_loops_look_at_the_clock():
    class Ticking(ManualClock):
        asked = 0

        def monotonic_ns(self) -> int:
            self.asked += 1
            self.advance(100_000_000)
            return super().monotonic_ns()

    clock, source = Ticking(), MemorySource()
    source.put(series("x"), range(0, 2_000_000, 100), [float(i % 7) for i in range(20_000)])
    engine = QueryEngine(source, QueryOptions(timeout_s=60), clock)
    assert len(engine.range("mad_over_time(x[5m])", 400_000, 1_900_000, 3_000)) == 1
    assert clock.asked > 10  # once a block would be three times
    with pytest.raises(QueryError, match=r"timed out after 0.5 s"):
        engine.range("mad_over_time(x[5m])", 400_000, 1_900_000, 3_000, timeout_s=0.5)


def test_many_threads_may_ask_one_engine():
    source = engine({series("x", i=str(i)): [float(i)] * 50 for i in range(20)})
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(20):
            if answer(source.instant("sum(x)", 10_000)) != {"": 190.0}:
                wrong.append("instant")
            if source.range("count(x > 9)", 0, 49_000, 1_000).values.tolist() != [[10.0] * 50]:
                wrong.append("range")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


def test_a_uniform_layout_of_an_expression():
    assert engine().prettify("sum  by(a)(x )").replace("\n", "").replace(" ", "") == "sumby(a)(x)"
