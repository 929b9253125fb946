"""TWAP: equal slices in equal times. Each rests first; what is left of it when its time is over crosses."""

from __future__ import annotations

from engine.jit import inline_kernel


@inline_kernel
def lots_by_slice(target: int, done_slices: int, slices: int) -> int:
    """How much of a parent should be filled when that many of its slices are over; all of it at the last."""
    return target * min(done_slices, slices) // slices


@inline_kernel
def slices_over(t_ns: int, start_ns: int, slice_ns: int) -> int:
    """How many slices are over at a time."""
    return (t_ns - start_ns) // slice_ns
