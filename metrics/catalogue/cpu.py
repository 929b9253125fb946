"""Metrics of: the processors, as this program may use them, and the plan that places its threads."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_C = "deskvigil_cpu_"

METRICS: tuple[Metric, ...] = (
    Metric(_C + "topology", "", "gauge", "How many the machine has of: packages, cores, logical (processors), nodes (NUMA), caches (last-level); allowed: logical processors that we may use; usable: the same, no more than the quota pays for.", ("what",)),
    Metric(_C + "quota", "", "gauge", "Processors' worth of time that the control group may use; NaN: no limit."),
    Metric(_C + "plan_phase", "", "gauge", "0 switched off, 1 waiting for calm, 2 trying, 3 a plan is kept, 4 none is kept."),
    Metric(_C + "plan_in_force", "", "gauge", "1 while this plan places our threads.", ("plan",)),
    Metric(_C + "plan_p99_seconds", "seconds", "gauge", "Median p99 of order to acknowledgement in the plan's last trial: base (nothing changed) and plan.", ("plan", "side")),
    Metric(_C + "plan_threads_left", "", "gauge", "Threads whose former placement could not be put back yet."),
)  # fmt: skip
