"""Scrambled Sobol points, and standard normals of them: evenly spread where random points clump.

A Sobol sequence needs one primitive polynomial over GF(2) and some free odd numbers for each dimension. The
polynomials are found here by their definition; the free numbers are drawn by Philox and the best of
some draws is kept, by how evenly the dimension pairs with the ones before it. No published table of direction
numbers is used, so points differ from those of other libraries; that each dimension is a permutation
of equal cells is tested. Scrambling (Matousek 1998: a random lower triangular matrix, then a random
shift) makes every point uniform, so that means are unbiased and repeats measure the error.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from engine.montecarlo.normals import normal_quantile
from engine.montecarlo.philox import WordArray, philox_blocks
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray

BITS: Final = 32
MOST_DIMENSIONS: Final = 256
MOST_POINTS: Final = 1 << 24
CANDIDATES: Final = 8
PAIRED: Final = 8  # earlier dimensions that a candidate is compared with
PAIR_BITS: Final = 10  # ... by its first 2**10 points
DRAW_KEY: Final = 0x50B01


def _words(seed: int, stream: int, count: int) -> WordArray:
    """uint64 (count,) words of 32 random bits."""
    blocks = -(-count // 4)
    counters = np.zeros((blocks, 4), dtype=np.uint64)
    counters[:, 0] = np.arange(blocks)
    counters[:, 2], counters[:, 3] = stream & 0xFFFFFFFF, stream >> 32
    out = np.zeros((blocks, 4), dtype=np.uint64)
    philox_blocks(counters, np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint64), out)
    return out.reshape(-1)[:count]


@cache
def _prime_factors(number: int) -> tuple[int, ...]:
    found, divisor = [], 2
    while number > 1:
        if number % divisor == 0:
            found.append(divisor)
            while number % divisor == 0:
                number //= divisor
        divisor += 1
    return tuple(found)


def _is_primitive(polynomial: int, degree: int) -> bool:
    """Whether x generates all 2**degree - 1 residues: x to that power is 1, and to none of its parts p is."""

    def power(exponent: int) -> int:
        result, base = 1, 2 if degree > 1 else 2 ^ polynomial
        while exponent:
            if exponent & 1:
                result = multiply(result, base)
            base, exponent = multiply(base, base), exponent >> 1
        return result

    def multiply(a: int, b: int) -> int:
        product = 0
        while b:
            if b & 1:
                product ^= a
            a, b = a << 1, b >> 1
            if a >> degree & 1:
                a ^= polynomial
        return product

    order = (1 << degree) - 1
    return power(order) == 1 and all(power(order // prime) != 1 for prime in _prime_factors(order))


@cache
def _polynomials(count: int) -> tuple[tuple[int, int], ...]:
    """The first primitive polynomials with their degrees, in rising order; bit k is the coefficient of x**k."""
    found: list[tuple[int, int]] = []
    degree = 1
    while len(found) < count:
        for polynomial in range((1 << degree) + 1, 2 << degree, 2):
            if _is_primitive(polynomial, degree):
                found.append((polynomial, degree))
        degree += 1
    return tuple(found[:count])


def _directions(polynomial: int, degree: int, odd: list[int]) -> WordArray:
    """Direction numbers uint64 (BITS,) of 32 bits from the free odd numbers, by Sobol's recurrence."""
    numbers = list(odd)
    for k in range(degree, BITS):
        number = numbers[k - degree] ^ (numbers[k - degree] << degree)
        for j in range(1, degree):
            if polynomial >> (degree - j) & 1:
                number ^= numbers[k - j] << j
        numbers.append(number)
    return np.array([number << (BITS - 1 - k) for k, number in enumerate(numbers[:BITS])], dtype=np.uint64)


