"""Strategy: where to quote, and when to slice. Pure decisions over integers; acting is `engine.execution`.

Two strategies share every instrument. The maker rests one bid and one ask near the touch and leans
them against its own inventory. Parent orders buy or sell a quantity within a short while: cut into
slices, each rests at the touch first and crosses the spread with what is left of it at its end.
"""

from __future__ import annotations

import numpy as np

from engine.events import Instrument
from engine.jit import inline_kernel
from engine.options import EngineOptions
from metrics.frame import FloatArray, IntArray

# One row of settings per instrument, float64.
MAKER_USD, MAKER_MAX_USD, MAKER_SKEW, MAKER_EDGE, MAKER_REQUOTE_NS, MAKER_ON = range(6)
PARENT_USD, PARENT_SHORTEST_NS, PARENT_LONGEST_NS, PARENT_SLICES, PARENT_PERIOD_NS = range(6, 11)
PARENT_REACH, PARENT_IMPROVE, PARENT_FOLLOW_NS = range(11, 14)
SETTINGS = 14

# One row per instrument, int64: the parent order at work.
P_STATE, P_SIDE, P_TARGET, P_FILLED, P_SLICE, P_START_NS, P_NEXT_NS, P_COUNT, P_SLICE_NS = range(9)
PARENTS = 9
# Between two slices a parent is CROSSED: what it was behind has been sent, what comes of it is seen next.
IDLE, WORKING, CROSSED = 0, 1, 2
NEVER_NS = 1 << 61


def settings_of(options: EngineOptions, instruments: int) -> FloatArray:
    """The strategies' settings, float64, shape (instruments, SETTINGS)."""
    maker, parents = options.maker, options.parents
    row = np.array(
        [
            maker.order_usd,
            maker.max_inventory_usd,
            maker.skew_spreads,
            maker.edge_ticks,
            maker.requote_s * 1e9,
            float(maker.enabled),
            parents.order_usd,
            parents.shortest_s * 1e9,
            max(parents.longest_s, parents.shortest_s) * 1e9,
            parents.slices,
            parents.period_s * 1e9,
            parents.reach_ratio,
            parents.improve_ticks,
            parents.follow_s * 1e9,
        ]
    )
    return np.tile(row, (instruments, 1))


def schedule_parents(options: EngineOptions, instruments: tuple[Instrument, ...], start_ns: int, seed: int) -> IntArray:
    """Idle parents, int64 (instruments, PARENTS), whose first starts are spread over one period.

    The first instrument begins `first_after_s` after `start_ns`, so that figures come soon; the others
    follow evenly, in an order and with first sides drawn from the seed.
    """
    n = len(instruments)
    rng = np.random.default_rng(seed)
    rows = np.zeros((n, PARENTS), dtype=np.int64)
    turn = rng.permutation(n)
    first_ns, period_ns = options.parents.first_after_s * 1e9, options.parents.period_s * 1e9
    rows[:, P_NEXT_NS] = (start_ns + first_ns + turn * (period_ns / n)).astype(np.int64)
    rows[:, P_SIDE] = rng.choice([1, -1], n)
    if not options.parents.enabled:
        rows[:, P_NEXT_NS] = NEVER_NS
    return rows


@inline_kernel
def quote_price(
    side: int, best_bid: int, best_ask: int, inventory: float, skew_spreads: float, edge_ticks: int
) -> int:  # fmt: skip
    """Where a quote of this side should rest, in ticks; 0 where there should be none.

    best_bid, best_ask: the others' touch. inventory: the maker's, over its limit (-1 .. 1); at full
    inventory both quotes stand `skew_spreads` spreads (a tick at least) away from where a flat
    maker's would, the side that would add to it stands nowhere. Never crosses the touch.
    """
    price = 0
    if side * inventory < 1.0:
        shift = int(np.rint(inventory * max(1.0, skew_spreads * (best_ask - best_bid))))
        if side > 0:
            price = max(min(best_bid - edge_ticks - shift, best_ask - 1), 1)
        else:
            price = max(best_ask + edge_ticks - shift, best_bid + 1)
    return price


@inline_kernel
def is_worth_moving(resting: int, wanted: int, best_bid: int, best_ask: int) -> bool:
    """Whether a quote should give up its place in the queue: not for less than an eighth of the spread."""
    return abs(wanted - resting) > (best_ask - best_bid) // 8


@inline_kernel
def lots_for(value_usd: float, mid_ticks: float, usd_per_tick_lot: float) -> int:
    """Whole lots nearest to a value, one at least."""
    return max(1, int(np.rint(value_usd / (mid_ticks * usd_per_tick_lot))))


@inline_kernel
def lots_by_slice(target: int, done_slices: int, slices: int) -> int:
    """How much of a parent should be filled when that many of its slices are over; all of it at the last."""
    return target * done_slices // slices


@inline_kernel
def duration_ns(number: int, instrument: int, shortest_ns: float, longest_ns: float) -> int:
    """How long an instrument's parent of that number (from 0) lasts: the first as short as can be, later ones spread evenly."""
    share = (number * 0.6180339887498949 + instrument * 0.37) % 1.0 if number > 0 else 0.0
    return int(shortest_ns + share * (longest_ns - shortest_ns))


@inline_kernel
def resting_price(side: int, touch: int, opposite: int, improve_ticks: int) -> int:
    """Where a slice rests: at the touch of its side, or inside a spread more than twice as wide as the step."""
    if side * (opposite - touch) > 2 * improve_ticks:
        return touch + side * improve_ticks
    return touch


@inline_kernel
def crossing_price(side: int, mid_ticks: float, best_opposite: int, reach_ratio: float) -> int:
    """The worst price, in ticks, that an order meant to fill at once accepts: the touch or `reach_ratio` off mid."""
    if side > 0:
        return max(best_opposite, int(mid_ticks * (1.0 + reach_ratio)))
    return max(min(best_opposite, int(np.ceil(mid_ticks * (1.0 - reach_ratio)))), 1)
