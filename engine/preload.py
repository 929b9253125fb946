"""Loaded by the forkserver: what its children need is imported, and compiled kernels are loaded, before they are forked."""

import engine.riskrunner
import engine.runner  # noqa: F401
