"""Which name means which function, and how its node is made.

Adding a function is adding a line: to RANGE for a kernel over windows, to ELEMENTWISE for a
function of each value, to SCALARS for a function of scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray
from query.functions import elementwise, extended, over_time, rates, trends
from query.functions.range_function import Kernel, Rollup


@dataclass(frozen=True, slots=True)
class RangeSpec:
    """kernel(window, *scalars); `least` samples make a result."""

    kernel: Kernel
    least: int = 1
    keeps_name: bool = False
    # False where the result depends on the evaluation time even if the window is pinned with @.
    pinnable: bool = True
    # Warn where q lies outside 0..1.
    quantile: bool = False
    # Which of the minutes' columns answers it instead of samples, if any does.
    rollup: Rollup | None = None


RANGE: dict[str, RangeSpec] = {
    "avg_over_time": RangeSpec(over_time.avg_over_time, rollup="avg"),
    "changes": RangeSpec(over_time.changes),
    "count_over_time": RangeSpec(over_time.count_over_time, rollup="count"),
    "delta": RangeSpec(rates.delta, least=2, rollup="delta"),
    "deriv": RangeSpec(trends.deriv, least=2),
    "double_exponential_smoothing": RangeSpec(trends.double_exponential_smoothing, least=2),
    "first_over_time": RangeSpec(over_time.first_over_time, keeps_name=True),
    "holt_winters": RangeSpec(trends.double_exponential_smoothing, least=2),
    "idelta": RangeSpec(rates.idelta, least=2),
    "increase": RangeSpec(rates.increase, least=2, rollup="counter"),
    "irate": RangeSpec(rates.irate, least=2),
    "last_over_time": RangeSpec(over_time.last_over_time, keeps_name=True, rollup="last"),
    "mad_over_time": RangeSpec(over_time.mad_over_time),
    "max_over_time": RangeSpec(over_time.max_over_time, rollup="max"),
    "min_over_time": RangeSpec(over_time.min_over_time, rollup="min"),
    "predict_linear": RangeSpec(trends.predict_linear, least=2, pinnable=False),
    "present_over_time": RangeSpec(over_time.present_over_time, rollup="present"),
    "quantile_over_time": RangeSpec(over_time.quantile_over_time, quantile=True),
    "rate": RangeSpec(rates.rate, least=2, rollup="counter"),
    "resets": RangeSpec(over_time.resets),
    "stddev_over_time": RangeSpec(over_time.stddev_over_time),
    "stdvar_over_time": RangeSpec(over_time.stdvar_over_time),
    "sum_over_time": RangeSpec(over_time.sum_over_time, rollup="sum"),
    "ts_of_first_over_time": RangeSpec(over_time.ts_of_first_over_time),
    "ts_of_last_over_time": RangeSpec(over_time.ts_of_last_over_time),
    "ts_of_max_over_time": RangeSpec(over_time.ts_of_max_over_time),
    "ts_of_min_over_time": RangeSpec(over_time.ts_of_min_over_time),
}

# Functions of counters: they tell when a metric's name is not a counter's.
COUNTERS = frozenset(("rate", "increase"))

# What `anchored` and `smoothed` ranges may be given to.
EXTENDED: dict[str, dict[str, Kernel]] = {
    "anchored": {
        "changes": over_time.changes,
        "delta": extended.anchored_delta,
        "increase": extended.anchored_increase,
        "rate": extended.anchored_rate,
        "resets": over_time.resets,
    },
    "smoothed": {
        "delta": extended.smoothed_delta,
        "increase": extended.smoothed_increase,
        "rate": extended.smoothed_rate,
    },
}

ELEMENTWISE: dict[str, Callable[..., FloatArray]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "clamp_max": elementwise.clamp_max,
    "clamp_min": elementwise.clamp_min,
    "cos": np.cos,
    "cosh": np.cosh,
    "deg": elementwise.degrees,
    "exp": np.exp,
    "floor": np.floor,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "rad": elementwise.radians,
    "round": elementwise.round_half_up,
    "sgn": elementwise.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
}

# Of the argument's values, or of the evaluation time where there is no argument.
CALENDAR: dict[str, Callable[[FloatArray], FloatArray]] = {
    "day_of_month": elementwise.day_of_month,
    "day_of_week": elementwise.day_of_week,
    "day_of_year": elementwise.day_of_year,
    "days_in_month": elementwise.days_in_month,
    "hour": elementwise.hour,
    "minute": elementwise.minute,
    "month": elementwise.month,
    "year": elementwise.year,
}

SCALARS: dict[str, Callable[..., FloatArray]] = {"max_of": elementwise.larger, "min_of": elementwise.smaller}
