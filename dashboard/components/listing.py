"""Listing: a panel with a table that a room's script fills with words from the server."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard.components.markup import Component, html


def listing(room: str, name: str, title: str, heads: Sequence[str], *, words: bool = False) -> Component:
    """Panel `room`-`name`; without words in the head it is a list of names and values. words: cells are sentences."""
    head = [html.Thead(html.Tr([html.Th(word, scope="col") for word in heads]))] if any(heads) else []
    return html.Section(
        [
            html.Header([html.H2(title), html.Span(className="note", **{"data-note": ""})]),
            html.Div(
                html.Table([*head, html.Tbody()], className="rows words" if words else "rows", **{"aria-label": title}),
                className="wide-table",
            ),
            html.P("waiting for the console", className="absence", **{"data-nothing": ""}),
        ],
        id=f"{room}-{name}",
        className="panel",
        **{"data-panel": name},
    )
