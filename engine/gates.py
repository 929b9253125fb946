"""Gates: the checks that every own order passes before it reaches the book.

Pure functions over plain arrays, so that the step kernel and tests call the same code. A gate
answers with a reason; the first one that refuses decides. Cancels pass no gate: a throttle must
never keep an order in the market.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from engine.jit import inline_kernel
from engine.options import GateOptions
from metrics.frame import FloatArray


class TradingState(IntEnum):
    """What the engine may do: everything, only reduce exposure, nothing."""

    ACTIVE = 0
    REDUCING = 1
    HALTED = 2


class Reason(IntEnum):
    """Why an order was refused; ACCEPTED is none of them. VENUE_* come from the book, the rest from gates."""

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

    @property
    def label(self) -> str:
        """The value of the `reason` label."""
        return self.name.lower()


REASONS = len(Reason)
LIMIT_COLLAR, LIMIT_LOTS, LIMIT_VALUE, LIMIT_POSITION, LIMIT_STALE_NS = range(5)
LIMITS = 5
BUCKET_TOKENS, BUCKET_TIME_NS, BUCKET_RATE, BUCKET_SIZE = range(4)

# Kernels see module-level ints as constants; enum members would not compile to them.
_ACCEPTED, _HALTED, _REDUCE_ONLY, _MISSING, _STALE, _COLLAR, _LOTS, _VALUE, _POSITION, _RATE = (
    int(reason) for reason in list(Reason)[:10]
)
_STATE_REDUCING, _STATE_HALTED = int(TradingState.REDUCING), int(TradingState.HALTED)


def limits_of(options: GateOptions, instruments: int) -> FloatArray:
    """The limits as float64, shape (instruments, LIMITS); NaN where one is missing (0 in the options)."""
    row = np.array(
        [
            options.collar_ratio,
            options.max_order_lots,
            options.max_order_usd,
            options.max_position_usd,
            options.stale_after_s * 1e9,
        ],
        dtype=np.float64,
    )
    return np.tile(np.where(row > 0.0, row, np.nan), (instruments, 1))


def bucket_of_options(options: GateOptions) -> FloatArray:
    """A full token bucket, float64, shape (4,): tokens, time ns, tokens per ns, size; NaN where the limit is missing."""
    if options.max_messages_per_s == 0.0 or options.message_burst == 0:
        return np.full(4, np.nan)
    size = float(options.message_burst)
    return np.array([size, 0.0, options.max_messages_per_s / 1e9, size])


@inline_kernel
def take_token(bucket: FloatArray, now_ns: int) -> bool:
    """Take one message from the bucket if there is one; time that goes backwards adds nothing."""
    elapsed = now_ns - bucket[BUCKET_TIME_NS]
    if elapsed > 0.0:
        bucket[BUCKET_TOKENS] = min(bucket[BUCKET_SIZE], bucket[BUCKET_TOKENS] + elapsed * bucket[BUCKET_RATE])
        bucket[BUCKET_TIME_NS] = now_ns
    if bucket[BUCKET_TOKENS] >= 1.0:
        bucket[BUCKET_TOKENS] -= 1.0
        return True
    return False


@inline_kernel
def check_order(
    limits: FloatArray,
    bucket: FloatArray,
    i: int,
    side: int,
    ticks: int,
    lots: int,
    mid_ticks: float,
    usd_per_tick_lot: float,
    position_lots: float,
    working_buy_lots: int,
    working_sell_lots: int,
    data_age_ns: int,
    state: int,
    now_ns: int,
) -> int:
    """Return ACCEPTED (0) or the reason of the first gate that refuses the order.

    limits: float64 (instruments, LIMITS), see `limits_of`; bucket: see `bucket_of_options`. side +1 buys.
    position and working quantities are before the order; the message rate is asked last, so that only
    orders that would be sent use it up. data_age_ns < 0 means that no data ever came.
    """
    row = limits[i]
    reason = _ACCEPTED
    same_side = working_buy_lots if side > 0 else working_sell_lots
    after = position_lots + side * (same_side + lots)
    if state >= _STATE_HALTED:
        reason = _HALTED
    elif state == _STATE_REDUCING and (side * position_lots >= 0.0 or same_side + lots > abs(position_lots)):
        reason = _REDUCE_ONLY
    elif not (row[LIMIT_COLLAR] + row[LIMIT_LOTS] + row[LIMIT_VALUE] + row[LIMIT_POSITION] > 0.0) or not (
        row[LIMIT_STALE_NS] + bucket[BUCKET_SIZE] > 0.0
    ):  # a sum with one NaN in it is NaN, and NaN is not > 0
        reason = _MISSING
    elif data_age_ns < 0 or data_age_ns > row[LIMIT_STALE_NS] or not mid_ticks > 0.0:
        reason = _STALE
    elif abs(ticks - mid_ticks) > row[LIMIT_COLLAR] * mid_ticks:
        reason = _COLLAR
    elif lots <= 0 or lots > row[LIMIT_LOTS]:
        reason = _LOTS
    elif lots * ticks * usd_per_tick_lot > row[LIMIT_VALUE]:
        reason = _VALUE
    elif abs(after) * mid_ticks * usd_per_tick_lot > row[LIMIT_POSITION] and abs(after) > abs(position_lots):
        reason = _POSITION
    elif not take_token(bucket, now_ns):
        reason = _RATE
    return reason
