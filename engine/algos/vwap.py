"""VWAP: slices as large as the volume that their times usually see, by the session's volume curve.

The curve is measured (data/market.json `volume`), not guessed: the share of a session's volume in
equal stretches of it. Parents that last seconds see little of it; those that last an hour do.
"""

from __future__ import annotations

from engine.jit import inline_kernel
from metrics.frame import FloatArray


@inline_kernel
def volume_until(curve: FloatArray, t_ns: int, session_start_ns: int, session_end_ns: int) -> float:
    """The share of a session's usual volume that is traded by a time, 0 .. 1.

    curve: cumulative, float64 (bins + 1,), from 0 to 1, straight between its points.
    """
    bins = len(curve) - 1
    place = float(t_ns - session_start_ns) / float(max(session_end_ns - session_start_ns, 1)) * bins
    place = min(max(place, 0.0), float(bins))
    k = min(int(place), bins - 1)
    return float(curve[k] + (curve[k + 1] - curve[k]) * (place - k))


@inline_kernel
def lots_by_volume(
    curve: FloatArray, target: int, t_ns: int, start_ns: int, end_ns: int, session_start_ns: int, session_end_ns: int
) -> int:  # fmt: skip
    """How much of a parent should be filled at a time; all of it at its end.

    Where the curve is flat between start and end (outside the session) it goes by time.
    """
    if t_ns >= end_ns:
        return target
    before = volume_until(curve, start_ns, session_start_ns, session_end_ns)
    whole = volume_until(curve, end_ns, session_start_ns, session_end_ns) - before
    if whole > 0.0:
        share = (volume_until(curve, t_ns, session_start_ns, session_end_ns) - before) / whole
    else:
        share = float(t_ns - start_ns) / float(end_ns - start_ns)
    return min(int(target * share), target)
