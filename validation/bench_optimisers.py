"""Optimisers: for each a row of what it costs without and with it, on this machine, and whether it is worth applying."""

from __future__ import annotations

from collections.abc import Callable

from metrics.errors import DeskvigilError
from resources.optimiser import Optimiser
from validation.cputrials import OPTIMISERS as CPU
from validation.figure import Figure
from validation.memorytrials import OPTIMISERS as MEMORY

ALL: tuple[Optimiser, ...] = (*MEMORY, *CPU)


def measure(say: Callable[[str], None]) -> list[Figure]:
    """The figures for `app.py bench optimisers`: medians with the change, those without it and the verdict beside."""
    figures = []
    for optimiser in ALL:
        try:
            verdict = optimiser.measure().verdict()
        except DeskvigilError as error:
            say(f"{optimiser.name}: {error}")
            continue
        row = (
            f"before {verdict.before:,.2f}, after {verdict.after:,.2f} {optimiser.unit}, "
            f"difference {verdict.low:+,.2f} to {verdict.high:+,.2f}: {verdict.effect.value}"
        )
        say(f"{optimiser.name} [{optimiser.key}]: {row}")
        figures.append(
            Figure(
                benchmark="optimisers",
                what=f"{optimiser.name} [{optimiser.key}]",
                value=verdict.after,
                unit=optimiser.unit,
                peer=row,
            )
        )
    return figures
