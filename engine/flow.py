"""Flow: the kernels that turn arrivals into orders, withdrawals and aggressors of a synthetic market.

Every step writes exactly one event and draws only from its instrument's own random stream, so the
same seed gives the same events however the output is cut into calls.

Prices form like this: a latent value per instrument moves with correlated Gaussian steps; how far
it lies from the shadow book's mid tilts which side orders, withdrawals and aggressors come on.
Where orders are put and taken away, and what kind of event a wide or narrow spread meets, follows
the recorded distributions.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from engine.events import CANCEL, IOC, LIMIT, REDUCE, EventArray
from engine.hawkes import Arrivals, Streams, Table, WordArray, curve_at, draw, draw_whole, next_arrival, uniform
from engine.jit import inline_kernel, kernel
from engine.montecarlo.normals import normal_pair
from engine.shadow import Shadow, best, insert, nearest, remove, shown
from metrics.frame import FloatArray, IntArray

ADDS: Final = 0
WITHDRAWS: Final = 1
TAKES: Final = 2
KEEP: Final = 2  # orders that always stay on a side: the book never empties
GHOSTS: Final = 512  # ring of orders that the shadow book saw filled
GHOST_PRESSED: Final = 256  # from here on they are withdrawn before anything else happens, so the ring cannot run over
GHOST_NS: Final = 2_000_000_000
LATENT_STREAM: Final = np.uint64(1)
FAR_FUTURE: Final = 1 << 62
# How strongly the latent value's distance (in half spreads) tilts sides, and how strongly the thinner side attracts
# orders: chosen with `python -m validation.calibrate --check`, so that the mid follows the value without making the
# spread wider or more restless than recorded.
TILT_ADDS: Final = 0.35
TILT_WITHDRAWS: Final = 0.15
TILT_TAKES: Final = 0.45
EVEN_OUT: Final = 0.4

Ghosts: TypeAlias = tuple[
    IntArray, IntArray, IntArray, IntArray, IntArray, IntArray
]  # ns, key, price, side, head, count
Counters: TypeAlias = tuple[
    IntArray, IntArray, IntArray, IntArray, IntArray
]  # issued, opening, group, next_ns, emitted_ns
Latents: TypeAlias = tuple[FloatArray, IntArray, FloatArray, FloatArray]  # log move, step, loading, initial price
# step_ns, session_ns, seed, reversion, variance curve
World: TypeAlias = tuple[int, int, np.uint64, float, FloatArray]
# half spread, resting orders a side, reduce share, clear probability, sweep probability
Habits: TypeAlias = tuple[float, float, float, float, float]
# spread buckets' lower ends, improve and join probability, event mix (buckets, groups), mean mix
Placing: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]
# sizes of improving orders, others, partial takes, what sweeps take beyond the touch; sweep reach; improvement; behind; withdrawal
Tables: TypeAlias = tuple[Table, Table, Table, Table, Table, Table, Table, Table]


@inline_kernel
def _emit(out: EventArray, k: int, t_ns: int, key: int, price: int, qty: int, i: int, kind: int, side: int) -> None:
    row = out[k]
    row.t_ns = t_ns
    row.order_id = key
    row.price = price
    row.qty = qty
    row.instrument = i
    row.kind = kind
    row.side = side
    row.flags = 0


@inline_kernel
def _place(
    out: EventArray, k: int, t_ns: int, shadow: Shadow, issued: IntArray, i: int, s: int, price: int, lots: int
) -> None:
    """Put an order into the shadow book and write it; ids count up per instrument and interleave, so none occurs twice."""
    issued[i] += 1
    key = (issued[i] - 1) * len(issued) + i + 1
    at = max(price, 1)
    insert(shadow, i, s, at, lots, key)
    _emit(out, k, t_ns, key, at, lots, i, LIMIT, 1 - 2 * s)


@inline_kernel
def _bucket(spread_from: FloatArray, spread: int) -> int:
    bucket = len(spread_from) - 1
    while bucket > 0 and spread < spread_from[bucket]:
        bucket -= 1
    return bucket


@inline_kernel
def _turned(kind: int, shares: FloatArray, means: FloatArray, chance: float) -> int:
    """Turn some events into others, so that groups arriving in shares `means` come out in shares `shares`."""
    stay = shares[kind] / means[kind]
    if chance < stay:
        return kind
    gain = 0.0
    for g in range(len(shares)):
        gain += max(0.0, shares[g] - means[g])
    aim = (chance - stay) / (1.0 - stay) * gain
    for g in range(len(shares)):
        aim -= max(0.0, shares[g] - means[g])
        if aim <= 0.0 and shares[g] > means[g]:
            return g
    return kind


@inline_kernel
def _advance_latent(t_ns: int, latents: Latents, world: World) -> None:
    """Move the latent log prices to the last whole step at or before t_ns.

    loading is the Cholesky factor of one step's covariance, the variance curve scales it along the
    session, reversion is the share of the distance from the start that is lost per step.
    """
    latent, step, loading, _ = latents
    step_ns, session_ns, seed, reversion, variance_curve = world
    n = len(latent)
    pairs = (n + 1) // 2
    if (step[0] + 1) * step_ns > t_ns:
        return
    z = np.empty(2 * pairs)
    while (step[0] + 1) * step_ns <= t_ns:
        scale = np.sqrt(curve_at(variance_curve, step[0] * step_ns, session_ns))
        for pair in range(pairs):
            z[2 * pair], z[2 * pair + 1] = normal_pair(np.uint64(step[0] * pairs + pair), LATENT_STREAM, seed)
        for i in range(n):
            move = 0.0
            for j in range(i + 1):
                move += loading[i, j] * z[j]
            latent[i] += scale * move - reversion * latent[i]
        step[0] += 1


@inline_kernel
def _open(
    out: EventArray, k: int, i: int, t_ns: int, value: float, half_spread: float, left: int, rng: WordArray,
    shadow: Shadow, issued: IntArray, behind: Table, size: Table,
) -> None:  # fmt: skip
    """Write one order of the opening book: the first of a side makes its touch, the others stand behind the last one."""
    price, _, _, count = shadow
    s = left % 2
    sign = 1 - 2 * s
    if count[i, s] == 0:
        at = int(np.round(value - sign * half_spread))
    else:
        at = price[i, s, 0] - sign * (draw_whole(behind, uniform(rng, i), 1) // 2)
    _place(out, k, t_ns, shadow, issued, i, s, at, draw_whole(size, uniform(rng, i), 1))


@inline_kernel
def _add(
    out: EventArray, k: int, i: int, t_ns: int, tilt: float, rng: WordArray, shadow: Shadow, issued: IntArray,
    placing: Placing, behind: Table, improve: Table, improving_size: Table, other_size: Table,
) -> None:  # fmt: skip
    """Write one limit order: inside the spread, at the touch, or behind it, by the spread that it finds."""
    price, _, _, count = shadow
    spread_from, improve_probability, join_probability, _, _ = placing
    bids, asks = count[i, 0], count[i, 1]
    s = 0 if uniform(rng, i) < 0.5 + TILT_ADDS * tilt + EVEN_OUT * (asks - bids) / (asks + bids) else 1
    sign = 1 - 2 * s
    touch = best(price, count, i, s)
    spread = best(price, count, i, 1) - best(price, count, i, 0)
    bucket = _bucket(spread_from, spread)
    where, how_far, how_much = uniform(rng, i), uniform(rng, i), uniform(rng, i)
    lots = draw_whole(other_size, how_much, 1)
    if where < improve_probability[bucket] and spread > 1:
        inside = int(np.round(draw(improve, how_far) * spread))
        at = touch + sign * min(max(inside, 1), spread - 1)
        lots = draw_whole(improving_size, how_much, 1)
    elif where < improve_probability[bucket] + join_probability[bucket]:
        at = touch
    else:
        at = touch - sign * draw_whole(behind, how_far, 1)
    _place(out, k, t_ns, shadow, issued, i, s, at, lots)


@inline_kernel
def _withdraw(
    out: EventArray,
    k: int,
    i: int,
    t_ns: int,
    tilt: float,
    rng: WordArray,
    shadow: Shadow,
    habits: Habits,
    distance: Table,
) -> None:
    """Write one cancel or reduction of an order near a drawn distance from the touch.

    A side that holds more than its share loses its farthest order instead, now and then: what the
    price has left behind would otherwise never go.
    """
    price, qty, order, count = shadow
    _, resting, reduce_share, _, _ = habits
    bids, asks = count[i, 0], count[i, 1]
    s = 1 if uniform(rng, i) < 0.5 + TILT_WITHDRAWS * tilt + EVEN_OUT * (asks - bids) / (asks + bids) else 0
    if count[i, s] <= KEEP:
        s = 1 - s
    far, how_far, partly = uniform(rng, i), uniform(rng, i), uniform(rng, i)
    if far * count[i, s] < count[i, s] - resting:
        position = 0
    else:
        position = nearest(shadow, i, s, draw_whole(distance, how_far, 0))
    at, lots, key = price[i, s, position], qty[i, s, position], order[i, s, position]
    if partly < reduce_share and lots > 1:
        qty[i, s, position] = lots - lots // 2
        _emit(out, k, t_ns, key, at, lots // 2, i, REDUCE, 1 - 2 * s)
    else:
        remove(shadow, i, s, position)
        _emit(out, k, t_ns, key, at, lots, i, CANCEL, 1 - 2 * s)


@inline_kernel
def _take(
    out: EventArray, k: int, i: int, s: int, t_ns: int, rng: WordArray, shadow: Shadow, ghosts: Ghosts,
    habits: Habits, reach: Table, partial_size: Table, beyond_size: Table,
) -> None:  # fmt: skip
    """Write one aggressor against side s and trade it in the shadow book; KEEP orders survive."""
    price, qty, order, count = shadow
    ghost_ns, ghost_key, ghost_price, ghost_side, ghost_head, ghost_count = ghosts
    _, _, _, clear_probability, sweep_probability = habits
    sign = 1 - 2 * s
    wanted = draw_whole(partial_size, uniform(rng, i), 1)
    limit, what, how_far = best(price, count, i, s), uniform(rng, i), uniform(rng, i)
    if what < clear_probability:
        wanted = shown(shadow, i, s)
    if what < sweep_probability:  # it wants more than the touch holds
        wanted += draw_whole(beyond_size, uniform(rng, i), 1)
        limit = max(1, limit - sign * draw_whole(reach, how_far, 1))
    left = wanted
    while left > 0 and count[i, s] > KEEP and sign * best(price, count, i, s) >= sign * limit:
        position = count[i, s] - 1
        taken = min(left, qty[i, s, position])
        left -= taken
        qty[i, s, position] -= taken
        if qty[i, s, position] == 0:
            slot = (ghost_head[i] + ghost_count[i]) % GHOSTS
            ghost_ns[i, slot], ghost_key[i, slot] = t_ns + GHOST_NS, order[i, s, position]
            ghost_price[i, slot], ghost_side[i, slot] = price[i, s, position], sign
            ghost_count[i] += 1
            count[i, s] -= 1
    # What the kept orders could not give is not asked for: the live book must not run dry either.
    _emit(out, k, t_ns, 0, limit, max(1, wanted - left), i, IOC, -sign)


@inline_kernel
def _bury(out: EventArray, k: int, i: int, t_ns: int, ghosts: Ghosts) -> None:
    """Withdraw an order that the shadow book saw filled: in the live book ours may have been filled in its place."""
    _, ghost_key, ghost_price, ghost_side, ghost_head, ghost_count = ghosts
    slot = ghost_head[i]
    _emit(out, k, t_ns, ghost_key[i, slot], ghost_price[i, slot], 0, i, CANCEL, ghost_side[i, slot])
    ghost_head[i] = (slot + 1) % GHOSTS
    ghost_count[i] -= 1


@inline_kernel
def _due_ns(i: int, counters: Counters, ghosts: Ghosts) -> int:
    """When instrument i's next event comes: an arrival, or the burial of a ghost."""
    _, opening, _, next_ns, emitted_ns = counters
    ghost_ns, _, _, _, ghost_head, ghost_count = ghosts
    due = next_ns[i]
    if ghost_count[i] > 0 and opening[i] == 0:
        due = min(due, emitted_ns[0] if ghost_count[i] > GHOST_PRESSED else ghost_ns[i, ghost_head[i]])
    return int(due)


