"""Gates: the checks that every own order passes before it reaches the book.

Free functions over plain arrays, so that the step kernel and tests call the same code. A gate answers
with a reason; the first one that refuses decides. Cancels pass no gate: a throttle must never keep an
order in the market. What an accepted order may come to counts from the moment it is accepted.
docs/ENGINE.md lists every gate with its limit, its reason and what lifts it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from engine.jit import inline_kernel
from engine.options import INSTRUMENT_LIMITS, GateOptions
from engine.tallies import COUNT, empty_tally, entry_of, mix
from engine.windows import (
    HIGH,
    LOTS,
    LOW,
    VALUE,
    Windows,
    add_volume,
    bring_up,
    empty,
    price_windows,
    see_price,
    volume_windows,
)
from metrics.frame import FloatArray, IntArray


class TradingState(IntEnum):
    """What the engine may do: everything, only reduce exposure, nothing."""

    ACTIVE = 0
    REDUCING = 1
    HALTED = 2


class Reason(IntEnum):
    """Why an order was refused; ACCEPTED is none of them. VENUE comes from the book, the rest from gates."""

    ACCEPTED = 0
    HALTED = 1
    REDUCE_ONLY = 2
    MISSING_LIMIT = 3
    STALE_DATA = 4
    PRICE_COLLAR = 5
    ORDER_QUANTITY = 6
    ORDER_VALUE = 7
    POSITION = 8
    MESSAGE_RATE = 9
    VENUE = 10
    PERIOD_COLLAR = 11
    PERIOD_VOLUME = 12
    WORKING_EXPOSURE = 13
    GROSS_EXPOSURE = 14
    DUPLICATE = 15
    REPEATED_EXECUTION = 16

    @property
    def label(self) -> str:
        """The value of the `reason` label."""
        return self.name.lower()


REASONS = len(Reason)
STATE_REASONS = (Reason.HALTED, Reason.REDUCE_ONLY)  # refused because of the trading state, not of the order

# Who sends: the position in STRATEGIES is the index that orders carry. A new strategy is a name here.
STRATEGIES = ("maker", "parents", "clients")
MAKER, PARENTS, CLIENTS = range(3)
MAX_STRATEGIES = 16
HOUSE = 0  # the client index of the desk's own strategies; others come in the order in which they are first named
MAX_CLIENTS = 64

# Columns of `limits`: INSTRUMENT_LIMITS in order (stale data in ns), then whether no limit is missing.
(
    LIMIT_COLLAR, LIMIT_PERIOD_COLLAR, LIMIT_LOTS, LIMIT_USD, LIMIT_POSITION, LIMIT_WORKING, LIMIT_PERIOD_LOTS,
    LIMIT_PERIOD_USD, LIMIT_STALE_NS, COMPLETE,
) = range(len(INSTRUMENT_LIMITS) + 1)  # fmt: skip
LIMITS = COMPLETE + 1
FIRM_LIMITS = ("max_working_total_usd", "max_gross_usd", "max_identical", "max_repeats")
FIRM_WORKING, FIRM_GROSS, FIRM_IDENTICAL, FIRM_REPEATS = range(4)
IDENTICAL_NS, REPEAT_NS = range(2)  # `whiles`
BUCKET_TOKENS, BUCKET_TIME_NS, BUCKET_RATE, BUCKET_SIZE = range(4)
STRATEGY_SCOPE, CLIENT_SCOPE = range(2)  # rows of `states` and `latched`
WORKING_USD, GROSS_USD = range(2)  # columns of `exposure`, and `total_exposure`

# Kernels see module-level ints as constants; enum members would not compile to them.
(
    _ACCEPTED, _HALTED, _REDUCE_ONLY, _MISSING, _STALE, _COLLAR, _LOTS, _VALUE, _POSITION, _RATE, _,
    _PERIOD_COLLAR, _PERIOD_VOLUME, _WORKING, _GROSS, _DUPLICATE, _REPEATED,
) = (int(reason) for reason in Reason)  # fmt: skip
_STATE_REDUCING, _STATE_HALTED = int(TradingState.REDUCING), int(TradingState.HALTED)
_NO_KEY = np.uint64(0)


class Gates(NamedTuple):
    """What the gates know; n instruments.

    limits float64 (n, LIMITS), NaN where one is missing; firm float64 (4,): see FIRM_LIMITS; whiles
    int64 (2,) ns; buckets float64 (MAX_STRATEGIES, 4): tokens, time ns, tokens a ns, size; prices: mids
    of the collar's period; volumes: lots and USD sent in the volume period; exposure float64 (n, 2)
    and total_exposure float64 (2,) in USD, as of each instrument's last event or order; identical,
    intents: tallies; states int64 (2, MAX_CLIENTS): trading state of each strategy, each client;
    latched int64 (2, MAX_CLIENTS): 1 where the repeated-execution throttle has switched one off;
    intents_begun int64 (MAX_STRATEGIES,): whiles in which an intent of a strategy sent orders.
    """

    limits: FloatArray
    firm: FloatArray
    whiles: IntArray
    buckets: FloatArray
    prices: Windows
    volumes: Windows
    exposure: FloatArray
    total_exposure: FloatArray
    identical: IntArray
    intents: IntArray
    states: IntArray
    latched: IntArray
    intents_begun: IntArray


def make_gates(options: GateOptions, instruments: int) -> Gates:
    """Gates without any limit, so that they refuse every order: `engine.limits.Limits` puts the limits in."""
    return Gates(
        limits=np.full((instruments, LIMITS), np.nan),
        firm=np.full(len(FIRM_LIMITS), np.nan),
        whiles=np.array(
            [round(options.identical_within_s * 1e9), round(options.repeat_within_s * 1e9)], dtype=np.int64
        ),
        buckets=np.full((MAX_STRATEGIES, 4), np.nan),
        prices=price_windows(instruments, options.collar_period_s),
        volumes=volume_windows(instruments, options.volume_period_s),
        exposure=np.zeros((instruments, 2)),
        total_exposure=np.zeros(2),
        identical=empty_tally(),
        intents=empty_tally(),
        states=np.zeros((2, MAX_CLIENTS), dtype=np.int64),
        latched=np.zeros((2, MAX_CLIENTS), dtype=np.int64),
        intents_begun=np.zeros(MAX_STRATEGIES, dtype=np.int64),
    )


def begin(gates: Gates, t_ns: int) -> None:
    """Begin a session at `t_ns`: windows, tallies and exposures are of one session; limits, states and latches stay."""
    empty(gates.prices)
    empty(gates.volumes)
    gates.identical[:] = gates.intents[:] = 0
    gates.exposure[:] = gates.total_exposure[:] = 0.0
    gates.buckets[:, BUCKET_TIME_NS] = t_ns


@inline_kernel
def take_token(buckets: FloatArray, strategy: int, now_ns: int) -> bool:
    """Take one message from a strategy's bucket if there is one; time that goes backwards adds nothing."""
    elapsed = now_ns - buckets[strategy, BUCKET_TIME_NS]
    if elapsed > 0.0:
        filled = buckets[strategy, BUCKET_TOKENS] + elapsed * buckets[strategy, BUCKET_RATE]
        buckets[strategy, BUCKET_TOKENS] = min(buckets[strategy, BUCKET_SIZE], filled)
        buckets[strategy, BUCKET_TIME_NS] = now_ns
    taken = buckets[strategy, BUCKET_TOKENS] >= 1.0
    if taken:
        buckets[strategy, BUCKET_TOKENS] -= 1.0
    return bool(taken)


