"""Standard normals by counter: Philox words through Box and Muller's transform.

Normals 2b and 2b + 1 of a stream come from block b. Logarithm, sine and cosine are polynomials of
our own, because the library's do not vectorise; they are good to about one unit in the last
place (tested), which is far below what a sample can resolve.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.jit import inline_kernel, kernel
from engine.montecarlo.elementary import by_precision, cos_sin_turn_single, fma, log_single
from engine.montecarlo.philox import HALF, LOW, Word, philox4x32
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray

LN2_HIGH: Final = 6.93147180369123816490e-01  # fdlibm's split of ln 2: the high part times an exponent is exact
LN2_LOW: Final = 1.90821492927058770002e-10
SQRT2: Final = 1.4142135623730951
TWO_PI: Final = 6.283185307179586
UNIT: Final = 2.0**-53
MANTISSA: Final = np.int64(0x000FFFFFFFFFFFFF)
ONE_BITS: Final = np.int64(0x3FF0000000000000)
MANTISSA_BITS: Final = np.int64(52)
EXPONENT_BIAS: Final = np.int64(1023)
DROP: Final = np.uint64(11)
UNIT_OF_WORD: Final = 2.0**-32
UNIT_SINGLE: Final = np.float32(2.0**-31)
DROP_SINGLE: Final = np.uint32(1)


@inline_kernel
def log_positive(x: float) -> float:
    """Natural logarithm of a positive normal float64: exponent plus fdlibm's polynomial in (m - 1) / (m + 1)."""
    bits = np.float64(x).view(np.int64)
    exponent = np.float64((bits >> MANTISSA_BITS) - EXPONENT_BIAS)
    m = np.int64((bits & MANTISSA) | ONE_BITS).view(np.float64)
    high = m > SQRT2
    m = 0.5 * m if high else m
    exponent = exponent + 1.0 if high else exponent
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    tail = z * (
        6.666666666666735130e-01
        + z
        * (
            3.999999999940941908e-01
            + z
            * (
                2.857142874366239149e-01
                + z
                * (
                    2.222219843214978396e-01
                    + z * (1.818357216161805012e-01 + z * (1.531383769920937332e-01 + z * 1.479819860511658591e-01))
                )
            )
        )
    )
    half_square = 0.5 * f * f
    return exponent * LN2_HIGH - ((half_square - (s * (half_square + tail) + exponent * LN2_LOW)) - f)


@inline_kernel
def cos_sin_turn(u: float) -> tuple[float, float]:
    """Cosine and sine of 2 pi u for u in [0, 1): quarter turns taken off exactly, fdlibm's polynomials for the rest."""
    quarter = np.int64(4.0 * u + 0.5)
    x = TWO_PI * (u - 0.25 * np.float64(quarter))
    z = x * x
    sine = x + x * z * (
        -1.66666666666666324348e-01
        + z
        * (
            8.33333333332248946124e-03
            + z
            * (
                -1.98412698298579493134e-04
                + z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))
            )
        )
    )
    cosine = 1.0 - (
        0.5 * z
        - z
        * z
        * (
            4.16666666666666019037e-02
            + z
            * (
                -1.38888888888741095749e-03
                + z
                * (
                    2.48015872894767294178e-05
                    + z
                    * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 - z * 1.13596475577881948265e-11))
                )
            )
        )
    )
    odd = (quarter & 1) != 0
    first = sine if odd else cosine
    second = cosine if odd else sine
    first = -first if ((quarter + 1) & 2) != 0 else first
    second = -second if (quarter & 2) != 0 else second
    return first, second


@inline_kernel
def normal_pair(block: Word, stream: Word, seed: Word) -> tuple[float, float]:
    """The two normals of one block; pairs of equal (block, stream, seed) are equal."""
    w0, w1, w2, w3 = philox4x32(block & LOW, block >> HALF, stream & LOW, stream >> HALF, seed & LOW, seed >> HALF)
    radius_word = ((w0 << HALF) | w1) >> DROP
    turn_word = ((w2 << HALF) | w3) >> DROP
    # Signed conversions vectorise where unsigned ones do not; 53 bits fit both.
    u = (np.float64(np.int64(radius_word)) + 0.5) * UNIT
    radius = np.sqrt(-2.0 * log_positive(u))
    cosine, sine = cos_sin_turn(np.float64(np.int64(turn_word)) * UNIT)
    return radius * cosine, radius * sine


@inline_kernel
def counter(scenario: int, block: int) -> Word:
    """Philox block of a scenario: scenarios count in the low word, their blocks in the high one."""
    return np.uint64(scenario) | (np.uint64(block) << HALF)


@inline_kernel
def _pair_double(_of: FloatArray, radius_word: int, turn_word: int) -> tuple[float, float]:
    radius = np.sqrt(-2.0 * log_positive((np.float64(radius_word) + 0.5) * UNIT_OF_WORD))
    cosine, sine = cos_sin_turn(np.float64(turn_word) * UNIT_OF_WORD)
    return radius * cosine, radius * sine


