"""Elementary functions that vectorise: exponential, logarithm, circle and normal tail, in both precisions.

The library's exp, log and erf stay scalar inside a loop. These are polynomials without a branch,
so that LLVM runs a whole vector of them at once. Kernels call the names without a precision: the
argument's type decides at compile time which one it is. Every step that rounds is written down
(`fma` rounds once), so a value has the same bits in a vector, alone, and on other hardware.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic, overload

from engine.jit import inline_kernel

Single: TypeAlias = Any  # a float32 inside kernels; NumPy's stubs widen it at each step

LOG2_E: Final = 1.4426950408889634
LN2_HIGH: Final = 6.93147180369123816490e-01  # fdlibm's split of ln 2: the high part times an exponent is exact
LN2_LOW: Final = 1.90821492927058770002e-10
ROUND: Final = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to a whole number, which stands in the lowest bits
ROUND_BITS: Final = np.int64(0x4338000000000000)
EXPONENT_BIAS: Final = np.int64(1023)
MANTISSA_BITS: Final = np.int64(52)
EXP_LIMIT: Final = 708.0

LOG2_E_SINGLE: Final = np.float32(1.44269504)
LN2_HIGH_SINGLE: Final = np.float32(0.693359375)
LN2_LOW_SINGLE: Final = np.float32(-2.12194440e-4)
ROUND_SINGLE: Final = np.float32(12582912.0)
ROUND_BITS_SINGLE: Final = np.int32(0x4B400000)
EXPONENT_BIAS_SINGLE: Final = np.int32(127)
MANTISSA_BITS_SINGLE: Final = np.int32(23)
MANTISSA_SINGLE: Final = np.int32(0x007FFFFF)
ONE_BITS_SINGLE: Final = np.int32(0x3F800000)
EXP_LIMIT_SINGLE: Final = np.float32(87.0)
HALF_SINGLE: Final = np.float32(0.5)
ONE_SINGLE: Final = np.float32(1.0)


def _fma(_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Typing and code of `fma`, as Numba's intrinsics want them."""

    def build(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: list[Any]) -> Any:
        return builder.fma(*arguments)

    return (a(a, a, a), build) if a == b == c and isinstance(a, types.Float) else None


# fma(a, b, c): a * b + c of three floats of one type, rounded once.
fma = cast(Callable[[Any, Any, Any], Any], intrinsic(_fma))


def by_precision(double: Callable[..., Any], single: Callable[..., Any]) -> Callable[..., Any]:
    """One name for two kernels, to be called inside kernels: the first argument, a number or an array, says which."""

    def chosen(*arguments: Any) -> Any:
        raise NotImplementedError("only kernels can call this")

    kernels = {types.float64: double, types.float32: single}

    def choose(first: Any) -> Callable[..., Any] | None:
        one = kernels.get(getattr(first, "dtype", first))
        return one and (lambda *arguments: one(*arguments))

    # A lambda, as Numba compares signatures with their annotations.
    overload(chosen, jit_options={"forceinline": True, "error_model": "numpy"})(lambda *arguments: choose(arguments[0]))
    return chosen


@inline_kernel
def _exp_parts(x: float) -> tuple[float, float, Any]:
    """Even and odd part of e**r, and k, where x = k ln 2 + r with |r| <= ln 2 / 2.

    Taylor's series to r**13 leaves 4e-18; its two halves are shorter chains, and give e**-r as well.
    """
    shifted = fma(x, LOG2_E, ROUND)
    k = shifted - ROUND
    r = fma(k, -LN2_LOW, fma(k, -LN2_HIGH, x))
    z = r * r
    even = fma(z, fma(z, fma(z, fma(z, fma(z, 1 / 479001600, 1 / 3628800), 1 / 40320), 1 / 720), 1 / 24), 0.5)
    odd = fma(z, fma(z, fma(z, fma(z, fma(z, 1 / 6227020800, 1 / 39916800), 1 / 362880), 1 / 5040), 1 / 120), 1 / 6)
    return z * even, fma(z * r, odd, r), np.float64(shifted).view(np.int64) - ROUND_BITS


@inline_kernel
def _power_of_two(k: Any) -> float:
    return np.int64((k + EXPONENT_BIAS) << MANTISSA_BITS).view(np.float64)


@inline_kernel
def _bounded_double(x: float) -> float:
    even, odd, k = _exp_parts(x)
    return (1.0 + (odd + even)) * _power_of_two(k)


@inline_kernel
def _exp_double(x: float) -> float:
    return _bounded_double(min(max(x, -EXP_LIMIT), EXP_LIMIT))


@inline_kernel
def _exp_pair_double(x: float) -> tuple[float, float]:
    even, odd, k = _exp_parts(min(max(x, -EXP_LIMIT), EXP_LIMIT))
    return (1.0 + (even + odd)) * _power_of_two(k), (1.0 + (even - odd)) * _power_of_two(-k)


@inline_kernel
def _exp_parts_single(x: Single) -> tuple[Single, Single, Any]:
    """The same in float32, to r**8."""
    shifted = fma(x, LOG2_E_SINGLE, ROUND_SINGLE)
    k = shifted - ROUND_SINGLE
    r = fma(k, -LN2_LOW_SINGLE, fma(k, -LN2_HIGH_SINGLE, x))
    z = r * r
    even = fma(z, fma(z, fma(z, np.float32(1 / 40320), np.float32(1 / 720)), np.float32(1 / 24)), HALF_SINGLE)
    odd = fma(z, fma(z, np.float32(1 / 5040), np.float32(1 / 120)), np.float32(1 / 6))
    return z * even, fma(z * r, odd, r), np.float32(shifted).view(np.int32) - ROUND_BITS_SINGLE


