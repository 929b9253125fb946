"""Gates: what the checks of every own order know, and what is in force: limits, states, latches, blocks.

The checks themselves: engine/pretrade.py. docs/ENGINE.md lists every gate with its limit, its reason
and what lifts it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from engine import tallies, windows
from engine.borrow import borrowed
from engine.jit import inline_kernel
from engine.options import INSTRUMENT_LIMITS, GateOptions
from engine.windows import HIGH, LOW, NO_HIGH, NO_LOW, OLDER, RUNNING, empty, width_of
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
    VAR_LIMIT = 18

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
IDENTICAL_NS, REPEAT_NS, COLLAR_WIDTH_NS, VOLUME_WIDTH_NS, LAYOUT = range(TOTALS + 2, TOTALS + 7)
LAYOUT_NOW = 3  # counts the layouts of this memory: what a run with another one kept is not taken over
# What breakers and the degraded mode say (engine/fusebox.py): the reason that every order is refused with (0: none),
# how many orders are let through all the same (a probe), and what is not to be decided now: bits of HOLD_...
# VAR_STOP: the reason that every order is refused with that does not reduce its position (engine/varlimit.py), else 0.
BLOCK, PROBES, HOLD, VAR_STOP = range(LAYOUT + 1, LAYOUT + 5)
HOLD_QUOTES, HOLD_PARENTS, HOLD_CONTROL, PROBE_DECISION = 1, 2, 4, 8
STATES = VAR_STOP + 1
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

# An offset that went through this is known not to be negative: the compiler leaves out the test for a negative index
# at each of the fifty accesses that count from it.
OFFSET = (1 << 40) - 1


class Gates(NamedTuple):
    """What the gates know: one piece of memory, seen as int64 (`words`) and as float64 (`values`).

    Two arrays instead of many: every array that a kernel takes out of a tuple costs reference
    counting, which was a multiple of the checks themselves. The properties are for Python: views of
    the same memory, but for `volumes`. n instruments.
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
        """float64 (n, 2) in USD, at each instrument's last mid; `total_exposure` is its sum."""
        return self.rows[:, EXPOSURE:PRICES]

    @property
    def volumes(self) -> FloatArray:
        """float64 (n, 2): lots and USD sent within the volume period, as of each instrument's last order."""
        running, older = VOLUMES + RUNNING, VOLUMES + OLDER
        lots_usd: FloatArray = self.rows[:, older : older + 2] + self.rows[:, running : running + 2]
        return lots_usd

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
    words[LAYOUT] = LAYOUT_NOW
    gates.limits[:] = gates.firm[:] = gates.buckets[:] = np.nan
    begin(gates, 0)
    return gates


def begin(gates: Gates, t_ns: int) -> None:
    """Begin a session at `t_ns`: windows, tallies and exposures are of one session; limits, states and latches stay."""
    w, v = gates.words, gates.values
    tallies.empty(w, IDENTICAL)
    tallies.empty(w, INTENTS)
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
        return  # windows of other widths, or memory laid out otherwise: they begin anew
    limits, firm, states, buckets = gates.limits.copy(), gates.firm.copy(), gates.states.copy(), gates.buckets.copy()
    gates.words[:] = earlier
    gates.words[BLOCK:STATES] = blocked
    gates.limits[:], gates.firm[:], gates.states[:] = limits, firm, states
    tokens = gates.buckets[:, BUCKET_TOKENS].copy()
    gates.buckets[:, BUCKET_RATE:] = buckets[:, BUCKET_RATE:]
    size = buckets[:, BUCKET_SIZE]
    gates.buckets[:, BUCKET_TOKENS] = np.where(np.isnan(tokens), size, np.minimum(tokens, size))


@inline_kernel
def strictest(w: IntArray, state: int, strategy: int, client: int) -> int:
    """As `state_for`, of borrowed words."""
    return int(max(state, w[STATES + strategy], w[STATES + MAX_CLIENTS + client]))


@inline_kernel
def is_off(w: IntArray, strategy: int, client: int) -> bool:
    """As `is_latched`, of borrowed words."""
    return bool(w[LATCHED + strategy] + w[LATCHED + MAX_CLIENTS + client] != 0)


@inline_kernel
def state_for(gates: Gates, state: int, strategy: int, client: int) -> int:
    """The strictest of an instrument's state (the whole desk's is in it), its strategy's and its client's."""
    return strictest(borrowed(gates.words), state, strategy, client)


@inline_kernel
def is_latched(gates: Gates, strategy: int, client: int) -> bool:
    """Whether the repeated-execution throttle has switched a strategy or a client off."""
    return is_off(borrowed(gates.words), strategy, client)


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
def stopped_by_var(gates: Gates) -> int:
    """The reason that orders are refused with while the value at risk allows no more; 0 for none."""
    return int(borrowed(gates.words)[VAR_STOP])


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
    v, row = gates.values, ROWS + i * ROW_WORDS
    reach, period = v[row + LIMIT_COLLAR] * mid, v[row + LIMIT_PERIOD_COLLAR]
    older, running = row + PRICES + OLDER, row + PRICES + RUNNING
    if side > 0:
        low = min(mid, v[older + LOW], v[running + LOW])
        return int(np.floor(min(mid + reach, low * (1.0 + period))))
    high = max(mid, v[older + HIGH], v[running + HIGH])
    return max(int(np.ceil(max(mid - reach, high * (1.0 - period)))), 1)
