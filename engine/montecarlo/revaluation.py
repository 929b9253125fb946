"""Full revaluation: the kernels that turn normals into the profit and loss of a book.

Scenarios are handled in blocks of BLOCK whose moves stay in the first-level cache; in each inner loop
the scenarios are a vector's lanes. An option is valued by Black and Scholes in the form

    value = X(d1) - X(d2),   X(d) = forward part * N(d),   S N'(d1) = K e^(-rT) N'(d2),

whose last equation makes one exponential do for both terms.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np

from engine.jit import inline_kernel, kernel, parallel_kernel
from engine.montecarlo.book import Book
from engine.montecarlo.elementary import bounded_exp, exp, fma, normal_tail
from engine.montecarlo.normals import normal_block
from engine.montecarlo.philox import Word
from engine.montecarlo.tail import offer, sort_heap
from metrics.frame import FloatArray, IntArray

BLOCK: Final = 64
FAR: Final = 13.0  # N(-13) is 6e-39: nothing beyond it can be told from 0 in either precision


class Lines(NamedTuple):
    """A book as kernels want it, arrays of one precision: lines with a value linear in the spot, options, payoffs.

    linear_asset int64 (s,), linear_value (s,): value now, USD. option_asset int64 (o,): forward and cash are the
    two terms of the value at the horizon with quantity and sign in them, start and slope make sign * d1 of the log
    return, width is sign times total deviation, now is the value today. payoff_*: the same terms of what is
    certain to pay max(forward - cash, 0) (expired by then, or without volatility), payoff_side the quantity's sign.
    """

    linear_asset: IntArray
    linear_value: FloatArray
    option_asset: IntArray
    forward: FloatArray
    cash: FloatArray
    start: FloatArray
    slope: FloatArray
    width: FloatArray
    now: FloatArray
    payoff_asset: IntArray
    payoff_forward: FloatArray
    payoff_cash: FloatArray
    payoff_side: FloatArray
    payoff_now: FloatArray


def lines_of(book: Book, horizon_years: float, dtype: type) -> tuple[Lines, IntArray]:
    """Lay a book out for the kernels; the second value (p,) tells which position each line is."""
    left = np.maximum(np.where(book.sign == 0.0, 0.0, book.years - horizon_years), 0.0)
    with np.errstate(invalid="ignore"):
        deviation = np.where(book.sign == 0.0, 0.0, book.volatility * np.sqrt(left))
    linear = np.flatnonzero(book.sign == 0.0)
    option = np.flatnonzero((book.sign != 0.0) & (deviation > 0.0))
    payoff = np.flatnonzero((book.sign != 0.0) & (deviation <= 0.0))
    spot, now, sign = book.spot[book.asset], book.values(), book.sign
    forward = sign * book.quantity * spot * np.exp(-book.dividend_yield * left)
    strike = np.where(sign == 0.0, 1.0, book.strike)
    cash = sign * book.quantity * strike * np.exp(-book.rate * left)
    sd = deviation[option]
    moneyness = (np.log(spot / strike) + (book.rate - book.dividend_yield) * left)[option]

    def typed(values: FloatArray) -> FloatArray:
        return np.ascontiguousarray(values, dtype=dtype)

    lines = Lines(
        linear_asset=book.asset[linear], linear_value=typed(now[linear]), option_asset=book.asset[option],
        forward=typed(forward[option]), cash=typed(cash[option]),
        start=typed(sign[option] * (moneyness / sd + 0.5 * sd)), slope=typed(sign[option] / sd), width=typed(sign[option] * sd),
        now=typed(now[option]), payoff_asset=book.asset[payoff], payoff_forward=typed(forward[payoff]),
        payoff_cash=typed(cash[payoff]), payoff_side=typed(np.sign(book.quantity[payoff])), payoff_now=typed(now[payoff]),
    )  # fmt: skip
    return lines, np.concatenate([linear, option, payoff])


def sampling_of(loading: FloatArray, shift: FloatArray, first: FloatArray, second: FloatArray, dtype: type) -> Sampling:
    """Lay a factor (n, n) and what goes with it out for the kernels; without given normals."""
    n = len(loading)
    last = [np.flatnonzero(row)[-1] + 1 if row.any() else 0 for row in loading]
    padded: FloatArray = np.zeros((n, -(-n // 4) * 4), dtype)
    padded[:, :n] = loading
    return Sampling(
        padded, np.array([-(-end // 4) * 4 for end in last], np.int64), np.ascontiguousarray(shift, dtype),
        np.zeros((0, 0), dtype), np.ascontiguousarray(first, dtype), np.ascontiguousarray(second, dtype),
    )  # fmt: skip


@inline_kernel
def _option(move: float, growth: float, forward: float, cash: float, start: float, slope: float, width: float) -> Any:
    """Value of one option line at a log return and its exponential."""
    zero, far = type(move)(0.0), type(move)(FAR)
    x1 = fma(slope, move, start)
    x2 = x1 - width
    a1, a2 = min(abs(x1), far), min(abs(x2), far)
    p1, q1 = normal_tail(a1)
    p2, q2 = normal_tail(a2)
    grown = forward * growth
    density = grown * bounded_exp(type(move)(-0.5) * a1 * a1) / (q1 * q2)
    tail1, tail2 = density * (p1 * q2), density * (p2 * q1)
    return (tail1 if x1 < zero else grown - tail1) - (tail2 if x2 < zero else cash - tail2)


@inline_kernel
def _correlate(z: FloatArray, sampling: Sampling, moves: FloatArray) -> None:
    """moves[i] = shift[i] + sum over j < filled[i] of loading[i, j] z[j]; four terms a pass save loads and stores
    (with eight LLVM gives up: too many arrays that might overlap)."""
    loading, filled, shift = sampling.loading, sampling.filled, sampling.shift
    for i in range(len(moves)):
        move, factor = moves[i], loading[i]
        move[:] = shift[i]
        for j in range(0, filled[i], 4):
            l0, l1, l2, l3 = factor[j], factor[j + 1], factor[j + 2], factor[j + 3]
            z0, z1, z2, z3 = z[j], z[j + 1], z[j + 2], z[j + 3]
            for row in range(BLOCK):
                move[row] = fma(l3, z3[row], fma(l2, z2[row], fma(l1, z1[row], fma(l0, z0[row], move[row]))))


@inline_kernel
def _draw(seed: Word, stream: Word, sampling: Sampling, scenario: IntArray, z: FloatArray, moves: FloatArray) -> None:
    """Moves of some scenarios, int64 (BLOCK,)."""
    given = sampling.given
    if given.shape[1] == 0:
        normal_block(z, seed, stream, scenario, 0)
    else:
        for j in range(len(given)):
            for row in range(BLOCK):
                z[j, row] = given[j, scenario[row]]
    _correlate(z, sampling, moves)


@inline_kernel
def _revalue(lines: Lines, moves: FloatArray, growth: FloatArray, step: int, gain: FloatArray) -> None:
    """Add each line's profit to gain[line * step]: with a step of 0 all go to the first row."""
    for i in range(len(moves)):
        for row in range(BLOCK):
            growth[i, row] = exp(moves[i, row])
    line = 0
    for k in range(len(lines.linear_asset)):
        value, up, to = lines.linear_value[k], growth[lines.linear_asset[k]], gain[line * step]
        for row in range(BLOCK):
            to[row] += fma(value, up[row], -value)
        line += 1
    for k in range(len(lines.option_asset)):
        move, up, to = moves[lines.option_asset[k]], growth[lines.option_asset[k]], gain[line * step]
        forward, cash, now = lines.forward[k], lines.cash[k], lines.now[k]
        start, slope, width = lines.start[k], lines.slope[k], lines.width[k]
        for row in range(BLOCK):
            to[row] += _option(move[row], up[row], forward, cash, start, slope, width) - now
        line += 1
    for k in range(len(lines.payoff_asset)):
        up, to = growth[lines.payoff_asset[k]], gain[line * step]
        forward, cash, side, now = (
            lines.payoff_forward[k],
            lines.payoff_cash[k],
            lines.payoff_side[k],
            lines.payoff_now[k],
        )
        for row in range(BLOCK):
            pays = side * fma(forward, up[row], -cash)
            to[row] += (side * pays if pays > type(pays)(0) else type(pays)(0)) - now
        line += 1


