"""SortedSide: one side of a venue's book as its messages give it, for checks that need the best levels in order."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Generic, TypeVar

T = TypeVar("T")


class SortedSide(Generic[T]):
    """Levels by price, best first; side +1: bids, -1: asks. What a level holds is the caller's."""

    __slots__ = ("_keys", "_levels", "_side")

    def __init__(self, side: int) -> None:
        self._side = side
        self._levels: dict[int, T] = {}
        self._keys: list[int] = []  # -side * price, rising: the best comes first

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, price: int, default: T) -> T:
        """What lies at a price."""
        return self._levels.get(price, default)

    def set(self, price: int, level: T) -> None:
        """What lies at a price is now this."""
        if price not in self._levels:
            insort(self._keys, -self._side * price)
        self._levels[price] = level

    def remove(self, price: int) -> bool:
        """Remove a level; False where there was none."""
        if self._levels.pop(price, None) is None:
            return False
        del self._keys[bisect_left(self._keys, -self._side * price)]
        return True

    def replace(self, levels: dict[int, T]) -> None:
        """All levels at once."""
        self._levels = dict(levels)
        self._keys = sorted(-self._side * price for price in levels)

    def best(self) -> int:
        """The best price, 0 where there is none."""
        return -self._side * self._keys[0] if self._keys else 0

    def top(self, count: int) -> list[tuple[int, T]]:
        """The best levels, at most `count`, as (price, level), best first."""
        return [(price, self._levels[price]) for price in (-self._side * key for key in self._keys[:count])]

    def cut(self, depth: int) -> list[int]:
        """Remove what lies beyond the `depth` best levels; returns the prices."""
        beyond = [-self._side * key for key in self._keys[depth:]]
        del self._keys[depth:]
        for price in beyond:
            del self._levels[price]
        return beyond
