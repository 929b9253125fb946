"""The eight key figures of the desk: which series, which unit, which target.

Definitions: fill rate = filled / ordered quantity of finished parent orders. Slippage (bps) =
signed fill price - arrival mid, over arrival mid, quantity-weighted. Order-to-fill = submit to
first fill of marketable orders. Impact (bps) = mid after the parent - arrival mid, signed.
Reject ratio = orders rejected by a gate or the venue / orders submitted. Fill rate, slippage and
impact leave out the control group: parents worked by plain market orders to compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metrics.series import Series, make_labels


@dataclass(frozen=True, slots=True)
class Kpi:
    """One tile. The shown value is `scale` times the series' value, in `unit`.

    target and limit are in shown units; `better` says on which side of the target is good.
    collector names the frame that carries the series; window_s is how far back the figure looks (0: now).
    """

    key: str
    title: str
    series: Series
    collector: str
    unit: str
    scale: float
    decimals: int
    better: Literal["higher", "lower"]
    target: float
    target_word: Literal["target", "limit"]
    bar_low: float
    bar_high: float
    window_s: int


def _series(name: str, **labels: str) -> Series:
    return Series(name, make_labels(labels))


KPIS: tuple[Kpi, ...] = (
    Kpi("fill_rate", "Fill rate", _series("deskvigil_kpi_fill_ratio"), "engine", "%", 100.0, 2, "higher", 99.95, "target", 99.0, 100.0, 300),
    Kpi("slippage", "Slippage", _series("deskvigil_kpi_slippage_bps"), "engine", "bp", 1.0, 2, "lower", 1.0, "target", 0.0, 2.0, 300),
    Kpi(
        "order_to_fill_p99", "Order-to-fill p99", _series("deskvigil_kpi_order_to_fill_seconds", quantile="0.99"), "engine", "µs", 1e6, 1,
        "lower", 500.0, "target", 0.0, 750.0, 60,
    ),
    Kpi("impact", "Market impact", _series("deskvigil_kpi_impact_bps"), "engine", "bp", 1.0, 2, "lower", 0.5, "target", 0.0, 1.0, 300),
    Kpi("throughput", "Throughput", _series("deskvigil_kpi_throughput_orders_per_second"), "engine", "orders/s", 1.0, 0, "higher", 10.0, "target", 0.0, 1000.0, 10),
    Kpi("rejects", "Rejects", _series("deskvigil_kpi_reject_ratio"), "engine", "%", 100.0, 3, "lower", 0.01, "target", 0.0, 0.1, 300),
    Kpi("pnl", "P&L session", _series("deskvigil_kpi_pnl_usd"), "engine", "USD", 1.0, 0, "higher", -50_000.0, "limit", -50_000.0, 50_000.0, 0),
    Kpi("var", "VaR 99 %", _series("deskvigil_risk_var_usd", confidence="0.99"), "risk", "USD", 1.0, 0, "lower", 400_000.0, "limit", 0.0, 500_000.0, 0),
)  # fmt: skip