@inline_kernel
def state_for(gates: Gates, state: int, strategy: int, client: int) -> int:
    """The strictest of an instrument's state (the whole desk's is in it), its strategy's and its client's."""
    return int(max(state, gates.states[STRATEGY_SCOPE, strategy], gates.states[CLIENT_SCOPE, client]))


@inline_kernel
def is_latched(gates: Gates, strategy: int, client: int) -> bool:
    """Whether the repeated-execution throttle has switched a strategy or a client off."""
    return bool(gates.latched[STRATEGY_SCOPE, strategy] + gates.latched[CLIENT_SCOPE, client] != 0)


@inline_kernel
def repeats_too_often(gates: Gates, strategy: int, client: int, intent: int, t_ns: int) -> bool:
    """Count one more order for an intent; one too many latches a client's orders off, or the house's strategy.

    Every attempt counts, also one that a later gate refuses: what runs away is what is asked for.
    """
    key = mix(mix(_NO_KEY, intent), strategy * MAX_CLIENTS + client + 1)
    row = entry_of(gates.intents, key, t_ns, gates.whiles[REPEAT_NS])
    if gates.intents[row, COUNT] == 0:
        gates.intents_begun[strategy] += 1
    gates.intents[row, COUNT] += 1
    too_often = gates.intents[row, COUNT] > gates.firm[FIRM_REPEATS]
    if too_often:
        if client == HOUSE:
            gates.latched[STRATEGY_SCOPE, strategy] = 1
        else:
            gates.latched[CLIENT_SCOPE, client] = 1
    return bool(too_often)


