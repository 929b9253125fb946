"""Silences & on-call: who is on duty now and next, who stands in, what escalates, and what is silenced. Filled by assets/oncall/."""

from __future__ import annotations

from collections.abc import Mapping

from dashboard.components.listing import listing
from dashboard.components.markup import Component, html
from dashboard.pages.page import Page
from dashboard.services import Services


def _with_button(panel: Component, id: str, words: str) -> Component:
    panel.children.append(html.Button(words, id=id, type="button", hidden=True))
    return panel


def _dialog() -> Component:
    """One dialog for all that is added or ended here; the Enter key leaves everything as it is."""
    return html.Dialog(
        [
            html.H2(id="oncall-title"),
            html.P(id="oncall-words"),
            html.Div(id="oncall-fields"),
            html.P(id="oncall-missing", className="problem", role="status"),
            html.Div(
                [
                    html.Button("Cancel", id="oncall-cancel", type="button", autoFocus="autofocus"),
                    html.Button(id="oncall-confirm", type="button", className="primary"),
                ],
                className="answers",
            ),
        ],
        id="oncall-dialog",
        **{"aria-labelledby": "oncall-title"},
    )


async def _layout(_services: Services, _parameters: Mapping[str, str]) -> Component:
    overrides = listing(
        "oncall", "overrides", "Standing in", ("Who", "Rota", "From", "Until", "Reason", "By", ""), words=True
    )
    silences = listing(
        "oncall", "silences", "Silences", ("Alerts with", "From", "Until", "Reason", "By", ""), words=True
    )
    return html.Div(
        [
            html.P(id="oncall-said", className="problem said", role="status"),
            listing("oncall", "rotas", "On duty", ("Rota", "Now", "Until", "Next", "Then"), words=True),
            listing(
                "oncall",
                "escalations",
                "Escalations",
                ("Alert", "Next step", "In", "Tells", "Policy", "Firing since", "Assigned to"),
                words=True,
            ),
            _with_button(overrides, "oncall-override", "Put somebody on duty"),
            _with_button(silences, "oncall-silence", "Silence alerts"),
            _dialog(),
        ],
        className="page oncall",
        **{"data-page": "oncall", "data-title": "Silences & on-call", "data-oncall": ""},
    )


PAGE = Page("/oncall", "On-call", "oncall", _layout)
