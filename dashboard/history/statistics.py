"""Statistics: each series of an answer in a dozen numbers, over the steps shown, and against the earlier time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dashboard.history.answer import Curve


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the finite values: all None where there are none. change is last - first.

    before: mean of the same steps earlier, None where nothing is compared; versus: mean - before.
    """

    n: int
    last: float | None = None
    min: float | None = None
    mean: float | None = None
    max: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    change: float | None = None
    before: float | None = None
    versus: float | None = None


def statistics(curve: Curve, before: Curve | None = None) -> Statistics:
    """Of one curve."""
    values = curve.finite()
    earlier = None if before is None else _mean(before)
    if len(values) == 0:
        return Statistics(0, before=earlier)
    p50, p95, p99 = (float(one) for one in np.percentile(values, (50, 95, 99)))
    mean = float(values.mean())
    return Statistics(
        n=len(values),
        last=float(values[-1]),
        min=float(values.min()),
        mean=mean,
        max=float(values.max()),
        p50=p50,
        p95=p95,
        p99=p99,
        change=float(values[-1] - values[0]),
        before=earlier,
        versus=None if earlier is None else mean - earlier,
    )


def _mean(curve: Curve) -> float | None:
    values = curve.finite()
    return float(values.mean()) if len(values) else None
