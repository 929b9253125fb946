import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.errors import DeskvigilError
from metrics.series import Series, make_labels
from storage.matching import Matcher, SeriesIndex, SeriesLimitError

words = st.sampled_from(["", "a", "b", "ab", "ba"])
all_series = st.lists(
    st.builds(lambda name, x, y: Series(name, make_labels({"x": x, "y": y})), st.sampled_from("mn"), words, words),
    unique=True,
    max_size=12,
)
matchers = st.lists(
    st.builds(
        Matcher,
        st.sampled_from(["__name__", "x", "y", "absent"]),
        st.sampled_from(["=", "!=", "=~", "!~"]),
        st.sampled_from(["", "a", "a|b", "a.*", ".*", ".+", "b?", "m", "[mn]"]),
    ),
    max_size=3,
)


def obvious(series: Series, matcher: Matcher) -> bool:
    value = series.name if matcher.name == "__name__" else series.label(matcher.name)
    if matcher.op in ("=", "!="):
        return (value == matcher.value) == (matcher.op == "=")
    return (re.fullmatch(matcher.value, value) is not None) == (matcher.op == "=~")


@given(all_series, matchers)
def test_the_index_finds_what_a_look_at_every_series_finds(some: list[Series], conditions: list[Matcher]) -> None:
    index = SeriesIndex(100)
    ids = {series: index.intern(series) for series in some}
    expected = [series for series in some if all(obvious(series, matcher) for matcher in conditions)]
    assert index.match(conditions) == sorted(ids[series] for series in expected)


@given(all_series, st.data())
def test_forgotten_series_are_found_no_more(some: list[Series], data: st.DataObject) -> None:
    index = SeriesIndex(100)
    ids = [index.intern(series) for series in some]
    gone = set(data.draw(st.lists(st.sampled_from(ids), unique=True))) if ids else set()
    index.forget(gone)
    assert index.match([]) == [i for i in ids if i not in gone]
    left = [series for series, i in zip(some, ids, strict=True) if i not in gone]
    assert index.label_values("x", None) == sorted({series.label("x") for series in left} - {""})


def test_a_series_keeps_its_id() -> None:
    index = SeriesIndex(100)
    assert index.intern(Series("m")) == index.intern(Series("m"))


def test_series_beyond_the_limit_are_refused() -> None:
    index = SeriesIndex(1)
    index.intern(Series("m"))
    with pytest.raises(SeriesLimitError, match=r"1 series .*max_series"):
        index.intern(Series("n"))


def test_a_wrong_regular_expression_is_told() -> None:
    with pytest.raises(DeskvigilError, match="invalid regular expression"):
        SeriesIndex(100).match([("x", "=~", "(")])
