"""What a day of order flow looks like: rates, sizes, placement, cancellation, spread, activity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metrics.frame import FloatArray, IntArray
from validation.calibration.hawkes import Arrivals, fit
from validation.calibration.recordings import ADD, DELETE, HIDDEN, REDUCE, VISIBLE, OrderDay

LIMIT, WITHDRAW, TAKE = 0, 1, 2  # the groups whose arrivals excite each other
GROUPS = ("limit", "withdraw", "take")
CURVE_BINS = 13  # half hours of a 6.5 h session
SPREAD_EDGES = (1, 2, 4, 6, 9, 12, 16, 20, 30)
SIZE_LEVELS = (*(round(0.02 * k, 2) for k in range(50)), 0.99, 0.995, 0.999)
LEVELS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def quantiles(values: npt.NDArray[Any], levels: tuple[float, ...] = LEVELS) -> dict[str, list[float]]:
    """Quantile table of a sample: levels and values."""
    return {"levels": list(levels), "values": np.quantile(values, levels).tolist()}


def weighted_quantiles(
    values: FloatArray, weights: FloatArray, levels: tuple[float, ...] = LEVELS
) -> dict[str, list[float]]:
    """Quantile table of values that each held for a time."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    index = np.minimum(np.searchsorted(share, levels), len(values) - 1)
    return {"levels": list(levels), "values": values[order][index].tolist()}


@dataclass(frozen=True, eq=False)
class Aggressors:
    """Marketable orders: messages of one instant and side put together.

    time_s float64 (m,); qty int64 (m,), shares executed against visible orders; reach int64 (m,)
    ticks from the first to the last price; shown int64 (m,), shares at the touch before.
    """

    time_s: FloatArray
    qty: IntArray
    reach: IntArray
    shown: IntArray


def aggressors_of(day: OrderDay, kinds: tuple[int, ...] = (VISIBLE,)) -> Aggressors:
    """Group executions of one time stamp and resting side into the order that caused them."""
    index = np.flatnonzero(np.isin(day.kind, kinds))
    index = index[index > 0]
    time_s, side, price = day.time_s[index], day.side[index], day.price[index]
    new = np.ones(len(index), dtype=bool)
    new[1:] = (time_s[1:] != time_s[:-1]) | (side[1:] != side[:-1])
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(index)) - 1
    before = index[starts] - 1
    shown = np.where(side[starts] > 0, day.bid_qty[before, 0], day.ask_qty[before, 0])
    return Aggressors(
        time_s[starts], np.add.reduceat(day.qty[index], starts), np.abs(price[ends] - price[starts]), shown
    )


def flow_of(day: OrderDay) -> tuple[FloatArray, IntArray]:
    """Arrival times (seconds since the opening) and groups of all events that a generator has to make."""
    takes = aggressors_of(day)
    passive = np.isin(day.kind, (ADD, REDUCE, DELETE))
    time_s = np.concatenate([day.time_s[passive], takes.time_s])
    kind = np.concatenate([np.where(day.kind[passive] == ADD, LIMIT, WITHDRAW), np.full(len(takes.time_s), TAKE)])
    order = np.argsort(time_s, kind="stable")
    return time_s[order] - day.open_s, kind[order].astype(np.int64)


def holding_s(day: OrderDay) -> FloatArray:
    """How long each book state held, float64 (n,)."""
    return np.diff(day.time_s, append=day.close_s)


def activity_curve(day: OrderDay) -> FloatArray:
    """Events per half hour over their mean, float64 (CURVE_BINS,)."""
    time_s, _ = flow_of(day)
    counts = np.histogram(time_s, bins=np.linspace(0.0, day.session_s, CURVE_BINS + 1))[0]
    curve: FloatArray = counts / counts.mean()
    return curve


def mid_at(day: OrderDay, every_s: float) -> FloatArray:
    """Mid price in ticks at a regular grid from the first message on."""
    grid = np.arange(day.time_s[0], day.close_s, every_s)
    index = np.searchsorted(day.time_s, grid, side="right") - 1
    mid: FloatArray = (day.ask_price[index, 0] + day.bid_price[index, 0]) / 2.0
    return mid


def realised_volatility(day: OrderDay, every_s: float) -> float:
    """Square root of the session's summed squared log returns of the mid."""
    return float(np.sqrt((np.diff(np.log(mid_at(day, every_s))) ** 2).sum()))


