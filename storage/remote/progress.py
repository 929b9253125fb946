"""Progress: how far the archive has been forwarded, block by block."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Collection
from typing import Any


class Progress:
    """Which blocks are sent whole, and how many samples per series of the others. Not thread-safe.

    Block ids are given out once and never again, and a block keeps its id and the order of its
    samples when it is sealed: that makes them exact where times are not (a clock that is set back,
    late samples). Ids of whole blocks are kept as closed ranges.
    """

    def __init__(self) -> None:
        self._low: list[int] = []
        self._high: list[int] = []
        self._partial: dict[int, int] = {}
        self.ingest_row = 0
        """Rows of `ingest` up to this one are sent."""
        self.ingest_at = 0
        """How many samples of the next row are sent, in the order of series and time."""

    def is_done(self, block_id: int) -> bool:
        at = bisect_right(self._low, block_id) - 1
        return at >= 0 and block_id <= self._high[at]

    def sent(self, block_id: int) -> int:
        """How many samples of each series of an unfinished block are sent."""
        return self._partial.get(block_id, 0)

    def advance(self, block_id: int, sent: int) -> None:
        self._partial[block_id] = sent

    def finish(self, block_id: int) -> None:
        """All samples of a block are sent, or it will never be sent."""
        self._partial.pop(block_id, None)
        if not self.is_done(block_id):
            self._insert(block_id, block_id)

    def finish_all_but(self, unfinished: Collection[int], below: int) -> None:
        """Ids below a limit that are not among `unfinished` belong to no block: nobody will ask for them again."""
        low = 0
        self._low, self._high = [], []
        for block_id in [*sorted(one for one in unfinished if one < below), below]:
            if block_id > low:
                self._low.append(low)
                self._high.append(block_id - 1)
            low = block_id + 1
        known = set(unfinished)
        self._partial = {block_id: sent for block_id, sent in self._partial.items() if block_id in known}

    def to_json(self) -> dict[str, Any]:
        return {
            "done": [[low, high] for low, high in zip(self._low, self._high, strict=True)],
            "partial": {str(block_id): sent for block_id, sent in self._partial.items()},
            "ingest_row": self.ingest_row,
            "ingest_at": self.ingest_at,
        }

    @classmethod
    def from_json(cls, raw: Any) -> Progress:
        """Read what `to_json` gave; ValueError, KeyError or TypeError where it is something else."""
        progress = cls()
        for low, high in sorted(raw["done"]):
            progress._insert(int(low), int(high))
        progress._partial = {int(block_id): int(sent) for block_id, sent in raw["partial"].items()}
        progress.ingest_row = int(raw["ingest_row"])
        progress.ingest_at = int(raw["ingest_at"])
        return progress

    def __str__(self) -> str:
        return json.dumps(self.to_json())

    def _insert(self, low: int, high: int) -> None:
        """Add a range that overlaps none, joined with its neighbours."""
        at = bisect_right(self._low, low)
        if at < len(self._low) and self._low[at] == high + 1:
            high = self._high.pop(at)
            self._low.pop(at)
        if at > 0 and self._high[at - 1] == low - 1:
            self._high[at - 1] = high
        else:
            self._low.insert(at, low)
            self._high.insert(at, high)
