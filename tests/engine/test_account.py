"""The account's kernels against slow, obvious bookkeeping in fractions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import account as acc
from engine.account import Account, book_fill, fees_of, total
from engine.jit import kernel

TICK_USD = np.array([0.0078125, 0.25])  # powers of two: money is exact in floats too, and the reference knows it
LOT = np.array([1.0, 0.5])
HUGE = (1 << 48) - 1


@kernel
def put(rows, ledger, fees, i, side, lots, ticks, taker):
    book_fill(rows, ledger, fees, i, side, lots, ticks, taker)


@dataclass
class SlowAccount:
    """What is open is remembered at average cost in fractions; cash is counted fill by fill."""

    usd: Fraction
    cash_ticks: int = 0
    fees: Fraction = Fraction(0)
    position: int = 0
    average: Fraction = Fraction(0)
    realised: Fraction = Fraction(0)
    volume: int = 0
    traded: Fraction = Fraction(0)
    peak: Fraction = field(default=Fraction(0))

    def fill(self, side: int, lots: int, ticks: int, fee: Fraction) -> None:
        opening = lots
        if self.position * side < 0:
            closing = min(lots, abs(self.position))
            self.realised += -side * (ticks - self.average) * closing * self.usd
            self.position += side * closing
            opening = lots - closing
            if self.position == 0:
                self.average = Fraction(0)
        if opening:
            cost = abs(self.position) * self.average + opening * ticks
            self.position += side * opening
            self.average = cost / abs(self.position)
        self.cash_ticks -= side * lots * ticks
        self.fees += fee
        self.volume += lots
        self.traded += lots * ticks * self.usd

    def unrealised(self, mark: Fraction) -> Fraction:
        return self.position * (mark - self.average) * self.usd

    def pnl(self, mark: Fraction) -> Fraction:
        return self.realised + self.unrealised(mark) - self.fees


def slow_fee(terms: tuple[int, int, int, int], i: int, taker: int, lots: int, ticks: int) -> Fraction:
    maker_bps, taker_bps, per_unit_cents, least_cents = terms
    value = lots * ticks * Fraction(TICK_USD[i]) * Fraction(LOT[i])
    bps = taker_bps if taker else maker_bps
    fee = value * bps / 10_000 + lots * Fraction(LOT[i]) * Fraction(per_unit_cents, 100)
    least = Fraction(least_cents, 100)
    return least if 0 <= fee < least else fee


def fills_of(most_lots: int, most_ticks: int):
    return st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from([1, -1]),
            st.integers(1, most_lots),
            st.integers(1, most_ticks),
            st.integers(0, 1),
        ),
        max_size=60,
    )


sizes = st.one_of(fills_of(12, 1000), fills_of(1 << 20, 1 << 20), fills_of(HUGE, HUGE))
terms = st.tuples(st.integers(-5, 5), st.integers(-5, 20), st.integers(0, 3), st.integers(0, 100))


@settings(deadline=None, max_examples=300)
@given(sizes, terms, st.tuples(st.integers(2, 2000), st.integers(2, 2000)))
def test_the_account_equals_bookkeeping_in_fractions(trades, fee_terms, half_marks) -> None:
    maker, taker_bps, per_unit, least = fee_terms
    fees = fees_of(LOT, maker, taker_bps, per_unit / 100, least / 100)
    account = Account.empty(TICK_USD * LOT)
    slow = [SlowAccount(Fraction(TICK_USD[i]) * Fraction(LOT[i])) for i in range(2)]
    marks = [Fraction(half, 2) for half in half_marks]
    account.rows[:, acc.MARK] = [float(mark) for mark in marks]
    peak = Fraction(0)
    for i, side, lots, ticks, taker in trades:
        put(account.rows, account.ledger, fees, i, side, lots, ticks, taker)
        slow[i].fill(side, lots, ticks, slow_fee(fee_terms, i, taker, lots, ticks))
        # Conservation, exactly and after every fill: cash + position x mark is the P&L before fees (all began with nothing).
        for k, reference in enumerate(slow):
            assert account.ledger[k, acc.HELD] == reference.position
            assert account.cash(k) == reference.cash_ticks
            worth = (account.cash(k) + int(account.ledger[k, acc.HELD]) * marks[k]) * reference.usd
            assert worth == reference.realised + reference.unrealised(marks[k])
        peak = max(peak, sum((s.pnl(m) for s, m in zip(slow, marks, strict=True)), Fraction(0)))
        total(account.rows, account.totals)
    total(account.rows, account.totals)
    traded = float(sum(reference.traded for reference in slow))
    close = 1e-12 * traded + 1e-9  # what sixty roundings of sums of this size can do
    for i, reference in enumerate(slow):
        assert account.rows[i, acc.POSITION] == pytest.approx(reference.position, rel=1e-12)
        assert account.rows[i, acc.REALISED] == pytest.approx(float(reference.realised), abs=close)
        assert account.rows[i, acc.FEES] == pytest.approx(float(reference.fees), abs=close)
        assert account.rows[i, acc.BOUGHT] + account.rows[i, acc.SOLD] == pytest.approx(reference.volume, rel=1e-12)
        assert account.rows[i, acc.VALUE] == pytest.approx(float(reference.traded), rel=1e-12)
        if abs(account.ledger[i, acc.HELD]) > 0:
            assert account.rows[i, acc.AVERAGE] * abs(reference.position) * float(reference.usd) == pytest.approx(
                float(reference.average * abs(reference.position) * reference.usd), abs=close
            )
    pnl = sum((s.pnl(m) for s, m in zip(slow, marks, strict=True)), Fraction(0))
    assert account.totals[acc.T_PNL] == pytest.approx(float(pnl), abs=close)
    assert account.totals[acc.T_DRAWDOWN] == pytest.approx(float(max(peak, Fraction(0)) - pnl), abs=close)
    values = [float(s.position * m * s.usd) for s, m in zip(slow, marks, strict=True)]
    assert account.totals[acc.T_GROSS] == pytest.approx(sum(map(abs, values)), abs=close)
    assert account.totals[acc.T_NET] == pytest.approx(sum(values), abs=close)
    assert account.error_usd() <= close


@settings(deadline=None)
@given(fills_of(1 << 20, 1 << 20), terms)
def test_compiled_and_interpreted_fills_agree(trades, fee_terms) -> None:
    fees = fees_of(LOT, *map(float, fee_terms))
    compiled, plain = Account.empty(TICK_USD), Account.empty(TICK_USD)
    for trade in trades:
        put(compiled.rows, compiled.ledger, fees, *trade)
        book_fill.py_func(plain.rows, plain.ledger, fees, *trade)
    np.testing.assert_array_equal(compiled.rows, plain.rows)
    np.testing.assert_array_equal(compiled.ledger, plain.ledger)


@pytest.mark.parametrize(
    ("terms", "taker", "expected"),
    [
        ((1.0, 5.0, 0.0, 0.0), 1, 1000 * 5e-4),
        ((-2.0, 5.0, 0.0, 1.0), 0, -1000 * 2e-4),  # a rebate is not raised to the least fee
        ((0.0, 0.0, 0.01, 0.0), 0, 0.10),
        ((0.0, 0.0, 0.01, 0.35), 1, 0.35),
        ((0.0, 0.0, 0.0, 0.35), 0, 0.35),
    ],
)
def test_a_fee_is_bps_plus_so_much_a_unit_but_not_less_than_the_least(terms, taker, expected) -> None:
    account = Account.empty(np.array([1.0]))
    put(account.rows, account.ledger, fees_of(np.array([1.0]), *terms), 0, 1, 10, 100, taker)
    assert account.rows[0, acc.FEES] == pytest.approx(expected)


def free(instruments: int):
    return fees_of(np.ones(instruments), 0.0, 0.0, 0.0, 0.0)


def test_drawdown_is_the_distance_from_the_best_pnl_so_far() -> None:
    account = Account.empty(np.array([1.0]))
    put(account.rows, account.ledger, free(1), 0, 1, 1, 100, 0)
    seen = []
    for mark in (100, 130, 110, 150, 90):
        account.rows[0, acc.MARK] = mark
        total(account.rows, account.totals)
        seen.append((account.totals[acc.T_PNL], account.totals[acc.T_DRAWDOWN]))
    assert seen == [(0, 0), (30, 0), (10, 20), (50, 0), (-10, 60)]


def test_an_unmarked_position_has_no_unrealised_pnl() -> None:
    account = Account.empty(np.array([1.0]))
    put(account.rows, account.ledger, free(1), 0, -1, 3, 50, 0)
    total(account.rows, account.totals)
    assert account.totals[acc.T_UNREALISED] == 0.0
    assert account.totals[acc.T_GROSS] == 0.0
    assert account.error_usd() == 0.0


def test_a_fill_that_the_float_account_missed_shows_in_its_error() -> None:
    account = Account.empty(np.array([1.0]))
    account.rows[0, acc.MARK] = 100.5
    put(account.rows, account.ledger, free(1), 0, 1, 2, 100, 0)
    assert account.error_usd() == 0.0
    account.rows[0, acc.REALISED] += 0.25
    assert account.error_usd() == 0.25


def test_settling_returns_the_sessions_pnl_and_leaves_a_flat_account() -> None:
    account = Account.empty(np.array([1.0]))
    put(account.rows, account.ledger, fees_of(np.ones(1), 1.0, 1.0, 0.0, 0.0), 0, 1, 2, 100, 0)
    account.rows[0, acc.MARK] = 105.0
    assert account.settle() == pytest.approx(10.0 - 200.0 * 1e-4)
    assert account.rows[0, acc.POSITION] == 0.0
    assert account.rows[0, acc.USD] == 1.0
    assert account.rows[0, acc.MARK] == 105.0
    assert not account.ledger.any()
    total(account.rows, account.totals)
    assert not account.totals.any()
