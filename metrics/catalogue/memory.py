"""Metrics of: the memory of Deskvigil's own processes, as they report it, and whether it leaks."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_P = ("process",)

METRICS: tuple[Metric, ...] = (
    Metric("deskvigil_process_anonymous_memory_bytes", "bytes", "gauge", "Resident memory that belongs to no file: what the process itself has written.", _P),
    Metric("deskvigil_process_heap_bytes", "bytes", "gauge", "What malloc holds: in_use (in its heaps, handed out), free (in its heaps, not handed out), mapped (large blocks of their own).", ("process", "state")),
    Metric("deskvigil_process_heap_fragmentation_ratio", "ratio", "gauge", "Free share of malloc's heaps.", _P),
    Metric("deskvigil_process_python_blocks", "", "gauge", "Memory blocks that the Python interpreter of the process has handed out.", _P),
    Metric("deskvigil_process_memory_report_age_seconds", "seconds", "gauge", "How old the process's last report of its memory is.", _P),
    Metric("deskvigil_resource_leak_verdict", "", "gauge", "0 warming up, 1 calm, 2 suspected (the allocators do not confirm), 3 leak.", _P),
    Metric("deskvigil_resource_leak_slope_bytes_per_second", "bytes per second", "gauge", "How fast the floor of the process's memory rises (Theil-Sen over two hours).", _P),
    Metric("deskvigil_resource_leak_slope_low_bytes_per_second", "bytes per second", "gauge", "Lower end of the slope's 95 % interval.", _P),
    Metric("deskvigil_resource_leak_slope_high_bytes_per_second", "bytes per second", "gauge", "Upper end of the slope's 95 % interval.", _P),
    Metric("deskvigil_resource_leak_confidence_ratio", "ratio", "gauge", "Confidence that the floor rises at all (Mann-Kendall).", _P),
    Metric("deskvigil_resource_leak_site_bytes_per_second", "bytes per second", "gauge", "How fast what a line of code allocated grew in the last traced burst.", ("process", "site")),
)  # fmt: skip
