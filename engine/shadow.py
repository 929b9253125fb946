"""Shadow book: what the synthetic market believes is resting, so that it can withdraw and trade it.

Per instrument i and side s (0 bid, 1 ask) a list sorted by priority with the best order at the end:
price, qty and order int64 (n, 2, capacity), count int64 (n, 2). Taking the best is a decrement,
and insertions near the touch move few entries.
"""

from __future__ import annotations

from engine.jit import inline_kernel

CAPACITY = 128


@inline_kernel
def best(price, count, i, s) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Price of the best order of a side that has one."""
    return price[i, s, count[i, s] - 1]


@inline_kernel
def insert(price, qty, order, count, i, s, at, size, key) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Let an order join the end of its price's queue; the caller keeps count below CAPACITY."""
    sign = 1 - 2 * s
    k = count[i, s]
    while k > 0 and sign * price[i, s, k - 1] >= sign * at:
        price[i, s, k], qty[i, s, k], order[i, s, k] = price[i, s, k - 1], qty[i, s, k - 1], order[i, s, k - 1]
        k -= 1
    price[i, s, k], qty[i, s, k], order[i, s, k] = at, size, key
    count[i, s] += 1


@inline_kernel
def remove(price, qty, order, count, i, s, position) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Take out the order at a position."""
    for k in range(position, count[i, s] - 1):
        price[i, s, k], qty[i, s, k], order[i, s, k] = price[i, s, k + 1], qty[i, s, k + 1], order[i, s, k + 1]
    count[i, s] -= 1


@inline_kernel
def nearest(price, count, i, s, distance) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Position of the order whose distance from the touch is closest to `distance`: the youngest of its price."""
    touch = best(price, count, i, s)
    found, smallest = 0, 1 << 60
    for k in range(count[i, s] - 1, -1, -1):
        off = abs(abs(touch - price[i, s, k]) - distance)
        if off > smallest:
            break  # distances only grow from here
        found, smallest = k, off
    return found
