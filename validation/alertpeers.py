"""Prometheus with Alertmanager, as fast as both may be set: a value's crossing to the webhook that tells of it."""

from __future__ import annotations

import json
import queue
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from validation.receiver import Received, receiver
from validation.stores.peers import Program

EVERY = "1s"  # scrape and evaluation; Alertmanager groups nothing and waits for nothing
ALERT = "PeerCrossing"
TIMEOUT_S = 30.0


class _Prometheus(Program):
    name = "Prometheus"
    program = "prometheus"

    def __init__(self, folder: Path, target: int, alertmanager: int) -> None:
        super().__init__(folder)
        rule = {"alert": ALERT, "expr": "bench_value > 100", "labels": {"severity": "critical"}}
        (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "bench", "rules": [rule]}]}))
        settings = {
            "global": {"scrape_interval": EVERY, "evaluation_interval": EVERY},
            "rule_files": [str(folder / "rules.yml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
            "scrape_configs": [{"job_name": "bench", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))

    def _command(self) -> list[str]:
        return [
            self.program,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]

    def _ready_path(self) -> str:
        return "/-/ready"


class _Alertmanager(Program):
    name = "Alertmanager"
    program = "prometheus-alertmanager"

    def __init__(self, folder: Path, webhook: int) -> None:
        super().__init__(folder)
        route = {"receiver": "bench", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
        hook = {"url": f"http://127.0.0.1:{webhook}/alerts", "send_resolved": False}
        settings = {"route": route, "receivers": [{"name": "bench", "webhook_configs": [hook]}]}
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(settings))

    @property
    def port(self) -> int:
        return int(self._port)

    def _command(self) -> list[str]:
        return [
            self.program,
            f"--config.file={self._folder / 'alertmanager.yml'}",
            f"--storage.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]

    def _ready_path(self) -> str:
        return "/-/ready"


def installed() -> bool:
    """Whether both programs are on this machine."""
    return all(shutil.which(program) for program in (_Prometheus.program, _Alertmanager.program))


def crossings(folder: Path, samples: int, chance: random.Random) -> list[float]:
    """Seconds from each crossing to its webhook; every crossing is a series of its own, so none waits for an end."""
    with (
        receiver(ALERT) as (hook, received),
        _target() as (target, values),
        _Alertmanager(folder / "alertmanager", hook) as manager,
        _Prometheus(folder / "prometheus", target, manager.port) as prometheus,
    ):
        _until_scraped(prometheus)
        taken = []
        for number in range(samples):
            time.sleep(chance.uniform(0.2, 1.2))
            values[number] = 250.0
            crossed = time.monotonic()
            taken.append(_told(received) - crossed)
            del values[number]
        return taken


def _told(received: queue.Queue[Received]) -> float:
    try:
        return received.get(timeout=TIMEOUT_S).at_s
    except queue.Empty:
        raise RuntimeError(f"Alertmanager told nothing within {TIMEOUT_S:g} s") from None


def _until_scraped(prometheus: _Prometheus) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not json.loads(prometheus.get("/api/v1/query?query=bench_here"))["data"]["result"]:
        if time.monotonic() > end:
            raise RuntimeError("Prometheus did not scrape the benchmark's target")
        time.sleep(0.1)


@contextmanager
def _target() -> Iterator[tuple[int, dict[int, float]]]:
    """An endpoint that exposes `bench_value{n}` as the dict says."""
    values: dict[int, float] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            lines = ["bench_here 1", *(f'bench_value{{n="{n}"}} {value}' for n, value in list(values.items()))]
            body = ("\n".join(lines) + "\n").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, name="target", daemon=True).start()
    try:
        yield server.server_address[1], values
    finally:
        server.shutdown()
        server.server_close()
