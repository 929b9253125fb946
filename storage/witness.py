"""CommitWitness: tells another process which frames are durable, for tests that kill this one."""

from __future__ import annotations

import socket

from storage.archive import Committed


class CommitWitness:
    """Sends one datagram "collector t_ms" per committed frame to a Unix socket; never waits for it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.unsent = 0

    def __call__(self, committed: Committed) -> None:
        for collector, t_ms in committed:
            try:
                self._socket.sendto(f"{collector} {t_ms}\n".encode(), self._path)
            except OSError:
                self.unsent += 1

    def close(self) -> None:
        self._socket.close()
