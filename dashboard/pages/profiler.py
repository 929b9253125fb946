"""Profiler: why it is slow, where the console's time goes, and profiles of any process. Filled by `assets/profiler/`."""

from __future__ import annotations

from collections.abc import Mapping

from dashboard.components.markup import Component, html
from dashboard.pages.page import Page
from dashboard.services import Services


async def _layout(_services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            html.P(id="profiler-said", className="problem said", role="status"),
            _bottleneck(),
            _take(),
            _stored(),
            _flame(),
        ],
        className="page room",
        **{"data-page": "profiler", "data-title": "Profiler"},
    )


def _bottleneck() -> Component:
    return html.Section(
        [
            html.Header([html.H2("Bottleneck"), html.Span(className="note", id="bottleneck-note")]),
            html.P("waiting for the console", id="bottleneck-sentence"),
        ],
        id="bottleneck",
        className="panel",
    )


def _take() -> Component:
    """The controls themselves are made by the page's script, which knows the processes."""
    return html.Section(
        [
            html.Header([html.H2("Take a profile"), html.Span(className="note", id="take-note")]),
            html.Div(id="take-controls", className="toolbar wrap"),
        ],
        id="take",
        className="panel",
    )


def _stored() -> Component:
    heads = ("Time UTC", "Process", "What", "Seconds", "Weight", "Who", "Why")
    return html.Section(
        [
            html.Header([html.H2("Profiles"), html.Span("kept in the database", className="note")]),
            html.Div(
                html.Table(
                    [
                        html.Thead(html.Tr([html.Th(word, scope="col") for word in heads])),
                        html.Tbody(id="profile-rows"),
                    ],
                    className="rows words",
                    **{"aria-label": "Profiles"},
                ),
                className="wide-table",
            ),
        ],
        id="profiles",
        className="panel",
    )


def _flame() -> Component:
    return html.Section(
        [
            html.Header([html.H2("Flame graph"), html.Span(className="note", id="flame-note")]),
            html.Div(id="flame-path", className="toolbar wrap"),
            html.Div(id="flame", className="flame"),
            html.P("Choose a profile above.", id="flame-nothing", className="absence"),
            html.Div(
                html.Table(
                    [
                        html.Thead(html.Tr([html.Th(word, scope="col") for word in ("Function", "Own", "With calls")])),
                        html.Tbody(id="function-rows"),
                    ],
                    className="rows words",
                    **{"aria-label": "Functions"},
                ),
                className="wide-table",
            ),
        ],
        id="flame-panel",
        className="panel",
    )


PAGE = Page("/profiler", "Profiler", "profiler", _layout)
