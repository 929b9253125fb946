"""Philox4x32-10: random words as a function of key and counter.

Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). There is no
state: word number i of stream s under seed k is the same on every core, every device, every run.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.jit import inline_kernel, kernel

MULTIPLIER_0: Final = np.uint64(0xD2511F53)
MULTIPLIER_1: Final = np.uint64(0xCD9E8D57)
WEYL_0: Final = np.uint64(0x9E3779B9)
WEYL_1: Final = np.uint64(0xBB67AE85)
LOW: Final = np.uint64(0xFFFFFFFF)
HALF: Final = np.uint64(32)

Word: TypeAlias = np.uint64
WordArray: TypeAlias = npt.NDArray[np.uint64]


@inline_kernel
def _round(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    product_0, product_1 = MULTIPLIER_0 * c0, MULTIPLIER_1 * c2
    return (product_1 >> HALF) ^ c1 ^ k0, product_1 & LOW, (product_0 >> HALF) ^ c3 ^ k1, product_0 & LOW


@inline_kernel
def philox4x32(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    """Ten rounds: four counter words and two key words, each a uint64 below 2**32, to four random words of that kind.

    Written out round by round: LLVM then vectorises a loop around it.
    """
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + WEYL_0) & LOW, (k1 + WEYL_1) & LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + np.uint64(2) * WEYL_0) & LOW, (k1 + np.uint64(2) * WEYL_1) & LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + np.uint64(3) * WEYL_0) & LOW, (k1 + np.uint64(3) * WEYL_1) & LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + np.uint64(4) * WEYL_0) & LOW, (k1 + np.uint64(4) * WEYL_1) & LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + np.uint64(5) * WEYL_0) & LOW, (k1 + np.uint64(5) * WEYL_1) & LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + np.uint64(6) * WEYL_0) & LOW, (k1 + np.uint64(6) * WEYL_1) & LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + np.uint64(7) * WEYL_0) & LOW, (k1 + np.uint64(7) * WEYL_1) & LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + np.uint64(8) * WEYL_0) & LOW, (k1 + np.uint64(8) * WEYL_1) & LOW)
    return _round(c0, c1, c2, c3, (k0 + np.uint64(9) * WEYL_0) & LOW, (k1 + np.uint64(9) * WEYL_1) & LOW)


@kernel
def philox_blocks(counters: WordArray, keys: WordArray, out: WordArray) -> None:
    """Random words of many counters: counters uint64 (n, 4), keys uint64 (2,), out uint64 (n, 4)."""
    for i in range(len(counters)):
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = philox4x32(
            counters[i, 0], counters[i, 1], counters[i, 2], counters[i, 3], keys[0], keys[1]
        )
