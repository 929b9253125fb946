"""A port for a program that is started with its number."""

from __future__ import annotations

import random
import socket

# Below those that Linux gives to connections (32768 and up): nothing else takes one between this look and the program's.
FIRST, LAST = 20_000, 32_000
_draw = random.SystemRandom()  # tests seed the ordinary one, and two workers would draw the same


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses."""
    while True:
        port = _draw.randint(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
