"""Metrics of the profiler: bottlenecks, where the console's time goes, and what watching that costs."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_P = "deskvigil_profiler_"

METRICS: tuple[Metric, ...] = (
    Metric("deskvigil_bottleneck", "", "gauge", "1 for the cause that is named now (unknown: something is slow and nothing explains it), else 0; none while there is no calm baseline yet.", ("cause",)),
    Metric("deskvigil_bottleneck_score", "ratio", "gauge", "How far the evidence for a cause stands over its limit; 1 is at the limit.", ("cause",)),
    Metric(_P + "overhead_ratio", "ratio", "gauge", "Processor time of sampling and of looking for bottlenecks, of one core, over the last minute."),
    Metric(_P + "samples_total", "", "counter", "Looks at the console's threads."),
    Metric(_P + "lateness_seconds", "seconds", "gauge", "The most by which a thread of the console that wanted to run was kept waiting, since the last tick."),
    Metric(_P + "thread_cpu_ratio", "ratio", "gauge", "Processor time of the console's busiest thread since the last tick; 1 is one core."),
    Metric(_P + "run_delay_seconds_total", "seconds", "counter", "Time that a process's main thread could have run and got no processor.", ("process",)),
    Metric(_P + "main_thread_cpu_seconds_total", "seconds", "counter", "Processor time of a process's main thread (the engine's loop).", ("process",)),
)  # fmt: skip
