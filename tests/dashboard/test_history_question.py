from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.history.problem import problem_of
from dashboard.history.question import LETTERS, MAX_QUERIES, USUAL, Question
from dashboard.history.scale import scale_for
from dashboard.history.unit import Unit, unit_of
from dashboard.history.vocabulary import expression_for, room_of, terms
from dashboard.history.words import AGGREGATIONS, FUNCTIONS
from dashboard.timerange import PRESETS, spoken
from metrics.catalogue import CATALOGUE
from metrics.errors import DeskvigilError
from metrics.series import Series
from query.errors import QueryError
from query.options import QueryOptions
from query.parse import parse
from query.signatures import SIGNATURES

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30).map(str.strip).filter(bool)
LATENCY = "deskvigil_kpi_order_to_fill_seconds"


# --- the address ---


@given(
    st.lists(words, min_size=1, max_size=MAX_QUERIES).map(tuple),
    st.sampled_from(sorted(PRESETS)),
    st.sets(st.sampled_from(LETTERS)).map(frozenset),
    st.sampled_from(["", "day", "week", "session"]),
    st.sets(st.sampled_from(["alert", "deploy", "trading"])).map(frozenset),
    st.booleans(),
    st.lists(st.floats(-1e9, 1e9).map(lambda level: float(f"{level:.12g}")), max_size=4).map(tuple),
)
def test_an_address_restores_the_question(
    expressions: tuple[str, ...],
    preset: str,
    hidden: frozenset[str],
    compare: str,
    without: frozenset[str],
    follow: bool,
    lines: tuple[float, ...],
) -> None:
    question = Question(expressions, preset, "", "", hidden, compare, without, follow, lines)  # type: ignore[arg-type]
    assert Question.from_search(question.to_search()) == question


def test_addresses_of_the_first_version_mean_what_they_meant() -> None:
    old = Question.from_search("?expr=up&range=6h&metric=up&labels=")
    assert (old.expressions, old.preset) == (("up",), "6h")
    picked = Question.from_search("?metric=deskvigil_host_disk_bytes_total&labels=device%3D%22sda%22&range=1h")
    assert picked.expressions == ('rate(deskvigil_host_disk_bytes_total{device="sda"}[1m])',)
    span = Question.from_search("?expr=up&range=1h&start=2026-11-23+10:00:00&end=2026-11-23+11:00:00")
    assert (span.preset, span.start, span.end) == ("", "2026-11-23 10:00:00", "2026-11-23 11:00:00")
    assert Question.from_search("").expressions == (USUAL,)


def test_an_end_that_stands_still_cannot_be_followed() -> None:
    assert not Question.from_search("?expr=up&end=2026-11-23&follow=1").follow


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("?" + urlencode([("expr", "up")] * (MAX_QUERIES + 1)), "the limit is 8"),
        ("?compare=year", "compare='year' is not one of"),
        ("?" + "x=1&" * 100, "too many parts"),
        ("?expr=" + "x" * 40_000, "longer than"),
    ],
)
def test_an_address_that_asks_too_much_is_refused_in_words(search: str, words: str) -> None:
    with pytest.raises(DeskvigilError, match=words):
        Question.from_search(search)


def test_hidden_and_empty_queries_are_not_asked_and_keep_their_letters() -> None:
    question = Question(("a", "", "c", "d"), hidden=frozenset("C"))
    assert question.asked() == [("A", "a"), ("D", "d")]


# --- vocabulary ---


