"""Sweeps: hundreds of millions of samples in fixed blocks, on any number of workers, with the same figures on all."""

from __future__ import annotations
