"""Peg: all of it rests at the touch, or inside the spread, and crosses when crossing is cheap enough.

Fair value leans to the side that is pressed: `pressure` (-1 .. 1, positive upwards) puts it that share
of a half-spread above mid. The model's signal is the pressure where there is one, the imbalance of the
two best sizes where there is none. So a crossing costs (1 - side * pressure) half-spreads, and it is
worth it where that is no more than a price that rises with the time gone: patience at first, urgency
more at the end. The price is in usual half-spreads, so a spread that is narrow just now is a bargain.
A half-spread that is negligible crosses at once: what waiting could save is less than what it risks.
Where the pressure is the parent's own way by more than `hold`, nothing rests: the price comes to it.
"""

from __future__ import annotations

import numpy as np

from engine.jit import inline_kernel


@inline_kernel
def imbalance(bid_lots: int, ask_lots: int) -> float:
    """How much more is bid than offered at the touch, -1 .. 1; 0 where nothing is known."""
    total = bid_lots + ask_lots
    return float(bid_lots - ask_lots) / float(total) if total > 0 else 0.0


@inline_kernel
def pressure_of(signal: float, bid_lots: int, ask_lots: int) -> float:
    """The model's signal cut to -1 .. 1, or the imbalance where it is NaN."""
    return imbalance(bid_lots, ask_lots) if np.isnan(signal) else min(max(signal, -1.0), 1.0)


@inline_kernel
def is_worth_crossing(
    side: int, spread: int, usual_spread: float, pressure: float, gone: float, patience: float, urgency: float
) -> bool:  # fmt: skip
    """Whether a parent should cross now. spread and usual_spread in ticks; gone: its time, 0 .. 1."""
    return spread * (1.0 - side * pressure) <= usual_spread * (patience + urgency * gone * gone)


@inline_kernel
def is_worth_waiting(side: int, pressure: float, hold: float) -> bool:
    """Whether the price presses the parent's way so much that nothing of it should rest now."""
    return side * pressure < -hold
