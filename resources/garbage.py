"""Garbage: how Python's collector is set once a process has started."""

from __future__ import annotations

import gc

from resources.memoryoptions import MemoryOptions


def settle(options: MemoryOptions) -> None:
    """Leave out of collections what lives now, and collect the youngest generation as often as the options say.

    Call it when a process has all that it will keep: a full collection walks every container that is not frozen.
    """
    if options.freeze:
        gc.freeze()
    else:
        gc.unfreeze()  # what the start, or the process that this one was forked from, has frozen
    if options.gc_allocations:
        _, second, third = gc.get_threshold()
        gc.set_threshold(options.gc_allocations, second, third)