@inline_kernel
def _pair_single(_of: FloatArray, radius_word: int, turn_word: int) -> tuple[float, float]:
    # The signed conversion of 31 bits is one instruction everywhere, that of 32 bits is not.
    u = fma(np.float32(np.int32(radius_word >> DROP_SINGLE)), UNIT_SINGLE, np.float32(0.5) * UNIT_SINGLE)
    radius = np.sqrt(np.float32(-2.0) * log_single(u))
    cosine, sine = cos_sin_turn_single(np.float32(np.int32(turn_word >> DROP_SINGLE)) * UNIT_SINGLE)
    return radius * cosine, radius * sine


_pair = by_precision(_pair_double, _pair_single)


@kernel
def normal_block(z: FloatArray, seed: Word, stream: Word, scenario: IntArray, offset: int) -> None:
    """Write normal number offset + k of scenario[row] to z[k, row]: float64 or float32 (m, rows), m and offset of whole fours.

    Each of a block's two pairs of words makes two normals, the same in both precisions but for rounding.
    """
    rows = len(scenario)
    w0, w1, w2, w3 = np.empty((4, rows), dtype=np.uint32)
    for k in range(0, z.shape[0], 4):
        block = (offset + k) // 4
        for row in range(rows):  # words are made 64 bits wide: apart, each loop fills its vectors
            c = counter(scenario[row], block)
            a, b, c, d = philox4x32(c & LOW, c >> HALF, stream & LOW, stream >> HALF, seed & LOW, seed >> HALF)
            w0[row], w1[row], w2[row], w3[row] = a, b, c, d
        z0, z1, z2, z3 = z[k], z[k + 1], z[k + 2], z[k + 3]
        for row in range(rows):
            z0[row], z1[row] = _pair(z, w0[row], w1[row])
            z2[row], z3[row] = _pair(z, w2[row], w3[row])


def scenario_normals(seed: int, stream: int, scenario: IntArray, count: int, dtype: type = np.float64) -> FloatArray:
    """The first `count` normals of chosen scenarios, (scenarios, count), of float64 or float32, as simulations draw them."""
    if dtype not in (np.float64, np.float32):
        raise DeskvigilError(f"normals come as float64 or float32, not {dtype}")
    z = np.empty((-(-count // 4) * 4, len(scenario)), dtype=dtype)
    normal_block(z, np.uint64(seed), np.uint64(stream), np.asarray(scenario, dtype=np.int64), 0)
    return np.ascontiguousarray(z[:count].T)


@kernel
def normal_quantile(p: FloatArray) -> None:
    """Replace probabilities in (0, 1), float64 (n,), by the standard normal's quantiles, to 1e-16 relative (Wichura's AS 241)."""
    for k in range(len(p)):
        q = p[k] - 0.5
        if abs(q) <= 0.425:
            r = 0.180625 - q * q
            above = ((((((2509.0809287301226727 * r + 33430.575583588128105) * r + 67265.770927008700853) * r
                + 45921.953931549871457) * r + 13731.693765509461125) * r + 1971.5909503065514427) * r
                + 133.14166789178437745) * r + 3.387132872796366608  # fmt: skip
            below = ((((((5226.495278852545925 * r + 28729.085735721942674) * r + 39307.89580009271061) * r
                + 21213.794301586595867) * r + 5394.1960214247511077) * r + 687.1870074920579083) * r
                + 42.313330701600911252) * r + 1.0  # fmt: skip
            p[k] = q * above / below
            continue
        r = np.sqrt(-np.log(min(p[k], 1.0 - p[k])))
        if r <= 5.0:
            r -= 1.6
            above = ((((((7.7454501427834140764e-4 * r + 0.0227238449892691845833) * r + 0.24178072517745061177) * r
                + 1.27045825245236838258) * r + 3.64784832476320460504) * r + 5.7694972214606914055) * r
                + 4.6303378461565452959) * r + 1.42343711074968357734  # fmt: skip
            below = ((((((1.05075007164441684324e-9 * r + 5.475938084995344946e-4) * r + 0.0151986665636164571966) * r
                + 0.14810397642748007459) * r + 0.68976733498510000455) * r + 1.6763848301838038494) * r
                + 2.05319162663775882187) * r + 1.0  # fmt: skip
        else:
            r -= 5.0
            above = ((((((2.01033439929228813265e-7 * r + 2.71155556874348757815e-5) * r + 0.0012426609473880784386) * r
                + 0.026532189526576123093) * r + 0.29656057182850489123) * r + 1.7848265399172913358) * r
                + 5.4637849111641143699) * r + 6.6579046435011037772  # fmt: skip
            below = ((((((2.04426310338993978564e-15 * r + 1.4215117583164458887e-7) * r + 1.8463183175100546818e-5) * r
                + 7.868691311456132591e-4) * r + 0.0148753612908506148525) * r + 0.13692988092273580531) * r
                + 0.59983220655588793769) * r + 1.0  # fmt: skip
        p[k] = above / below if q > 0.0 else -above / below
