"""Monte-Carlo pricing of the engine's positions: counters to words to normals to scenarios to figures."""

from __future__ import annotations


def warm() -> None:
    """Compile (or load) the kernels that the risk process runs, with tiny inputs."""
    import numpy as np

    from engine.buckets import bucket_of
    from engine.montecarlo.book import Book, Position
    from engine.montecarlo.simulation import DRAWS, BookSimulation

    bucket_of(0)
    option = Position(symbol="A", quantity=-1.0, kind="put", strike=1.0, years=0.1, volatility=0.2)
    book = Book.of([Position(symbol="A", quantity=1.0), option], ["A"], np.ones(1))
    for draw in DRAWS:
        BookSimulation(book, 0.01 * np.eye(1), scenarios=100, draw=draw).run()
