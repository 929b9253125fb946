"""Flow: the kernel that turns arrivals into orders, withdrawals and aggressors of a synthetic market.

Every step writes exactly one event and draws only from its instrument's own random stream, so the
same seed gives the same events however the output is cut into calls.

Prices form like this: a latent value per instrument moves with correlated Gaussian steps; how far
it lies from the shadow book's mid tilts which side orders, withdrawals and aggressors come on.
Where orders are put and taken away follows the recorded distributions.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.events import CANCEL, IOC, LIMIT, REDUCE
from engine.hawkes import curve_at, draw, next_arrival, uniform
from engine.jit import inline_kernel, kernel
from engine.montecarlo.normals import normal_pair
from engine.shadow import best, insert, nearest, remove

ADDS: Final = 0
WITHDRAWS: Final = 1
TAKES: Final = 2
KEEP: Final = 2  # orders that always stay on a side: the book never empties
GHOSTS: Final = 512  # ring of orders that the shadow book saw filled
GHOST_PRESSED: Final = 256  # from here on they are withdrawn before anything else happens, so the ring cannot run over
GHOST_NS: Final = 2_000_000_000
LATENT_STREAM: Final = 1
# How strongly the latent value's distance (in half spreads) tilts sides; chosen by `validation.calibrate --check`
# so that the mid follows the value without making the spread wider than recorded.
TILT_ADDS: Final = 0.35
TILT_WITHDRAWS: Final = 0.15
TILT_TAKES: Final = 0.45
EVEN_OUT: Final = 0.4  # how strongly the thinner side attracts orders


@inline_kernel
def _emit(out, k, t_ns, key, price, qty, i, kind, side) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
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
def _new_id(issued, i) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Ids count up per instrument and interleave over instruments, so none occurs twice."""
    issued[i] += 1
    return (issued[i] - 1) * len(issued) + i + 1


@inline_kernel
def advance_latent(t_ns, step_ns, session_ns, latent, latent_step, seed, loading, reversion, curve) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Move the latent log prices, float64 (n,), to the last whole step at or before t_ns.

    loading float64 (n, n): Cholesky factor of the covariance of one step; curve: the session's
    variance curve, mean 1; reversion: share of the distance from the start lost per step.
    """
    n = len(latent)
    pairs = (n + 1) // 2
    z = np.empty(2 * pairs)
    while (latent_step[0] + 1) * step_ns <= t_ns:
        scale = np.sqrt(curve_at(curve, latent_step[0] * step_ns, session_ns))
        for pair in range(pairs):
            block = np.uint64(latent_step[0] * pairs + pair)
            z[2 * pair], z[2 * pair + 1] = normal_pair(block, np.uint64(LATENT_STREAM), seed)
        for i in range(n):
            move = 0.0
            for j in range(i + 1):
                move += loading[i, j] * z[j]
            latent[i] += scale * move - reversion * latent[i]
        latent_step[0] += 1


@inline_kernel
def _bucket(spread_from, spread) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    bucket = len(spread_from) - 1
    while bucket > 0 and spread < spread_from[bucket]:
        bucket -= 1
    return bucket


@inline_kernel
def _turned(kind, shares, means, chance) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Turn some events into others so that groups arriving in shares `means` come out in shares `shares`."""
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
def _open(out, k, i, t_ns, value, half_spread, left, rng, book, issued, behind, size) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Write one order of the opening book: the first two make the touch, the others stand behind it."""
    price, qty, order, count = book
    s = left % 2
    sign = 1 - 2 * s
    if count[i, s] == 0:
        at = np.int64(np.round(value - sign * half_spread))
    else:
        distance = np.int64(np.round(draw(behind[0], behind[1], uniform(rng, i))))
        at = price[i, s, 0] - sign * (distance // 2)
    lots = max(1, np.int64(np.round(draw(size[0], size[1], uniform(rng, i)))))
    key = _new_id(issued, i)
    insert(price, qty, order, count, i, s, max(at, 1), lots, key)
    _emit(out, k, t_ns, key, max(at, 1), lots, i, LIMIT, sign)


@inline_kernel
def _add(out, k, i, t_ns, tilt, rng, book, issued, placing, behind, improve, improving_size, other_size) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Write one limit order: inside the spread, at the touch, or behind it, by the spread that it finds."""
    price, qty, order, count = book
    spread_from, improve_probability, join_probability, _, _ = placing
    bids, asks = count[i, 0], count[i, 1]
    to_bid = 0.5 + TILT_ADDS * tilt + EVEN_OUT * (asks - bids) / (asks + bids)
    s = 0 if uniform(rng, i) < to_bid else 1
    sign = 1 - 2 * s
    touch = best(price, count, i, s)
    spread = best(price, count, i, 1) - best(price, count, i, 0)
    bucket = _bucket(spread_from, spread)
    where, how_far, how_much = uniform(rng, i), uniform(rng, i), uniform(rng, i)
    lots = max(1, np.int64(np.round(draw(other_size[0], other_size[1], how_much))))
    if where < improve_probability[bucket] and spread > 1:
        inside = np.int64(np.round(draw(improve[0], improve[1], how_far) * spread))
        at = touch + sign * min(max(inside, 1), spread - 1)
        lots = max(1, np.int64(np.round(draw(improving_size[0], improving_size[1], how_much))))
    elif where < improve_probability[bucket] + join_probability[bucket]:
        at = touch
    else:
        at = touch - sign * max(1, np.int64(np.round(draw(behind[0], behind[1], how_far))))
    key = _new_id(issued, i)
    insert(price, qty, order, count, i, s, max(at, 1), lots, key)
    _emit(out, k, t_ns, key, max(at, 1), lots, i, LIMIT, sign)


