"""Page: one entry of the navigation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from dash import Dash

from dashboard.components.markup import Component
from dashboard.services import Services

Layout = Callable[[Services, Mapping[str, str]], Awaitable[Component]]
Register = Callable[[Dash, Services], None]


def no_callbacks(_app: Dash, _services: Services) -> None:
    """For pages that the live stream fills."""


@dataclass(frozen=True, slots=True)
class Page:
    """path, the word in the navigation, its icon's CSS class, and what makes it.

    layout gets the query string's parameters; register adds the page's callbacks (all async).
    """

    path: str
    title: str
    icon: str
    layout: Layout
    register: Register = no_callbacks
