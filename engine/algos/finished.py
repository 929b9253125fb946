"""Finished: what is written down of each parent order that is over."""

from __future__ import annotations

from typing import Final

import numpy as np

KEPT: Final = 256  # the youngest parents that the telemetry block holds
# Times on the engine's clock; arrival, end_mid and spread (at arrival) in ticks; notional: the sum of
# price times lots over its fills, in ticks x lots; first_fill_ns -1 where nothing was filled; number counts
# an instrument's parents from 0; control 1: of the control group; orders: children asked for.
FINISHED: Final = np.dtype(
    [
        ("start_ns", np.int64),
        ("first_fill_ns", np.int64),
        ("end_ns", np.int64),
        ("number", np.int64),
        ("target", np.int64),
        ("filled", np.int64),
        ("notional", np.int64),
        ("arrival", np.float64),
        ("end_mid", np.float64),
        ("spread", np.float64),
        ("fills", np.int64),
        ("orders", np.int64),
        ("instrument", np.int32),
        ("algo", np.int16),
        ("side", np.int8),
        ("control", np.uint8),
    ],
    align=True,
)
