"""Account: positions, average price, P&L, fees and exposure, per instrument and in all.

One row of float64 per instrument; kernels write it, Python reads it. Quantities are signed lots,
prices ticks; a fill's money value is lots x ticks x `usd_per_tick_lot`.

Beside it stands the *ledger*: position and cash in whole lots and tick-lots, which no rounding can
touch. Cash is what fills paid and brought in (before fees); cash + position x mark is the P&L before
fees, exactly, at every moment. Cash takes two words, high x 2**48 + low, because one fill alone may
be worth 2**96 tick-lots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.jit import inline_kernel, kernel
from metrics.frame import FloatArray, IntArray

POSITION = 0  # lots, negative where short
AVERAGE = 1  # ticks, of the open position; 0 where flat
REALISED = 2  # USD, before fees
FEES = 3  # USD
BOUGHT = 4  # lots
SOLD = 5  # lots
VALUE = 6  # USD, traded
MARK = 7  # ticks, the last mid; NaN before the first
USD = 8  # USD per tick and lot
COLUMNS = 9

HELD, CASH_HIGH, CASH_LOW = range(3)  # columns of the ledger
LEDGER = 3
LIMB_BITS = 48
_HALF_BITS = LIMB_BITS // 2
_LIMB_MASK = (1 << LIMB_BITS) - 1
_HALF_MASK = (1 << _HALF_BITS) - 1

MAKER_FEE, TAKER_FEE, FEE_PER_LOT, LEAST_FEE = range(4)  # of `fees`: two in bps, two in USD
FEES_COLUMNS = 4

T_REALISED, T_UNREALISED, T_FEES, T_PNL, T_GROSS, T_NET, T_PEAK, T_DRAWDOWN = range(8)
TOTALS = 8


@inline_kernel
def add_cash(ledger: IntArray, i: int, side: int, lots: int, ticks: int) -> None:
    """Pay lots x ticks for a purchase (side +1) or take them in for a sale, exactly; both below 2**48."""
    l_high, l_low = lots >> _HALF_BITS, lots & _HALF_MASK
    t_high, t_low = ticks >> _HALF_BITS, ticks & _HALF_MASK
    middle = l_high * t_low + l_low * t_high
    low = ((middle & _HALF_MASK) << _HALF_BITS) + l_low * t_low
    high = l_high * t_high + (middle >> _HALF_BITS)
    low = ledger[i, CASH_LOW] - side * low
    ledger[i, CASH_HIGH] += (low >> LIMB_BITS) - side * high  # the shift is arithmetic: it borrows as it carries
    ledger[i, CASH_LOW] = low & _LIMB_MASK


@inline_kernel
def fee_usd(fees: FloatArray, i: int, taker: int, value_usd: float, lots: float) -> float:
    """Fee of one fill: bps of its value and so much a lot, at least the least fee; a rebate (below 0) stays one."""
    fee = value_usd * fees[i, TAKER_FEE if taker else MAKER_FEE] * 1e-4 + lots * fees[i, FEE_PER_LOT]
    if 0.0 <= fee < fees[i, LEAST_FEE]:
        fee = fees[i, LEAST_FEE]
    return float(fee)


@inline_kernel
def book_fill(
    account: FloatArray, ledger: IntArray, fees: FloatArray, i: int, side: int, lots: int, ticks: int, taker: int
) -> None:
    """Put one own fill into account and ledger.

    account: float64, shape (instruments, COLUMNS); ledger: int64, shape (instruments, LEDGER); fees:
    float64, shape (instruments, FEES_COLUMNS). side: +1 bought, -1 sold; 0 < lots < 2**48. Average cost: what
    closes realises against the average price, what opens moves it, a turn through zero restarts it.
    """
    ledger[i, HELD] += side * lots
    add_cash(ledger, i, side, lots, ticks)
    row = account[i]
    held = row[POSITION]
    size, price = float(lots), float(ticks)  # as whole numbers their product would not fit into a word
    if held * side >= 0.0:
        row[AVERAGE] = (abs(held) * row[AVERAGE] + size * price) / (abs(held) + size)
    else:
        closing = min(size, abs(held))
        direction = 1.0 if held > 0.0 else -1.0
        row[REALISED] += direction * (price - row[AVERAGE]) * closing * row[USD]
        if size > abs(held):
            row[AVERAGE] = price
        elif size == abs(held):
            row[AVERAGE] = 0.0
    row[POSITION] = held + side * size
    value = size * price * row[USD]
    row[FEES] += fee_usd(fees, i, taker, value, size)
    row[VALUE] += value
    if side > 0:
        row[BOUGHT] += size
    else:
        row[SOLD] += size


@inline_kernel
def unrealised_usd(account: FloatArray, i: int) -> float:
    """P&L of the open position of one instrument at its mark; 0 where flat or never marked."""
    held, mark = account[i, POSITION], account[i, MARK]
    if held == 0.0 or np.isnan(mark):
        return 0.0
    return float(held * (mark - account[i, AVERAGE]) * account[i, USD])


@kernel
def total(account: FloatArray, totals: FloatArray) -> None:
    """Sum the account into `totals`, float64 of shape (TOTALS,); the peak is carried on from call to call."""
    realised = unrealised = fees = gross = net = 0.0
    for i in range(account.shape[0]):
        realised += account[i, REALISED]
        fees += account[i, FEES]
        unrealised += unrealised_usd(account, i)
        mark = account[i, MARK]
        if account[i, POSITION] != 0.0 and not np.isnan(mark):
            value = account[i, POSITION] * mark * account[i, USD]
            gross += abs(value)
            net += value
    pnl = realised + unrealised - fees
    totals[T_REALISED] = realised
    totals[T_UNREALISED] = unrealised
    totals[T_FEES] = fees
    totals[T_PNL] = pnl
    totals[T_GROSS] = gross
    totals[T_NET] = net
    totals[T_PEAK] = max(totals[T_PEAK], pnl)
    totals[T_DRAWDOWN] = totals[T_PEAK] - pnl


def fees_of(
    lot_sizes: FloatArray, maker_bps: float, taker_bps: float, per_unit_usd: float, least_usd: float
) -> FloatArray:
    """The fees of each instrument, float64 (instruments, FEES_COLUMNS); lot_sizes: units in a lot of each."""
    fees = np.zeros((len(lot_sizes), FEES_COLUMNS))
    fees[:, MAKER_FEE], fees[:, TAKER_FEE], fees[:, LEAST_FEE] = maker_bps, taker_bps, least_usd
    fees[:, FEE_PER_LOT] = per_unit_usd * lot_sizes
    return fees


@dataclass(frozen=True, eq=False)
class Account:
    """The arrays of one account: rows float64 (instruments, COLUMNS), totals float64 (TOTALS,), ledger int64."""

    rows: FloatArray
    totals: FloatArray
    ledger: IntArray

    @classmethod
    def empty(cls, usd_per_tick_lot: FloatArray) -> Account:
        """A flat account. usd_per_tick_lot: float64, one per instrument: tick size x lot size."""
        n = len(usd_per_tick_lot)
        account = cls(np.zeros((n, COLUMNS)), np.zeros(TOTALS), np.zeros((n, LEDGER), dtype=np.int64))
        account.rows[:, USD] = usd_per_tick_lot
        account.rows[:, MARK] = np.nan
        return account

    def cash(self, i: int) -> int:
        """Cash of one instrument in tick-lots, before fees; negative where more was paid than taken in."""
        return int(self.ledger[i, CASH_HIGH]) * (1 << LIMB_BITS) + int(self.ledger[i, CASH_LOW])

    def error_usd(self) -> float:
        """How far realised and unrealised P&L are from what the ledger says, summed over instruments; rounding only."""
        error = 0.0
        for i, row in enumerate(self.rows):
            held, twice_mark = int(self.ledger[i, HELD]), 2 * row[MARK]
            if held != 0 and np.isnan(twice_mark):
                continue  # nobody knows what it is worth
            worth = held * round(twice_mark) if held != 0 else 0  # a mid lies on half a tick
            exact = (2 * self.cash(i) + worth) * row[USD] / 2.0
            booked = row[REALISED] + (row[POSITION] * (row[MARK] - row[AVERAGE]) * row[USD] if held != 0 else 0.0)
            error += abs(exact - booked)
        return float(error)

    def settle(self) -> float:
        """Close every position at its mark and begin anew; returns the session's P&L in USD after fees. Marks stay."""
        total(self.rows, self.totals)
        pnl = float(self.totals[T_PNL])
        self.rows[:, :MARK] = 0.0
        self.ledger[:] = 0
        self.totals[:] = 0.0
        return pnl
