"""History: any question about the past, as chart, table and file; the address restores all of it.

The page is a frame; `assets/history/` fills it: it reads the address, asks `/api/desk/history` for
answer and figure in one, and draws. So a question that has been overtaken by the next is dropped
in the browser, and nothing that is being typed is ever overwritten by an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import dash_ag_grid as dag

from dashboard.components.graph import asked_graph
from dashboard.components.markup import Component, html
from dashboard.history.question import COMPARE_WORDS, MAX_QUERIES, USUAL
from dashboard.pages.page import Page
from dashboard.services import Services
from dashboard.timerange import DEFAULT, PRESETS

PATH = "/history"
_GRID_THEME = {
    "function": "themeQuartz.withParams({backgroundColor: 'var(--panel)', foregroundColor: 'var(--text)', "
    "borderColor: 'var(--line)', headerBackgroundColor: 'var(--panel)', headerTextColor: 'var(--muted)', "
    "rowHoverColor: 'var(--raised)', accentColor: 'var(--info)', fontFamily: 'inherit', fontSize: 12, spacing: 5})"
}


def parameters_of(search: str | None) -> dict[str, str]:
    """A query string's parameters; of a repeated one the last."""
    try:
        return dict(parse_qsl((search or "").lstrip("?"), max_num_fields=60))
    except ValueError:
        return {}


async def _layout(_services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            html.Section([_queries(), _toolbar()], className="panel controls"),
            html.P(id="h-error", className="problem", role="alert"),
            _chart(),
            _statistics(),
            _values(),
            _explorer(),
            _views(),
            html.Div(id="h-tip", className="tip", role="tooltip", hidden=True),
        ],
        className="page history",
        **{
            "data-page": "history",
            "data-title": "History",
            "data-usual": USUAL,
            "data-most": str(MAX_QUERIES),
            "data-default": DEFAULT,
        },
    )


def _queries() -> Component:
    return html.Div(id="h-queries", role="group", **{"aria-label": "Queries"})


def _button(words: str, id: str, title: str, **more: Any) -> Component:
    return html.Button(words, id=id, type="button", title=title, **{"aria-label": title, **more})


def _toolbar() -> Component:
    presets = [html.Button(name, type="button", **{"data-preset": name, "aria-pressed": "false"}) for name in PRESETS]
    compares = [
        html.Button(words, type="button", title=title, **{"data-compare": kind, "aria-pressed": "false"})
        for kind, words, title in (
            ("", "nothing", "Compare with nothing"),
            *((kind, kind, f"Compare with {words}") for kind, words in COMPARE_WORDS.items()),
        )
    ]
    asking = html.Div(
        [
            html.Button("Add query", id="h-add", type="button"),
            html.Button("Metrics", id="h-explore", type="button", **{"aria-haspopup": "dialog"}),
            html.Button("Views", id="h-views-open", type="button", **{"aria-haspopup": "dialog"}),
            html.Button("Run", id="h-run", type="button", className="primary", title="Enter in a query"),
            html.Span(className="spring"),
            html.Span("compare with", className="caption"),
            html.Div(compares, className="segments", role="group", **{"aria-label": "Compare with"}),
        ],
        className="toolbar",
    )
    moves = [
        _button("\N{LEFTWARDS ARROW}", "h-earlier", "Half a window earlier"),
        _button("\N{MINUS SIGN}", "h-out", "Twice the window (double-click on the chart)"),
        _button("+", "h-in", "Half the window"),
        _button("\N{RIGHTWARDS ARROW}", "h-later", "Half a window later"),
    ]
    timing = html.Div(
        [
            html.Div(presets, className="segments", role="group", **{"aria-label": "Range back from now"}),
            html.Div(moves, className="segments", role="group", **{"aria-label": "Move and zoom"}),
            html.Button(
                "Follow", id="h-follow", type="button", title="Ask again as time goes on", **{"aria-pressed": "false"}
            ),
            html.Span(className="spring"),
            html.Div(
                [
                    html.Div(className="time", **{"data-time": "start", "data-label": "From, UTC"}),
                    html.Div(className="time", **{"data-time": "end", "data-label": "To, UTC"}),
                ],
                className="cluster times",
            ),
        ],
        className="toolbar",
    )
    return html.Div([asking, timing], className="toolbars")


def _chart() -> Component:
    return html.Section(
        [
            html.Header(
                [
                    html.Span(id="h-note", className="note"),
                    html.Div(id="h-kinds", className="kinds", role="group", **{"aria-label": "Annotations"}),
                ]
            ),
            html.Div(id="h-marks", className="marks"),
            asked_graph("h-graph", "Answer of the queries over time"),
            html.Div(id="h-nothing", className="absence", hidden=True),
            html.Ul(id="h-legend", className="legend", **{"aria-label": "Series"}),
        ],
        className="panel history-chart",
        **{"aria-busy": "false"},
    )


def _statistics() -> Component:
    return html.Section(
        [
            html.Header([html.H2("Statistics"), html.Span(id="h-statistics-note", className="note")]),
            html.Div(id="h-statistics"),
        ],
        className="panel",
    )


def _values() -> Component:
    return html.Section(
        [
            html.Header(
                [
                    html.H2("Values"),
                    html.Span(id="h-values-note", className="note"),
                    html.Span(className="spring"),
                    html.A("CSV", id="h-csv", href="", className="button", download="deskvigil.csv"),
                    html.A("Parquet", id="h-parquet", href="", className="button", download="deskvigil.parquet"),
                ]
            ),
            dag.AgGrid(
                id="h-values",
                columnDefs=[],
                rowData=[],
                getRowId="params.data.t",
                defaultColDef={"sortable": True, "resizable": True, "suppressMovable": True},
                dashGridOptions={"theme": _GRID_THEME, "animateRows": False, "suppressColumnVirtualisation": False},
                style={"height": "320px", "width": "100%"},
            ),
        ],
        className="panel values",
    )


def _explorer() -> Component:
    return html.Dialog(
        [
            html.Header([html.H2("Metrics"), _button("Close", "h-explorer-close", "Close")]),
            html.Div(id="h-explorer-search"),
            html.Div(id="h-explorer-list", className="explorer-list"),
        ],
        id="h-explorer",
        className="side",
        **{"aria-label": "Metrics"},
    )


def _views() -> Component:
    return html.Dialog(
        [
            html.Header([html.H2("Views"), _button("Close", "h-views-close", "Close")]),
            html.Div(id="h-views-save", className="cluster"),
            html.P(id="h-views-error", className="problem", role="alert"),
            html.H3("Saved"),
            html.Ul(id="h-views-list", className="views"),
            html.H3("Asked before, in this browser"),
            html.Ul(id="h-recent", className="views"),
        ],
        id="h-views",
        className="side",
        **{"aria-label": "Views"},
    )


PAGE = Page(PATH, "History", "history", _layout)
