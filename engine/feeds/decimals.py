"""Decimals: venues write prices and quantities as decimal text; here they become whole numbers without loss."""

from __future__ import annotations

import math
from collections.abc import Collection
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final, NamedTuple

from engine.events import MAX_QTY_LOTS

DECIMALS: Final = 18  # no venue writes more
UNIT: Final = 10**DECIMALS
MAX_CHARACTERS: Final = 64


@lru_cache(maxsize=1 << 16)
def units(text: str) -> int:
    """A decimal number that is not negative, in units of 1e-18.

    ValueError where the text is none or has more decimals; TypeError where it is no text: a JSON number
    has been through binary fractions.
    """
    whole, point, fraction = text.partition(".")
    if whole.isdecimal() and whole.isascii() and len(text) <= MAX_CHARACTERS:
        if not point:
            return int(whole) * UNIT
        if len(fraction) <= DECIMALS and fraction.isdecimal() and fraction.isascii():
            return int(whole + fraction.ljust(DECIMALS, "0"))
    return _rare(text)


def _rare(text: str) -> int:
    """Numbers with an exponent or with zeros beyond the last decimal that counts."""
    try:
        number = Decimal(text) if len(text) <= MAX_CHARACTERS and text.isascii() and "_" not in text else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not (number.is_finite() and not number.is_signed() and number.adjusted() < MAX_CHARACTERS):
        raise ValueError(f"expected a decimal number not below 0, found {text[:MAX_CHARACTERS]!r}")
    scaled = number.scaleb(DECIMALS)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"expected at most {DECIMALS} decimals, found {text[:MAX_CHARACTERS]!r}")
    return int(scaled)


def price_units(text: str) -> int:
    """`units` of something that must be above 0."""
    price = units(text)
    if price == 0:
        raise ValueError("expected a price above 0")
    return price


def decimals_of(text: str) -> int:
    """How many decimals a number is written with, trailing zeros included."""
    return len(text.partition(".")[2])


class Increments(NamedTuple):
    """One tick and one lot in units of 1e-18."""

    tick: int
    lot: int

    def ticks(self, price: int) -> int:
        """A price in ticks; ValueError where it lies off the grid."""
        ticks, rest = divmod(price, self.tick)
        if rest:
            raise ValueError(f"a price of {price / UNIT} is no multiple of {self.tick / UNIT}")
        return ticks

    def lots(self, qty: int) -> int:
        """A quantity in lots, rounded; what is not 0 stays at least one lot."""
        lots = (2 * qty + self.lot) // (2 * self.lot)
        return max(lots, 1) if qty else 0


def increments_of(prices: Collection[int], quantities: Collection[int]) -> Increments:
    """The largest tick and lot that all these values are whole multiples of.

    A lot so fine that the largest quantity does not fit the book's range is made coarser by powers of ten.
    """
    tick, lot = math.gcd(*prices) or UNIT, math.gcd(*quantities) or UNIT
    while max(quantities, default=0) // lot > MAX_QTY_LOTS:
        lot *= 10
    return Increments(tick, lot)
