"""Metrics of: host."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_DISK = ("device", "direction")
_NET = ("interface", "direction")

_CPU = (
    Metric("deskvigil_host_cpus", "", "gauge", "Cores that are online."),
    Metric("deskvigil_host_cpu_busy_ratio", "ratio", "gauge", "Part of all cores' time not idle, since the last tick."),
    Metric("deskvigil_host_cpu_core_busy_ratio", "ratio", "gauge", "Part of one core's time not idle, since the last tick.", ("cpu",)),
    Metric("deskvigil_host_cpu_mode_ratio", "ratio", "gauge", "Part of all cores' time spent in each mode, since the last tick.", ("mode",)),
    Metric("deskvigil_host_cpu_seconds_total", "seconds", "counter", "Time of each core by mode; user holds guests' time too.", ("cpu", "mode")),
    Metric("deskvigil_host_cpu_frequency_hertz", "hertz", "gauge", "Clock of each core, where the kernel tells; one core is read at each tick, in turn.", ("cpu",)),
    Metric("deskvigil_host_load_average", "", "gauge", "Tasks running or in uninterruptible sleep, damped over 1, 5 and 15 minutes.", ("window",)),
    Metric("deskvigil_host_context_switches_total", "", "counter", "Context switches."),
    Metric("deskvigil_host_interrupts_total", "", "counter", "Hardware interrupts served."),
    Metric("deskvigil_host_softirqs_total", "", "counter", "Software interrupts served."),
    Metric("deskvigil_host_forks_total", "", "counter", "Processes and threads created."),
    Metric("deskvigil_host_processes_running", "", "gauge", "Tasks that run or wait for a core."),
    Metric("deskvigil_host_processes_blocked", "", "gauge", "Tasks that wait for a disk."),
    Metric("deskvigil_host_cpu_quota_periods_total", "", "counter", "Periods in which this program's control group had a processor quota and used some of it; 0 where it has none."),
    Metric("deskvigil_host_cpu_throttled_periods_total", "", "counter", "Such periods in which the quota was spent before they ended."),
    Metric("deskvigil_host_cpu_throttled_seconds_total", "seconds", "counter", "Time that this program's control group was held back by its processor quota."),
    Metric("deskvigil_host_boot_time_seconds", "seconds", "gauge", "When the machine was started, seconds since the epoch."),
    Metric("deskvigil_host_uptime_seconds", "seconds", "gauge", "Time since the machine was started."),
)  # fmt: skip

_MEMORY = (
    Metric("deskvigil_host_memory_total_bytes", "bytes", "gauge", "Memory of the machine."),
    Metric("deskvigil_host_memory_available_bytes", "bytes", "gauge", "Memory that programs can get without swapping (the kernel's estimate)."),
    Metric("deskvigil_host_memory_used_ratio", "ratio", "gauge", "Part of memory that is not available."),
    Metric("deskvigil_host_memory_bytes", "bytes", "gauge", "Memory by state; the states add up to the total.", ("state",)),
    Metric("deskvigil_host_memory_part_bytes", "bytes", "gauge", "Memory by what it is for; the parts overlap.", ("part",)),
    Metric("deskvigil_host_swap_total_bytes", "bytes", "gauge", "Swap space."),
    Metric("deskvigil_host_swap_used_bytes", "bytes", "gauge", "Swap space in use."),
    Metric("deskvigil_host_swap_used_ratio", "ratio", "gauge", "Part of swap space in use; 0 where there is none."),
    Metric("deskvigil_host_swap_bytes_total", "bytes", "counter", "Read from and written to swap.", ("direction",)),
    Metric("deskvigil_host_paging_bytes_total", "bytes", "counter", "Read from (in) and written to (out) disks.", ("direction",)),
    Metric("deskvigil_host_page_faults_total", "", "counter", "Page faults: all, and major ones (which waited for a disk).", ("kind",)),
    Metric("deskvigil_host_oom_kills_total", "", "counter", "Processes that the kernel killed for want of memory."),
    Metric("deskvigil_host_pressure_ratio", "ratio", "gauge", "Part of the last 10 s in which some or all (full) tasks stood still for want of a resource.", ("resource", "kind")),
    Metric("deskvigil_host_pressure_seconds_total", "seconds", "counter", "Time in which some or all (full) tasks stood still for want of a resource.", ("resource", "kind")),
)  # fmt: skip

_DISKS = (
    Metric("deskvigil_host_disk_bytes_total", "bytes", "counter", "Bytes read from and written to each whole disk.", _DISK),
    Metric("deskvigil_host_disk_operations_total", "", "counter", "Operations completed by each whole disk.", _DISK),
    Metric("deskvigil_host_disk_time_seconds_total", "seconds", "counter", "Time that operations took, summed.", _DISK),
    Metric("deskvigil_host_disk_busy_seconds_total", "seconds", "counter", "Time with at least one operation under way.", ("device",)),
    Metric("deskvigil_host_disk_busy_ratio", "ratio", "gauge", "Part of the time with an operation under way, since the last tick.", ("device",)),
    Metric("deskvigil_host_disk_in_flight", "", "gauge", "Operations under way.", ("device",)),
    Metric("deskvigil_host_filesystem_size_bytes", "bytes", "gauge", "Size of the filesystem.", ("mountpoint", "fstype")),
    Metric("deskvigil_host_filesystem_available_bytes", "bytes", "gauge", "Space that ordinary users can still write.", ("mountpoint", "fstype")),
    Metric("deskvigil_host_filesystem_used_ratio", "ratio", "gauge", "Used over used plus available space, as df shows it.", ("mountpoint", "fstype")),
    Metric("deskvigil_host_filesystem_inodes_used_ratio", "ratio", "gauge", "Part of the inodes in use; NaN where the filesystem has no fixed number.", ("mountpoint", "fstype")),
    Metric("deskvigil_host_filesystem_readonly", "", "gauge", "1 where the filesystem is mounted read-only.", ("mountpoint", "fstype")),
    Metric("deskvigil_host_data_available_bytes", "bytes", "gauge", "Space left where Deskvigil keeps its data."),
    Metric("deskvigil_host_data_used_ratio", "ratio", "gauge", "Used space of the filesystem where Deskvigil keeps its data."),
    Metric("deskvigil_host_data_readonly", "", "gauge", "1 where the filesystem of Deskvigil's data is mounted read-only."),
)  # fmt: skip

_NETWORK = (
    Metric("deskvigil_host_network_bytes_total", "bytes", "counter", "Bytes by interface.", _NET),
    Metric("deskvigil_host_network_packets_total", "", "counter", "Packets by interface.", _NET),
    Metric("deskvigil_host_network_errors_total", "", "counter", "Damaged packets by interface.", _NET),
    Metric("deskvigil_host_network_drops_total", "", "counter", "Packets dropped by interface.", _NET),
    Metric("deskvigil_host_network_up", "", "gauge", "1 where the interface has a carrier.", ("interface",)),
    Metric("deskvigil_host_tcp_retransmits_total", "", "counter", "TCP segments sent again."),
    Metric("deskvigil_host_tcp_connections", "", "gauge", "TCP connections established."),
    Metric("deskvigil_host_udp_errors_total", "", "counter", "UDP datagrams lost on this host, by reason (no buffer space: market data is read too slowly).", ("reason",)),
)  # fmt: skip

_OWN = (
    Metric("deskvigil_host_clock_step_seconds", "seconds", "gauge", "How far the wall clock moved more than the monotonic one since the last tick; away from 0 where somebody set it."),
    Metric("deskvigil_host_clock_steps_total", "", "counter", "How often the wall clock was set by half a second or more since the console started."),
    Metric("deskvigil_host_sections_failed", "", "gauge", "Parts of the host collector that could not be read at the last tick."),
    Metric("deskvigil_host_devices_left_out", "", "gauge", "Cores, disks, filesystems and interfaces beyond the configured limits."),
)  # fmt: skip

METRICS: tuple[Metric, ...] = _CPU + _MEMORY + _DISKS + _NETWORK + _OWN