def _leading_rows(numbers: WordArray) -> list[int]:
    """Row r: which of the first PAIR_BITS direction numbers have their r-th most significant bit set, as a word."""
    bits = numbers[:PAIR_BITS, None] >> np.arange(BITS - 1, BITS - 1 - PAIR_BITS, -1, dtype=np.uint64) & np.uint64(1)
    return [sum(int(bit) << k for k, bit in enumerate(column)) for column in bits.T]


def _pair_quality(one: list[int], other: list[int]) -> int:
    """Into how many equal boxes, as a power of two, two dimensions are filled evenly however they are cut."""
    for bits in range(1, PAIR_BITS + 1):
        if not all(_independent(one[:split] + other[: bits - split]) for split in range(bits + 1)):
            return bits - 1
    return PAIR_BITS


def _independent(rows: list[int]) -> bool:
    reduced: list[int] = []
    for row in rows:
        left = row
        for kept in reduced:
            left = min(left, left ^ kept)
        if left == 0:
            return False
        reduced.append(left)
    return True


@cache
def directions(dimensions: int) -> WordArray:
    """Direction numbers uint64 (dimensions, BITS); the first dimension is van der Corput's."""
    chosen = np.zeros((dimensions, BITS), dtype=np.uint64)
    chosen[0] = [1 << (BITS - 1 - k) for k in range(BITS)]
    rows = [_leading_rows(chosen[0])]
    for d, (polynomial, degree) in enumerate(_polynomials(dimensions - 1), start=1):
        words = _words(DRAW_KEY, d, CANDIDATES * degree)
        best, best_rows = -1, rows[0]
        for candidate in range(CANDIDATES if degree > 1 else 1):
            drawn = words[candidate * degree : (candidate + 1) * degree]
            odd = [(int(word) % (1 << k)) << 1 | 1 if k else 1 for k, word in enumerate(drawn)]
            numbers = _directions(polynomial, degree, odd)
            leading = _leading_rows(numbers)
            quality = sum(_pair_quality(leading, earlier) for earlier in rows[-PAIRED:])
            if quality > best:
                best, best_rows, chosen[d] = quality, leading, numbers
        rows.append(best_rows)
    return chosen


def sobol_points(points: int, dimensions: int, seed: int, stream: int) -> FloatArray:
    """Scrambled points in (0, 1), float64 (dimensions, points). DeskvigilError beyond 2**24 points or 256 dimensions."""
    if not 1 <= points <= MOST_POINTS or not 1 <= dimensions <= MOST_DIMENSIONS:
        raise DeskvigilError(
            f"Sobol points come in 1 to {MOST_POINTS} and 1 to {MOST_DIMENSIONS} dimensions, not {points} in {dimensions}"
        )
    random = _words(seed, stream, dimensions * (BITS + 1)).reshape(dimensions, BITS + 1)
    plain = directions(dimensions)
    used = max(1, (points - 1).bit_length())
    # Row r of the scrambling matrix: ones on the diagonal, random bits to the left of it (more significant).
    scrambled = np.zeros((dimensions, used), dtype=np.uint64)
    for r in range(BITS):
        shift = np.uint64(BITS - 1 - r)
        above = np.uint64((1 << BITS) - (1 << (BITS - r)))
        mask = (random[:, r] & above) | np.uint64(1) << shift
        scrambled |= (np.bitwise_count(plain[:, :used] & mask[:, None]).astype(np.uint64) & np.uint64(1)) << shift
    out = np.repeat(random[:, BITS:], points, axis=1)
    index = np.arange(points, dtype=np.uint64)
    for k in range(used):
        out ^= scrambled[:, k, None] * (index >> np.uint64(k) & np.uint64(1))
    uniform: FloatArray = (out.astype(np.float64) + 0.5) * 2.0**-BITS
    return uniform


def sobol_normals(points: int, dimensions: int, seed: int, stream: int) -> FloatArray:
    """Standard normals of scrambled Sobol points, float64 (dimensions, points)."""
    uniform = sobol_points(points, dimensions, seed, stream)
    normal_quantile(uniform.reshape(-1))
    return uniform
