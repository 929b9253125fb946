"""The whole program as a user starts it, for measurements: a process group, data folder and port of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from metrics.paths import RuntimePaths
from resources.supervisor import ChildState, read_status

ROOT = Path(__file__).resolve().parents[1]
START_S = 180.0  # where kernels have to be compiled first
STOP_S = 20.0
LOOK_S = 0.01


class Program:
    """A running `app.py run`. started_s: from the command to the first answered `GET /`."""

    def __init__(self, paths: RuntimePaths, port: int, process: subprocess.Popen[bytes]) -> None:
        self.paths = paths
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        began = time.monotonic()
        self.until(self.answers, "the first page", START_S)
        self.started_s = time.monotonic() - began

    def answers(self) -> bool:
        """Whether the Desk page is answered now."""
        try:
            with urllib.request.urlopen(f"{self.url}/", timeout=10) as answer:  # noqa: S310 - our own address
                return bool(answer.status == 200 and answer.read())
        except (OSError, urllib.error.URLError):
            return False

    def child(self, name: str) -> ChildState:
        """One child as the supervisor tells it; pid 0 while it is being restarted."""
        return next(state for state in read_status(self.paths.supervisor_status) if state.name == name)

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Look until it is so; RuntimeError where the program ends or it takes too long."""
        end, pause = time.monotonic() + timeout_s, threading.Event()
        while not condition():
            if self.process.poll() is not None:
                raise RuntimeError(f"the program ended (exit status {self.process.returncode}) before {what}")
            if time.monotonic() > end:
                raise RuntimeError(f"no {what} within {timeout_s:g} s")
            pause.wait(LOOK_S)


@contextmanager
def running_program(paths: RuntimePaths, arguments: Sequence[str] = ()) -> Iterator[Program]:
    """Start `app.py run` on these files, yield it once its page answers, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [sys.executable, "app.py", "run", "--data-dir", str(paths.data_dir), "--port", str(port), *arguments]
    process = subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield Program(paths, port, process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
