"""Channel: one way of reaching people. A new one is a file beside email.py and webhook.py, and a line in `build`."""

from __future__ import annotations

from typing import Protocol

from alerts.batch import Batch
from alerts.ledger import Recipient


class Channel(Protocol):
    """Hands batches over, one at a time; each channel has its own thread, so it may wait.

    name is unique among the channels and is stored with each message. A batch holds one alert or many; where
    it has a target with addresses, they are used in place of the channel's own. `send` returns only when the
    other side has taken it, and raises ChannelError (permanent or not) where it has not. `send` must
    end in bounded time.
    """

    @property
    def recipient(self) -> Recipient:
        """Name, which messages go here, and how many."""
        ...

    def send(self, batch: Batch) -> None: ...

    def close(self) -> None: ...
