"""Frame: one instant of one collector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics.series import Schema

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """The values of one collector at one instant.

    schema: which series, in which order.
    t_ns: wall-clock time, nanoseconds since the epoch.
    values: float64, shape (len(schema),); NaN where a reading is missing. Never written to again.
    """

    schema: Schema
    t_ns: int
    values: FloatArray

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.schema),):
            raise ValueError(
                f"frame of {self.schema.collector!r} has shape {self.values.shape}, its schema has {len(self.schema)} series"
            )

    @property
    def t_ms(self) -> int:
        """Wall-clock time in whole milliseconds, the resolution of storage and queries."""
        return self.t_ns // 1_000_000