class Sampling(NamedTuple):
    """How scenarios are drawn, and what stands beside their profit; n assets, m the next multiple of 4.

    moves = shift (n,) + loading (n, m) z, row i of loading filled up to filled[i] (int64, multiples of 4). given (n, scenarios): the
    normals z; with no columns they are drawn. first, second (n,): the quadratic in the moves, first . r + second . r^2,
    that is kept beside each profit as `near`; with no entries none is.
    """

    loading: FloatArray
    filled: IntArray
    shift: FloatArray
    given: FloatArray
    first: FloatArray
    second: FloatArray


class Tail(NamedTuple):
    """The worst k losses in falling order, float64 and scenario; gain (lines, BLOCK) and gains (lines, k) of each line there."""

    loss: FloatArray
    scenario: IntArray
    gain: FloatArray
    gains: FloatArray


class Workspace(NamedTuple):
    """Memory of one thread: scenario int64 (BLOCK,); z (4m, BLOCK), moves (n, BLOCK), gain (BLOCK rows at least 1)."""

    scenario: IntArray
    z: FloatArray
    moves: FloatArray
    gain: FloatArray


def workspaces(threads: int, assets: int, dtype: type) -> Workspace:
    """Memory for some threads, the first axis of each array."""
    normals = -(-assets // 4) * 4
    return Workspace(
        np.zeros((threads, BLOCK), dtype=np.int64),
        np.zeros((threads, normals, BLOCK), dtype=dtype),
        np.zeros((threads, assets, BLOCK), dtype=dtype),
        np.zeros((threads, 1, BLOCK), dtype=dtype),
    )


@kernel
def gains(
    seed: Word, stream: Word, begin: int, end: int, sampling: Sampling, lines: Lines, work: Workspace, thread: int,
    gained: FloatArray, near: FloatArray,
) -> None:  # fmt: skip
    """Profit of scenarios begin to end (begin a multiple of BLOCK) into gained[begin:end], USD, and its quadratic into near."""
    scenario, z, moves, gain = work.scenario[thread], work.z[thread], work.moves[thread], work.gain[thread]
    first, second = sampling.first, sampling.second
    sums = gain[0]
    for start in range(begin, end, BLOCK):
        rows = min(BLOCK, end - start)
        for row in range(BLOCK):
            scenario[row] = start + min(row, rows - 1)
        _draw(seed, stream, sampling, scenario, z, moves)
        if len(near) > 0:
            sums[:] = 0
            for i in range(len(first)):
                move, slope, bend = moves[i], first[i], second[i]
                for row in range(BLOCK):
                    sums[row] = fma(fma(bend, move[row], slope), move[row], sums[row])
            for row in range(rows):
                near[start + row] = sums[row]
        sums[:] = 0
        _revalue(lines, moves, z, 0, gain)
        for row in range(rows):
            gained[start + row] = sums[row]


@parallel_kernel
def gains_on_threads(
    seed: Word, stream: Word, sampling: Sampling, lines: Lines, work: Workspace, gained: FloatArray, near: FloatArray
) -> None:
    """The same of all scenarios, each thread with one stretch of them."""
    threads, scenarios = len(work.scenario), len(gained)
    blocks = (scenarios + BLOCK - 1) // BLOCK
    for thread in numba.prange(threads):
        begin, end = blocks * thread // threads * BLOCK, min(blocks * (thread + 1) // threads * BLOCK, scenarios)
        gains(seed, stream, begin, end, sampling, lines, work, thread, gained, near)


@kernel
def line_gains(
    seed: Word,
    stream: Word,
    sampling: Sampling,
    lines: Lines,
    work: Workspace,
    chosen: IntArray,
    gain: FloatArray,
    out: FloatArray,
) -> None:
    """Profit of each line in chosen scenarios, int64 (k,): out (lines, k); gain (lines, BLOCK) is working space."""
    scenario, z, moves = work.scenario[0], work.z[0], work.moves[0]
    for first in range(0, len(chosen), BLOCK):
        rows = min(BLOCK, len(chosen) - first)
        for row in range(BLOCK):
            scenario[row] = chosen[first + min(row, rows - 1)]
        _draw(seed, stream, sampling, scenario, z, moves)
        gain[:] = 0
        _revalue(lines, moves, z, 1, gain)
        for line in range(len(gain)):
            for row in range(rows):
                out[line, first + row] = gain[line, row]


@kernel
def simulate_book(
    seed: Word,
    stream: Word,
    sampling: Sampling,
    lines: Lines,
    work: Workspace,
    gained: FloatArray,
    near: FloatArray,
    tail: Tail,
    drawn: bool,
) -> float:
    """One run: all profits into gained (scenarios,) unless they are there (drawn), then the worst and their lines.

    Returns the sum of all profits.
    """
    if not drawn:
        gains(seed, stream, 0, len(gained), sampling, lines, work, 0, gained, near)
    loss, worst = tail.loss, tail.scenario
    size, total = 0, 0.0
    for s in range(len(gained)):
        total += gained[s]
        size = offer(loss, worst, size, -np.float64(gained[s]), s)
    sort_heap(loss, worst, size)
    line_gains(seed, stream, sampling, lines, work, worst, tail.gain, tail.gains)
    return total
