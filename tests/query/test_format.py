import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.errors import QueryError
from query.format import format_value, parse_duration_ms, parse_time_ms


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (1e21, "1000000000000000000000"),
        (1.5e-7, "0.00000015"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_values_are_written_without_exponent(value, text):
    assert format_value(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_written_reads_back_the_same(value):
    text = format_value(value)
    assert "e" not in text
    assert float(text) == value


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1h30m", 5_400_000), ("15s", 15_000), ("0.5", 500), ("1d", 86_400_000), ("250ms", 250), ("60", 60_000)],
)
def test_durations(text, ms):
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "x", "5x", "m5", "1e400", "nan", "99999999999999999y"])
def test_what_is_no_duration(text):
    with pytest.raises(QueryError):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1700000000.123", 1_700_000_000_123),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
    ],
)
def test_times(text, ms):
    assert parse_time_ms(text) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "2023-11-14T22:13:20", "inf", "1e300"])
def test_what_is_no_time(text):
    with pytest.raises(QueryError):
        parse_time_ms(text)
