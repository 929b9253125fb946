"""The stale marker: one particular NaN that says "from here on there is no value".

Prometheus's bit pattern, so that markers that come in by remote write mean the same here. A
collector's missing reading (NaN in a frame) is kept as this marker.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metrics.frame import FloatArray

STALE_BITS = 0x7FF0_0000_0000_0002
NORMAL_BITS = 0x7FF8_0000_0000_0001
STALE_NAN = float(np.array([STALE_BITS], np.uint64).view(np.float64)[0])
_STALE = np.array([STALE_BITS], np.uint64).view(np.float64)


def is_stale(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Return where `values` (any shape, contiguous) hold the marker; other NaNs are values."""
    mask: npt.NDArray[np.bool_] = np.ascontiguousarray(values).view(np.uint64) == STALE_BITS
    return mask


def mark_missing(values: FloatArray) -> FloatArray:
    """Return `values` as float64 with NaN made the stale marker; the same array where nothing changes.

    NORMAL_BITS stay: Prometheus's NaN that is a value (the quantile of an empty summary), as scraping hands it on.
    """
    values = np.asarray(values, np.float64)
    missing = np.isnan(values)
    if missing.any():
        missing &= np.ascontiguousarray(values).view(np.uint64) != NORMAL_BITS
    if not missing.any():
        return values
    marked = np.array(values, np.float64)
    marked[missing] = _STALE
    return marked