class Stored:
    """A reader that only knows names."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def series(self, matchers=()):
        return [Series(name) for name in self._names]

    def select(self, matchers, t0_ms, t1_ms):
        return []


def test_scraped_metrics_are_described_as_their_programs_describe_them():
    described = {
        "orders": [("counter", "Orders taken", "")],
        "wait_seconds": [("histogram", "Time in the queue", "seconds")],
    }
    stored = Stored("orders_total", "wait_seconds_bucket", "wait_seconds_sum", "wait_seconds_count", "loose_sum")
    found = {term.name: term for term in terms(stored, described) if term.series}
    assert set(found) == {"orders_total", "wait_seconds", "loose_sum"}
    assert (found["orders_total"].kind, found["orders_total"].help) == ("counter", "Orders taken")
    assert found["wait_seconds"].unit == "seconds"
    assert found["wait_seconds"].parts == ("wait_seconds_bucket", "wait_seconds_count", "wait_seconds_sum")
    assert found["wait_seconds"].question.startswith("histogram_quantile(0.99, ")
    assert found["loose_sum"].kind == "unknown"


def test_the_usual_question_fits_the_kind() -> None:
    assert expression_for("deskvigil_host_cpu_busy_ratio", "") == "deskvigil_host_cpu_busy_ratio"
    assert "histogram_quantile" in expression_for("deskvigil_engine_order_to_fill_seconds", "")
    assert expression_for("other_requests_total", "") == "rate(other_requests_total[1m])"


@pytest.mark.parametrize("metric", sorted(CATALOGUE))
def test_every_usual_question_can_be_parsed_and_has_a_unit(metric: str) -> None:
    question = expression_for(metric, "")
    parse(question, QueryOptions())
    assert unit_of(question) is not None


@pytest.mark.parametrize("word", [*FUNCTIONS, *AGGREGATIONS], ids=lambda word: word.name)
def test_every_function_that_is_offered_is_one(word: object) -> None:
    form: str = word.form  # type: ignore[attr-defined]
    parse(form, QueryOptions())


def test_every_function_of_the_parser_is_offered_but_for_those_of_native_histograms() -> None:
    rare = {"start", "end", "step", "range", "info", "holt_winters", "histogram_quantiles"}
    missing = set(SIGNATURES) - {word.name for word in FUNCTIONS} - rare
    assert {name for name in missing if not name.startswith("histogram_")} == set()


def test_a_metric_belongs_to_the_room_that_publishes_it() -> None:
    assert room_of("deskvigil_kpi_pnl_usd") == "Key figures"
    assert room_of("node_load1") == "node"


# --- units ---


@pytest.mark.parametrize(
    ("expression", "unit"),
    [
        (LATENCY, "seconds"),
        (f"1e6 * {LATENCY}", "µs"),
        (f"{LATENCY} * 7", None),
        ("rate(deskvigil_host_network_bytes_total[1m])", "bytes/s"),
        ("sum by (device) (increase(deskvigil_host_disk_bytes_total[5m]))", "bytes"),
        ("rate(deskvigil_host_cpu_seconds_total[1m])", "ratio"),
        ("rate(deskvigil_engine_orders_acked_total[1m])", "/s"),
        ("histogram_quantile(0.9, sum by (le) (rate(deskvigil_engine_order_to_fill_seconds_bucket[5m])))", "seconds"),
        ("rate(deskvigil_risk_run_seconds_sum[1m]) / rate(deskvigil_risk_run_seconds_count[1m])", "seconds"),
        ("deskvigil_host_memory_available_bytes / deskvigil_host_memory_total_bytes", "ratio"),
        ("deskvigil_host_memory_used_ratio * 100", "%"),
        (f"{LATENCY} > bool 1", ""),
        (f"{LATENCY} > 0.0005", "seconds"),
        (f"quantile_over_time(0.99, {LATENCY}[5m])", "seconds"),
        (f"max_over_time({LATENCY}[1h:1m])", "seconds"),
        ("count(up)", ""),
        ("time() - deskvigil_engine_session_start_time_seconds", "seconds"),
        ("up", None),
        (f"{LATENCY} + deskvigil_host_memory_total_bytes", None),
        ("sqrt(deskvigil_host_memory_total_bytes)", None),
        ("sum(", None),
    ],
)
def test_a_unit_is_told_where_it_is_sure(expression: str, unit: str | None) -> None:
    found = unit_of(expression)
    assert (None if found is None else found.key) == unit


@pytest.mark.parametrize(
    ("unit", "largest", "shown"),
    [
        (Unit("seconds"), 0.000612, "µs"),
        (Unit("seconds"), 0.25, "ms"),
        (Unit("seconds"), 90.0, "s"),
        (Unit("seconds"), 90_000.0, "h"),
        (Unit("seconds"), 0.0, "s"),
        (Unit("bytes", per_second=True), 3 * 2**20, "MiB/s"),
        (Unit("bytes"), 12.0, "B"),
        (Unit("ratio"), 0.5, "%"),
        (Unit("usd"), 1e6, "USD"),
        (Unit(), 5.0, ""),
        (Unit(per_second=True), 5.0, "/s"),
        (Unit("seconds", fixed="µs"), 5.0, "µs"),
        (None, 5.0, "no unit"),
    ],
)
def test_values_are_shown_in_words_that_suit_their_size(unit: Unit | None, largest: float, shown: str) -> None:
    assert scale_for(unit, largest).words == shown


@given(st.floats(1e-9, 1e9))
def test_a_scaled_duration_has_no_more_than_a_few_digits_before_the_point(seconds: float) -> None:
    scale = scale_for(Unit("seconds"), seconds)
    assert 0.99 <= seconds * scale.factor <= 1e6 or scale.words == "d"


def test_a_length_of_time_is_spoken_in_one_unit() -> None:
    assert [spoken(ms) for ms in (1_000, 10_000, 300_000, 7_200_000, 86_400_000, 90_000)] == [
        *("1 s", "10 s", "5 min", "2 h", "1 d", "90 s")
    ]


# --- where a mistake is ---


@pytest.mark.parametrize(
    ("expression", "marked"),
    [
        ("sum by (cpu (rate(x[1m]))", "("),
        ("foo bar", "bar"),
        ("rat(x[5m])", "rat"),
        ("foo{a=}", "}"),
        ("1 +\n  rat(x)", "rat"),
        ("foo[5x]", "5x"),
        ('"µµ" + bar', None),
    ],
)
def test_a_mistake_is_marked_in_the_text(expression: str, marked: str | None) -> None:
    with pytest.raises(QueryError) as error:
        parse(expression, QueryOptions())
    problem = problem_of(expression, str(error.value))
    assert problem.message
    assert "parse error" not in problem.message
    assert problem.start is not None
    if marked is not None:
        assert expression[problem.start : problem.end] == marked


def test_the_unclosed_bracket_is_marked_and_not_the_end() -> None:
    problem = problem_of("sum by (cpu (rate(x[1m]))", "1:26: parse error: unclosed left parenthesis")
    assert problem.start == 7


def test_a_message_without_a_place_is_told_as_it_is() -> None:
    assert problem_of("up", "the query took longer than 30 s").start is None
