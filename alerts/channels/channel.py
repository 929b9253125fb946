"""Channel: one way of reaching people. A new one is a file beside email.py and webhook.py, and a line in `build`."""

from __future__ import annotations

from typing import Protocol

from alerts.ledger import Recipient
from alerts.message import Message


class Channel(Protocol):
    """Hands messages over, one at a time; each channel has its own thread, so it may wait.

    name is unique among the channels and is stored with each message. `send` returns only when the other
    side has taken the message, and raises ChannelError (permanent or not) where it has not. `send` must
    end in bounded time.
    """

    @property
    def recipient(self) -> Recipient:
        """Name, and which messages go here."""
        ...

    def send(self, message: Message) -> None: ...

    def close(self) -> None: ...
