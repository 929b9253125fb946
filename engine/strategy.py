"""Strategy: the settings of both strategies, and where to quote. Pure decisions over integers; acting is `engine.orders`.

Two strategies share every instrument. The maker rests one bid and one ask near the touch and leans
them against its own inventory. Parent orders buy or sell a quantity within a while: cut into
children, they are worked by one of the algorithms of `engine.algos`, which also holds their columns.
"""

from __future__ import annotations

import numpy as np

from engine.algos.choice import CODE_OF
from engine.events import Instrument
from engine.jit import inline_kernel
from engine.options import EngineOptions
from metrics.frame import FloatArray, IntArray

# One row of settings per instrument, float64.
MAKER_USD, MAKER_MAX_USD, MAKER_SKEW, MAKER_EDGE, MAKER_REQUOTE_NS, MAKER_ON = range(6)
PARENT_USD, PARENT_SHORTEST_NS, PARENT_LONGEST_NS, PARENT_SLICES, PARENT_PERIOD_NS = range(6, 11)
PARENT_REACH, PARENT_IMPROVE, PARENT_FOLLOW_NS = range(11, 14)
PARENT_ALGO, PARENT_CONTROL, PARENT_LIMIT, PARENT_GRACE_NS, PARENT_LOOK_NS = range(14, 19)
POV_RATE, POV_CAP, PEG_PATIENCE, PEG_URGENCY, PEG_HOLD, PEG_NEGLIGIBLE = range(19, 25)
SETTINGS = 25

# One row per instrument, int64: the parent order at work.
P_STATE, P_SIDE, P_TARGET, P_FILLED, P_SLICE, P_START_NS, P_NEXT_NS, P_COUNT, P_SLICE_NS = range(9)
P_ALGO, P_CONTROL, P_END_NS, P_LIMIT, P_VOLUME = range(9, 14)  # P_LIMIT in ticks; P_VOLUME: others' lots before it
P_NOTIONAL, P_FILLS, P_FIRST_NS, P_ORDERS = range(14, 18)  # P_NOTIONAL in ticks x lots; P_FIRST_NS: first fill, or -1
PARENTS = 18
# A parent is CROSSED right after it has crossed the spread: what came of it is seen at its timer, at once.
IDLE, WORKING, CROSSED = 0, 1, 2
NEVER_NS = 1 << 61
# A number that is not finite is no whole number either: what it comes to is this, which no gate would take for an order.
NOT_FINITE = -1
LARGEST = 1e15  # beyond it a float64 is no whole number of ticks or lots any more


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
            CODE_OF[parents.algo],
            parents.control_share,
            parents.limit_ratio,
            parents.grace_s * 1e9,
            parents.look_s * 1e9,
            parents.pov_rate,
            max(parents.pov_cap, parents.pov_rate),
            parents.peg_patience,
            parents.peg_urgency,
            parents.peg_hold,
            parents.peg_negligible_bps / 1e4,
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
    maker's would, the side that would add to it stands nowhere. Never crosses the touch. NOT_FINITE where
    inventory or skew are.
    """
    price = 0
    distance = np.rint(inventory * max(1.0, skew_spreads * (best_ask - best_bid)))
    if not (abs(distance) <= LARGEST and abs(skew_spreads) <= LARGEST):
        price = NOT_FINITE
    elif side * inventory < 1.0:
        shift = int(distance)
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
    """Whole lots nearest to a value, one at least; NOT_FINITE where that is no number that could be one."""
    lots = np.rint(value_usd / (mid_ticks * usd_per_tick_lot))
    return max(1, int(lots)) if abs(lots) <= LARGEST else NOT_FINITE


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


@inline_kernel
def note_fill(parent: IntArray, lots: int, ticks: int, t_ns: int) -> None:
    """Take one fill into a parent's row; a parent that has all of it is looked at again at once."""
    parent[P_FILLED] += lots
    parent[P_NOTIONAL] += lots * ticks
    parent[P_FILLS] += 1
    if parent[P_FIRST_NS] < 0:
        parent[P_FIRST_NS] = t_ns
    if parent[P_STATE] == WORKING and parent[P_FILLED] >= parent[P_TARGET]:
        parent[P_NEXT_NS] = t_ns
