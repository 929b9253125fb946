"""Metrics of: Deskvigil's own processes, and the collectors' own cost."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_P = ("process",)
_C = ("collector",)

_PROCESS = (
    Metric("deskvigil_process_up", "", "gauge", "1 while the process runs.", _P),
    Metric("deskvigil_process_restarts_total", "", "counter", "Times the supervisor has started the process again.", _P),
    Metric("deskvigil_process_start_time_seconds", "seconds", "gauge", "When the process was started, seconds since the epoch.", _P),
    Metric("deskvigil_process_cpu_seconds_total", "seconds", "counter", "CPU time of the process by mode.", ("process", "mode")),
    Metric("deskvigil_process_cpu_ratio", "ratio", "gauge", "CPU time over wall time since the last tick; 1 is one core.", _P),
    Metric("deskvigil_process_resident_memory_bytes", "bytes", "gauge", "Memory of the process that is in RAM.", _P),
    Metric("deskvigil_process_virtual_memory_bytes", "bytes", "gauge", "Address space of the process.", _P),
    Metric("deskvigil_process_threads", "", "gauge", "Threads of the process.", _P),
    Metric("deskvigil_process_open_fds", "", "gauge", "Open file descriptors.", _P),
    Metric("deskvigil_process_max_fds", "", "gauge", "Most file descriptors that the process may open.", _P),
    Metric("deskvigil_process_context_switches_total", "", "counter", "Context switches of the process's main thread: voluntary (it waited) and involuntary (it was put off its core).", ("process", "kind")),
    Metric("deskvigil_process_page_faults_total", "", "counter", "Page faults: minor, and major ones (which waited for a disk).", ("process", "kind")),
    Metric("deskvigil_process_gc_collections_total", "", "counter", "Runs of Python's garbage collector in the console.", ("process", "generation")),
    Metric("deskvigil_process_gc_pause_seconds_total", "seconds", "counter", "Time that the console stood still for garbage collection.", _P),
    Metric("deskvigil_process_gc_pause_duration_seconds", "seconds", "histogram", "Pauses for garbage collection in the console.", _P),
    Metric("deskvigil_process_gc_pause_max_seconds", "seconds", "gauge", "Longest such pause since the last tick.", _P),
    Metric("deskvigil_process_gc_pause_longest_seconds", "seconds", "gauge", "Longest such pause since the console started.", _P),
)  # fmt: skip

_COLLECTOR = (
    Metric("deskvigil_collector_up", "", "gauge", "1 where the last collection succeeded.", _C),
    Metric("deskvigil_collector_collect_seconds", "seconds", "gauge", "Wall time of the last collection.", _C),
    Metric("deskvigil_collector_cpu_seconds_total", "seconds", "counter", "CPU time spent collecting.", _C),
    Metric("deskvigil_collector_handover_cpu_seconds_total", "seconds", "counter", "CPU time spent handing frames on: the live ring, and rules evaluated in the collector's thread.", _C),
    Metric("deskvigil_collector_ticks_total", "", "counter", "Collections tried.", _C),
    Metric("deskvigil_collector_late_ticks_total", "", "counter", "Ticks skipped because the collector was still busy or the machine was.", _C),
    Metric("deskvigil_collector_errors_total", "", "counter", "Collections that failed, and frames that could not be handed on.", _C),
)  # fmt: skip

METRICS: tuple[Metric, ...] = _PROCESS + _COLLECTOR
