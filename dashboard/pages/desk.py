"""Desk: one glance, one sentence. Filled entirely by the live stream."""

from __future__ import annotations

from collections.abc import Mapping

from dashboard.components.alertlist import alert_panel
from dashboard.components.graph import Line, LiveChart, Threshold, live_chart
from dashboard.components.markup import Component, html
from dashboard.components.tile import tile
from dashboard.pages.page import Page
from dashboard.selection import LATENCY
from dashboard.services import Services
from metrics.kpi import KPIS, Kpi
from metrics.series import Series, make_labels

_BY_KEY = {kpi.key: kpi for kpi in KPIS}


def _quantile(value: str) -> str:
    return str(Series(LATENCY, make_labels({"quantile": value})))


def _latency(kpi: Kpi) -> LiveChart:
    return LiveChart(
        "Order-to-fill latency",
        (
            Line(_quantile("0.5"), "p50", kpi.scale, "soft"),
            Line(_quantile("0.95"), "p95", kpi.scale, "faint"),
            Line(_quantile("0.99"), "p99", kpi.scale, "strong"),
        ),
        unit=kpi.unit,
        note=f"p50 · p95 · p99 of marketable orders, last {kpi.window_s} s",
        threshold=Threshold(kpi.target, f"target {kpi.target:g} {kpi.unit}"),
        ribbon=True,
        kpi=kpi.key,
        watched=2,
        annotations=True,
        compact=False,
        empty="No marketable order has been filled in this time.",
    )


def _throughput(kpi: Kpi) -> LiveChart:
    return LiveChart(
        "Orders per second",
        (Line(str(kpi.series), "", kpi.scale),),
        note=f"market and own, last {kpi.window_s} s",
        kpi=kpi.key,
        watched=0,
        empty="The engine has handled no order in this time.",
    )


def _value_at_risk(kpi: Kpi) -> LiveChart:
    return LiveChart(
        "VaR 99 %, 1 day",
        (Line(str(kpi.series), "", 1e-3),),
        unit="k USD",
        note="± 2 standard errors",
        threshold=Threshold(kpi.target / 1e3, f"limit {kpi.target / 1e3:,.0f} k"),
        spread=(0, "deskvigil_risk_var_standard_error_usd", 2.0),
        kpi=kpi.key,
        watched=0,
        empty="The risk process has priced no position in this time.",
    )


_HOST = LiveChart(
    "Host CPU per core, memory",
    (
        Line("deskvigil_host_cpu_core_busy_ratio", "cpu ", 100.0, "soft", family="cpu"),
        Line("deskvigil_host_memory_used_ratio", "memory", 100.0, "strong"),
    ),
    unit="%",
    note="RAM in use",
    high=100.0,
    empty="The host collector has sent nothing in this time.",
)


async def _layout(services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            html.Div([tile(kpi) for kpi in KPIS], className="tiles"),
            html.Div(
                [live_chart("chart-latency", _latency(_BY_KEY["order_to_fill_p99"]), "wide"), alert_panel()],
                className="row row-main",
            ),
            html.Div(
                [
                    live_chart("chart-throughput", _throughput(_BY_KEY["throughput"])),
                    live_chart("chart-var", _value_at_risk(_BY_KEY["var"])),
                    live_chart("chart-host", _HOST),
                    _gpu(),
                ],
                className="row row-strips",
            ),
            _fills(),
        ],
        className="page desk",
        **{"data-page": "desk", "data-title": "Desk"},
    )


def _gpu() -> Component:
    """GPU utilisation, or the reason in words why there is none and what runs instead."""
    panel = live_chart(
        "chart-gpu",
        LiveChart(
            "GPU",
            (
                Line("deskvigil_gpu_utilisation_ratio", "gpu ", 100.0, "strong", family="gpu"),
                Line("deskvigil_gpu_memory_used_ratio", "memory ", 100.0, "soft", family="gpu"),
            ),
            note="NVML, %",
            high=100.0,
        ),
    )
    absence = panel.children[-1]
    absence.__setattr__("data-absence", "gpu")
    return panel


def _fills() -> Component:
    head = html.Tr([html.Th(word, scope="col") for word in ("Time UTC", "Symbol", "Side", "Quantity", "Price", "")])
    return html.Section(
        [
            html.Header([html.H2("Last fills"), html.Span("simulated orders", className="note")]),
            html.Table([html.Thead(head), html.Tbody(**{"data-fills": ""})], className="rows"),
            html.P("no fill yet", className="absence", **{"data-fills-absence": ""}),
        ],
        id="fills",
        className="panel",
    )


PAGE = Page("/", "Desk", "desk", _layout)
