"""Peers: Prometheus and VictoriaMetrics from Debian's packages, on loopback with their data in a temporary folder."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np

from validation.remotewrite import write_request
from validation.stores.capture import Capture

_START_S = 30.0


class Program(ABC):
    """One running program of somebody else's, on loopback; use as a context manager."""

    name: str
    program: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._http = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)

    @classmethod
    def installed(cls) -> bool:
        return shutil.which(cls.program) is not None

    def __enter__(self) -> Self:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self.get(self._ready_path())
                return self
            except (OSError, http.client.HTTPException, RuntimeError):
                self._http.close()
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__()
                    raise RuntimeError(f"{self.program} did not start: {self._folder / 'log'}") from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._http.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def remove(self) -> None:
        """Delete its folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _ready_path(self) -> str: ...

    def get(self, path: str) -> bytes:
        return self._request("GET", path)

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"} if body else {}
        self._http.request(method, path, body, headers)
        response = self._http.getresponse()
        data = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{self.program} answers {response.status} to {path}: {data[:200]!r}")
        return data


class Peer(Program):
    """A store of samples."""

    write_path: str

    @abstractmethod
    def bytes_on_disk(self) -> int:
        """Bytes of all samples and their index, after everything was flushed, merged and compacted."""

    def write(self, capture: Capture, samples_at_once: int = 10) -> None:
        """Load samples in order of time, so many of each series to a request."""
        for part in capture.slices(samples_at_once):
            self._request("POST", self.write_path, write_request(part.series, part.t_ms, part.values))

    def query_range_ms(self, query: str, start_s: float, end_s: float, step_s: float, times: int = 9) -> float:
        """Median milliseconds of a range query over HTTP, the answer read to its end."""
        path = "/api/v1/query_range?" + urllib.parse.urlencode(
            # nocache: VictoriaMetrics would otherwise answer repeated questions from its cache of results.
            {"query": query, "start": start_s, "end": end_s, "step": step_s, "nocache": 1}
        )
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            answer = self.get(path)
            taken.append(1e3 * (time.perf_counter() - began))
        if not json.loads(answer)["data"]["result"]:
            raise RuntimeError(f"{self.program} answers {query} with nothing")
        return float(np.median(taken))


class Prometheus(Peer):
    name = "Prometheus"
    program = "prometheus"
    write_path = "/api/v1/write"

    def _command(self) -> list[str]:
        (self._folder / "prometheus.yml").write_text("global: {scrape_interval: 1h}\n")
        return [
            self.program,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--web.enable-remote-write-receiver",
            "--web.enable-admin-api",
            "--log.level=warn",
        ]

    def _ready_path(self) -> str:
        return "/-/ready"

    def bytes_on_disk(self) -> int:
        answer: dict[str, Any] = json.loads(self._request("POST", "/api/v1/admin/tsdb/snapshot"))
        return _size(self._folder / "data" / "snapshots" / answer["data"]["name"])


class VictoriaMetrics(Peer):
    name = "VictoriaMetrics"
    program = "victoria-metrics"
    write_path = "/api/v1/write"

    def _command(self) -> list[str]:
        return [
            self.program,
            f"-storageDataPath={self._folder / 'data'}",
            "-retentionPeriod=100y",
            f"-httpListenAddr=127.0.0.1:{self._port}",
            "-loggerLevel=WARN",
            "-search.latencyOffset=0s",
        ]

    def _ready_path(self) -> str:
        return "/health"

    def bytes_on_disk(self) -> int:
        self.__exit__()  # what is in memory reaches the disk when it ends
        self.__enter__()
        self.get("/internal/force_merge")
        data, before = self._folder / "data", -1
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:  # merging goes on behind the answer
            now = _size(data / "data") + _size(data / "indexdb")
            if now == before:
                break
            before = now
            time.sleep(2.0)
        return before


PEERS: tuple[type[Peer], ...] = (Prometheus, VictoriaMetrics)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
