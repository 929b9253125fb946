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

from engine import tallies, windows
from engine.borrow import borrowed
from engine.jit import inline_kernel
from engine.options import INSTRUMENT_LIMITS, GateOptions
from engine.tallies import COUNT, entry_of, key_of
from engine.windows import (
    HIGH,
    LOTS,
    LOW,
    NO_HIGH,
    NO_LOW,
    NOW,
    VALUE,
    add_volume,
    bring_up,
    empty,
    see_price,
    width_of,
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
    BREAKER = 17

    @property
    def label(self) -> str:
        """The value of the `reason` label."""
        return self.name.lower()


REASONS = len(Reason)

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
BUCKET_TOKENS, BUCKET_TIME_NS, BUCKET_RATE, BUCKET_SIZE = range(4)
BUCKET_WORDS = 4
STRATEGY_SCOPE, CLIENT_SCOPE = range(2)  # rows of `states` and `latched`
WORKING_USD, GROSS_USD = range(2)  # columns of `exposure`, and `total_exposure`

# Where everything lies, in words of eight bytes: first what is the desk's, then ROW_WORDS for each instrument.
FIRM = 0
TOTALS = FIRM + len(FIRM_LIMITS)
IDENTICAL_NS, REPEAT_NS, COLLAR_WIDTH_NS, VOLUME_WIDTH_NS = range(TOTALS + 2, TOTALS + 6)
# What breakers and the degraded mode say (engine/fusebox.py): the reason that every order is refused with (0: none),
# how many orders are let through all the same (a probe), and what is not to be decided now: bits of HOLD_...
BLOCK, PROBES, HOLD = range(VOLUME_WIDTH_NS + 1, VOLUME_WIDTH_NS + 4)
HOLD_QUOTES, HOLD_PARENTS, HOLD_CONTROL, PROBE_DECISION = 1, 2, 4, 8
STATES = HOLD + 1
LATCHED = STATES + 2 * MAX_CLIENTS
BEGUN = LATCHED + 2 * MAX_CLIENTS
TOKENS = BEGUN + MAX_STRATEGIES
IDENTICAL = -(-(TOKENS + MAX_STRATEGIES * BUCKET_WORDS) // 8) * 8  # on a cache line
INTENTS = IDENTICAL + tallies.WORDS
ROWS = INTENTS + tallies.WORDS
EXPOSURE = LIMITS  # from here on within an instrument's row, behind its limits
PRICES = EXPOSURE + 2
VOLUMES = PRICES + windows.WORDS
ROW_WORDS = -(-(VOLUMES + windows.WORDS) // 8) * 8

# Kernels see module-level ints as constants; enum members would not compile to them.
(
    _ACCEPTED, _HALTED, _REDUCE_ONLY, _MISSING, _STALE, _COLLAR, _LOTS, _VALUE, _POSITION, _RATE, _,
    _PERIOD_COLLAR, _PERIOD_VOLUME, _WORKING, _GROSS, _DUPLICATE, _REPEATED, _,
) = (int(reason) for reason in Reason)  # fmt: skip
_STATE_REDUCING, _STATE_HALTED = int(TradingState.REDUCING), int(TradingState.HALTED)


class Gates(NamedTuple):
    """What the gates know: one piece of memory, seen as int64 (`words`) and as float64 (`values`).

    Two arrays instead of many: every array that a kernel takes out of a tuple costs reference
    counting, which was a multiple of the checks themselves. The properties are for Python: views of
    the same memory. n instruments.
    """

    words: IntArray
    values: FloatArray

    @property
    def rows(self) -> FloatArray:
        """float64 (n, ROW_WORDS): everything of each instrument."""
        return self.values[ROWS:].reshape(-1, ROW_WORDS)

    @property
    def limits(self) -> FloatArray:
        """float64 (n, LIMITS), NaN where one is missing."""
        return self.rows[:, :LIMITS]

    @property
    def exposure(self) -> FloatArray:
        """float64 (n, 2) in USD, as of each instrument's last event or order; `total_exposure` is its sum."""
        return self.rows[:, EXPOSURE:PRICES]

    @property
    def volumes(self) -> FloatArray:
        """float64 (n, 2): lots and USD sent within the volume period, as of each instrument's last order."""
        return self.rows[:, VOLUMES + NOW : VOLUMES + NOW + 2]

    @property
    def firm(self) -> FloatArray:
        """float64 (4,): see FIRM_LIMITS, NaN where one is missing."""
        return self.values[FIRM:TOTALS]

    @property
    def total_exposure(self) -> FloatArray:
        """float64 (2,) in USD."""
        return self.values[TOTALS : TOTALS + 2]

    @property
    def states(self) -> IntArray:
        """int64 (2, MAX_CLIENTS): trading state of each strategy, each client."""
        return self.words[STATES:LATCHED].reshape(2, -1)

    @property
    def latched(self) -> IntArray:
        """int64 (2, MAX_CLIENTS): 1 where the repeated-execution throttle has switched one off."""
        return self.words[LATCHED:BEGUN].reshape(2, -1)

    @property
    def intents_begun(self) -> IntArray:
        """int64 (MAX_STRATEGIES,): whiles in which an intent of a strategy sent orders."""
        return self.words[BEGUN:TOKENS]

    @property
    def buckets(self) -> FloatArray:
        """float64 (MAX_STRATEGIES, 4): tokens, time ns, tokens a ns, size; NaN where a limit is missing."""
        return self.values[TOKENS : TOKENS + MAX_STRATEGIES * BUCKET_WORDS].reshape(-1, BUCKET_WORDS)


def make_gates(options: GateOptions, instruments: int) -> Gates:
    """Gates without any limit, so that they refuse every order: `engine.limits.Limits` puts the limits in."""
    room = np.zeros(ROWS + instruments * ROW_WORDS + 8, dtype=np.int64)
    shift = (-room.ctypes.data % 64) // 8  # a set of a tally lies in two cache lines
    words = room[shift : shift + ROWS + instruments * ROW_WORDS]
    gates = Gates(words, words.view(np.float64))
    words[IDENTICAL_NS], words[REPEAT_NS] = (
        round(options.identical_within_s * 1e9),
        round(options.repeat_within_s * 1e9),
    )
    words[COLLAR_WIDTH_NS], words[VOLUME_WIDTH_NS] = (
        width_of(options.collar_period_s),
        width_of(options.volume_period_s),
    )
    gates.limits[:] = gates.firm[:] = gates.buckets[:] = np.nan
    begin(gates, 0)
    return gates


def begin(gates: Gates, t_ns: int) -> None:
    """Begin a session at `t_ns`: windows, tallies and exposures are of one session; limits, states and latches stay."""
    w, v = gates.words, gates.values
    w[IDENTICAL:ROWS] = 0
    for row in range(ROWS, len(w), ROW_WORDS):
        empty(w, v, row + PRICES, NO_LOW, NO_HIGH)
        empty(w, v, row + VOLUMES, 0.0, 0.0)
    gates.exposure[:] = 0.0
    gates.total_exposure[:] = 0.0
    gates.buckets[:, BUCKET_TIME_NS] = t_ns


def go_on(gates: Gates, earlier: IntArray) -> None:
    """Go on with the windows, tallies, tokens and latches of `earlier` words; what is configured stays as it is now."""
    configured, blocked = gates.words[IDENTICAL_NS:BLOCK].copy(), gates.words[BLOCK:STATES].copy()
    if (earlier[IDENTICAL_NS:BLOCK] != configured).any():
        return  # the windows are of other widths: they begin anew
    limits, firm, states, buckets = gates.limits.copy(), gates.firm.copy(), gates.states.copy(), gates.buckets.copy()
    gates.words[:] = earlier
    gates.words[BLOCK:STATES] = blocked
    gates.limits[:], gates.firm[:], gates.states[:] = limits, firm, states
    tokens = gates.buckets[:, BUCKET_TOKENS].copy()
    gates.buckets[:, BUCKET_RATE:] = buckets[:, BUCKET_RATE:]
    size = buckets[:, BUCKET_SIZE]
    gates.buckets[:, BUCKET_TOKENS] = np.where(np.isnan(tokens), size, np.minimum(tokens, size))


@inline_kernel
def take_token(v: FloatArray, strategy: int, now_ns: int) -> bool:
    """Take one message from a strategy's bucket if there is one; time that goes backwards adds nothing."""
    at = TOKENS + strategy * BUCKET_WORDS
    elapsed = now_ns - v[at + BUCKET_TIME_NS]
    tokens = v[at + BUCKET_TOKENS]
    if elapsed > 0.0:
        tokens = min(v[at + BUCKET_SIZE], tokens + elapsed * v[at + BUCKET_RATE])
        v[at + BUCKET_TIME_NS] = now_ns
    taken = tokens >= 1.0
    v[at + BUCKET_TOKENS] = tokens - 1.0 if taken else tokens
    return bool(taken)


@inline_kernel
def state_for(gates: Gates, state: int, strategy: int, client: int) -> int:
    """The strictest of an instrument's state (the whole desk's is in it), its strategy's and its client's."""
    return _strictest(borrowed(gates.words), state, strategy, client)


@inline_kernel
def is_latched(gates: Gates, strategy: int, client: int) -> bool:
    """Whether the repeated-execution throttle has switched a strategy or a client off."""
    return _is_off(borrowed(gates.words), strategy, client)


@inline_kernel
def is_held(gates: Gates, what: int) -> bool:
    """Whether something of HOLD_... is not to be decided now."""
    return bool(borrowed(gates.words)[HOLD] & what)


@inline_kernel
def spend_probe(gates: Gates) -> None:
    """A decision has been made: where it was the probe of the decisions' breaker, no further one until that is answered."""
    w = borrowed(gates.words)
    if w[HOLD] & PROBE_DECISION:
        w[HOLD] = (w[HOLD] & ~PROBE_DECISION) | HOLD_QUOTES | HOLD_PARENTS


@inline_kernel
def blocked_for(gates: Gates) -> int:
    """The reason that a breaker refuses every order with now; 0 for none."""
    return int(borrowed(gates.words)[BLOCK])


@inline_kernel
def see_market(
    gates: Gates, i: int, mid: float, position: float, buying: int, selling: int, usd: float, t_ns: int
) -> None:
    """Take an instrument's new mid into its collar's period, and bring its exposure up to date (usd: of a tick and lot)."""
    w, v = borrowed(gates.words), borrowed(gates.values)
    row = ROWS + i * ROW_WORDS
    see_price(w, v, row + PRICES, w[COLLAR_WIDTH_NS], mid, t_ns)
    _set_exposure(v, row, (buying + selling) * mid * usd, _gross(position, buying, selling) * mid * usd)


@inline_kernel
def has_collar(gates: Gates, i: int) -> bool:
    """Whether an instrument has a price collar."""
    return bool(borrowed(gates.values)[ROWS + i * ROW_WORDS + LIMIT_COLLAR] > 0.0)


@inline_kernel
def largest_order(gates: Gates, i: int) -> float:
    """The most lots that one order of an instrument may have; NaN where that limit is missing."""
    return float(borrowed(gates.values)[ROWS + i * ROW_WORDS + LIMIT_LOTS])


@inline_kernel
def worst_price(gates: Gates, i: int, side: int, mid: float) -> int:
    """The worst price, in ticks, that both collars let an order of a side have: what a market order is given."""
    v, row = borrowed(gates.values), ROWS + i * ROW_WORDS
    reach, period = v[row + LIMIT_COLLAR] * mid, v[row + LIMIT_PERIOD_COLLAR]
    if side > 0:
        return int(np.floor(min(mid + reach, v[row + PRICES + NOW + LOW] * (1.0 + period))))
    return max(int(np.ceil(max(mid - reach, v[row + PRICES + NOW + HIGH] * (1.0 - period)))), 1)


@inline_kernel
def take_back(gates: Gates, i: int, ticks: int, lots: int, usd_per_tick_lot: float) -> None:
    """An accepted order never came into the book: it counts in no volume. Its exposure goes with the next `check`."""
    at = ROWS + i * ROW_WORDS + VOLUMES
    add_volume(borrowed(gates.words), borrowed(gates.values), at, -float(lots), -(lots * ticks * usd_per_tick_lot))


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
    return _check(
        borrowed(gates.words), borrowed(gates.values), i, side, ticks, lots, strategy, client, intent, mid, usd_per_tick_lot, position,
        buying, selling, data_age_ns, state, t_ns,
    )  # fmt: skip


@inline_kernel
def _strictest(w: IntArray, state: int, strategy: int, client: int) -> int:
    return int(max(state, w[STATES + strategy], w[STATES + MAX_CLIENTS + client]))


@inline_kernel
def _is_off(w: IntArray, strategy: int, client: int) -> bool:
    return bool(w[LATCHED + strategy] + w[LATCHED + MAX_CLIENTS + client] != 0)


@inline_kernel
def _repeats_too_often(w: IntArray, v: FloatArray, strategy: int, client: int, intent: int, t_ns: int) -> bool:
    """Count one more order for an intent; one too many latches a client's orders off, or the house's strategy.

    Every attempt counts, also one that a later gate refuses: what runs away is what is asked for.
    """
    key = key_of(intent, strategy, client)
    at = entry_of(w, INTENTS, key, t_ns, w[REPEAT_NS])
    if w[at + COUNT] == 0:
        w[BEGUN + strategy] += 1
    w[at + COUNT] += 1
    too_often = w[at + COUNT] > v[FIRM + FIRM_REPEATS]
    if too_often:
        w[LATCHED + strategy if client == HOUSE else LATCHED + MAX_CLIENTS + client] = 1
    return bool(too_often)


@inline_kernel
def _gross(position: float, buying: int, selling: int) -> float:
    """The largest position, in lots, that working orders can lead to."""
    return max(abs(position + buying), abs(position - selling))


@inline_kernel
def _set_exposure(v: FloatArray, row: int, working_usd: float, gross_usd: float) -> None:
    """Bring an instrument's exposure and the totals up to date."""
    v[TOTALS + WORKING_USD] += working_usd - v[row + EXPOSURE + WORKING_USD]
    v[TOTALS + GROSS_USD] += gross_usd - v[row + EXPOSURE + GROSS_USD]
    v[row + EXPOSURE + WORKING_USD] = working_usd
    v[row + EXPOSURE + GROSS_USD] = gross_usd


@inline_kernel
def _check(
    w: IntArray, v: FloatArray, i: int, side: int, ticks: int, lots: int, strategy: int, client: int, intent: int,
    mid: float, usd_per_tick_lot: float, position: float, buying: int, selling: int, data_age_ns: int, state: int,
    t_ns: int,
) -> int:  # fmt: skip
    row = ROWS + i * ROW_WORDS
    same_side = buying if side > 0 else selling
    after = position + side * (same_side + lots)
    lot_usd = mid * usd_per_tick_lot
    value = lots * ticks * usd_per_tick_lot
    in_force = _strictest(w, state, strategy, client)
    reason = _ACCEPTED
    if in_force >= _STATE_HALTED:
        reason = _HALTED
    elif _is_off(w, strategy, client):
        reason = _REPEATED
    elif in_force == _STATE_REDUCING and (side * position >= 0.0 or same_side + lots > abs(position)):
        reason = _REDUCE_ONLY
    elif w[BLOCK] != _ACCEPTED and w[PROBES] <= 0:
        reason = int(w[BLOCK])
    elif not (v[row + COMPLETE] > 0.0 and v[TOKENS + strategy * BUCKET_WORDS + BUCKET_SIZE] > 0.0):
        reason = _MISSING
    elif _repeats_too_often(w, v, strategy, client, intent, t_ns):
        reason = _REPEATED
    elif data_age_ns < 0 or not data_age_ns <= v[row + LIMIT_STALE_NS] or not mid > 0.0:
        reason = _STALE
    elif not abs(ticks - mid) <= v[row + LIMIT_COLLAR] * mid:
        reason = _COLLAR
    elif lots <= 0 or not lots <= v[row + LIMIT_LOTS]:
        reason = _LOTS
    elif not value <= v[row + LIMIT_USD]:
        reason = _VALUE
    elif not abs(after) * lot_usd <= v[row + LIMIT_POSITION] and abs(after) > abs(position):
        reason = _POSITION
    else:
        see_price(w, v, row + PRICES, w[COLLAR_WIDTH_NS], mid, t_ns)
        bring_up(w, v, row + VOLUMES, w[VOLUME_WIDTH_NS], t_ns)
        working, gross = (buying + selling) * lot_usd, _gross(position, buying, selling) * lot_usd
        working_after = working + lots * lot_usd
        gross_after = max(gross, abs(after) * lot_usd)
        reason = _check_sums(v, row, side, ticks, lots, value, working_after, gross, gross_after)
        if reason == _ACCEPTED:
            reason = _check_flow(w, v, i, side, ticks, lots, strategy, client, t_ns)
        if reason == _ACCEPTED:
            add_volume(w, v, row + VOLUMES, float(lots), value)
            w[PROBES] -= 1 if w[PROBES] > 0 else 0
            working, gross = working_after, gross_after
        _set_exposure(v, row, working, gross)
    return reason


@inline_kernel
def _check_sums(
    v: FloatArray, row: int, side: int, ticks: int, lots: int, value: float, working_after: float, gross: float,
    gross_after: float,
) -> int:  # fmt: skip
    """The gates over a period and over all that works: exposures in USD, of the instrument with this order in it."""
    reach = v[row + LIMIT_PERIOD_COLLAR]
    highest = v[row + PRICES + NOW + LOW] * (1.0 + reach)
    lowest = v[row + PRICES + NOW + HIGH] * (1.0 - reach)
    total_working = v[TOTALS + WORKING_USD] - v[row + EXPOSURE + WORKING_USD] + working_after
    total_gross = v[TOTALS + GROSS_USD] - v[row + EXPOSURE + GROSS_USD] + gross_after
    reason = _ACCEPTED
    if (side > 0 and not ticks <= highest) or (side < 0 and not ticks >= lowest):
        reason = _PERIOD_COLLAR
    elif (
        not v[row + VOLUMES + NOW + LOTS] + lots <= v[row + LIMIT_PERIOD_LOTS]
        or not v[row + VOLUMES + NOW + VALUE] + value <= v[row + LIMIT_PERIOD_USD]
    ):
        reason = _PERIOD_VOLUME
    elif not working_after <= v[row + LIMIT_WORKING] or not total_working <= v[FIRM + FIRM_WORKING]:
        reason = _WORKING
    elif gross_after > gross and not total_gross <= v[FIRM + FIRM_GROSS]:
        reason = _GROSS
    return reason


@inline_kernel
def _check_flow(
    w: IntArray, v: FloatArray, i: int, side: int, ticks: int, lots: int, strategy: int, client: int, t_ns: int
) -> int:  # fmt: skip
    """The gates over the flow of orders, asked last: only an order that would be sent uses them up."""
    key = key_of(ticks, lots, ((i * MAX_STRATEGIES + strategy) * MAX_CLIENTS + client) * 4 + side + 2)
    at = entry_of(w, IDENTICAL, key, t_ns, w[IDENTICAL_NS])
    reason = _ACCEPTED
    if not w[at + COUNT] < v[FIRM + FIRM_IDENTICAL]:
        reason = _DUPLICATE
    elif not take_token(v, strategy, t_ns):
        reason = _RATE
    else:
        w[at + COUNT] += 1
    return reason
