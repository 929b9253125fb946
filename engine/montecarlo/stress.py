"""Stress: what a book would gain at once if all spots and all volatilities moved by given shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.montecarlo.book import Book
from metrics.frame import FloatArray


def stress_grid(book: Book, spots: Sequence[float], volatilities: Sequence[float]) -> FloatArray:
    """Profit in USD, float64 (volatilities, spots), of relative shocks to everything at the same instant.

    Full revaluation without time passing; a shock of 0 to both is 0. Volatilities matter to options alone.
    """
    now = float(book.values().sum())
    grid = np.empty((len(volatilities), len(spots)))
    for row, more in enumerate(volatilities):
        moved = replace(book, volatility=book.volatility * (1.0 + more))
        for column, up in enumerate(spots):
            grid[row, column] = float(moved.values(growth=np.full(len(book.symbols), 1.0 + up)).sum()) - now
    return grid
