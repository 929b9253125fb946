"""Pre-trade: the checks that every own order passes before it reaches the book.

Free functions over plain arrays, so that the step kernel and tests call the same code. A gate answers
with a reason; the first one that refuses decides. Cancels pass no gate: a throttle must never keep an
order in the market. What an accepted order may come to counts from the moment it is accepted.
What the gates know: engine/gates.py.
"""

from __future__ import annotations

from engine.borrow import borrowed
from engine.gates import (
    BEGUN,
    BLOCK,
    BUCKET_RATE,
    BUCKET_SIZE,
    BUCKET_TIME_NS,
    BUCKET_TOKENS,
    BUCKET_WORDS,
    COLLAR_WIDTH_NS,
    COMPLETE,
    EXPOSURE,
    FIRM,
    FIRM_GROSS,
    FIRM_IDENTICAL,
    FIRM_REPEATS,
    FIRM_WORKING,
    GROSS_USD,
    HOUSE,
    IDENTICAL,
    IDENTICAL_NS,
    INTENTS,
    LATCHED,
    LIMIT_COLLAR,
    LIMIT_LOTS,
    LIMIT_PERIOD_COLLAR,
    LIMIT_PERIOD_LOTS,
    LIMIT_PERIOD_USD,
    LIMIT_POSITION,
    LIMIT_STALE_NS,
    LIMIT_USD,
    LIMIT_WORKING,
    MAX_CLIENTS,
    MAX_STRATEGIES,
    OFFSET,
    PRICES,
    PROBES,
    REPEAT_NS,
    ROW_WORDS,
    ROWS,
    TOKENS,
    TOTALS,
    VAR_STOP,
    VOLUME_WIDTH_NS,
    VOLUMES,
    WORKING_USD,
    Gates,
    Reason,
    TradingState,
    is_off,
    strictest,
)
from engine.jit import inline_kernel, kernel
from engine.tallies import COUNT, entry_of, key_of
from engine.windows import (
    HIGH,
    LOTS,
    LOW,
    OLDER,
    RUNNING,
    VALUE,
    add_volume,
    is_running,
    roll_prices,
    roll_volumes,
    see_price,
)
from metrics.frame import FloatArray, IntArray

# Kernels see module-level ints as constants; enum members would not compile to them.
(
    _ACCEPTED, _HALTED, _REDUCE_ONLY, _MISSING, _STALE, _COLLAR, _LOTS, _VALUE, _POSITION, _RATE, _,
    _PERIOD_COLLAR, _PERIOD_VOLUME, _WORKING, _GROSS, _DUPLICATE, _REPEATED, _, _,
) = (int(reason) for reason in Reason)  # fmt: skip
_STATE_REDUCING, _STATE_HALTED = int(TradingState.REDUCING), int(TradingState.HALTED)


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
def see_market(
    gates: Gates, i: int, mid: float, position: float, buying: int, selling: int, usd: float, t_ns: int
) -> None:
    """Take an instrument's new mid into its collar's period, and bring its exposure up to date (usd: of a tick and lot)."""
    w, v = borrowed(gates.words), borrowed(gates.values)
    row = (ROWS + i * ROW_WORDS) & OFFSET
    if not is_running(w, row + PRICES, w[COLLAR_WIDTH_NS], t_ns):
        _roll_windows(w, v, row, t_ns)
    see_price(v, row + PRICES, mid)
    _set_exposure(v, row, (buying + selling) * mid * usd, _gross(position, buying, selling) * mid * usd)


@inline_kernel
def see_orders(gates: Gates, i: int, mid: float, position: float, buying: int, selling: int, usd: float) -> None:
    """Bring an instrument's exposure up to date where its orders or its position changed and its mid did not."""
    row = (ROWS + i * ROW_WORDS) & OFFSET
    _set_exposure(
        borrowed(gates.values), row, (buying + selling) * mid * usd, _gross(position, buying, selling) * mid * usd
    )


@inline_kernel
def take_back(gates: Gates, i: int, ticks: int, lots: int, usd_per_tick_lot: float) -> None:
    """An accepted order never came into the book: it counts in no volume. Its exposure goes with `see_orders`."""
    at = ROWS + i * ROW_WORDS + VOLUMES
    add_volume(borrowed(gates.values), at, -float(lots), -(lots * ticks * usd_per_tick_lot))


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
        borrowed(gates.words), borrowed(gates.values), i, side, ticks, lots, strategy & OFFSET, client & OFFSET, intent,
        mid, usd_per_tick_lot, position, buying, selling, data_age_ns, state, t_ns,
    )  # fmt: skip


