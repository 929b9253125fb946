"""Metrics of the risk process: value at risk and expected shortfall of the engine's positions."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_R = "deskvigil_risk_"

METRICS: tuple[Metric, ...] = (
    # Added by the collector, also while the process is gone.
    Metric(_R + "up", "", "gauge", "1 while the risk process's telemetry is fresh, else 0."),
    Metric(_R + "heartbeat_age_seconds", "seconds", "gauge", "Time since the risk process's heartbeat was last seen to move."),
    Metric(_R + "start_time_seconds", "seconds", "gauge", "When the running risk process started, seconds since the epoch."),
    # Figures; none while the state is not ok.
    Metric(_R + "var_usd", "usd", "gauge", "Value at risk of the engine's positions over the horizon, by Monte Carlo.", ("confidence",)),
    Metric(_R + "var_standard_error_usd", "usd", "gauge", "Sampling error of the value at risk (one standard deviation)."),
    Metric(_R + "expected_shortfall_usd", "usd", "gauge", "Mean loss in the worst scenarios.", ("confidence",)),
    Metric(_R + "expected_shortfall_standard_error_usd", "usd", "gauge", "Sampling error of the expected shortfall (one standard deviation)."),
    Metric(_R + "var_contribution_usd", "usd", "gauge", "An instrument's share of the value at risk, options in it; the shares add up to it.", ("symbol",)),
    Metric(_R + "contribution_usd", "usd", "gauge", "An instrument's share of the expected shortfall, options in it; the shares add up to it.", ("symbol",)),
    Metric(_R + "gross_exposure_usd", "usd", "gauge", "Sum of the absolute values of the positions that were priced."),
    Metric(_R + "options", "", "gauge", "Option positions of the option book that were priced."),
    Metric(_R + "expired_options", "", "gauge", "Option positions of the option book that have expired and are left out."),
    Metric(_R + "scenarios", "", "gauge", "Scenarios per run."),
    # How it goes.
    Metric(_R + "state", "", "gauge", "1 for the state that holds: ok, no_engine, stale (its positions are too old), no_marks (a position has no price), failed (the covariance or the option book is at fault).", ("state",)),
    Metric(_R + "position_age_seconds", "seconds", "gauge", "Time since the positions that the figures rest on were published."),
    Metric(_R + "runs_total", "", "counter", "Simulations done."),
    Metric(_R + "late_runs_total", "", "counter", "Runs whose turn was missed because the one before, or the machine, took too long."),
    Metric(_R + "run_seconds", "seconds", "histogram", "Time of one run: reading positions, simulating, deriving the figures."),
    # On graphics processors.
    Metric(_R + "gpu_state", "", "gauge", "1 for the state that holds: on (simulations run on GPUs), off (by choice, or the draw's normals come ready-made), absent (no usable GPU), failed (a GPU failed; the CPU computes). The risk block's table 'device' says why.", ("state",)),
    Metric(_R + "gpu_devices", "", "gauge", "GPUs in use."),
    Metric(_R + "gpu_runs_total", "", "counter", "Simulations whose scenarios a GPU computed."),
    Metric(_R + "gpu_fallbacks_total", "", "counter", "Simulations that were a GPU's turn and that the CPU computed, as it failed or its breaker was open."),
    Metric(_R + "gpu_breaker_trips_total", "", "counter", "How often failures in a row made the risk process leave the GPUs alone for a while."),
    Metric(_R + "gpu_pool_hits_total", "", "counter", "Requests for GPU memory that the pool answered without the driver."),
    Metric(_R + "gpu_pool_misses_total", "", "counter", "Requests for GPU memory that went on to the driver."),
    Metric(_R + "gpu_pool_trims_total", "", "counter", "How often the least recently used batches were given up to keep the ceiling."),
    Metric(_R + "gpu_pool_used_bytes", "bytes", "gauge", "GPU memory in use by the risk process's batches."),
    Metric(_R + "gpu_pool_held_bytes", "bytes", "gauge", "GPU memory that the pool has taken from the driver."),
    Metric(_R + "gpu_pool_limit_bytes", "bytes", "gauge", "Ceiling of the held bytes, all GPUs together (risk.gpu_memory_mib each)."),
    Metric(_R + "gpu_pool_fragmentation_ratio", "ratio", "gauge", "Share of the held bytes that is in no use."),
)  # fmt: skip
