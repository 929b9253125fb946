"""Real remote stores for tests: VictoriaMetrics and Prometheus from their Debian packages, in a folder of their own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.ports import free_port

PACKAGES = {"victoria-metrics": "victoria-metrics", "prometheus": "prometheus"}


class RemoteStore:
    """One server on loopback that can be stopped, killed, frozen and started again over the same data."""

    def __init__(self, kind: str, folder: Path) -> None:
        program = shutil.which(kind)
        if program is None:
            pytest.skip(f"no {kind} on this machine: apt-get install {PACKAGES[kind]}")
        self.kind = kind
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        address = f"127.0.0.1:{self.port}"
        if self.kind == "victoria-metrics":
            options = [
                f"-storageDataPath={self._folder / 'data'}",
                f"-httpListenAddr={address}",
                "-retentionPeriod=100y",
                "-search.latencyOffset=0s",
                "-dedup.minScrapeInterval=1ms",
                "-memory.allowedBytes=64MB",
            ]
        else:
            configuration = self._folder / "prometheus.yml"
            configuration.write_text("global: {scrape_interval: 1m}\n")
            options = [
                f"--config.file={configuration}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={address}",
                "--web.enable-remote-write-receiver",
                "--log.level=error",
            ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *options], stdout=log, stderr=log)
        give_up = time.monotonic() + 60
        pause = threading.Event()
        while time.monotonic() < give_up:
            with contextlib.suppress(OSError):
                path = "/health" if self.kind == "victoria-metrics" else "/-/ready"
                with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                    if answer.status == 200:
                        return
            pause.wait(0.02)
        raise AssertionError(f"{self.kind} did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def shut_down(self) -> None:
        """Stop it in order: one that is killed may forget what it has acknowledged (VictoriaMetrics its newest seconds)."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def samples(self, selector: str, at_s: float, range_s: int) -> dict[str, list[tuple[float, str]]]:
        """Raw samples of each series by its labels as JSON: (time in s, value), ascending."""
        if self.kind == "victoria-metrics":
            with urllib.request.urlopen(f"{self.url}/internal/force_flush", timeout=10):
                pass
        query = urllib.parse.urlencode({"query": f"{selector}[{range_s}s]", "time": at_s, "nocache": 1})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=30) as answer:
            found: list[Any] = orjson.loads(answer.read())["data"]["result"]
        return {
            orjson.dumps(one["metric"], option=orjson.OPT_SORT_KEYS).decode(): [(t, v) for t, v in one["values"]]
            for one in found
        }
