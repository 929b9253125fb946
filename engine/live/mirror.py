"""Mirror: the books of one feed as they are now, so that they can be handed over whole at any moment.

The engine needs a whole book when it starts anew, when it has lost events, and when the other feed takes
over; no venue needs to be asked for that.
"""

from __future__ import annotations

from typing import Final

from engine.events import CLEAR, LEVEL
from engine.feeds.decoder import Update

MAX_LEVELS: Final = 1 << 17  # a side; a venue that sends more is not believed
Side = dict[int, int]  # price -> quantity, in units of 1e-18


class MirrorFullError(ValueError):
    """A book has more levels than any has."""


class Mirror:
    """The levels of n instruments."""

    def __init__(self, n: int) -> None:
        self._sides: list[tuple[Side, Side]] = [({}, {}) for _ in range(n)]

    def take(self, i: int, update: Update) -> None:
        """Carry out one update of instrument i; MirrorFullError where it would be a level too many."""
        if update.kind == LEVEL:
            side = self._sides[i][update.side < 0]
            if update.qty == 0:
                side.pop(update.price, None)
            elif len(side) >= MAX_LEVELS and update.price not in side:
                raise MirrorFullError(f"more than {MAX_LEVELS} levels on one side")
            else:
                side[update.price] = update.qty
        elif update.kind == CLEAR:
            self.clear(i)

    def clear(self, i: int) -> None:
        """Forget one book."""
        for side in self._sides[i]:
            side.clear()

    def levels(self, i: int) -> list[tuple[int, int, int]]:
        """Side, price and quantity of every level of one book."""
        bids, asks = self._sides[i]
        return [(1, price, qty) for price, qty in bids.items()] + [(-1, price, qty) for price, qty in asks.items()]
