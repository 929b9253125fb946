"""Processes, memory, CPU and profiling of this program itself."""
