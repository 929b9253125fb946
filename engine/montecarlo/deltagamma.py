"""Delta-gamma: a book's loss as a quadratic in Gaussian moves, whose distribution is known.

With log returns r the loss is about c - a . r - r' B r: a the delta values S delta, B the diagonal of
(S^2 gamma + S delta) / 2, as S (e^r - 1) = S (r + r^2 / 2 + ...), c what time alone costs. Its
quantile and shortfall, by inversion of the characteristic function (Imhof 1961), correct those of a
simulation (control variate); its exponential twist draws scenarios from the tail (Glasserman, Heidelberger &
Shahabuddin, "Variance reduction techniques for estimating value-at-risk", 2000).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from engine.montecarlo.book import Book
from metrics.frame import FloatArray

FREQUENCIES: Final = 2048  # of the inversion; a Gaussian needs 60, a single square all
REACH: Final = 40.0  # standard deviations that one period of the inversion spans
SHORTFALL_POINTS: Final = 64


@dataclass(frozen=True, eq=False)
class DeltaGamma:
    """loss = constant - first . r - second . r^2, USD; r = loading z. linear and square (n,): the same in
    independent normals x = rotation' z, loss = constant + linear . x + square . x^2."""

    constant: float
    first: FloatArray
    second: FloatArray
    linear: FloatArray
    square: FloatArray
    rotation: FloatArray

    @classmethod
    def of(cls, book: Book, loading: FloatArray, horizon_years: float) -> DeltaGamma:
        """Taylor's expansion of a book at the horizon and today's spots; loading (n, n) factor of the log returns."""
        delta, gamma = book.greeks(horizon_years)
        n = len(book.symbols)
        first = np.bincount(book.asset, delta, n) * book.spot
        second = 0.5 * (np.bincount(book.asset, gamma, n) * book.spot**2 + first)
        square, rotation = np.linalg.eigh(-(loading.T * second) @ loading)
        return cls(
            constant=float(book.values().sum() - book.values(horizon_years).sum()), first=first, second=second,
            linear=-(rotation.T @ (loading.T @ first)), square=square, rotation=rotation,
        )  # fmt: skip

    @property
    def mean(self) -> float:
        return self.constant + float(self.square.sum())

    @property
    def deviation(self) -> float:
        return math.sqrt(float(self.linear @ self.linear) + 2.0 * float(self.square @ self.square))

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Frequencies, sizes (over the frequency's number) and angles of the characteristic function, where it is not 0."""
        number = np.arange(FREQUENCIES) + 0.5
        u = number * (2.0 * math.pi / (REACH * self.deviation))
        turned = 1.0 - 2.0j * np.outer(u, self.square)
        exponent = -0.5 * (np.square(np.outer(u, self.linear)) / turned + np.log(turned)).sum(axis=1)
        size = np.exp(exponent.real) / number
        keep = size > 1e-18
        return u[keep], size[keep], exponent.imag[keep]

    def tail_probability(self, loss: FloatArray) -> FloatArray:
        """P(loss of the quadratic > given losses), float64 of any length."""
        u, size, angle = self._spectrum
        waves = np.sin(angle - np.outer(np.asarray(loss) - self.constant, u))
        return np.asarray(0.5 + (waves @ size) / math.pi, dtype=np.float64)

    def value_at_risk(self, confidence: float) -> float:
        """Quantile of the quadratic's loss; where nothing moves it is the constant."""
        if self.deviation <= 0.0:
            return self.constant
        low, high = self.mean - 10.0 * self.deviation, self.mean + 10.0 * self.deviation
        for _ in range(6):  # each round looks at 33 points at once
            at = np.linspace(low, high, 33)
            above = int(np.count_nonzero(self.tail_probability(at) > 1.0 - confidence))
            low, high = float(at[max(above - 1, 0)]), float(at[min(above, 32)])
        return 0.5 * (low + high)

    def expected_shortfall(self, confidence: float) -> float:
        """Mean of the quadratic's loss beyond its quantile, by the integral of its tail."""
        quantile = self.value_at_risk(confidence)
        if self.deviation <= 0.0:
            return quantile
        nodes, weights = np.polynomial.legendre.leggauss(SHORTFALL_POINTS)
        reach = 0.5 * (self.mean + 12.0 * self.deviation - quantile)
        tail = self.tail_probability(quantile + reach * (nodes + 1.0))
        return quantile + reach * float(weights @ tail) / (1.0 - confidence)

    def delta_first(self, loading: FloatArray) -> FloatArray:
        """Another factor (n, n) of the same covariance, whose first normal alone moves the linear part of the loss."""
        direction = loading.T @ self.first
        size = float(np.linalg.norm(direction))
        if size <= 0.0:
            return loading
        mirror = direction / size
        mirror[0] -= 1.0  # Householder's reflection that exchanges the direction and the first axis
        height = float(mirror @ mirror)
        return loading if height < 1e-30 else loading - np.outer(loading @ mirror, mirror) * (2.0 / height)

    def twist(self, loss: float) -> float:
        """The theta whose twisted distribution has this mean loss; 0, no twist, where that is no tail (a flat book)."""
        if loss <= self.mean or self.deviation <= 0.0:
            return 0.0
        most = 1.0 / (2.0 * self.square.max()) if self.square.max() > 0.0 else math.inf
        low, high = 0.0, min(0.999 * most, 100.0 / self.deviation)
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self._twisted_mean(middle) < loss else (low, middle)
        return low

    def _twisted_mean(self, theta: float) -> float:
        spread = 1.0 / (1.0 - 2.0 * theta * self.square)
        mean = theta * self.linear * spread
        return self.constant + float(self.linear @ mean + self.square @ (mean**2 + spread))

    def twisted(self, theta: float, loading: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Shift (n,) and factor (n, n) that make twisted log returns of normals, and psi: a scenario weighs
        exp(psi - theta (loss - constant)), loss the quadratic's."""
        spread = 1.0 / (1.0 - 2.0 * theta * self.square)
        turned = loading @ self.rotation
        psi = 0.5 * float(((theta * self.linear) ** 2 * spread).sum() + np.log(spread).sum())
        return turned @ (theta * self.linear * spread), turned * np.sqrt(spread), psi
