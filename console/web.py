"""Serving, and the sign of life that goes with it."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import uvicorn

from dashboard.options import WebOptions
from dashboard.server import uvicorn_options

HEARTBEAT_S = 0.5
SHUTDOWN_S = 2


async def serve(server: Any, options: WebOptions, heartbeat_file: Path, listener: socket.socket) -> None:
    """Serve until SIGTERM; the heartbeat is a task of the same loop, so it stops where the loop hangs."""
    config = uvicorn.Config(
        server,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        **uvicorn_options(options),
    )
    web = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, web.stop)
    heartbeat = loop.create_task(_beat(heartbeat_file))
    try:
        await web.serve(sockets=[listener])
    finally:
        heartbeat.cancel()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the supervisor says when to stop."""

    def stop(self) -> None:
        self.should_exit = True

    def capture_signals(self) -> Any:
        return nullcontext()


async def _beat(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        with suppress(OSError):
            temporary = path.with_suffix(".new")
            temporary.write_bytes(struct.pack("<q", time.time_ns()))
            temporary.replace(path)
        await asyncio.sleep(HEARTBEAT_S)