def variance_curve(day: OrderDay) -> FloatArray:
    """Realised variance per half hour (10 s returns) over its mean, float64 (CURVE_BINS,)."""
    squares = np.diff(np.log(mid_at(day, 10.0))) ** 2
    sums = np.array([part.sum() for part in np.array_split(squares, CURVE_BINS)])
    curve: FloatArray = sums / sums.mean()
    return curve


def dispersion(time_s: FloatArray, span_s: float, window_s: float) -> float:
    """Variance over mean of the counts per window: 1 for Poisson arrivals, more where they cluster."""
    counts = np.histogram(time_s, bins=np.arange(0.0, span_s + 1e-9, window_s))[0]
    return float(counts.var() / counts.mean())


def placement(day: OrderDay) -> dict[str, Any]:
    """Where limit orders are put, given the spread that they find."""
    index = np.flatnonzero(day.kind == ADD)
    index = index[index > 0]
    bid = day.side[index] > 0
    touch = np.where(bid, day.bid_price[index - 1, 0], day.ask_price[index - 1, 0])
    behind = day.side[index] * (touch - day.price[index])
    spread = day.ask_price[index - 1, 0] - day.bid_price[index - 1, 0]
    bucket = np.searchsorted(SPREAD_EDGES, spread, side="right") - 1
    improve = [float((behind[bucket == k] < 0).mean()) for k in range(len(SPREAD_EDGES))]
    join = [float((behind[bucket == k] == 0).mean()) for k in range(len(SPREAD_EDGES))]
    inside = behind < 0
    return {
        "spread_from_ticks": list(SPREAD_EDGES),
        "improve_probability": improve,
        "join_probability": join,
        "improving_size_shares": quantiles(day.qty[index][inside], SIZE_LEVELS),
        "other_size_shares": quantiles(day.qty[index][~inside], SIZE_LEVELS),
        "improve_share_of_spread": quantiles(-behind[inside] / spread[inside]),
        "behind_ticks": quantiles(behind[behind > 0]),
    }


def event_mix(day: OrderDay) -> list[list[float]]:
    """Shares of the groups among all events, by the spread that an event finds: one row per SPREAD_EDGES."""
    index = np.flatnonzero(np.isin(day.kind, (ADD, REDUCE, DELETE, VISIBLE)))
    index = index[index > 0]
    group = np.select([day.kind[index] == ADD, day.kind[index] == VISIBLE], [LIMIT, TAKE], WITHDRAW)
    first = np.ones(len(index), dtype=bool)  # an aggressor's second and later executions are no events of their own
    first[1:] = (group[1:] != TAKE) | (np.diff(day.time_s[index]) > 0) | (np.diff(day.side[index]) != 0)
    spread = (day.ask_price[:, 0] - day.bid_price[:, 0])[index - 1]
    bucket = np.searchsorted(SPREAD_EDGES, spread, side="right") - 1
    counts = [np.bincount(group[first & (bucket == k)], minlength=len(GROUPS)) for k in range(len(SPREAD_EDGES))]
    return [(row / row.sum()).tolist() for row in counts]


def withdrawal(day: OrderDay) -> dict[str, Any]:
    """Where orders are withdrawn: distance from the own side's touch, and how often the touch goes with them."""
    index = np.flatnonzero(np.isin(day.kind, (REDUCE, DELETE)))
    index = index[index > 0]
    bid = day.side[index] > 0
    touch = np.where(bid, day.bid_price[index - 1, 0], day.ask_price[index - 1, 0])
    shown = np.where(bid, day.bid_qty[index - 1, 0], day.ask_qty[index - 1, 0])
    distance = day.side[index] * (touch - day.price[index])
    at_touch = distance == 0
    return {
        "distance_ticks": quantiles(distance),
        "touch_probability": float(at_touch.mean()),
        "clears_touch_probability": float((at_touch & (day.qty[index] >= shown)).mean()),
    }


def lifetimes(day: OrderDay) -> FloatArray:
    """Seconds from entry to full withdrawal of the orders seen entering, float64."""
    entered = dict(zip(day.order_id[day.kind == ADD].tolist(), day.time_s[day.kind == ADD].tolist(), strict=True))
    gone = day.kind == DELETE
    ids, times = day.order_id[gone].tolist(), day.time_s[gone].tolist()
    return np.array([time_s - entered[key] for key, time_s in zip(ids, times, strict=True) if key in entered])


