"""Relief: the console gives memory back when the engine says that it is degraded."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from contextlib import suppress

from metrics.catalogue import series
from metrics.frame import Frame
from metrics.series import Schema
from resources.relief import relieve

log = logging.getLogger("deskvigil.console")
DEGRADED = series("deskvigil_engine_degraded")


class Relief:
    """Looks at the engine's frames; cleans up once, in the pool's thread, each time the mode is entered."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._schema: Schema | None = None
        self._column: int | None = None
        self._degraded = False

    def observe(self, frame: Frame) -> None:
        """Look at one frame; quick."""
        if frame.schema.collector != "engine":
            return
        if frame.schema is not self._schema:
            self._schema = frame.schema
            self._column = frame.schema.series.index(DEGRADED) if DEGRADED in frame.schema.series else None
        if self._column is None or frame.values[self._column] != frame.values[self._column]:
            return  # the engine is away: nothing is known
        before, self._degraded = self._degraded, bool(frame.values[self._column] > 0.0)
        if self._degraded and not before:
            with suppress(RuntimeError):  # the pool is shut down: the program is ending
                self._pool.submit(self._clean_up)

    def _clean_up(self) -> None:
        log.warning("the engine is degraded: cleaned up, %d objects were garbage", relieve())
