"""Theme: the colours of both themes as CSS variables, from one place.

Severity colours come from `metrics.severity`; the rest are the tokens of the design. Charts read
the same variables in the browser, so that a theme switch reaches them too.
"""

from __future__ import annotations

from collections.abc import Mapping

from metrics.severity import MARKS, NORMAL

DARK: Mapping[str, str] = {
    "bg": "#101418",
    "panel": "#161b21",
    "line": "#252d36",
    "text": "#e6eaee",
    "muted": "#8b97a4",
    "raised": "#1f2a30",
    "strong-line": NORMAL.dark,
    "soft-line": "#7c90a5",
    "faint-line": "#5b6b7c",
    "band": "rgba(124, 144, 165, 0.10)",
    "shade": "rgba(0, 0, 0, 0.55)",
    **{severity.label: mark.dark for severity, mark in MARKS.items()},
}
LIGHT: Mapping[str, str] = {
    "bg": "#f6f7f9",
    "panel": "#ffffff",
    "line": "#dde2e8",
    "text": "#12181f",
    "muted": "#586573",
    "raised": "#eceff3",
    "strong-line": "#38434f",
    "soft-line": "#7c90a5",
    "faint-line": "#9fb0c0",
    "band": "rgba(88, 101, 115, 0.08)",
    "shade": "rgba(18, 24, 31, 0.35)",
    **{severity.label: mark.light for severity, mark in MARKS.items()},
}


def stylesheet() -> str:
    """CSS that defines the variables: dark by default, light by choice or by the system's wish."""
    dark, light = _variables(DARK), _variables(LIGHT)
    return (
        f":root{{color-scheme:dark;{dark}}}"
        f"@media (prefers-color-scheme: light){{:root:not([data-theme=dark]){{color-scheme:light;{light}}}}}"
        f":root[data-theme=light]{{color-scheme:light;{light}}}"
    )


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())