@inline_kernel
def set_exposure(gates: Gates, i: int, position: float, buying: int, selling: int, lot_usd: float) -> None:
    """Bring an instrument's exposure and the totals up to date. Gross: the worst that its working orders can lead to."""
    working = (buying + selling) * lot_usd
    gross = max(abs(position + buying), abs(position - selling)) * lot_usd
    gates.total_exposure[WORKING_USD] += working - gates.exposure[i, WORKING_USD]
    gates.total_exposure[GROSS_USD] += gross - gates.exposure[i, GROSS_USD]
    gates.exposure[i, WORKING_USD] = working
    gates.exposure[i, GROSS_USD] = gross


@inline_kernel
def worst_price(gates: Gates, i: int, side: int, mid: float) -> int:
    """The worst price, in ticks, that the collar lets an order of a side have: what a market order is given."""
    reach = gates.limits[i, LIMIT_COLLAR] * mid
    return int(np.floor(mid + reach)) if side > 0 else max(int(np.ceil(mid - reach)), 1)


@inline_kernel
def check(
    gates: Gates, i: int, side: int, ticks: int, lots: int, strategy: int, client: int, intent: int, mid: float,
    usd_per_tick_lot: float, position: float, buying: int, selling: int, data_age_ns: int, state: int, t_ns: int,
) -> int:  # fmt: skip
    """Return ACCEPTED (0), having counted the order everywhere, or the reason of the first gate that refuses it.

    side +1 buys; position and working quantities (buying, selling) are in lots and before the order;
    state is the instrument's. data_age_ns < 0: no data ever came. An order without a price (0 ticks)
    is outside every collar: see `worst_price`. Conditions are written so that a NaN limit refuses.
    """
    same_side = buying if side > 0 else selling
    after = position + side * (same_side + lots)
    lot_usd = mid * usd_per_tick_lot
    value = lots * ticks * usd_per_tick_lot
    in_force = state_for(gates, state, strategy, client)
    reason = _ACCEPTED
    if in_force >= _STATE_HALTED:
        reason = _HALTED
    elif is_latched(gates, strategy, client):
        reason = _REPEATED
    elif in_force == _STATE_REDUCING and (side * position >= 0.0 or same_side + lots > abs(position)):
        reason = _REDUCE_ONLY
    elif not (gates.limits[i, COMPLETE] > 0.0 and gates.buckets[strategy, BUCKET_SIZE] > 0.0):
        reason = _MISSING
    elif repeats_too_often(gates, strategy, client, intent, t_ns):
        reason = _REPEATED
    elif data_age_ns < 0 or not data_age_ns <= gates.limits[i, LIMIT_STALE_NS] or not mid > 0.0:
        reason = _STALE
    elif not abs(ticks - mid) <= gates.limits[i, LIMIT_COLLAR] * mid:
        reason = _COLLAR
    elif lots <= 0 or not lots <= gates.limits[i, LIMIT_LOTS]:
        reason = _LOTS
    elif not value <= gates.limits[i, LIMIT_USD]:
        reason = _VALUE
    elif not abs(after) * lot_usd <= gates.limits[i, LIMIT_POSITION] and abs(after) > abs(position):
        reason = _POSITION
    else:
        see_price(gates.prices, i, mid, t_ns)
        bring_up(gates.volumes, i, t_ns)
        set_exposure(gates, i, position, buying, selling, lot_usd)
        reason = _check_sums(gates, i, side, ticks, lots, value, lot_usd, position, buying, selling)
        if reason == _ACCEPTED:
            reason = _check_flow(gates, i, side, ticks, lots, strategy, client, t_ns)
        if reason == _ACCEPTED:
            add_volume(gates.volumes, i, float(lots), value)
            if side > 0:
                set_exposure(gates, i, position, buying + lots, selling, lot_usd)
            else:
                set_exposure(gates, i, position, buying, selling + lots, lot_usd)
    return reason


