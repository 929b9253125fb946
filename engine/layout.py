"""Layout: where everything lies in the one int64 array that holds the books of all instruments.

    header | instruments | sides (bid, ask of each instrument) | hash heads | slots

One array, because every further array that a kernel passes around costs reference counting, and
because a copy of it is a copy of the whole state. A reference to a slot is its offset in the array;
0 means none. A *key* is side * price, so that on both sides the higher key is the better price.

A side's levels near the touch lie in a window of WINDOW ticks with a two-level bitmap; orders worse
than the window wait in the *far* list, in order of arrival. The window moves when the touch leaves it.
"""

from __future__ import annotations

from typing import Final

# Header.
N_INSTRUMENTS: Final = 0
CAPACITY: Final = 1  # slots
HASH_MASK: Final = 2
INSTRUMENTS: Final = 3  # offsets of the parts
SIDES: Final = 4
HEADS: Final = 5
SLOTS: Final = 6
FREE: Final = 7  # first free slot, linked by NEXT
SEQUENCE: Final = 8  # events applied
RESTING: Final = 9  # slots in use
RESTING_PEAK: Final = 10
REBASES: Final = 11
LOST_FILLS: Final = 12  # fills that had no room in the caller's array
FILL_COUNT: Final = 13  # fills of the event under way
REFUSED: Final = 14  # events refused, by reason: REFUSED - reason
HEADER_WORDS: Final = 32

# An instrument.
HALTED: Final = 0
LEVEL_BOOK: Final = 1
OWN_ORDERS: Final = 2
LAST_PRICE: Final = 3  # ticks, 0 before the first trade
LAST_QTY: Final = 4
TRADED: Final = 5  # lots
INSTRUMENT_WORDS: Final = 8

# A side.
BASE: Final = 0  # key of the window's level 0
BEST: Final = 1  # best key, NO_KEY where the side is empty
FAR_HEAD: Final = 2
FAR_TAIL: Final = 3
FAR_COUNT: Final = 4
SUMMARY: Final = 5  # bit k: word k of the bitmap is not 0
BITS: Final = 8
WINDOW: Final = 4096
LEVELS: Final = BITS + WINDOW // 64
LEVEL_WORDS: Final = 4
SIDE_WORDS: Final = LEVELS + WINDOW * LEVEL_WORDS
NO_KEY: Final = -(1 << 60)
BEST_AT: Final = 3072  # where the best key lies in a window that has just moved: room to improve, more to get worse
LOW: Final = 1024  # a new level below the window moves it where the best key has sunk under this

# A level.
TOTAL: Final = 0  # lots of all its orders
HEAD: Final = 1
TAIL: Final = 2
OWN: Final = 3  # lots of our own orders in it

# A slot: one cache line.
ID: Final = 0
KEY: Final = 1
QTY: Final = 2
NEXT: Final = 3
PREV: Final = 4
TAG: Final = 5  # 2 * instrument + (0 bid, 1 ask)
HASH_NEXT: Final = 6
# Order books: sequence of arrival. Level books: of an own order the lots ahead of it, of a recorded
# level the lots used up since its last update, by prints and by our own aggressors.
EXTRA: Final = 7
SLOT_WORDS: Final = 8

LEVEL_ID: Final = 1 << 61  # ids from here on are recorded levels: LEVEL_ID + 2 * price + (0 bid, 1 ask)
