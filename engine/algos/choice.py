"""Choice: the algorithms by number and name, and which of them works a parent."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from engine.jit import inline_kernel


class Algo(IntEnum):
    """How a parent is worked; the numbers are what kernels see."""

    MARKET = 0
    TWAP = 1
    VWAP = 2
    POV = 3
    PEG = 4

    @property
    def label(self) -> str:
        """The word in options, labels and tables."""
        return self.name.lower()


ALGOS: Final = len(Algo)
MIX: Final = -1
CODE_OF: Final = {**{algo.label: int(algo) for algo in Algo}, "mix": MIX}

MARKET, TWAP, VWAP, POV, PEG = (int(algo) for algo in Algo)


@inline_kernel
def is_control(number: int, instrument: int, share: float) -> bool:
    """Whether an instrument's parent of that number (from 0) belongs to the control group.

    A share of every stretch of parents does, evenly spread: multiples of the square root of 2 keep
    clear of how parents' sides (in turn) and durations (multiples of the golden ratio) go.
    """
    return (number * 0.4142135623730951 + instrument * 0.7320508075688772 + 0.5) % 1.0 < share


@inline_kernel
def algo_of(number: int, code: int, control: bool) -> int:
    """The algorithm that works a parent: market in the control group, else the chosen one, or each but market in turn."""
    if control:
        return MARKET
    return code if code != MIX else TWAP + number % (ALGOS - 1)


@inline_kernel
def duration_ns(number: int, instrument: int, shortest_ns: float, longest_ns: float) -> int:
    """How long an instrument's parent of that number (from 0) lasts: the first as short as can be, later ones spread evenly."""
    share = (number * 0.6180339887498949 + instrument * 0.37) % 1.0 if number > 0 else 0.0
    return int(shortest_ns + share * (longest_ns - shortest_ns))
