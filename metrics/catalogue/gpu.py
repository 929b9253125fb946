"""Metrics of: gpu."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_G = ("gpu",)

METRICS: tuple[Metric, ...] = (
    Metric("deskvigil_gpu_devices", "", "gauge", "NVIDIA GPUs that answer; 0 where there is no GPU or no driver."),
    Metric("deskvigil_gpu_driver_up", "", "gauge", "1 where the NVIDIA driver answers."),
    Metric("deskvigil_gpu_lost_total", "", "counter", "Times a GPU or the driver went away while being read."),
    Metric("deskvigil_gpu_info", "", "gauge", "Always 1; which GPU it is stands in the labels.", ("gpu", "name", "uuid", "driver")),
    Metric("deskvigil_gpu_up", "", "gauge", "1 while the GPU answers.", _G),
    Metric("deskvigil_gpu_utilisation_ratio", "ratio", "gauge", "Part of the driver's last sample period with a kernel running.", _G),
    Metric("deskvigil_gpu_memory_utilisation_ratio", "ratio", "gauge", "Part of the driver's last sample period with memory being read or written.", _G),
    Metric("deskvigil_gpu_memory_total_bytes", "bytes", "gauge", "Memory of the GPU.", _G),
    Metric("deskvigil_gpu_memory_used_bytes", "bytes", "gauge", "Memory in use, the driver's own included.", _G),
    Metric("deskvigil_gpu_memory_used_ratio", "ratio", "gauge", "Part of the memory in use.", _G),
    Metric("deskvigil_gpu_temperature_celsius", "celsius", "gauge", "Temperature of the chip.", _G),
    Metric("deskvigil_gpu_temperature_limit_celsius", "celsius", "gauge", "Temperatures at which the GPU slows down or shuts down.", ("gpu", "limit")),
    Metric("deskvigil_gpu_power_watts", "watts", "gauge", "Power drawn.", _G),
    Metric("deskvigil_gpu_power_limit_watts", "watts", "gauge", "Power limit in force.", _G),
    Metric("deskvigil_gpu_energy_joules_total", "joules", "counter", "Energy used since the driver was loaded.", _G),
    Metric("deskvigil_gpu_clock_hertz", "hertz", "gauge", "Clocks now.", ("gpu", "clock")),
    Metric("deskvigil_gpu_clock_max_hertz", "hertz", "gauge", "Highest clocks of this GPU.", ("gpu", "clock")),
    Metric("deskvigil_gpu_throttle", "", "gauge", "1 for each reason that holds the clocks down now.", ("gpu", "reason")),
    Metric("deskvigil_gpu_throttled", "", "gauge", "1 where heat, power or hardware holds the clocks down (idling and chosen clocks do not count).", _G),
    Metric("deskvigil_gpu_performance_state", "", "gauge", "Performance state, 0 (fastest) to 15.", _G),
    Metric("deskvigil_gpu_ecc_errors_total", "", "counter", "Memory errors since the driver was loaded, corrected and uncorrected.", ("gpu", "kind")),
    Metric("deskvigil_gpu_remapped_rows_total", "", "counter", "Rows of memory replaced over the GPU's life, by kind of error.", ("gpu", "kind")),
    Metric("deskvigil_gpu_row_remap_pending", "", "gauge", "1 where a row waits for a reset to be replaced.", _G),
    Metric("deskvigil_gpu_row_remap_failed", "", "gauge", "1 where replacing a row has failed: the board is due for exchange.", _G),
    Metric("deskvigil_gpu_pcie_bytes_per_second", "per_second", "gauge", "PCIe traffic, seen from the GPU.", ("gpu", "direction")),
    Metric("deskvigil_gpu_pcie_replays_total", "", "counter", "PCIe packets sent again.", _G),
    Metric("deskvigil_gpu_pcie_link_generation", "", "gauge", "Generation of the PCIe link now.", _G),
    Metric("deskvigil_gpu_pcie_link_width", "", "gauge", "Lanes of the PCIe link now.", _G),
    Metric("deskvigil_gpu_fan_ratio", "ratio", "gauge", "Fan speed over its highest; NaN on passively cooled boards.", _G),
    Metric("deskvigil_gpu_processes", "", "gauge", "Processes that use the GPU.", _G),
    Metric("deskvigil_gpu_process_memory_bytes", "bytes", "gauge", "GPU memory of the largest users, by process.", ("gpu", "pid", "process")),
)  # fmt: skip
