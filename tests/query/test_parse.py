import pytest

from query.errors import QueryError
from query.options import QueryOptions
from query.parse import parse
from query.plan import matchers_of
from tests.query.engines import engine, series

OPTIONS = QueryOptions()


def refused(text: str) -> QueryError:
    with pytest.raises(QueryError) as caught:
        engine().prepare(text)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sum(",
        "foo{a=~'*'}",
        "rate(x)",
        "nosuchfunction(x)",
        "x[5m] offset",
        "1 +",
        "{}",
        "x{a='b' or c='d'}",
        "\ud800",
    ],
)
def test_what_is_not_promql_is_bad_data(text):
    assert refused(text).kind == "bad_data"


def test_the_length_is_limited_before_parsing():
    assert "8192" in refused("x" * 9000).message


def test_a_length_in_bytes_counts_not_in_characters():
    assert refused('{a="' + "é" * 5000 + '"}').kind == "bad_data"


def test_the_nesting_is_limited_before_parsing():
    assert "nested 101 deep" in refused("(" * 101 + "1" + ")" * 101).message
    assert parse("(" * 99 + "1" + ")" * 99, OPTIONS) is not None


def test_brackets_inside_strings_and_comments_do_not_count():
    assert parse('label_replace(x, "a", "' + "(" * 200 + '", "b", "") # ' + "(" * 200, OPTIONS) is not None


def test_the_number_of_operators_is_limited_before_parsing():
    assert "operators" in refused("+".join(["1"] * 500)).message


def test_a_chain_of_operators_up_to_the_limit_is_evaluated():
    assert engine().instant("+".join(["1"] * 200), 0).values[0, 0] == 200


def test_a_signed_timestamp_after_at_is_refused_instead_of_misread():
    assert refused("a @ -5").kind == "bad_data"


def test_offset_zero_means_nothing():
    source = engine({series("x"): [1.0]})
    assert source.instant("x offset 0s", 0).values[0, 0] == 1.0


def test_escapes_of_single_bytes_are_refused_instead_of_misread():
    assert refused(r'label_replace(x, "\xff", "", "a", "(.*)")').kind == "bad_data"


def test_a_selector_gives_its_matchers():
    assert [tuple(m) for m in matchers_of('x{a="b",c!~"d.*"}', OPTIONS)] == [
        ("__name__", "=", "x"),
        ("a", "=", "b"),
        ("c", "!~", "d.*"),
    ]


@pytest.mark.parametrize("text", ["1", "x[5m]", "x offset 5m", "sum(x)"])
def test_anything_but_a_selector_is_no_match_parameter(text):
    with pytest.raises(QueryError):
        matchers_of(text, OPTIONS)


@pytest.mark.parametrize(
    "text",
    ["x[99999999y]", "x offset 9999y", "x[99999999999999999999y]", "x @ 1e300", "x @ 99999999999999", "x[5m:99999y]"],
)
def test_times_out_of_range_are_bad_data(text):
    assert refused(text).kind == "bad_data"


@pytest.mark.parametrize("text", ["x + fill(0) y", "limitk(1, x)", "histogram_avg(x)"])
def test_what_the_parser_knows_and_we_do_not_is_refused_by_name(text):
    assert "not supported" in refused(text).message
