"""What a process asks of the kernel for itself: exact sleeps, and an end when its parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29


def sleep_exactly() -> bool:
    """Ask that sleeps end when they should and not up to 50 us later; False where the system cannot."""
    return _prctl(_PR_SET_TIMERSLACK, 1)


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> bool:
    """Get `number` when the parent dies (or now, if it just did); False where the system cannot.

    A forkserver's child has the forkserver as its parent, which itself ends with the supervisor.
    """
    parent = os.getppid()
    asked = _prctl(_PR_SET_PDEATHSIG, int(number))
    if asked and os.getppid() != parent:
        os.kill(os.getpid(), number)
    return asked


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)) == 0
