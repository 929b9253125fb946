"""Orders: own orders from the decision to the last fill, what works now, and whether the books agree with the drop copy.

Laid out here, filled by assets/live/orders.js from what the hub answers to the page's question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dashboard.components.markup import Component, html
from dashboard.pages.page import Page
from dashboard.services import Services


def _table(name: str, columns: Sequence[str]) -> Component:
    head = html.Tr([html.Th(word, scope="col") for word in columns])
    return html.Table([html.Thead(head), html.Tbody(**{"data-o": name})], className="rows")


def _panel(id: str, title: str, children: Sequence[Component], class_name: str = "") -> Component:
    header = html.Header([html.H2(title), html.Span(className="note", **{"data-o": f"{id}-note"})])
    return html.Section([header, *children], id=id, className=f"panel {class_name}".strip())


def _absence(name: str) -> Component:
    return html.P("waiting for the engine", className="absence", **{"data-o": f"{name}-absence"})


def _blotter() -> Component:
    # The filters are filled by the script: a Dash input would send what is chosen to the server.
    filters = html.Div(id="o-filters", className="toolbar", role="group", **{"aria-label": "Filter the blotter"})
    columns = ("Time UTC", "Symbol", "Side", "Type", "Strategy", "Price", "Quantity", "Filled", "State", "Reason")
    window = html.Div(
        [_table("blotter", columns)],
        id="o-window",
        className="o-window",
        tabIndex="0",
        role="region",
        **{"aria-label": "Orders, newest first"},
    )
    return _panel("o-blotter", "Orders", [filters, window, _absence("blotter")])


def _working() -> Component:
    columns = ("Symbol", "Side", "Type", "Strategy", "Price", "Left", "Behind touch", "Age", "")
    return _panel(
        "o-working", "Working now", [html.Div(_table("working", columns), className="scroll"), _absence("working")]
    )


def _depth() -> Component:
    pick = html.Div(id="o-symbol", className="toolbar")
    return _panel("o-depth", "Depth", [pick, _table("depth", ("Ours", "Lots", "Price", "")), _absence("depth")])


def _parents() -> Component:
    return _panel(
        "o-parents", "Parents at work", [html.Ul(className="parents", **{"data-o": "parents"}), _absence("parents")]
    )


def _positions() -> Component:
    columns = ("Symbol", "Position", "Average", "Mark", "Realised", "Open", "Fees", "P&L USD", "")
    return _panel(
        "o-positions", "Positions", [html.Div(_table("positions", columns), className="scroll"), _absence("positions")]
    )


def _checks() -> Component:
    """Says in one line that all agrees; the breaks stand under it, and only then does it take room. Filled by live/breaks.js."""
    return html.Section(
        [
            html.P(["waiting for the reconciliation"], **{"data-o": "checks"}),
            html.Ul(className="alerts", **{"data-o": "breaks"}),
            html.Details([html.Summary(), html.Ul(className="alerts", **{"data-o": "closed"})], hidden=True),
        ],
        id="o-checks",
        className="panel",
    )


def _timeline() -> Component:
    close = html.Button("Close", id="o-timeline-close", type="button", autoFocus="autofocus")
    return html.Dialog(
        [
            html.Header([html.H2(id="o-timeline-title"), close]),
            html.P(className="note", **{"data-o": "timeline-words"}),
            html.Ol(className="timeline", **{"data-o": "timeline"}),
        ],
        id="o-timeline",
        className="side",
        **{"aria-labelledby": "o-timeline-title"},
    )


def _cancel() -> Component:
    """One click never cancels: this asks again, with the harmless answer under the Enter key."""
    return html.Dialog(
        [
            html.H2("Cancel this order?"),
            html.P(id="o-cancel-words"),
            html.Label(["Reason (goes into the audit)", html.Div(id="o-cancel-reason", className="field")]),
            html.Div(
                [
                    html.Button("Keep it", id="o-cancel-keep", type="button", autoFocus="autofocus"),
                    html.Button("Cancel the order", id="o-cancel-confirm", type="button", className="halt"),
                ],
                className="answers",
            ),
        ],
        id="o-cancel-dialog",
        **{"aria-label": "Cancel an order"},
    )


def _break() -> Component:
    """Words are asked for before a break is explained or closed; the Enter key leaves it as it is."""
    return html.Dialog(
        [
            html.H2(id="o-break-title"),
            html.P(id="o-break-words"),
            html.Label(
                ["What is known of it (goes into the audit)", html.Div(id="o-break-comment", className="field")]
            ),
            html.P(id="o-break-said", className="problem", role="status"),
            html.Div(
                [
                    html.Button("Leave it", id="o-break-leave", type="button", autoFocus="autofocus"),
                    html.Button("Explain", id="o-break-explain", type="button"),
                    html.Button("Close", id="o-break-close", type="button", className="primary"),
                ],
                className="answers",
            ),
        ],
        id="o-break-dialog",
        **{"aria-labelledby": "o-break-title"},
    )


async def _layout(_services: Services, _parameters: Mapping[str, str]) -> Component:
    stale = html.P(className="problem", role="status", hidden=True, **{"data-o": "stale"})
    return html.Div(
        [
            stale,
            _checks(),
            html.Div([_blotter(), _depth()], className="row row-orders"),
            html.Div([_working(), _parents()], className="row row-orders"),
            _positions(),
            _timeline(),
            _cancel(),
            _break(),
        ],
        className="page orders",
        **{"data-page": "orders", "data-title": "Orders", "data-orders": ""},
    )


PAGE = Page("/orders", "Orders", "orders", _layout)