@inline_kernel
def _repeats_too_often(w: IntArray, v: FloatArray, strategy: int, client: int, intent: int, t_ns: int) -> bool:
    """Count one more order for an intent; one too many latches a client's orders off, or the house's strategy.

    Every attempt counts, also one that a later gate refuses: what runs away is what is asked for.
    """
    at, count = entry_of(w, INTENTS, key_of(intent, strategy, client), t_ns, w[REPEAT_NS])
    w[BEGUN + strategy] += 1 if count == 0 else 0
    w[at + COUNT] = count + 1
    too_often = count + 1 > v[FIRM + FIRM_REPEATS]
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


@kernel
def _roll_windows(w: IntArray, v: FloatArray, row: int, t_ns: int) -> None:
    """Let both windows of an instrument be those of `t_ns`; not inlined, as one order in a million needs it."""
    roll_prices(w, v, row + PRICES, w[COLLAR_WIDTH_NS], t_ns)
    roll_volumes(w, v, row + VOLUMES, w[VOLUME_WIDTH_NS], t_ns)


@inline_kernel
def _check(
    w: IntArray, v: FloatArray, i: int, side: int, ticks: int, lots: int, strategy: int, client: int, intent: int,
    mid: float, usd_per_tick_lot: float, position: float, buying: int, selling: int, data_age_ns: int, state: int,
    t_ns: int,
) -> int:  # fmt: skip
    row = (ROWS + i * ROW_WORDS) & OFFSET
    same_side = buying if side > 0 else selling
    after = position + side * (same_side + lots)
    lot_usd = mid * usd_per_tick_lot
    value = lots * ticks * usd_per_tick_lot
    in_force = strictest(w, state, strategy, client)
    reduces = side * position < 0.0 and same_side + lots <= abs(position)
    reason = _ACCEPTED
    if in_force >= _STATE_HALTED:
        reason = _HALTED
    elif is_off(w, strategy, client):
        reason = _REPEATED
    elif in_force == _STATE_REDUCING and not reduces:
        reason = _REDUCE_ONLY
    elif w[BLOCK] != _ACCEPTED and w[PROBES] <= 0:
        reason = int(w[BLOCK])
    elif w[VAR_STOP] != _ACCEPTED and not reduces:
        reason = int(w[VAR_STOP])
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
        prices_run = is_running(w, row + PRICES, w[COLLAR_WIDTH_NS], t_ns)
        if not (prices_run and is_running(w, row + VOLUMES, w[VOLUME_WIDTH_NS], t_ns)):
            _roll_windows(w, v, row, t_ns)
        see_price(v, row + PRICES, mid)
        working, gross = (buying + selling) * lot_usd, _gross(position, buying, selling) * lot_usd
        working_after = working + lots * lot_usd
        gross_after = max(gross, abs(after) * lot_usd)
        reason = _check_sums(v, row, side, ticks, lots, value, working_after, gross, gross_after)
        if reason == _ACCEPTED:
            reason = _check_flow(w, v, i, side, ticks, lots, strategy, client, t_ns)
        if reason == _ACCEPTED:
            add_volume(v, row + VOLUMES, float(lots), value)
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
    # Buying follows the lowest price up, selling the highest one down: the same comparison, with both sides' signs.
    low = min(v[row + PRICES + OLDER + LOW], v[row + PRICES + RUNNING + LOW])
    high = max(v[row + PRICES + OLDER + HIGH], v[row + PRICES + RUNNING + HIGH])
    furthest = (low if side > 0 else high) * (1.0 + side * v[row + LIMIT_PERIOD_COLLAR])
    period_lots = v[row + VOLUMES + OLDER + LOTS] + v[row + VOLUMES + RUNNING + LOTS]
    period_usd = v[row + VOLUMES + OLDER + VALUE] + v[row + VOLUMES + RUNNING + VALUE]
    total_working = v[TOTALS + WORKING_USD] - v[row + EXPOSURE + WORKING_USD] + working_after
    total_gross = v[TOTALS + GROSS_USD] - v[row + EXPOSURE + GROSS_USD] + gross_after
    reason = _ACCEPTED
    if not side * ticks <= side * furthest:
        reason = _PERIOD_COLLAR
    elif not period_lots + lots <= v[row + LIMIT_PERIOD_LOTS] or not period_usd + value <= v[row + LIMIT_PERIOD_USD]:
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
    at, count = entry_of(w, IDENTICAL, key, t_ns, w[IDENTICAL_NS])
    reason = _ACCEPTED
    if not count < v[FIRM + FIRM_IDENTICAL]:
        reason = _DUPLICATE
    elif not take_token(v, strategy, t_ns):
        reason = _RATE
    w[at + COUNT] = count + 1 if reason == _ACCEPTED else count
    return reason