@inline_kernel
def _check_sums(
    gates: Gates, i: int, side: int, ticks: int, lots: int, value: float, lot_usd: float, position: float,
    buying: int, selling: int,
) -> int:  # fmt: skip
    """The gates over a period and over all that works; the windows and exposures are those of now."""
    low, high = gates.prices.now[i, LOW], gates.prices.now[i, HIGH]
    reach = gates.limits[i, LIMIT_PERIOD_COLLAR]
    beyond = not ticks <= low * (1.0 + reach) if side > 0 else not ticks >= high * (1.0 - reach)
    working = gates.exposure[i, WORKING_USD] + lots * lot_usd
    grown = position + buying + lots if side > 0 else position - selling - lots
    gross = max(gates.exposure[i, GROSS_USD], abs(grown) * lot_usd)
    added = gross - gates.exposure[i, GROSS_USD]
    volumes, limits = gates.volumes.now, gates.limits
    reason = _ACCEPTED
    if beyond:
        reason = _PERIOD_COLLAR
    elif not (
        volumes[i, LOTS] + lots <= limits[i, LIMIT_PERIOD_LOTS]
        and volumes[i, VALUE] + value <= limits[i, LIMIT_PERIOD_USD]
    ):
        reason = _PERIOD_VOLUME
    elif not (
        working <= limits[i, LIMIT_WORKING]
        and gates.total_exposure[WORKING_USD] + lots * lot_usd <= gates.firm[FIRM_WORKING]
    ):
        reason = _WORKING
    elif added > 0.0 and not gates.total_exposure[GROSS_USD] + added <= gates.firm[FIRM_GROSS]:
        reason = _GROSS
    return reason


@inline_kernel
def _check_flow(gates: Gates, i: int, side: int, ticks: int, lots: int, strategy: int, client: int, t_ns: int) -> int:
    """The gates over the flow of orders, asked last: only an order that would be sent uses them up."""
    key = mix(mix(mix(_NO_KEY, ticks), lots), ((i * MAX_STRATEGIES + strategy) * MAX_CLIENTS + client) * 4 + side + 2)
    row = entry_of(gates.identical, key, t_ns, gates.whiles[IDENTICAL_NS])
    reason = _ACCEPTED
    if not gates.identical[row, COUNT] < gates.firm[FIRM_IDENTICAL]:
        reason = _DUPLICATE
    elif not take_token(gates.buckets, strategy, t_ns):
        reason = _RATE
    else:
        gates.identical[row, COUNT] += 1
    return reason


@inline_kernel
def take_back(gates: Gates, i: int, ticks: int, lots: int, usd_per_tick_lot: float) -> None:
    """An accepted order never came into the book: it counts in no volume. Its exposure goes with the next `check`."""
    add_volume(gates.volumes, i, -float(lots), -(lots * ticks * usd_per_tick_lot))
