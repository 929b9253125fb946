"""Detectors: they turn series into series that rules select."""
