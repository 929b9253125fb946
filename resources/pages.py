"""Pages: memory that is there before it is needed, because the first touch of a page costs a fault."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy.typing as npt

_MADV_POPULATE_WRITE = 23


def touch(array: npt.NDArray[Any]) -> bool:
    """Fault every page of a contiguous array in, writable; contents stay. The interpreter goes on meanwhile.

    False where the system cannot (Linux before 5.14, an array that may not be written): pages come as they are used.
    """
    page = mmap.PAGESIZE
    start = array.ctypes.data // page * page
    end = -(-(array.ctypes.data + array.nbytes) // page) * page
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_POPULATE_WRITE)) == 0
