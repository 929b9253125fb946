"""Closed forms of option prices: what the simulations start from, are corrected by, and are tested against.

All vectorised over NumPy arrays, float64, and meant for parameters, not for scenarios. Times are in
years; rates, yields and volatilities are per year and continuous.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from metrics.errors import DeskvigilError
from metrics.frame import FloatArray

Numbers: TypeAlias = FloatArray | float

_erfc = np.frompyfunc(math.erfc, 1, 1)


def normal_cdf(x: Numbers) -> FloatArray:
    """Distribution function of the standard normal."""
    cdf: FloatArray = 0.5 * np.asarray(_erfc(-np.asarray(x) / math.sqrt(2.0)), dtype=np.float64)
    return cdf


def normal_density(x: Numbers) -> FloatArray:
    density: FloatArray = np.exp(-0.5 * np.square(x)) / math.sqrt(2.0 * math.pi)
    return density


def black_scholes(
    sign: Numbers, spot: Numbers, strike: Numbers, years: Numbers, volatility: Numbers, rate: Numbers = 0.0,
    dividend_yield: Numbers = 0.0,
) -> FloatArray:  # fmt: skip
    """Value of European options: sign 1 a call, -1 a put (Black & Scholes 1973, Merton's yield).

    years of 0 or less: what it would pay now. No volatility: what it will pay, discounted.
    """
    left = np.maximum(years, 0.0)
    forward = np.multiply(spot, np.exp(-np.multiply(dividend_yield, left)))
    cash = np.multiply(strike, np.exp(-np.multiply(rate, left)))
    deviation = np.multiply(volatility, np.sqrt(left))
    certain = deviation <= 0.0
    safe = np.where(certain, 1.0, deviation)
    d1 = np.log(forward / cash) / safe + 0.5 * safe
    value = sign * (forward * normal_cdf(sign * d1) - cash * normal_cdf(sign * (d1 - safe)))
    return np.asarray(np.where(certain, np.maximum(sign * (forward - cash), 0.0), value), dtype=np.float64)


def black_scholes_greeks(
    sign: Numbers, spot: Numbers, strike: Numbers, years: Numbers, volatility: Numbers, rate: Numbers = 0.0,
    dividend_yield: Numbers = 0.0,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """First and second derivative of `black_scholes` by the spot; where the value has a kink, 0 is its second."""
    left = np.maximum(years, 0.0)
    carry = np.exp(-np.multiply(dividend_yield, left))
    cash = np.multiply(strike, np.exp(-np.multiply(rate, left)))
    deviation = np.multiply(volatility, np.sqrt(left))
    certain = deviation <= 0.0
    safe = np.where(certain, 1.0, deviation)
    d1 = np.log(np.multiply(spot, carry) / cash) / safe + 0.5 * safe
    delta = np.where(certain, sign * carry * (sign * (spot * carry - cash) > 0.0), sign * carry * normal_cdf(sign * d1))
    gamma = np.where(certain, 0.0, carry * normal_density(d1) / (np.multiply(spot, safe)))
    return np.asarray(delta, dtype=np.float64), np.asarray(gamma, dtype=np.float64)


def geometric_asian(
    sign: float,
    spot: float,
    strike: float,
    years: float,
    volatility: float,
    rate: float,
    dividend_yield: float,
    steps: int,
) -> float:
    """Value of an option on the geometric mean of the spots at years k / steps, k = 1 .. steps (Kemna & Vorst 1990)."""
    drift = rate - dividend_yield - 0.5 * volatility**2
    mean = math.log(spot) + drift * years * (steps + 1) / (2 * steps)
    variance = volatility**2 * years * (steps + 1) * (2 * steps + 1) / (6 * steps**2)
    forward = math.exp(mean + 0.5 * variance)
    # An option on a lognormal with this forward: Black's formula, discounted over the whole time.
    return math.exp(-rate * years) * float(black_scholes(sign, forward, strike, 1.0, math.sqrt(variance)))


def down_and_out_call(
    spot: float, strike: float, barrier: float, years: float, volatility: float, rate: float, dividend_yield: float
) -> float:
    """Value of a call that dies when the spot, watched all the time, touches the barrier below (Reiner & Rubinstein 1991).

    Without rebate; for a barrier of at most the strike. DeskvigilError otherwise.
    """
    if barrier > strike:
        raise DeskvigilError(f"the closed form is for a barrier of at most the strike, not {barrier} over {strike}")
    if spot <= barrier:
        return 0.0
    vanilla = float(black_scholes(1.0, spot, strike, years, volatility, rate, dividend_yield))
    # The knock-in part is a call on the image of the spot behind the barrier, weighted.
    power = 2.0 * (rate - dividend_yield) / volatility**2 - 1.0
    image = float(black_scholes(1.0, barrier**2 / spot, strike, years, volatility, rate, dividend_yield))
    return vanilla - float((barrier / spot) ** power) * image
