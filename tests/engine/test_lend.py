"""A lent tuple: kernels see its arrays as they are, nested ones too, and what cannot be lent is refused."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from engine.events import empty_fills
from engine.jit import kernel
from engine.lend import lend, taken_from
from metrics.frame import FloatArray, IntArray


class Inner(NamedTuple):
    words: IntArray
    values: FloatArray


class Outer(NamedTuple):
    cube: IntArray
    inner: Inner
    fills: FloatArray
    last: FloatArray


outer_of = taken_from(Outer)


def an_outer(n: int = 3) -> Outer:
    cube = np.arange(n * 2 * 5, dtype=np.int64).reshape(n, 2, 5)
    return Outer(cube, Inner(np.arange(4) + n, np.arange(6.0).reshape(3, 2)), empty_fills(n), np.zeros((n, 2)))


@kernel
def _add_up(outer: Outer, into: IntArray) -> None:
    """A kernel of its own, so that a lent tuple is handed on."""
    for i in range(outer.cube.shape[0]):
        into[0] += outer.cube[i, 1, 4]
    into[1] += len(outer.fills)


@kernel
def use(table: IntArray, into: IntArray) -> float:
    outer = outer_of(table)
    _add_up(outer, into)
    row = outer.last[1]
    row[:] = outer.inner.values[2]
    outer.fills[2].qty = outer.inner.words[3]
    words, values = outer.inner
    values[0, 0] = words.sum()
    return float(outer.last[:, 1].sum())


def test_a_kernel_reads_and_writes_what_was_lent() -> None:
    outer, into = an_outer(), np.zeros(2, dtype=np.int64)
    table = lend(outer)
    for turn in range(1, 3):
        assert use(table, into) == 5.0
        assert into.tolist() == [turn * int(outer.cube[:, 1, 4].sum()), 3 * turn]
        assert outer.last.tolist() == [[0, 0], [4, 5], [0, 0]]
        assert outer.fills["qty"].tolist() == [0, 0, outer.inner.words[3]]
        assert outer.inner.values[0, 0] == outer.inner.words.sum()


def test_an_array_that_was_exchanged_is_seen_after_it_is_lent_again() -> None:
    outer, into = an_outer(), np.zeros(2, dtype=np.int64)
    table = lend(outer)
    use(table, into)
    longer = an_outer(7)
    assert lend(longer, table) is table
    into[:] = 0
    use(table, into)
    assert into.tolist() == [int(longer.cube[:, 1, 4].sum()), 7]


def test_what_kernels_were_not_compiled_for_is_refused() -> None:
    outer = an_outer()
    lend(outer)
    with pytest.raises(TypeError, match="other types"):
        lend(outer._replace(last=np.zeros(3)))
    with pytest.raises(TypeError, match="contiguous"):
        lend(outer._replace(last=np.zeros((3, 4))[:, ::2]))
    frozen = np.zeros((3, 2))
    frozen.flags.writeable = False
    with pytest.raises(TypeError, match="writable"):
        lend(outer._replace(last=frozen))
