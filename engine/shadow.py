"""Shadow book: what the synthetic market believes is resting, so that it can withdraw and trade it.

Per instrument i and side s (0 bid, 1 ask) a list sorted by priority with the best order at the end:
price, qty and order int64 (n, 2, CAPACITY), count int64 (n, 2). Taking the best is a decrement,
and insertions near the touch move few entries.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from engine.jit import inline_kernel
from metrics.frame import IntArray

CAPACITY: Final = 128
Shadow: TypeAlias = tuple[IntArray, IntArray, IntArray, IntArray]  # price, qty, order, count


@inline_kernel
def best(price: IntArray, count: IntArray, i: int, s: int) -> int:
    """Price of the best order of a side that has one."""
    return int(price[i, s, count[i, s] - 1])


@inline_kernel
def shown(shadow: Shadow, i: int, s: int) -> int:
    """Quantity at the best price of a side."""
    price, qty, _, count = shadow
    total, k = 0, count[i, s] - 1
    while k >= 0 and price[i, s, k] == price[i, s, count[i, s] - 1]:
        total += qty[i, s, k]
        k -= 1
    return total


@inline_kernel
def insert(shadow: Shadow, i: int, s: int, at: int, size: int, key: int) -> None:
    """Let an order join the end of its price's queue; the caller keeps count below CAPACITY."""
    price, qty, order, count = shadow
    sign = 1 - 2 * s
    k = count[i, s]
    while k > 0 and sign * price[i, s, k - 1] >= sign * at:
        price[i, s, k], qty[i, s, k], order[i, s, k] = price[i, s, k - 1], qty[i, s, k - 1], order[i, s, k - 1]
        k -= 1
    price[i, s, k], qty[i, s, k], order[i, s, k] = at, size, key
    count[i, s] += 1


@inline_kernel
def remove(shadow: Shadow, i: int, s: int, position: int) -> None:
    """Take out the order at a position."""
    price, qty, order, count = shadow
    for k in range(position, count[i, s] - 1):
        price[i, s, k], qty[i, s, k], order[i, s, k] = price[i, s, k + 1], qty[i, s, k + 1], order[i, s, k + 1]
    count[i, s] -= 1


@inline_kernel
def nearest(shadow: Shadow, i: int, s: int, distance: int) -> int:
    """Position of the order whose distance from the touch is closest to `distance`: the youngest of its price."""
    price, _, _, count = shadow
    touch = best(price, count, i, s)
    found, smallest = 0, 1 << 60
    for k in range(count[i, s] - 1, -1, -1):
        off = abs(abs(touch - price[i, s, k]) - distance)
        if off > smallest:
            break  # distances only grow from here
        found, smallest = k, off
    return found
