from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from storage import packs as packing
from storage.columns import decode_times, encode_times, pack, unpack
from storage.stale import STALE_BITS, STALE_NAN, is_stale, mark_missing

floats = st.one_of(
    st.floats(),
    st.sampled_from([STALE_NAN, float("nan"), 0.0, -0.0, 1.0, float("inf")]),
)


def bits(values: np.ndarray) -> list[int]:
    return values.view(np.int64).tolist()


columns = st.integers(1, 60).flatmap(
    lambda n: st.lists(
        st.one_of(
            st.lists(floats, min_size=n, max_size=n),
            st.lists(st.integers(-(2**60), 2**60).map(float), min_size=n, max_size=n),
            floats.map(lambda value: [value] * n),
        ),
        min_size=1,
        max_size=40,
    )
)


@given(columns, st.randoms())
def test_columns_of_packs_come_back_bit_for_bit(original: list[list[float]], random: Random) -> None:
    values = np.array(original)
    packs = list(packing.pack(values))
    assert [one.first for one in packs] == np.cumsum([0, *(one.columns for one in packs)])[:-1].tolist()
    for one in packs:
        assert packing.check(one.data) is None
        assert packing.count(one.data) == one.columns
        wanted = sorted(random.sample(range(one.columns), random.randint(1, one.columns)))
        out = np.empty((len(wanted), values.shape[1]))
        packing.unpack_into(one.data, list(zip(wanted, out, strict=True)))
        for position, row in zip(wanted, out, strict=True):
            assert bits(row) == bits(values[one.first + position])


def test_a_constant_column_takes_nine_bytes_and_a_stale_one_one() -> None:
    (one,) = packing.pack([np.full(3600, 7.5)] * 10 + [np.full(3600, STALE_NAN)] * 10)
    assert len(one.data) == 2 + 20 + 80 + 4


def test_whole_numbers_are_kept_as_such() -> None:
    assert packing.encode_column(np.array([1.0, 2.0, 3.0]))[0] == packing.WHOLE
    for values in ([0.0, -0.0], [1.0, 2.0**53], [1.0, np.nan], [1.0, np.inf], [1.0, 1.5]):
        assert packing.encode_column(np.array(values))[0] == packing.FLOAT


@given(st.data())
def test_no_damaged_pack_passes_for_sound(data: st.DataObject) -> None:
    (one,) = packing.pack([np.arange(50.0), np.full(50, 3.0), np.sqrt(np.arange(50.0))])
    place = data.draw(st.integers(0, len(one.data) - 1))
    damaged = bytearray(one.data)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    assert packing.check(bytes(damaged)) is not None
    assert packing.check(one.data[:place]) is not None


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
