"""Benchmarks, conformance and calibration: commands that print measured figures."""
