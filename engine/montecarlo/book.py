"""Book: positions in stocks and European options, checked once and laid out in columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from engine.montecarlo.closedform import black_scholes, black_scholes_greeks
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray

SIGNS: Final = {"stock": 0.0, "call": 1.0, "put": -1.0}


@dataclass(frozen=True, kw_only=True)
class Position:
    """One line of a book. quantity in units of the underlying (lots times multiplier), signed.

    strike, years to expiry, volatility, rate and dividend_yield (per year, continuous) speak of
    options. One that expired (years of 0 or less) is worth what it pays at the spot.
    """

    symbol: str
    quantity: float
    kind: str = "stock"
    strike: float = math.nan
    years: float = math.nan
    volatility: float = math.nan
    rate: float = 0.0
    dividend_yield: float = 0.0


@dataclass(frozen=True, eq=False)
class Book:
    """p positions on n symbols. spot float64 (n,), USD; the other columns (p,), in the order of `positions`.

    sign: 0 for a stock, 1 for a call, -1 for a put.
    """

    positions: tuple[Position, ...]
    symbols: tuple[str, ...]
    spot: FloatArray
    asset: IntArray
    sign: FloatArray
    quantity: FloatArray
    strike: FloatArray
    years: FloatArray
    volatility: FloatArray
    rate: FloatArray
    dividend_yield: FloatArray

    @classmethod
    def of(cls, positions: Sequence[Position], symbols: Sequence[str], spot: FloatArray) -> Book:
        """Check positions against the symbols that have a price. DeskvigilError names the line and the field at fault."""
        spots = np.array(spot, dtype=np.float64)
        if spots.shape != (len(symbols),) or len(set(symbols)) != len(symbols) or not symbols:
            raise DeskvigilError(
                f"a book needs one spot for each of its different symbols, not {spots.shape} for {list(symbols)}"
            )
        for symbol, price in zip(symbols, spots.tolist(), strict=True):
            if not (math.isfinite(price) and price > 0.0):
                raise DeskvigilError(f"the spot of {symbol} must be a number above 0, it is {price}")
        for number, position in enumerate(positions):
            _check(number, position, symbols)
        place = {symbol: i for i, symbol in enumerate(symbols)}

        def column(name: str) -> FloatArray:
            return np.array([getattr(position, name) for position in positions], dtype=np.float64)

        return cls(
            positions=tuple(positions), symbols=tuple(symbols), spot=spots,
            asset=np.array([place[position.symbol] for position in positions], dtype=np.int64),
            sign=np.array([SIGNS[position.kind] for position in positions]),
            quantity=column("quantity"), strike=column("strike"), years=column("years"),
            volatility=column("volatility"), rate=column("rate"), dividend_yield=column("dividend_yield"),
        )  # fmt: skip

    def values(self, elapsed_years: float = 0.0, growth: FloatArray | None = None) -> FloatArray:
        """Value of each position in USD, float64 (p,), after some time and with spots times growth (n,)."""
        spots = (self.spot if growth is None else self.spot * growth)[self.asset]
        left = np.where(self.sign == 0.0, 1.0, self.years) - elapsed_years
        option = black_scholes(
            self.sign, spots, self._of_options("strike"), left, self._of_options("volatility"),
            self.rate, self.dividend_yield,
        )  # fmt: skip
        return np.asarray(self.quantity * np.where(self.sign == 0.0, spots, option), dtype=np.float64)

    def greeks(self, elapsed_years: float = 0.0) -> tuple[FloatArray, FloatArray]:
        """Delta and gamma of each position by its own spot, times its quantity: float64 (p,) each."""
        left = np.where(self.sign == 0.0, 1.0, self.years) - elapsed_years
        delta, gamma = black_scholes_greeks(
            self.sign, self.spot[self.asset], self._of_options("strike"), left, self._of_options("volatility"),
            self.rate, self.dividend_yield,
        )  # fmt: skip
        stock = self.sign == 0.0
        return self.quantity * np.where(stock, 1.0, delta), self.quantity * np.where(stock, 0.0, gamma)

    def _of_options(self, name: str) -> FloatArray:
        """A column with 1 where a stock has nothing, so that formulas over all positions stay finite."""
        values: FloatArray = getattr(self, name)
        return np.where(self.sign == 0.0, 1.0, values)


def _check(number: int, position: Position, symbols: Sequence[str]) -> None:
    where = f"position {number} ({position.kind} on {position.symbol})"
    if position.kind not in SIGNS:
        raise DeskvigilError(f"{where}: the kind must be one of {', '.join(SIGNS)}")
    if position.symbol not in symbols:
        raise DeskvigilError(f"{where}: nothing is known of {position.symbol}")
    skipped = ("strike", "years", "volatility") if position.kind == "stock" else ()
    for field in fields(position):
        value = getattr(position, field.name)
        if isinstance(value, str) or field.name in skipped:
            continue
        if not math.isfinite(value):
            raise DeskvigilError(f"{where}: {field.name} must be a finite number, it is {value}")
    if position.kind != "stock":
        if position.strike <= 0.0:
            raise DeskvigilError(f"{where}: the strike must be above 0, it is {position.strike}")
        if position.volatility < 0.0:
            raise DeskvigilError(f"{where}: the volatility must not be negative, it is {position.volatility}")