@inline_kernel
def _kind(i: int, s: int, arrived: int, rng: WordArray, shadow: Shadow, resting: float, placing: Placing) -> int:
    """What an arrival becomes: by the spread that it finds, and so that the book neither swells nor empties."""
    price, _, _, count = shadow
    spread_from, _, _, event_mix, mean_mix = placing
    spread = best(price, count, i, 1) - best(price, count, i, 0)
    kind = _turned(arrived, event_mix[_bucket(spread_from, spread)], mean_mix, uniform(rng, i))
    surplus, chance = (count[i, 0] + count[i, 1]) / (2.0 * resting) - 1.0, uniform(rng, i)
    if kind == ADDS and chance < surplus:
        kind = WITHDRAWS
    elif kind == WITHDRAWS and chance < -surplus:
        kind = ADDS
    if (kind == TAKES and count[i, s] <= KEEP) or (kind == WITHDRAWS and max(count[i, 0], count[i, 1]) <= KEEP):
        kind = ADDS
    return kind


@kernel
def generate(
    out: EventArray, until_ns: int, counters: Counters, streams: Streams, shadow: Shadow, ghosts: Ghosts,
    latents: Latents, arrivals: Arrivals, world: World, habits: Habits, placing: Placing, tables: Tables,
) -> int:  # fmt: skip
    """Write events with t_ns < until_ns into `out` until it is full; returns how many. One straight line per event."""
    issued, opening, group, next_ns, emitted_ns = counters
    rng, _, excitation = streams
    price, _, _, count = shadow
    latent, _, _, initial = latents
    half_spread, resting, _, _, _ = habits
    improving_size, other_size, partial_size, beyond_size, reach, improve, behind, distance = tables
    k = 0
    while k < len(out):
        i, at_ns = 0, FAR_FUTURE
        for candidate in range(len(issued)):
            due = _due_ns(candidate, counters, ghosts)
            if due < at_ns:
                i, at_ns = candidate, due
        if at_ns >= until_ns:
            break
        emitted_ns[0] = at_ns
        _advance_latent(at_ns, latents, world)
        value = initial[i] * np.exp(latent[i])
        if opening[i] > 0:
            opening[i] -= 1
            _open(out, k, i, at_ns, value, half_spread, opening[i], rng, shadow, issued, behind, other_size)
            if opening[i] == 0:
                next_ns[i], group[i] = next_arrival(i, streams, arrivals)
        elif next_ns[i] > at_ns:
            _bury(out, k, i, at_ns, ghosts)
        else:
            mid = 0.5 * (best(price, count, i, 0) + best(price, count, i, 1))
            tilt = np.tanh((value - mid) / half_spread)
            s = 1 if uniform(rng, i) < 0.5 + TILT_TAKES * tilt else 0
            kind = _kind(i, s, group[i], rng, shadow, resting, placing)
            if kind == ADDS:
                _add(out, k, i, at_ns, tilt, rng, shadow, issued, placing, behind, improve, improving_size, other_size)
            elif kind == WITHDRAWS:
                _withdraw(out, k, i, at_ns, tilt, rng, shadow, habits, distance)
            else:
                _take(out, k, i, s, at_ns, rng, shadow, ghosts, habits, reach, partial_size, beyond_size)
            for p in range(excitation.shape[2]):
                # As it arrived: what it was turned into must not change the fitted clustering.
                excitation[i, group[i], p] += 1.0
            next_ns[i], group[i] = next_arrival(i, streams, arrivals)
        k += 1
    return k
