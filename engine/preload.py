"""Loaded by the forkserver: importing it imports what its children need and loads their compiled kernels.

A child forked from there serves within milliseconds. Nothing here may start a thread: threads do not
survive a fork.
"""

from __future__ import annotations

import engine.riskrunner
import engine.runner  # noqa: F401
from engine.warm import warm

warm(lambda line: None)
