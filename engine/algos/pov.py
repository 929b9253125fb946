"""POV: a share of the volume that the others trade. It crosses to keep up with its rate and rests up to its cap.

Without trades it does nothing: what is left at its end crosses like any algorithm's.
"""

from __future__ import annotations

from engine.jit import inline_kernel


@inline_kernel
def lots_by_participation(target: int, seen_lots: int, share: float) -> int:
    """How much of a parent belongs to that much volume of others."""
    return min(int(seen_lots * share), target)
