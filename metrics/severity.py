"""The four severity tiers, their order, colours and shapes.

Colours are the measured palette with the largest distance for normal and colour-blind eyes
(minimal dE 22.9 on dark, 29.8 on light); a shape always goes with the colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad; larger is worse."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3
    EMERGENCY = 4

    @property
    def label(self) -> str:
        """The value of the `severity` label: info, warning, critical or emergency."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Severity:
        """Return the tier named `text`; ValueError names what is allowed."""
        try:
            return cls[text.upper()]
        except KeyError:
            allowed = ", ".join(tier.label for tier in cls)
            raise ValueError(f"severity {text!r} is not one of {allowed}") from None


@dataclass(frozen=True, slots=True)
class Mark:
    """How a tier is drawn: a shape and a colour for each theme."""

    shape: str
    dark: str
    light: str


MARKS: dict[Severity, Mark] = {
    Severity.INFO: Mark("circle", "#5AA9E6", "#2F7BF5"),
    Severity.WARNING: Mark("triangle", "#FFE08A", "#A89000"),
    Severity.CRITICAL: Mark("diamond", "#E8890C", "#6B2E00"),
    Severity.EMERGENCY: Mark("square", "#F0327A", "#D6246E"),
}
NORMAL = Mark("none", "#C3CBD3", "#B4BEC8")