@inline_kernel
def _withdraw(out, k, i, t_ns, tilt, rng, book, resting, reduce_share, distance) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Write one cancel or reduction of an order near a drawn distance from the touch.

    A side that holds more than its share loses its farthest order instead, now and then: what the
    price has left behind would otherwise never go.
    """
    price, qty, order, count = book
    bids, asks = count[i, 0], count[i, 1]
    from_ask = 0.5 + TILT_WITHDRAWS * tilt + EVEN_OUT * (asks - bids) / (asks + bids)
    s = 1 if uniform(rng, i) < from_ask else 0
    if count[i, s] <= KEEP:
        s = 1 - s
    far, how_far, partly = uniform(rng, i), uniform(rng, i), uniform(rng, i)
    if far * count[i, s] < count[i, s] - resting:
        position = 0
    else:
        position = nearest(price, count, i, s, np.int64(np.round(draw(distance[0], distance[1], how_far))))
    sign = 1 - 2 * s
    at, lots, key = price[i, s, position], qty[i, s, position], order[i, s, position]
    if partly < reduce_share and lots > 1:
        qty[i, s, position] = lots - lots // 2
        _emit(out, k, t_ns, key, at, lots // 2, i, REDUCE, sign)
    else:
        remove(price, qty, order, count, i, s, position)
        _emit(out, k, t_ns, key, at, lots, i, CANCEL, sign)


@inline_kernel
def _shown(price, qty, count, i, s) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Quantity at the best price of a side."""
    total, k = 0, count[i, s] - 1
    while k >= 0 and price[i, s, k] == best(price, count, i, s):
        total += qty[i, s, k]
        k -= 1
    return total


@inline_kernel
def _take(
    out, k, i, s, t_ns, rng, book, ghosts, clear_probability, sweep_probability, reach, partial_size, beyond_size
) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Write one aggressor against side s and trade it in the shadow book; KEEP orders survive."""
    price, qty, order, count = book
    ghost_ns, ghost_key, ghost_price, ghost_side, ghost_head, ghost_count = ghosts
    sign = 1 - 2 * s
    wanted = max(1, np.int64(np.round(draw(partial_size[0], partial_size[1], uniform(rng, i)))))
    limit, what, how_far = best(price, count, i, s), uniform(rng, i), uniform(rng, i)
    if what < clear_probability:
        wanted = _shown(price, qty, count, i, s)
    if what < sweep_probability:  # it wants more than the touch holds
        wanted += np.int64(np.round(draw(beyond_size[0], beyond_size[1], uniform(rng, i))))
        limit -= sign * max(1, np.int64(np.round(draw(reach[0], reach[1], how_far))))
    limit = max(limit, 1)
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
def _bury(out, k, i, t_ns, ghosts) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Withdraw an order that the shadow book saw filled: in the live book ours may have been filled in its place."""
    ghost_ns, ghost_key, ghost_price, ghost_side, ghost_head, ghost_count = ghosts
    slot = ghost_head[i]
    _emit(out, k, t_ns, ghost_key[i, slot], ghost_price[i, slot], 0, i, CANCEL, ghost_side[i, slot])
    ghost_head[i] = (slot + 1) % GHOSTS
    ghost_count[i] -= 1


