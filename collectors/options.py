"""What can be set about the collectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from collectors.scrape.options import ScrapeJob
from metrics.errors import ConfigError

Interval = Annotated[float, Ge(0.05), Le(60.0)]


@dataclass(frozen=True, kw_only=True)
class CollectorOptions:
    """Rates and limits of the built-in collectors.

    host_interval_s, process_interval_s, gpu_interval_s, engine_interval_s: seconds between ticks;
    the engine's rate is also the risk process's, and the pace at which rules on their series are evaluated.
    gpu: look for NVIDIA GPUs at all. gpu_reprobe_s: how often to look again for one that is absent or lost.
    ignored_interfaces: network interfaces left out, shell patterns.
    max_cores, max_disks, max_filesystems, max_interfaces: so many get series of their own; what
    is left out is counted in deskvigil_host_devices_left_out.
    max_gpu_processes: the largest users of each GPU's memory that get a series of their own.
    sampler_hz: how often a second the console looks at its own threads and for bottlenecks (docs/RESOURCES.md,
    Profiler), at least 1; 0: never.
    scrape: other programs' endpoints, as in Prometheus's scrape_configs (docs/DEPLOY.md has an example).
    scrape_max_series: different series that all of them together may have in a day; what comes on top is refused and counted.
    """

    host_interval_s: Interval = 1.0
    process_interval_s: Interval = 1.0
    gpu_interval_s: Interval = 1.0
    engine_interval_s: Interval = 0.1
    gpu: bool = True
    gpu_reprobe_s: Annotated[float, Ge(1.0), Le(3600.0)] = 30.0
    ignored_interfaces: tuple[str, ...] = ("lo", "veth*", "ifb*", "docker*", "br-*", "cali*", "virbr*", "dummy*")
    max_cores: Annotated[int, Ge(1), Le(1024)] = 64
    max_disks: Annotated[int, Ge(1), Le(256)] = 32
    max_filesystems: Annotated[int, Ge(1), Le(256)] = 32
    max_interfaces: Annotated[int, Ge(1), Le(256)] = 16
    max_gpu_processes: Annotated[int, Ge(0), Le(128)] = 16
    sampler_hz: Annotated[float, Ge(0.0), Le(50.0)] = 4.0
    scrape: tuple[ScrapeJob, ...] = ()
    scrape_max_series: Annotated[int, Ge(1), Le(10_000_000)] = 150_000

    def __post_init__(self) -> None:
        if 0.0 < self.sampler_hz < 1.0:
            raise ValueError(
                f"sampler_hz: {self.sampler_hz:g} looks are too few to tell a late thread; 0 or at least 1"
            )
        names: set[str] = set()
        for number, job in enumerate(self.scrape):
            if job.job_name in names:
                raise ValueError(f"scrape.{number}.job_name: {job.job_name!r} is the name of another job already")
            names.add(job.job_name)
        if self.scrape:
            from collectors.scrape.targets import targets_of  # relabelling takes time to import

            try:
                targets_of(self.scrape)
            except ConfigError as error:
                raise ValueError(str(error)) from None
