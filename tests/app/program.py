"""The whole program as a user starts it, for tests: its own process group, data folder and port."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metrics.paths import RuntimePaths
from resources.supervisor import ChildState, read_status
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 150.0


class Program:
    """`app.py run` (or another command) in a process group of its own."""

    def __init__(
        self, data_dir: Path, *arguments: str, command: str = "run", environ: dict[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.paths = RuntimePaths(data_dir)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        line = [sys.executable, "app.py", command, "--data-dir", str(data_dir), "--port", str(self.port), *arguments]
        self.process = subprocess.Popen(
            line, cwd=ROOT, env={**os.environ, **(environ or {})}, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line.rstrip())
            self._lines.put(line)
        self._lines.put(None)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def wait_until_up(self) -> float:
        """Wait for the line that names the URL; returns the seconds that the program says it took."""
        deadline = time.monotonic() + START_S
        while True:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            assert line is not None, "the program ended:\n" + "\n".join(self.log)
            if found := re.search(rf"{self.url}.*?\(([\d.]+) s\)", line):
                return float(found.group(1))

    def stop(self) -> int:
        """SIGTERM to the supervisor; returns its exit status, within a minute."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the program did not stop within a minute:\n" + "\n".join(self.log[-40:])) from None

    def kill(self) -> None:
        """SIGKILL to every process of the program at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def child(self, name: str) -> ChildState:
        """State of one child as the supervisor tells it."""
        return next(state for state in read_status(self.paths.supervisor_status) if state.name == name)

    def get(self, path: str, **parameters: str) -> Any:
        """GET as JSON (or text where it is not); raises urllib's HTTPError on an error status."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with urllib.request.urlopen(f"{self.url}{path}{query}", timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if "json" in answer.headers.get("Content-Type", "") else body.decode()

    def value(self, expr: str) -> float | None:
        """Newest value of an instant query's first series, or None."""
        result = self.get("/api/v1/query", query=expr)["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 90.0) -> Any:
        """Ask until the condition holds; errors of a part that is just restarting count as not yet."""
        deadline = time.monotonic() + timeout_s
        pause = threading.Event()
        while time.monotonic() < deadline:
            try:
                if found := condition():
                    return found
            except (OSError, urllib.error.URLError, StopIteration, IndexError, KeyError):
                pass
            assert self.process.poll() is None, f"the program ended while waiting: {what}\n" + "\n".join(self.log[-40:])
            pause.wait(0.05)
        raise AssertionError(f"not within {timeout_s} s: {what}\n" + "\n".join(self.log[-40:]))