@inline_kernel
def _power_of_two_single(k: Any) -> Single:
    return np.int32(np.int32(k + EXPONENT_BIAS_SINGLE) << MANTISSA_BITS_SINGLE).view(np.float32)


@inline_kernel
def _bounded_single(x: Single) -> Single:
    even, odd, k = _exp_parts_single(x)
    return (ONE_SINGLE + (odd + even)) * _power_of_two_single(k)


@inline_kernel
def _exp_single(x: Single) -> Single:
    return _bounded_single(min(max(x, -EXP_LIMIT_SINGLE), EXP_LIMIT_SINGLE))


@inline_kernel
def _exp_pair_single(x: Single) -> tuple[Single, Single]:
    even, odd, k = _exp_parts_single(min(max(x, -EXP_LIMIT_SINGLE), EXP_LIMIT_SINGLE))
    return (ONE_SINGLE + (even + odd)) * _power_of_two_single(k), (ONE_SINGLE + (even - odd)) * _power_of_two_single(-k)


# exp(x): e**x to about one unit in the last place, x held within the range of normal numbers.
exp = by_precision(_exp_double, _exp_single)
# bounded_exp(x): the same for an x known to lie within [-87, 87].
bounded_exp = by_precision(_bounded_double, _bounded_single)
# exp_pair(x): e**x and e**-x for little more than the price of one.
exp_pair = by_precision(_exp_pair_double, _exp_pair_single)


@inline_kernel
def _tail_double(x: float) -> tuple[float, float]:
    """N(-x) to 5e-15 absolute: a rational function of our own, fitted to 40-digit values weighted by exp(-x * x / 2)."""
    p = fma(x, fma(x, 0.000437421844293617574, 0.0069013887841545718), 0.0488296017016097353)
    p = fma(x, fma(x, fma(x, p, 0.194487223525203473), 0.439601750659569949), 0.499999999999994505)
    q = fma(x, fma(x, 0.00109656818145791053, 0.0172954362321617909), 0.123555426806866549)
    q = fma(x, fma(x, fma(x, fma(x, q, 0.504158537709104619), 1.22709711898422096), 1.67708806212005079), 1.0)
    return p, q


@inline_kernel
def _tail_single(x: Single) -> tuple[Single, Single]:
    """The same with fewer terms: 3e-10 absolute."""
    p = fma(x, np.float32(0.00993287703216416207), np.float32(0.0864484805702310018))
    p = fma(x, fma(x, p, np.float32(0.297749091728898374)), np.float32(0.499999999726278686))
    q = fma(
        x, fma(x, np.float32(0.0249793879685891974), np.float32(0.215194970714149771)), np.float32(0.784656451464856367)
    )
    q = fma(x, fma(x, q, np.float32(1.39338268823334668)), ONE_SINGLE)
    return p, q


# normal_tail(x): p and q with N(-x) = exp(-x * x / 2) * p / q for x >= 0. The division is the caller's, who may share it.
normal_tail = by_precision(_tail_double, _tail_single)


@inline_kernel
def log_single(x: Single) -> Single:
    """Natural logarithm of a positive normal float32, by the series of artanh((m - 1) / (m + 1))."""
    bits = np.float32(x).view(np.int32)
    exponent = np.float32((bits >> MANTISSA_BITS_SINGLE) - EXPONENT_BIAS_SINGLE)
    m = np.int32((bits & MANTISSA_SINGLE) | ONE_BITS_SINGLE).view(np.float32)
    high = m > np.float32(1.41421356)
    m = HALF_SINGLE * m if high else m
    exponent = exponent + ONE_SINGLE if high else exponent
    s = (m - ONE_SINGLE) / (m + ONE_SINGLE)
    z = s * s
    series = fma(z, fma(z, fma(z, np.float32(2 / 9), np.float32(2 / 7)), np.float32(2 / 5)), np.float32(2 / 3))
    return fma(exponent, LN2_HIGH_SINGLE, fma(exponent, LN2_LOW_SINGLE, fma(s * z, series, s + s)))


@inline_kernel
def cos_sin_turn_single(u: Single) -> tuple[Single, Single]:
    """Cosine and sine of 2 pi u for u in [0, 1], float32: quarter turns taken off exactly, Taylor's series for the rest."""
    quarter = np.int32(fma(np.float32(4.0), u, HALF_SINGLE))
    x = np.float32(6.28318531) * fma(np.float32(-0.25), np.float32(quarter), u)
    z = x * x
    sine = fma(
        z, fma(z, fma(z, np.float32(1 / 362880), np.float32(-1 / 5040)), np.float32(1 / 120)), np.float32(-1 / 6)
    )
    sine = fma(x * z, sine, x)
    cosine = fma(
        z, fma(z, fma(z, np.float32(-1 / 3628800), np.float32(1 / 40320)), np.float32(-1 / 720)), np.float32(1 / 24)
    )
    cosine = fma(z, fma(z, cosine, -HALF_SINGLE), ONE_SINGLE)
    odd = (quarter & np.int32(1)) != 0
    first = sine if odd else cosine
    second = cosine if odd else sine
    first = -first if ((quarter + np.int32(1)) & np.int32(2)) != 0 else first
    second = -second if (quarter & np.int32(2)) != 0 else second
    return first, second
