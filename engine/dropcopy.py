"""Drop copy: our executions as the venue saw them, written before our own accounting looks at them.

The venue here are the books. Where they have traded with one of our orders, this writer takes the
trade from the books' own report, keeps its own totals, and shares nothing with the account but the
form of a record: two writers that agree have each got it right, or made the same mistake twice.
"""

from __future__ import annotations

from typing import Final

from engine.events import SELF_CANCEL, TAKER_CANCEL, FillArray
from engine.jit import inline_kernel
from engine.nanoclock import CLOCK_REALTIME, clock_ns
from engine.recordfile import SESSION, TOTAL_WORDS, TOTALS_AT, finish_record, next_record
from metrics.frame import IntArray

FILL_BITS: Final = 20  # of one event's fills
_R_ORDER, _R_INSTRUMENT, _R_SIDE, _R_PRICE, _R_QTY, _R_LIQUIDITY, _R_ENGINE_NS, _R_WALL_NS = range(4, 12)
_R_POSITION, _R_CASH_HIGH, _R_CASH_LOW = range(12, 15)
_T_POSITION, _T_CASH_HIGH, _T_CASH_LOW, _T_COUNT = range(4)
_LIMB: Final = 48
_LIMB_MASK: Final = (1 << _LIMB) - 1


@inline_kernel
def execution_id(sequence: int, k: int, aggressor: int) -> int:
    """The venue's identification of one side of a trade: the event's number, the fill's in it, which side."""
    return (((sequence << FILL_BITS) | k) << 1) | aggressor


@inline_kernel
def _enter(w: IntArray, sequence: int, k: int, aggressor: int, fill_ns: int, order: int, i: int, side: int, price: int, qty: int) -> None:  # fmt: skip
    """Count one side of a trade into the venue's totals, and write it down where it is not yet.

    A recovery goes through trades that were written before: they make the totals again.
    """
    total = TOTALS_AT + i * TOTAL_WORDS
    w[total + _T_POSITION] += side * qty
    # The same exact product as the account's, the long way: bit blocks of 16 of the quantity at a time.
    paid_low, paid_high = 0, 0
    for block in range(3):
        part = (qty >> (16 * block)) & 0xFFFF
        product_low = part * (price & 0xFFFFFFFF)
        product_high = part * (price >> 32)
        shift = 16 * block
        # product * 2**shift, split at bit 48
        for piece, move in ((product_low, shift), (product_high, shift + 32)):
            if move >= _LIMB:
                paid_high += piece << (move - _LIMB)
            else:
                paid_low += (piece & ((1 << (_LIMB - move)) - 1)) << move
                paid_high += piece >> (_LIMB - move)
    low = w[total + _T_CASH_LOW] - side * paid_low
    w[total + _T_CASH_HIGH] += (low >> _LIMB) - side * paid_high
    w[total + _T_CASH_LOW] = low & _LIMB_MASK
    w[total + _T_COUNT] += 1
    at = next_record(w, w[SESSION], execution_id(sequence, k, aggressor))
    if at == 0:
        return
    w[at + _R_ORDER], w[at + _R_INSTRUMENT], w[at + _R_SIDE] = order, i, side
    w[at + _R_PRICE], w[at + _R_QTY], w[at + _R_LIQUIDITY] = price, qty, aggressor
    w[at + _R_ENGINE_NS], w[at + _R_WALL_NS] = fill_ns, clock_ns(CLOCK_REALTIME)
    w[at + _R_POSITION] = w[total + _T_POSITION]
    w[at + _R_CASH_HIGH], w[at + _R_CASH_LOW] = w[total + _T_CASH_HIGH], w[total + _T_CASH_LOW]
    finish_record(w, at)


@inline_kernel
def send_drop_copy(w: IntArray, fills: FillArray, count: int) -> None:
    """Copy what the books' last event did with our orders; fills[:count] is their report of it."""
    for k in range(count):
        fill = fills[k]
        if fill.flags & (SELF_CANCEL | TAKER_CANCEL):
            continue  # nothing traded
        if fill.maker_id < 0:
            _enter(
                w, fill.sequence, k, 0, fill.t_ns, fill.maker_id, int(fill.instrument), -int(fill.side), fill.price, fill.qty,
            )  # fmt: skip
        if fill.taker_id < 0:
            _enter(
                w, fill.sequence, k, 1, fill.t_ns, fill.taker_id, int(fill.instrument), int(fill.side), fill.price, fill.qty,
            )  # fmt: skip
