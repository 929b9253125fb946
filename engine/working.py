"""Working quantity: what of our own rests in the book, and the gates' exposures that follow it."""

from __future__ import annotations

from engine import account as acc
from engine.deskarrays import ID, LEFT, PLACES, SIDE, Desk
from engine.jit import inline_kernel
from engine.pretrade import see_orders


@inline_kernel
def working_sides(desk: Desk, i: int) -> tuple[int, int]:
    """Own quantity in the book of an instrument: lots that buy, lots that sell."""
    buying, selling = int(desk.working[i, 0]), int(desk.working[i, 1])
    for place in range(PLACES):
        lots = desk.own[i, place, LEFT] if desk.own[i, place, ID] != 0 else 0
        buys = desk.own[i, place, SIDE] > 0
        buying += lots if buys else 0
        selling += 0 if buys else lots
    return buying, selling


@inline_kernel
def working_lots(desk: Desk, i: int, side: int) -> int:
    """Own quantity in the book on one side of an instrument."""
    buying, selling = working_sides(desk, i)
    return buying if side > 0 else selling


@inline_kernel
def follow_orders(desk: Desk, i: int) -> None:
    """Let the gates' exposures follow what has just become of an own order: a cancel frees its room at once."""
    mid = desk.account[i, acc.MARK]
    if mid > 0.0:
        buying, selling = working_sides(desk, i)
        see_orders(desk.gates, i, mid, desk.account[i, acc.POSITION], buying, selling, desk.account[i, acc.USD])
