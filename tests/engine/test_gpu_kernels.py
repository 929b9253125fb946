"""The graphics processor's kernels against this processor's: the same source, compiled by g++, and the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.montecarlo.book import Book
from engine.montecarlo.deltagamma import DeltaGamma
from engine.montecarlo.gpu.plan import CELL, book_work, path_work
from engine.montecarlo.paths import PathSimulation
from engine.montecarlo.revaluation import lines_of, sampling_of
from engine.montecarlo.simulation import TRADING_DAY, BookSimulation
from tests.engine.gpu_host import HostDevice
from tests.engine.test_montecarlo_book import mixed_book
from tests.engine.test_montecarlo_paths import path_option

PRECISIONS = {"double": np.float64, "single": np.float32}


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> HostDevice:
    return HostDevice(tmp_path_factory.mktemp("kernels"))


def both_orders(device: HostDevice, work, *args) -> np.ndarray:
    """What a launch gives; the order in which threads and blocks run must not matter."""
    forward = device.run(work, *args)
    device.reverse = True
    try:
        backward = device.run(work, *args)
    finally:
        device.reverse = False
    assert forward.tobytes() == backward.tobytes()
    return forward


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(0, 150), st.integers(2, 300), st.integers(0, 2**62), st.integers(0, 2**62),
    st.sampled_from([0.0, TRADING_DAY, 0.05]), st.sampled_from(list(PRECISIONS)),
)  # fmt: skip
def test_profits_have_the_same_bits(device, assets, positions, scenarios, seed, stream, horizon, precision) -> None:
    book, loading = mixed_book(assets, positions, seed)
    expected = BookSimulation(
        book, loading, scenarios=scenarios, seed=seed, horizon_years=horizon, precision=precision
    ).run(stream)
    dtype = PRECISIONS[precision]
    sampling = sampling_of(loading, np.zeros(assets), np.zeros(0), np.zeros(0), dtype)
    work = book_work(sampling, lines_of(book, horizon, dtype)[0], scenarios, near=False)
    assert both_orders(device, work, seed, stream).tobytes() == expected.gains.tobytes()


@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("scenarios", [500, 9_000])  # few: narrow blocks; many: wide ones
def test_shift_and_quadratic_have_the_same_bits_and_parts_make_the_whole(
    device, precision: str, scenarios: int
) -> None:
    book, loading = mixed_book(32, 90)
    dtype = PRECISIONS[precision]
    quadratic = DeltaGamma.of(book, loading, TRADING_DAY)
    shift, twisted, _ = quadratic.twisted(quadratic.twist(quadratic.value_at_risk(0.99)), loading)
    simulation = BookSimulation(book, loading, scenarios=scenarios, seed=5, draw="importance", precision=precision)
    expected = simulation.run(3).gains
    sampling = sampling_of(twisted, shift, quadratic.first, quadratic.second, dtype)
    work = book_work(sampling, lines_of(book, TRADING_DAY, dtype)[0], scenarios, near=True)
    whole = both_orders(device, work, 5, 3)
    assert whole[0].tobytes() == expected.tobytes()
    assert whole[1].tobytes() == simulation._near.tobytes()
    cut = 3 * work.unit
    first, second = work.part(0, cut), work.part(cut, scenarios)
    parts = np.concatenate([device.run(first, 5, 3, 0), device.run(second, 5, 3, cut)], axis=1)
    assert parts.tobytes() == whole.tobytes()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4), st.sampled_from([1, 3, 8, 31, 33, 70]), st.integers(2, 140), st.booleans(), st.sampled_from([1, -1]),
    st.sampled_from([1, -1]), st.sampled_from([("down", 95.0), ("down", 60.0), ("up", 104.0), ("up", 99.0)]),
    st.sampled_from([0.0, 1.0]), st.sampled_from(list(PRECISIONS)),
)  # fmt: skip
def test_payoffs_have_the_same_bits(
    device, assets, steps, samples, antithetic, asian_sign, vanilla_sign, barrier, noise, precision
) -> None:
    option = path_option(
        assets, steps=steps, asian_sign=asian_sign, vanilla_sign=vanilla_sign, barrier_side=barrier[0], barrier=barrier[1],
        volatility=noise * np.linspace(0.2, 0.35, assets),
    )  # fmt: skip
    simulation = PathSimulation(
        option, paths=2 * samples if antithetic else samples, seed=9, antithetic=antithetic, precision=precision
    )
    simulation.run(stream=2, first_path=1_000)
    work = path_work(option.payoffs(PRECISIONS[precision]), samples, antithetic, totals=False)
    assert both_orders(device, work, 9, 2, 1_000).tobytes() == simulation.payoffs.tobytes()


@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("antithetic", [False, True])
def test_moments_are_the_sums_of_their_cells_and_parts_make_the_whole(device, precision: str, antithetic: bool) -> None:
    option, samples = path_option(2, steps=20), 5 * CELL + 77
    dtype = PRECISIONS[precision]
    payoffs = device.run(path_work(option.payoffs(dtype), samples, antithetic, totals=False), 4).astype(np.float64)
    work = path_work(option.payoffs(dtype), samples, antithetic, totals=True)
    cells = both_orders(device, work, 4)
    assert cells.shape == (6, 7)
    asian, geometric, barrier = payoffs
    terms = np.array([asian, asian**2, geometric, geometric**2, asian * geometric, barrier, barrier**2])
    expected = np.array([terms[:, CELL * k : CELL * (k + 1)].sum(axis=1) for k in range(6)])
    np.testing.assert_allclose(cells, expected, rtol=1e-13)
    cut = 2 * CELL
    parts = [device.run(work.part(0, cut), 4, 0, 0), device.run(work.part(cut, samples), 4, 0, cut)]
    assert np.concatenate(parts).tobytes() == cells.tobytes()


def test_a_book_without_positions_earns_nothing(device) -> None:
    book = Book.of([], ["A"], np.ones(1))
    sampling = sampling_of(0.01 * np.eye(1), np.zeros(1), np.zeros(0), np.zeros(0), np.float64)
    gains = device.run(book_work(sampling, lines_of(book, TRADING_DAY, np.float64)[0], 20, near=False))
    assert (gains == 0.0).all()
