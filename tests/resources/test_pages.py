"""Pages that are touched are there: the next touch costs no fault, and contents stay."""

from __future__ import annotations

import mmap
import platform
import resource

import numpy as np
import pytest

from resources.pages import touch

WORDS = (8 << 20) // 8
RELEASE = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])

pytestmark = pytest.mark.skipif(RELEASE < (5, 14), reason="MADV_POPULATE_WRITE came with Linux 5.14")


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_writing_to_touched_pages_faults_no_more() -> None:
    plain = np.frombuffer(mmap.mmap(-1, 8 * WORDS), dtype=np.int64)
    before = faults()
    plain[:] = 1
    assert faults() > before
    touched = np.frombuffer(mmap.mmap(-1, 8 * WORDS), dtype=np.int64)
    assert touch(touched)
    before = faults()
    touched[:] = 1
    assert faults() - before < 10


def test_contents_stay_and_neighbours_too() -> None:
    words = np.arange(WORDS)
    assert touch(words[1000:-1000])
    np.testing.assert_array_equal(words, np.arange(WORDS))


def test_what_may_not_be_written_is_left_alone() -> None:
    words = np.frombuffer(mmap.mmap(-1, 8 * WORDS, prot=mmap.PROT_READ), dtype=np.int64)
    assert not touch(words)
    assert not words.any()
