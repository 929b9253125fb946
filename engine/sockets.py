"""Sockets: Unix sockets in the data folder, as both ends of the engine's two doors open them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """An address for a Unix socket: the path, or through its folder's descriptor where it is too long (108 bytes)."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen(path: Path, kind: socket.SocketKind, backlog: int) -> socket.socket:
    """Listen at a path (mode 0600), without blocking; takes the place of a socket that a killed engine left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.setblocking(False)
    before = os.umask(0o177)  # the socket must never be open to others, not even for a moment
    try:
        with address(path) as at:
            listener.bind(at)
    finally:
        os.umask(before)
    listener.listen(backlog)
    return listener
