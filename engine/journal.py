"""Journal: every change of the books and of our own orders, written down before it is made.

One record is 64 bytes, one cache line, in a memory-mapped file: what the kernel wrote lies in the
page cache and outlives the process; a helper thread brings it to the disk (`engine.journalfile`).
A record is *sound* where its sequence is the one expected and its check is right; the journal ends
before the first that is not. The check of a record finds any damage within one of its eight words,
and misses other damage once in 2**64.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.events import EVENT, EventArray, empty_events
from engine.jit import inline_kernel, kernel
from metrics.frame import IntArray

RECORD: Final = np.dtype(
    [
        ("sequence", np.int64),  # 1, 2, ... over all segments, sessions and starts
        ("check", np.int64),
        ("t_ns", np.int64),  # engine time; wall-clock ns in CLOCK
        ("order_id", np.int64),
        ("price", np.int64),
        ("qty", np.int64),
        ("instrument", np.int32),
        ("kind", np.uint8),
        ("side", np.int8),
        ("flags", np.uint16),
        ("what", np.int32),
        ("detail", np.int32),
    ]
)
WORDS: Final = 8  # int64 words of a record, as kernels see it
W_SEQUENCE, W_CHECK, W_T_NS, W_ORDER_ID, W_PRICE, W_QTY, W_EVENT, W_WHAT = range(WORDS)

# What a record is.
MARKET: Final = 1  # a market event, about to be applied
OWN: Final = 2  # an own order or cancel that has passed the gates, about to be applied
PARENT: Final = 3  # a parent order's timer: kind is its state now, see `engine.step.note_parent`
CLOCK: Final = 4  # wall clock in t_ns, engine time in order_id; price: digest of all fills since BEGIN, qty: how many
BEGIN: Final = 5  # an engine starts with empty books and a flat account; order_id: wall-clock ns, the run of its executions; detail names the market
SESSION: Final = 6  # a session starts; order_id: its number, price: wall-clock ns
SETTLE: Final = 7  # a session ends: positions are closed at their marks
END: Final = 8  # a clean stop: own orders are cancelled, the next start is fresh
SKIP: Final = 9  # the record with the sequence order_id has killed the engine twice and is left out
GAP: Final = 10  # records could not be written (order_id of them, a full disk): only a snapshot leads on from here
STATES: Final = 11  # an instrument's trading state, as put in force; kind is the state
WHAT_NAMES: Final = (
    "none", "market", "own", "parent", "clock", "begin", "session", "settle", "end", "skip", "gap", "state",
)  # fmt: skip

# The head: int64, in a mapped file of its own, so that it too outlives the process.
SEQUENCE, SLOT, DURABLE, BUSY, DEATH_AT, DEATHS, LOST, DIGEST, FILLS = range(9)
HEAD_WORDS: Final = 64

JournalArray = npt.NDArray[Any]  # dtype RECORD

_FACTORS: Final = tuple(
    int(word) | 1 for word in np.random.SeedSequence(0x6A6F7572).generate_state(WORDS, dtype=np.uint64)
)
_F0, _F1, _F2, _F3, _F4, _F5, _F6, _F7 = (np.uint64(factor) for factor in _FACTORS)
_HALF: Final = np.uint64(32)


@inline_kernel
def _mixed(word: int, factor: np.uint64) -> np.uint64:
    """A bijection of a word: no change of a single word can leave the sum of such as it was."""
    x = np.uint64(word)
    return np.uint64((x ^ (x >> _HALF)) * factor)


@inline_kernel
def check_of(words: IntArray, k: int) -> Any:
    """The check that record k should carry."""
    total = _mixed(words[k, W_SEQUENCE], _F0) + _mixed(words[k, W_T_NS], _F1) + _mixed(words[k, W_ORDER_ID], _F2)
    total += _mixed(words[k, W_PRICE], _F3) + _mixed(words[k, W_QTY], _F4)
    total += _mixed(words[k, W_EVENT], _F5) + _mixed(words[k, W_WHAT], _F6) + _F7
    return np.int64(total)


@inline_kernel
def append(
    words: IntArray, head: IntArray, what: int, t_ns: int, order_id: int, price: int, qty: int, instrument: int,
    kind: int, side: int, flags: int, detail: int,
) -> None:  # fmt: skip
    """Write one record; where there is no room it is counted in head[LOST].

    words: int64 (records, WORDS), the segment under way, of no length without a journal. head[BUSY]
    says until the step's end which record was being carried out, should it kill the engine.
    """
    k = head[SLOT]
    if k >= words.shape[0]:
        head[LOST] += 1
        return
    sequence = head[SEQUENCE] + 1
    words[k, W_SEQUENCE] = sequence
    words[k, W_T_NS] = t_ns
    words[k, W_ORDER_ID] = order_id
    words[k, W_PRICE] = price
    words[k, W_QTY] = qty
    words[k, W_EVENT] = (
        (instrument & 0xFFFFFFFF) | ((kind & 0xFF) << 32) | ((side & 0xFF) << 40) | ((flags & 0xFFFF) << 48)
    )
    words[k, W_WHAT] = (what & 0xFFFFFFFF) | (detail << 32)
    words[k, W_CHECK] = check_of(words, k)
    head[BUSY] = sequence
    head[SEQUENCE] = sequence
    head[SLOT] = k + 1


@kernel
def note(
    words: IntArray, head: IntArray, what: int, t_ns: int, order_id: int, price: int, qty: int, instrument: int,
    kind: int, detail: int,
) -> None:  # fmt: skip
    """`append` for Python: a record that changes no book."""
    append(words, head, what, t_ns, order_id, price, qty, instrument, kind, 0, 0, detail)
    head[BUSY] = 0


@inline_kernel
def done(head: IntArray) -> None:
    """Say that what was written last has been carried out."""
    head[BUSY] = 0


@inline_kernel
def digest_fill(head: IntArray, t_ns: int, maker_id: int, taker_id: int, price: int, qty: int, instrument: int) -> None:
    """Take one fill into the running digest of all fills."""
    mixed = _mixed(t_ns, _F1) + _mixed(maker_id, _F2) + _mixed(taker_id, _F3) + _mixed(price, _F4)
    mixed += _mixed(qty, _F5) + _mixed(instrument, _F6)
    head[DIGEST] = np.int64(_mixed(head[DIGEST], _F0) + mixed)
    head[FILLS] += 1


@kernel
def digest_fills(head: IntArray, fills: npt.NDArray[Any], count: int) -> None:
    """Take the first `count` fills (dtype FILL) into the running digest."""
    for k in range(count):
        fill = fills[k]
        digest_fill(head, fill.t_ns, fill.maker_id, fill.taker_id, fill.price, fill.qty, fill.instrument + 0)


@kernel
def sound_records(words: IntArray, first: int, sequence: int) -> int:
    """How many records from `first` on are sound and carry sequence, sequence + 1, ..."""
    for k in range(first, len(words)):
        if words[k, W_SEQUENCE] != sequence + k - first or words[k, W_CHECK] != check_of(words, k):
            return k - first
    return len(words) - first


@kernel
def sound_anywhere(words: IntArray, first: int) -> int:
    """How many records from `first` on are sound by themselves, whatever their sequence."""
    count = 0
    for k in range(first, len(words)):
        if words[k, W_SEQUENCE] > 0 and words[k, W_CHECK] == check_of(words, k):
            count += 1
    return count


def as_words(records: JournalArray) -> IntArray:
    """The records as int64 (n, WORDS), the same memory."""
    return records.view(np.int64).reshape(-1, WORDS)


def as_events(records: JournalArray) -> EventArray:
    """The MARKET and OWN records as events, a copy in the order in which they were applied."""
    chosen = records[(records["what"] == MARKET) | (records["what"] == OWN)]
    events = empty_events(len(chosen))
    for name in EVENT.names or ():
        events[name] = chosen[name]
    return events


def no_journal() -> tuple[IntArray, IntArray]:
    """Words and head for an engine that keeps none: nothing is written, only the digest goes on."""
    return np.zeros((0, WORDS), dtype=np.int64), np.zeros(HEAD_WORDS, dtype=np.int64)
