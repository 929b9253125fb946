"""Loaded by the forkserver: importing it imports what its children need and loads their compiled kernels.

A child forked from there serves within milliseconds. Nothing here may start a thread: threads do not
survive a fork. Compiling takes a minute where nothing is cached; what it is at is said in the file
that DESKVIGIL_STARTING names, for the console to show.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path

import engine.riskrunner
import engine.runner  # noqa: F401
from engine.warm import warm


def _say(line: str) -> None:
    name = os.environ.get("DESKVIGIL_STARTING")
    if name:
        with suppress(OSError):
            Path(name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            Path(name).write_text(line)


warm(_say)
_say("")
# What was imported stays: looking through it for garbage took a child 50 ms of its start.
gc.collect()
gc.freeze()