@kernel
def generate(  # type: ignore[no-untyped-def]
    out,
    until_ns,
    counters,
    streams,
    book,
    ghosts,
    latents,
    arrivals,
    world,
    placing,
    tables,  # noqa: ANN001
) -> int:
    """Write events with t_ns < until_ns into `out` until it is full; returns how many.

    The tuples hold the arrays of `engine.synthetic._State` and its constants, in that order.
    """
    issued, opening, group, next_ns, emitted_ns = counters
    rng, now_ns, excitation = streams
    price, qty, order, count = book
    ghost_ns, _, _, _, ghost_head, ghost_count = ghosts
    latent, latent_step, loading, initial = latents
    baseline, decay, branching, pull, curve, curve_top = arrivals
    (
        step_ns,
        session_ns,
        seed,
        reversion,
        variance_curve,
        half_spread,
        resting,
        reduce_share,
        clear_probability,
        sweep_probability,
    ) = world
    spread_from, _, _, event_mix, mean_mix = placing
    improving_size, other_size, partial_size, beyond_size, reach, improve, behind, distance = tables
    n = len(issued)
    k = 0
    while k < len(out):
        i, at_ns = 0, np.int64(1 << 62)
        for candidate in range(n):
            due = next_ns[candidate]
            if ghost_count[candidate] > 0 and opening[candidate] == 0:
                due = min(due, ghost_ns[candidate, ghost_head[candidate]])
                if ghost_count[candidate] > GHOST_PRESSED:
                    due = emitted_ns[0]
            if due < at_ns:
                i, at_ns = candidate, due
        if at_ns >= until_ns:
            break
        emitted_ns[0] = at_ns
        advance_latent(at_ns, step_ns, session_ns, latent, latent_step, seed, loading, reversion, variance_curve)
        value = initial[i] * np.exp(latent[i])
        if opening[i] > 0:
            opening[i] -= 1
            _open(out, k, i, at_ns, value, half_spread, opening[i], rng, book, issued, behind, other_size)
            if opening[i] == 0:
                next_ns[i], group[i] = next_arrival(
                    i, rng, now_ns, excitation, baseline, decay, branching, pull, curve, curve_top, session_ns
                )
            k += 1
            continue
        if next_ns[i] > at_ns:
            _bury(out, k, i, at_ns, ghosts)
            k += 1
            continue
        mid = 0.5 * (best(price, count, i, 0) + best(price, count, i, 1))
        tilt = np.tanh((value - mid) / half_spread)
        surplus = (count[i, 0] + count[i, 1] - 2.0 * resting) / (2.0 * resting)
        spread = best(price, count, i, 1) - best(price, count, i, 0)
        kind, chance, side = group[i], uniform(rng, i), uniform(rng, i)
        kind = _turned(kind, event_mix[_bucket(spread_from, spread)], mean_mix, uniform(rng, i))
        if kind == ADDS and chance < surplus:
            kind = WITHDRAWS
        elif kind == WITHDRAWS and chance < -surplus:
            kind = ADDS
        s = 1 if side < 0.5 + TILT_TAKES * tilt else 0
        if (kind == TAKES and count[i, s] <= KEEP) or (kind == WITHDRAWS and max(count[i, 0], count[i, 1]) <= KEEP):
            kind = ADDS
        if kind == ADDS:
            _add(out, k, i, at_ns, tilt, rng, book, issued, placing, behind, improve, improving_size, other_size)
        elif kind == WITHDRAWS:
            _withdraw(out, k, i, at_ns, tilt, rng, book, resting, reduce_share, distance)
        else:
            _take(
                out,
                k,
                i,
                s,
                at_ns,
                rng,
                book,
                ghosts,
                clear_probability,
                sweep_probability,
                reach,
                partial_size,
                beyond_size,
            )
        k += 1
        for p in range(len(decay)):
            excitation[i, group[i], p] += 1.0  # as it arrived: what it was turned into must not change the clustering
        next_ns[i], group[i] = next_arrival(
            i, rng, now_ns, excitation, baseline, decay, branching, pull, curve, curve_top, session_ns
        )
    return k
