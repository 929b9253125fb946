"""Monte-Carlo pricing of the engine's positions: counters to words to normals to scenarios to figures."""

from __future__ import annotations


def warm() -> None:
    """Compile (or load) the kernels that the risk process runs, with tiny inputs."""
    import numpy as np

    from engine.buckets import bucket_of
    from engine.montecarlo.normals import normals
    from engine.montecarlo.var import VarSimulation

    bucket_of(0)
    normals(0, 0, 0, 2)
    VarSimulation(np.eye(2), scenarios=100, seed=0).run(np.ones(2))
