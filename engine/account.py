"""Account: positions, average price, P&L, fees and exposure, per instrument and in all.

One row of float64 per instrument; kernels write it, Python reads it. Quantities are signed lots,
prices ticks; a fill's money value is lots x ticks x `usd_per_tick_lot`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.jit import inline_kernel, kernel
from metrics.frame import FloatArray

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

T_REALISED, T_UNREALISED, T_FEES, T_PNL, T_GROSS, T_NET, T_PEAK, T_DRAWDOWN = range(8)
TOTALS = 8


@inline_kernel
def book_fill(account: FloatArray, i: int, side: int, lots: float, ticks: float, fee_bps: float) -> None:
    """Put one own fill into the account.

    account: float64, shape (instruments, COLUMNS). side: +1 bought, -1 sold. lots > 0. Average cost:
    what closes realises against the average price, what opens moves it, a turn through zero restarts it.
    """
    row = account[i]
    held = row[POSITION]
    signed = side * lots
    if held * signed >= 0.0:
        row[AVERAGE] = (abs(held) * row[AVERAGE] + lots * ticks) / (abs(held) + lots)
    else:
        closing = min(lots, abs(held))
        direction = 1.0 if held > 0.0 else -1.0
        row[REALISED] += direction * (ticks - row[AVERAGE]) * closing * row[USD]
        if lots > abs(held):
            row[AVERAGE] = ticks
        elif lots == abs(held):
            row[AVERAGE] = 0.0
    row[POSITION] = held + signed
    value = lots * ticks * row[USD]
    row[FEES] += value * fee_bps * 1e-4
    row[VALUE] += value
    if side > 0:
        row[BOUGHT] += lots
    else:
        row[SOLD] += lots


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


@dataclass(frozen=True, eq=False)
class Account:
    """The arrays of one account: `rows` float64 (instruments, COLUMNS), `totals` float64 (TOTALS,)."""

    rows: FloatArray
    totals: FloatArray

    @classmethod
    def empty(cls, usd_per_tick_lot: FloatArray) -> Account:
        """A flat account. usd_per_tick_lot: float64, one per instrument: tick size x lot size."""
        account = cls(np.zeros((len(usd_per_tick_lot), COLUMNS)), np.zeros(TOTALS))
        account.rows[:, USD] = usd_per_tick_lot
        account.rows[:, MARK] = np.nan
        return account

    def settle(self) -> float:
        """Close every position at its mark and begin anew; returns the session's P&L in USD after fees. Marks stay."""
        total(self.rows, self.totals)
        pnl = float(self.totals[T_PNL])
        self.rows[:, :MARK] = 0.0
        self.totals[:] = 0.0
        return pnl
