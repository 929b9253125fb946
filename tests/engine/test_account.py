"""The account's kernels against slow, obvious bookkeeping in fractions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import account as acc
from engine.account import Account, book_fill, total
from engine.jit import kernel

TICK_USD = np.array([0.01, 0.25])


@kernel
def put(rows, i, side, lots, ticks, fee_bps):
    book_fill(rows, i, side, lots, ticks, fee_bps)


@dataclass
class SlowAccount:
    """Every open lot is remembered by itself at average cost; cash is counted fill by fill."""

    usd: Fraction
    cash: Fraction = Fraction(0)
    fees: Fraction = Fraction(0)
    position: int = 0
    cost: Fraction = Fraction(0)
    realised: Fraction = Fraction(0)
    history: list[Fraction] = field(default_factory=list)

    def fill(self, side: int, lots: int, ticks: int, fee_bps: Fraction) -> None:
        for _ in range(lots):
            self.one(side, ticks)
        self.cash -= side * lots * ticks * self.usd
        self.fees += lots * ticks * self.usd * fee_bps / 10_000

    def one(self, side: int, ticks: int) -> None:
        if self.position * side >= 0:
            self.cost += side * ticks
            self.position += side
        else:
            average = self.cost / self.position
            self.realised += -side * (ticks - average) * self.usd
            self.cost += side * average
            self.position += side

    def pnl(self, mark: int) -> Fraction:
        return self.cash + self.position * mark * self.usd - self.fees


fills = st.lists(
    st.tuples(
        st.integers(0, 1), st.sampled_from([1, -1]), st.integers(1, 12), st.integers(1, 1000), st.sampled_from([0, 1, -2])
    ),
    max_size=60,
)  # fmt: skip


@settings(deadline=None)
@given(fills, st.tuples(st.integers(1, 1000), st.integers(1, 1000)))
def test_the_account_equals_bookkeeping_lot_by_lot(trades, marks) -> None:
    account = Account.empty(TICK_USD)
    slow = [SlowAccount(Fraction(1, 100)), SlowAccount(Fraction(1, 4))]
    for i, side, lots, ticks, fee in trades:
        put(account.rows, i, side, float(lots), float(ticks), float(fee))
        slow[i].fill(side, lots, ticks, Fraction(fee))
    account.rows[:, acc.MARK] = marks
    total(account.rows, account.totals)
    for i, reference in enumerate(slow):
        assert account.rows[i, acc.POSITION] == reference.position
        assert account.rows[i, acc.REALISED] == pytest.approx(float(reference.realised), abs=1e-6)
        assert account.rows[i, acc.FEES] == pytest.approx(float(reference.fees), abs=1e-9)
        if reference.position == 0:
            assert account.rows[i, acc.AVERAGE] == 0.0
        else:
            assert account.rows[i, acc.AVERAGE] == pytest.approx(float(reference.cost / reference.position), rel=1e-9)
    assert account.totals[acc.T_PNL] == pytest.approx(
        float(sum(s.pnl(m) for s, m in zip(slow, marks, strict=True))), abs=1e-6
    )
    values = [float(s.position * m * s.usd) for s, m in zip(slow, marks, strict=True)]
    assert account.totals[acc.T_GROSS] == pytest.approx(sum(map(abs, values)), abs=1e-6)
    assert account.totals[acc.T_NET] == pytest.approx(sum(values), abs=1e-6)


@settings(deadline=None)
@given(fills)
def test_compiled_and_interpreted_fills_agree(trades) -> None:
    compiled, plain = Account.empty(TICK_USD), Account.empty(TICK_USD)
    for i, side, lots, ticks, fee in trades:
        put(compiled.rows, i, side, float(lots), float(ticks), float(fee))
        book_fill.py_func(plain.rows, i, side, float(lots), float(ticks), float(fee))
    np.testing.assert_array_equal(compiled.rows, plain.rows)


def test_drawdown_is_the_distance_from_the_best_pnl_so_far() -> None:
    account = Account.empty(np.array([1.0]))
    put(account.rows, 0, 1, 1.0, 100.0, 0.0)
    seen = []
    for mark in (100, 130, 110, 150, 90):
        account.rows[0, acc.MARK] = mark
        total(account.rows, account.totals)
        seen.append((account.totals[acc.T_PNL], account.totals[acc.T_DRAWDOWN]))
    assert seen == [(0, 0), (30, 0), (10, 20), (50, 0), (-10, 60)]


def test_an_unmarked_position_has_no_unrealised_pnl() -> None:
    account = Account.empty(np.array([1.0]))
    put(account.rows, 0, -1, 3.0, 50.0, 0.0)
    total(account.rows, account.totals)
    assert account.totals[acc.T_UNREALISED] == 0.0
    assert account.totals[acc.T_GROSS] == 0.0


def test_settling_returns_the_sessions_pnl_and_leaves_a_flat_account() -> None:
    account = Account.empty(np.array([1.0]))
    put(account.rows, 0, 1, 2.0, 100.0, 1.0)
    account.rows[0, acc.MARK] = 105.0
    assert account.settle() == pytest.approx(10.0 - 200.0 * 1e-4)
    assert account.rows[0, acc.POSITION] == 0.0
    assert account.rows[0, acc.USD] == 1.0
    assert account.rows[0, acc.MARK] == 105.0
    total(account.rows, account.totals)
    assert not account.totals.any()
