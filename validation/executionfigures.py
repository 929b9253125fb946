"""What a run's parents cost: each figure as a ratio of sums with its interval, alone and less the baseline's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metrics.frame import FloatArray, IntArray
from validation.bootstrap import Estimate, block_sums, difference, drawn_blocks, ratio

BPS = 1e4
NS = 1e9
SEED = 20260101


@dataclass(frozen=True, eq=False)
class Parents:
    """Parents of one algorithm on one case: rows, dtype FINISHED (n,); block int64 (n,), which stretch of time each
    started in; value_usd float64 (n,): USD of one tick x lot of each one's instrument; submitted, rejected: orders."""

    rows: npt.NDArray[Any]
    block: IntArray
    value_usd: FloatArray
    submitted: int
    rejected: dict[str, int]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of an algorithm: its estimate, and (None for the baseline itself) less the baseline's."""

    own: Estimate
    against: Estimate | None


# name -> (unit, what it says)
MEASURES: dict[str, tuple[str, str]] = {
    "fill": ("%", "filled / ordered quantity, at arrival mid"),
    "slippage": ("bp", "signed fill price - arrival mid, quantity-weighted"),
    "shortfall": ("bp", "slippage of what filled, and the signed move of the mid for what did not, over ordered"),
    "impact": (
        "bp",
        "signed move of the mid from arrival to end, each parent alike; mechanical: the flow does not react",
    ),
    "first_fill": ("s", "arrival to first fill, market time, of parents that filled at all"),
    "completion": ("s", "arrival to end, market time"),
    "partial": ("%", "parents filled in more than one fill"),
    "unfinished": ("%", "parents that ended with something unfilled"),
}


def parts_of(rows: npt.NDArray[Any], value_usd: FloatArray) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Numerator and denominator of each measure for every parent, float64 (n,) each."""
    side, arrival = rows["side"].astype(np.float64), rows["arrival"]
    target, filled = rows["target"].astype(np.float64), rows["filled"].astype(np.float64)
    ordered_usd, filled_usd = arrival * target * value_usd, arrival * filled * value_usd
    cost_usd = side * (rows["notional"] - arrival * filled) * value_usd
    moved = side * (rows["end_mid"] - arrival)
    ones = np.ones(len(rows))
    any_fill = (rows["first_fill_ns"] >= 0).astype(np.float64)
    first_s = np.where(any_fill > 0, (rows["first_fill_ns"] - rows["start_ns"]) / NS, 0.0)
    return {
        "fill": (100.0 * filled_usd, ordered_usd),
        "slippage": (BPS * cost_usd, filled_usd),
        "shortfall": (BPS * (cost_usd + moved * (target - filled) * value_usd), ordered_usd),
        "impact": (BPS * moved / arrival, ones),
        "first_fill": (first_s, any_fill),
        "completion": ((rows["end_ns"] - rows["start_ns"]) / NS, ones),
        "partial": (100.0 * (rows["fills"] > 1), ones),
        "unfinished": (100.0 * (filled < target), ones),
    }


def half_spread_bps(parents: Parents) -> float:
    """Mean half-spread at arrival in bp of mid: what a plain market order pays at the touch."""
    return float(np.nanmean(parents.rows["spread"] / parents.rows["arrival"]) / 2.0 * BPS)


def common(parents: list[Parents]) -> list[Parents]:
    """Only the parents that every run has: the same instrument, number and stretch of time, in the same order."""
    keys = [
        list(zip(p.block.tolist(), p.rows["instrument"].tolist(), p.rows["number"].tolist(), strict=True))
        for p in parents
    ]
    shared = set(keys[0]).intersection(*keys[1:])
    kept = []
    for p, own in zip(parents, keys, strict=True):
        order = np.array(sorted((k for k in range(len(own)) if own[k] in shared), key=own.__getitem__), dtype=np.intp)
        kept.append(Parents(p.rows[order], p.block[order], p.value_usd[order], p.submitted, p.rejected))
    return kept


def compare(parents: Parents, baseline: Parents) -> dict[str, Measure]:
    """Every measure of an algorithm, with the baseline's beside it over the same blocks of time."""
    count = int(max(parents.block.max(initial=-1), baseline.block.max(initial=-1))) + 1
    drawn = drawn_blocks(count, SEED)
    own, other = parts_of(parents.rows, parents.value_usd), parts_of(baseline.rows, baseline.value_usd)
    found = {}
    for name in MEASURES:
        part, whole = (block_sums(values, parents.block, count) for values in own[name])
        if parents is baseline:
            found[name] = Measure(ratio(part, whole, drawn), None)
        else:
            base_part, base_whole = (block_sums(values, baseline.block, count) for values in other[name])
            found[name] = Measure(ratio(part, whole, drawn), difference(part, whole, base_part, base_whole, drawn))
    return found