def resting_orders(day: OrderDay, every_s: float = 10.0) -> float:
    """Mean number of orders a side within the visible levels, counted among those seen entering.

    Sampled on a grid after the first half hour. An order that falls out of view is forgotten: what
    happens to it there is not in the file.
    """
    alive: dict[int, tuple[int, int]] = {}
    next_s, counts, view = day.open_s + 1800.0, [], (0, 0)
    columns = zip(
        day.time_s.tolist(), day.kind.tolist(), day.order_id.tolist(), day.qty.tolist(), day.price.tolist(),
        day.bid_price[:, -1].tolist(), day.ask_price[:, -1].tolist(), strict=True,
    )  # fmt: skip
    for time_s, kind, key, qty, price, low, high in columns:
        if kind == ADD:
            alive[key] = (price, qty)
        elif kind in (REDUCE, DELETE, VISIBLE) and key in alive:
            left = alive[key][1] - qty
            if kind == DELETE or left <= 0:
                del alive[key]
            else:
                alive[key] = (price, left)
        if (low, high) != view:
            view = (low, high)
            alive = {key: order for key, order in alive.items() if low <= order[0] <= high}
        if time_s >= next_s:
            counts.append(len(alive))
            next_s += every_s
    return float(np.mean(counts)) / 2.0


def flow_figures(day: OrderDay) -> dict[str, Any]:
    """Everything a generator needs to know of one day."""
    time_s, kind = flow_of(day)
    curve = activity_curve(day)
    takes = aggressors_of(day)
    clustering = fit(Arrivals(time_s, kind, len(GROUPS), curve, day.session_s))
    return {
        "session_s": day.session_s,
        "rates_per_s": {
            "limit": float((day.kind == ADD).sum() / day.session_s),
            "reduce": float((day.kind == REDUCE).sum() / day.session_s),
            "cancel": float((day.kind == DELETE).sum() / day.session_s),
            "ioc": len(takes.time_s) / day.session_s,
        },
        "aggressor": {
            "size_shares": quantiles(takes.qty, SIZE_LEVELS),
            "partial_size_shares": quantiles(takes.qty[takes.qty < takes.shown], SIZE_LEVELS),
            "clear_probability": float((takes.qty >= takes.shown).mean()),
            "sweep_probability": float((takes.reach > 0).mean()),
            "sweep_reach_ticks": quantiles(takes.reach[takes.reach > 0]),
            "sweep_beyond_shares": quantiles((takes.qty - takes.shown)[takes.reach > 0], SIZE_LEVELS),
        },
        "placement": placement(day),
        "event_mix_by_spread": event_mix(day),
        "withdrawal": withdrawal(day),
        "lifetime_s": quantiles(lifetimes(day)),
        "resting_orders_per_side": resting_orders(day),
        "hawkes": {"groups": list(GROUPS), **clustering.figures()},
        "activity_curve": curve.tolist(),
    }


def face_figures(day: OrderDay) -> dict[str, Any]:
    """What any recorded or synthetic day can be compared by: rate, clustering, spread, sizes, volatility."""
    time_s, kind = flow_of(day)
    spread = (day.ask_price[:, 0] - day.bid_price[:, 0]).astype(np.float64)
    held = holding_s(day)
    return {
        "events_per_minute": len(time_s) / day.session_s * 60.0,
        "take_share": float((kind == TAKE).mean()),
        "hidden_execution_share": float((day.kind == HIDDEN).sum() / np.isin(day.kind, (VISIBLE, HIDDEN)).sum()),
        "dispersion": {f"{window}s": dispersion(time_s, day.session_s, window) for window in (1, 10, 60)},
        "spread_ticks": {"mean": float((spread * held).sum() / held.sum()), **weighted_quantiles(spread, held)},
        "depth_shares_by_level": (
            ((day.bid_qty + day.ask_qty) / 2.0 * held[:, None]).sum(axis=0) / held.sum()
        ).tolist(),
        "mid_volatility_per_session": {f"{every}s": realised_volatility(day, every) for every in (1, 10, 60, 300)},
        "variance_curve": variance_curve(day).tolist(),
        "activity_curve": activity_curve(day).tolist(),
    }
