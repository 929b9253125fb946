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


def test_a_time_before_1970_after_at_is_a_time():
    assert len(engine({series("a"): [1.0]}).instant("a @ -5", 0)) == 0
    assert len(engine({series("a"): [1.0]}).instant("a @ -5 offset -6", 0)) == 1


def test_offset_zero_means_nothing():
    source = engine({series("x"): [1.0]})
    assert source.instant("x offset 0s", 0).values[0, 0] == 1.0


def test_a_label_name_that_is_no_utf8_is_refused():
    assert "invalid destination label name" in refused(r'label_replace(x, "\xff", "", "a", "(.*)")').message


def test_escapes_of_bytes_are_joined_to_characters():
    source = engine({series("x", a="é"): [1.0]})
    assert len(source.instant(r'x{a="\xc3\xa9"}', 0)) == 1


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
    ["x[99999999y]", "x offset 9999y", "x[99999999999999999999y]", "x @ 1e300", "x[5m:99999y]"],
)
def test_times_out_of_range_are_bad_data(text):
    assert refused(text).kind == "bad_data"


@pytest.mark.parametrize("text", ["histogram_avg(x)", "start_timestamp(x)"])
def test_what_the_parser_knows_and_we_do_not_is_refused_by_name(text):
    assert "not supported" in refused(text).message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: parse error: no expression found in input"),
        ("a b", '1:3: parse error: unexpected identifier "b"'),
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("a)", "1:2: parse error: unexpected right parenthesis ')'"),
        ("1 +\n", "2:1: parse error: unexpected end of input"),
        ("rate(x)", '1:6: parse error: expected type range vector in call to function "rate", got instant vector'),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("x + bool x", "1:3: parse error: bool modifier can only be used on comparison operators"),
        ("nope(x)", '1:1: parse error: unknown function with name "nope"'),
        ("é", "1:1: parse error: unexpected character: 'é'"),
        ("x{a='é'} b", '1:11: parse error: unexpected identifier "b"'),
        ("x[5m:]", ""),
        ("x[5m:1m:1m]", '1:8: parse error: unexpected ":" in subquery selector, expected "]"'),
        (
            "x[]",
            '1:3: parse error: unexpected "]" in subquery or range selector, expected number, duration, step(), or range()',
        ),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ('x{__name__="y"}', '1:1: parse error: metric name must not be set twice: "x" or "y"'),
        ("x offset 5m offset 5m", "1:1: parse error: offset may not be set multiple times"),
        ("x @ 5 @ 6", "1:1: parse error: @ <timestamp> may not be set multiple times"),
        ("sum()", "1:1: parse error: no arguments for aggregate expression provided"),
        ("topk(x)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("abs(x, y)", '1:1: parse error: expected 1 argument(s) in call to "abs", got 2'),
        ("abs(x,)", "1:6: parse error: trailing commas not allowed in function call args"),
        ("x and on (a) group_left y", '1:1: parse error: no grouping allowed for "and" operation'),
        ("x and 1", '1:1: parse error: set operator "and" not allowed in binary scalar expression'),
        ("-'a'", "unary expression only allowed on expressions of type scalar or instant vector"),
        ("x[0s]", "1:3: parse error: duration must be greater than 0"),
        ("x offset 5m[1m]", "1:12: parse error: no offset modifiers allowed before range"),
        ("(x)[1m]", "1:4: parse error: ranges only allowed for vector selectors"),
        ("sum by (x y) (z)", '1:11: parse error: unexpected identifier "y" in grouping opts, expected "," or ")"'),
        ("'a", "1:1: parse error: unterminated quoted string"),
    ],
)
def test_mistakes_are_told_with_place_and_words(text, message):
    if not message:
        assert engine().prepare(f"sum_over_time({text})") is not None
    else:
        assert message in refused(text).message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1_000", 1000.0),
        ("0x1F", 31.0),
        ("010", 8.0),
        ("1h30m", 5400.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("2 * 3 % 4", 2.0),
        ("- - 1", 1.0),
        ("1 - -1", 2.0),
        (".5e1", 5.0),
        ("-Inf", float("-inf")),
        ("1 + 2 * 3 atan2 0", 1 + 1.5707963267948966),
        ("5 >= bool 5", 1.0),
        ("max_of(1, 2) + min_of(1, 2)", 3.0),
        ("end() - start()", 0.0),
    ],
)
def test_scalars(text, value):
    assert engine().instant(text, 0).values[0, 0] == value


PRETTY = [
    ("sum  by(a)(x )", "sum by (a) (x)"),
    ("sum(x)by(a)", "sum by (a) (x)"),
    ('x{b="2",a=~"1"}[5m] offset 1h', 'x{a=~"1",b="2"}[5m] offset 1h'),
    ("a*on(x)group_left(y)b", "a * on (x) group_left (y) b"),
    ("a+ignoring()b", "a + b"),
    ("a==bool b", "a == bool b"),
    ("x @ 5 offset -90s", "x @ 5.000 offset -1m30s"),
    ("rate(x[1d:1m])", "rate(x[1d:1m])"),
    ("-x ^ 2", "-x ^ 2"),
    ("sum(x) without ()", "sum without () (x)"),
    ("1e3 + 1h", "1000 + 1h"),
    ('{"a b", c!="d"}', '{"a b",c!="d"}'),
    ("a + fill(0) b", "a + fill (0) b"),
    ("x[step() * 2]", "x[step() * 2]"),
    ("rate(x[5m] anchored)", "rate(x[5m] anchored)"),
]


@pytest.mark.parametrize(("text", "pretty"), PRETTY)
def test_the_uniform_layout(text, pretty):
    assert engine().prettify(text) == pretty
    assert engine().prettify(pretty) == pretty


def test_long_expressions_get_lines_and_indents():
    long = (
        'sum by (job) (rate(http_requests_total{job="api", instance="localhost:9090"}[5m])) / count(up{job="api"} == 1)'
    )
    assert engine().prettify(long) == (
        '  sum by (job) (rate(http_requests_total{instance="localhost:9090",job="api"}[5m]))\n/\n  count(up{job="api"} == 1)'
    )


def test_twelve_thousand_parentheses_are_refused_at_once():
    assert "longer than the limit" in refused("(" * 12_000 + "x" + ")" * 12_000).message
    assert "nested 4000 deep" in refused("(" * 4_000 + "x" + ")" * 4_000).message
    assert refused("-" * 8_000 + "1").kind == "bad_data"
