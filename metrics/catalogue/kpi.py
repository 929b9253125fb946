"""Key figures of the desk, computed by the engine collector over their windows (definitions: metrics/kpi.py)."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

METRICS: tuple[Metric, ...] = (
    Metric(
        "deskvigil_kpi_fill_ratio",
        "ratio",
        "gauge",
        "Filled over ordered quantity of parent orders finished in the last 5 minutes.",
    ),
    Metric(
        "deskvigil_kpi_slippage_bps",
        "bps",
        "gauge",
        "Signed fill price minus arrival mid over arrival mid, quantity-weighted, fills of the last 5 minutes; positive is a cost.",
    ),
    Metric(
        "deskvigil_kpi_order_to_fill_seconds",
        "seconds",
        "gauge",
        "Submit to first fill of marketable orders in the last minute, by quantile.",
        ("quantile",),
    ),
    Metric(
        "deskvigil_kpi_latency_seconds",
        "seconds",
        "gauge",
        "Latency of each stage of the engine in the last minute, by quantile; from the intended time.",
        ("stage", "quantile"),
    ),
    Metric(
        "deskvigil_kpi_impact_bps",
        "bps",
        "gauge",
        "Mid after a parent order minus its arrival mid, signed by its side, parents finished in the last 5 minutes.",
    ),
    Metric(
        "deskvigil_kpi_throughput_orders_per_second",
        "per_second",
        "gauge",
        "Orders handled by the book, the market's and ours, per second over the last 10 seconds.",
    ),
    Metric(
        "deskvigil_kpi_reject_ratio",
        "ratio",
        "gauge",
        "Orders rejected by a gate or the venue over orders submitted in the last 5 minutes.",
    ),
    Metric(
        "deskvigil_kpi_pnl_usd",
        "usd",
        "gauge",
        "Realised plus unrealised profit of the running session after fees, marked at mid.",
    ),
    Metric(
        "deskvigil_kpi_drawdown_usd", "usd", "gauge", "Distance of the session's P&L from its highest value so far."
    ),
)
