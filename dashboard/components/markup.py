"""Markup: Dash's HTML and core components, untyped.

Dash generates its components' signatures; they know no data-* and aria-* attributes, which reach
them as keywords all the same. This is the one place that looks away.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from dash import dcc as _dcc
from dash import html as _html

Component: TypeAlias = Any
html: Any = _html
dcc: Any = _dcc
