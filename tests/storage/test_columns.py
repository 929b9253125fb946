import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from storage.columns import decode_into, decode_times, encode, encode_times, pack, unpack
from storage.stale import STALE_BITS, STALE_NAN, is_stale, mark_missing

floats = st.one_of(
    st.floats(),
    st.sampled_from([STALE_NAN, float("nan"), 0.0, -0.0, 1.0, float("inf")]),
)


def bits(values: np.ndarray) -> list[int]:
    return values.view(np.int64).tolist()


@given(st.lists(floats, min_size=1, max_size=200))
def test_a_column_comes_back_bit_for_bit(values: list[float]) -> None:
    original = np.array(values)
    column = encode(original)
    out = np.empty(len(values))
    decode_into(out, column.last, column.data)
    assert bits(out) == bits(original)
    assert column.count == int((~np.isnan(original)).sum())


def test_a_constant_column_is_only_its_header() -> None:
    assert encode(np.full(3600, 7.5)).data is None
    assert encode(np.full(3600, STALE_NAN)).data is None


def test_the_header_leaves_missing_readings_out() -> None:
    column = encode(np.array([3.0, STALE_NAN, 1.0, 2.0, STALE_NAN]))
    assert (column.count, column.min, column.max, column.sum, column.last) == (3, 1.0, 3.0, 6.0, 2.0)


@given(st.lists(st.integers(0, 2**53), min_size=1, max_size=200, unique=True))
def test_a_time_axis_comes_back(times: list[int]) -> None:
    axis = np.array(sorted(times), np.int64)
    assert decode_times(encode_times(axis)).tolist() == axis.tolist()


@given(st.integers(1, 50), st.randoms())
def test_packed_columns_come_back_bit_for_bit(n: int, random: object) -> None:
    columns = np.array([np.full(n, 5.0), np.arange(n) * 1.5, np.full(n, np.nan)])
    assert bits(unpack(pack(columns), 3, n)) == bits(columns)


def test_every_missing_reading_becomes_the_stale_marker() -> None:
    marked = mark_missing(np.array([1.0, np.nan]))
    assert is_stale(marked).tolist() == [False, True]
    assert marked.view(np.uint64)[1] == STALE_BITS


def test_values_without_missing_readings_are_not_copied() -> None:
    values = np.array([1.0, 2.0])
    assert mark_missing(values) is values
