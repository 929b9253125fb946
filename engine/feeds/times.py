"""Times: which rows of a recording carry a time that cannot be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metrics.frame import IntArray


def in_order(t_ns: IntArray) -> npt.NDArray[np.bool_]:
    """Rows to keep so that time never falls, bool, shape (n,).

    Left out are rows earlier than one that was kept, and rows later than both that follow, where those are
    in order without them: one damaged time costs one row, whichever way it points.
    """
    kept: npt.NDArray[np.bool_] = np.ones(len(t_ns), dtype=np.bool_)
    if len(t_ns) == 0 or not (np.diff(t_ns) < 0).any():
        return kept
    times = t_ns.tolist()
    latest = min(times)
    for k, now in enumerate(times):
        following = times[k + 1 : k + 3]
        if now < latest or (len(following) == 2 and latest <= following[0] and max(following) < now):
            kept[k] = False
        else:
            latest = now
    return kept
