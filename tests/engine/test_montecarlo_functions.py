"""Elementary functions, normals in blocks and Sobol points: the ground under the simulations."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.jit import kernel
from engine.montecarlo.elementary import exp, exp_pair, normal_tail
from engine.montecarlo.normals import normal_quantile, scenario_normals
from engine.montecarlo.philox import philox_blocks
from engine.montecarlo.sobol import directions, sobol_normals, sobol_points
from metrics.errors import DeskvigilError

PRECISIONS = [np.float64, np.float32]


@kernel
def apply_exp(x, one, up, down):
    for k in range(len(x)):
        one[k] = exp(x[k])
        up[k], down[k] = exp_pair(x[k])


@kernel
def apply_tail(x, out):
    for k in range(len(x)):
        p, q = normal_tail(x[k])
        out[k] = p / q * exp(type(x[k])(-0.5) * x[k] * x[k])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_own_exponential_is_good_to_one_unit_in_the_last_place(dtype) -> None:
    reach = 700.0 if dtype is np.float64 else 86.0
    x = np.concatenate([np.linspace(-reach, reach, 20_001), np.linspace(-1, 1, 20_001), [0.0, -0.0]]).astype(dtype)
    one, up, down = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    apply_exp(x, one, up, down)
    wide = x.astype(np.longdouble)
    for ours, right in ((one, np.exp(wide)), (up, np.exp(wide)), (down, np.exp(-wide))):
        assert float(np.abs(ours / right - 1).max()) <= 1.1 * np.finfo(dtype).eps
    assert one[-1] == 1.0


def test_the_exponential_stays_finite_however_far_its_argument() -> None:
    x = np.array([-1e300, 1e300, -800.0, 800.0])
    one, up, down = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    apply_exp(x, one, up, down)
    assert np.isfinite([one, up, down]).all()
    assert one[0] < 1e-300 < 1e300 < one[1]


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-14), (np.float32, 3e-7)])
def test_the_normal_tail_agrees_with_the_complementary_error_function(dtype, bound: float) -> None:
    x = np.linspace(0.0, 13.0, 4_001).astype(dtype)
    out = np.empty_like(x)
    apply_tail(x, out)
    right = np.array([0.5 * math.erfc(float(value) / math.sqrt(2)) for value in x])
    assert np.abs(out - right).max() < bound


@pytest.mark.parametrize("kernel_under_test", [apply_exp, apply_tail])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_functions_are_compiled_to_vector_instructions(kernel_under_test, dtype) -> None:
    arrays = [np.ones(64, dtype) for _ in range(4 if kernel_under_test is apply_exp else 2)]
    kernel_under_test(*arrays)
    name = "float64" if dtype is np.float64 else "float32"
    code = next(text for types, text in kernel_under_test.inspect_asm().items() if str(types[0].dtype) == name)
    packed = "vfmadd213pd" if dtype is np.float64 else "vfmadd213ps"
    if "vfmadd" not in code:
        pytest.skip("this processor has no fused multiply-add on vectors")
    assert packed in code


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_normals_in_blocks_have_moments_tails_and_no_correlation(dtype) -> None:
    z = scenario_normals(7, 1, np.arange(100_000), 20, dtype).astype(np.float64)
    n = z.size
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    for probability in (0.5, 0.99, 0.999, 0.9999):
        edge = statistics.NormalDist().inv_cdf(probability)
        for tail in (z > edge, z < -edge):
            expected = 1 - probability
            assert abs(tail.mean() - expected) < 4 * math.sqrt(expected / n)
    apart = np.abs(np.corrcoef(z.T) - np.eye(20))
    assert apart.max() < 4.5 / math.sqrt(len(z))
    assert abs((z[:-1] * z[1:]).mean()) < 4 / math.sqrt(n)
    # Squares are correlated where two normals share a radius by mistake.
    assert np.abs(np.corrcoef((z**2).T) - np.eye(20)).max() < 4.5 / math.sqrt(len(z))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40),
    st.integers(1, 13),
)  # fmt: skip
def test_any_scenario_is_made_again_from_seed_stream_and_number(
    seed: int, stream: int, scenarios: list[int], count: int
) -> None:
    together = scenario_normals(seed, stream, np.array(scenarios), count)
    for row, scenario in enumerate(scenarios[:5]):
        alone = scenario_normals(seed, stream, np.array([scenario]), count + 4)
        assert alone[0, :count].tobytes() == together[row].tobytes()


def test_blocks_of_normals_are_box_and_mullers_transform_of_philox_words() -> None:
    seed, stream, scenario = 11, (5 << 32) | 3, 9
    out = np.zeros((2, 4), dtype=np.uint64)
    philox_blocks(np.array([[9, 0, 3, 5], [9, 1, 3, 5]], dtype=np.uint64), np.array([11, 0], dtype=np.uint64), out)
    expected = []
    for w0, w1, w2, w3 in out.astype(np.float64):
        for radius, turn in ((w0, w1), (w2, w3)):
            r = math.sqrt(-2 * math.log((radius + 0.5) / 2**32))
            expected += [r * math.cos(2 * math.pi * turn / 2**32), r * math.sin(2 * math.pi * turn / 2**32)]
    np.testing.assert_allclose(scenario_normals(seed, stream, np.array([scenario]), 8)[0], expected, atol=1e-14)


def test_both_precisions_draw_the_same_normals_but_for_rounding() -> None:
    double = scenario_normals(1, 2, np.arange(50_000), 8)
    single = scenario_normals(1, 2, np.arange(50_000), 8, np.float32)
    apart = np.abs(double - single)
    assert apart.mean() < 1.5e-7
    assert apart.max() < 1e-3  # near radius 0 the logarithm of a float32 just below 1 is coarse
    with pytest.raises(DeskvigilError, match="int"):
        scenario_normals(1, 2, np.arange(5), 8, int)


def test_normal_quantiles_equal_those_of_the_standard_library() -> None:
    p = np.concatenate(
        [np.random.default_rng(1).random(2_000), 10.0 ** -np.arange(1, 30), 1 - 10.0 ** -np.arange(1, 15)]
    )
    right = np.array([statistics.NormalDist().inv_cdf(value) for value in p])
    normal_quantile(p)
    np.testing.assert_allclose(p, right, rtol=2e-15)


@pytest.mark.parametrize("dimensions", [1, 2, 40])
def test_each_sobol_dimension_puts_one_point_in_each_equal_cell(dimensions: int) -> None:
    for points in (8, 256, 1024):
        cells = np.sort((sobol_points(points, dimensions, 3, 1) * points).astype(int), axis=1)
        assert (cells == np.arange(points)).all()


def test_sobol_pairs_fill_coarse_boxes_evenly_before_and_after_scrambling() -> None:
    points = sobol_points(4096, 8, 1, 0)
    for one in range(8):
        for other in range(one):
            boxes = (points[one] * 8).astype(int) * 8 + (points[other] * 8).astype(int)
            assert np.bincount(boxes, minlength=64).tolist() == [64] * 64


def test_sobol_direction_numbers_are_of_full_rank() -> None:
    for numbers in directions(64):
        for k, number in enumerate(numbers.tolist()):
            assert number & ((1 << (31 - k)) - 1) == 0, "nothing below its own bit"
            assert number >> (31 - k) & 1, "its own bit is set"


def test_sobol_means_are_unbiased_and_far_less_scattered_than_random_ones() -> None:
    def mean(points: np.ndarray) -> float:
        return float(np.prod(0.5 + points, axis=0).mean())

    ours = np.array([mean(sobol_points(1024, 6, seed, 0)) for seed in range(60)])
    random = np.array([mean(np.random.default_rng(seed).random((6, 1024))) for seed in range(60)])
    assert abs(ours.mean() - 1) < 4 * ours.std() / math.sqrt(60)
    assert ours.std() < random.std() / 5
    z = sobol_normals(4096, 6, 1, 0)
    assert np.abs(z.mean(axis=1)).max() < 0.01
    assert np.abs(z.var(axis=1) - 1).max() < 0.01


@pytest.mark.parametrize(("points", "dimensions"), [(0, 3), (10, 0), (10, 100_000)])
def test_sobol_points_beyond_the_limits_are_refused(points: int, dimensions: int) -> None:
    with pytest.raises(DeskvigilError, match="Sobol"):
        sobol_points(points, dimensions, 1, 0)
