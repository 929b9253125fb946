"""Risk: value at risk and expected shortfall, what they rest on, and what would happen if. Filled by `assets/room/` and the live stream."""

from __future__ import annotations

from collections.abc import Mapping

from dashboard.components.graph import Line, LiveChart, Threshold, asked_graph, live_chart
from dashboard.components.markup import Component, html
from dashboard.pages.page import Page
from dashboard.services import Services
from metrics.kpi import KPIS

_VAR = next(kpi for kpi in KPIS if kpi.key == "var")


def _over_time() -> LiveChart:
    return LiveChart(
        "VaR and ES",
        (
            Line(str(_VAR.series), "VaR", 1e-3),
            Line("deskvigil_risk_expected_shortfall_usd", "ES ", 1e-3, "soft", family="confidence"),
        ),
        unit="k USD",
        note="VaR ± 2 standard errors",
        threshold=Threshold(_VAR.target / 1e3, f"target {_VAR.target / 1e3:,.0f} k"),
        spread=(0, "deskvigil_risk_var_standard_error_usd", 2.0),
        kpi=_VAR.key,
        watched=0,
        empty="The risk process has priced no position in this time.",
    )


def _graph(name: str, title: str, note: str) -> Component:
    return html.Section(
        [
            html.Header([html.H2(title), html.Span(note, className="note", id=f"{name}-note")]),
            asked_graph(f"{name}-graph", title),
            html.P("waiting for the console", id=f"{name}-nothing", className="absence"),
        ],
        id=name,
        className="panel",
    )


def _table(name: str, title: str, note: str, heads: tuple[str, ...], kind: str) -> Component:
    return html.Section(
        [
            html.Header([html.H2(title), html.Span(note, className="note")]),
            html.Div(
                html.Table(
                    [
                        html.Thead(html.Tr([html.Th(word, scope="col") for word in heads], id=f"{name}-heads")),
                        html.Tbody(id=f"{name}-rows"),
                    ],
                    className=f"rows {kind}",
                    hidden=True,
                    **{"aria-label": title},
                ),
                className="wide-table",
                tabIndex="0",
            ),
            html.P("waiting for the console", id=f"{name}-nothing", className="absence"),
        ],
        id=name,
        className="panel",
    )


async def _layout(_services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            html.P(id="room-said", className="problem said", role="status"),
            html.Div(className="states", **{"data-states": "risk"}),
            html.Div(
                [
                    live_chart("chart-risk", _over_time()),
                    _graph("loss", "Profit and loss over the horizon", "share of scenarios"),
                ],
                className="row row-halves",
            ),
            html.Div(
                [
                    _table("shares", "Contributions", "shares of VaR and ES, they add up", ("Position", "of VaR", "of ES", "", "Quantity", "Value"), "shares"),
                    html.Div(
                        [
                            _graph("settling", "Convergence", "VaR of the first n scenarios, ± 2 standard errors"),
                            _table("stress", "Stress", "USD, everything at once: volatilities down, spots across", (), "stress"),
                        ],
                        className="pile",
                    ),
                ],
                className="row row-halves",
            ),
        ],
        className="page room",
        **{"data-page": "risk", "data-title": "Risk", "data-room": "risk"},
    )  # fmt: skip


PAGE = Page("/risk", "Risk", "risk", _layout)
