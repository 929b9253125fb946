"""Selection: which series the live pages show, so that the stream carries these and no others."""

from __future__ import annotations

from collections.abc import Iterable

from metrics.kpi import KPIS
from metrics.series import Series

LATENCY = "deskvigil_kpi_order_to_fill_seconds"
_KPI_NAMES = frozenset(kpi.series.name for kpi in KPIS)
_DESK_NAMES = _KPI_NAMES | {
    LATENCY,
    "deskvigil_kpi_drawdown_usd",
    "deskvigil_engine_up",
    "deskvigil_engine_feed_age_seconds",
    "deskvigil_engine_trading_state",
    "deskvigil_feed_up",
    "deskvigil_feed_active",
    "deskvigil_feed_state",
    "deskvigil_engine_working_orders",
    "deskvigil_risk_up",
    "deskvigil_risk_var_standard_error_usd",
    "deskvigil_risk_state",
    "deskvigil_risk_scenarios",
    "deskvigil_risk_run_seconds_sum",
    "deskvigil_risk_run_seconds_count",
    "deskvigil_host_cpu_busy_ratio",
    "deskvigil_host_cpu_core_busy_ratio",
    "deskvigil_host_memory_used_ratio",
}
_RISK_NAMES = frozenset(
    {
        "deskvigil_risk_var_usd",
        "deskvigil_risk_var_standard_error_usd",
        "deskvigil_risk_expected_shortfall_usd",
    }
)
_RESOURCES_NAMES = frozenset({"deskvigil_process_resident_memory_bytes", "deskvigil_host_pressure_ratio"})
_HOST_PREFIXES = ("deskvigil_host_", "deskvigil_process_", "deskvigil_gpu_")
_PARTS = ("_bucket", "_sum", "_count")
PAGES = ("desk", "host", "risk", "resources")


def is_live(series: Series) -> bool:
    """True where some live page shows the series: our own, never those of another Deskvigil that is scraped."""
    if series.label("instance"):
        return False
    return any(shown_on(page, series) for page in PAGES)


def shown_on(page: str, series: Series) -> bool:
    """True where `page` (one of PAGES) shows the series."""
    if page == "desk":
        return series.name in _DESK_NAMES or series.name.startswith("deskvigil_gpu_")
    if page == "risk":
        return series.name in _RISK_NAMES
    if page == "resources":
        return series.name in _RESOURCES_NAMES
    return series.name.startswith(_HOST_PREFIXES) and not series.name.endswith(_PARTS)


def select(series: Iterable[Series]) -> list[int]:
    """Positions of the live series."""
    return [position for position, one in enumerate(series) if is_live(one)]
