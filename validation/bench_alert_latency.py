"""How long from a threshold crossed in the engine to a webhook received, at the shipped rates and rules.

Three processes, as in the product: one writes a telemetry block as the engine does and lets a value
jump over a threshold at a random moment; one holds the console's parts (engine collector at 10 Hz,
storage, rules, outbox); this one receives the webhook. All take their times from the machine's one
monotonic clock.
"""

from __future__ import annotations

import json
import multiprocessing
import queue
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import yaml

from alerts.options import DEFAULT_RULES, AlertOptions, WebhookOptions
from engine.events import Instrument
from engine.options import EngineOptions
from engine.publisher import engine_block_spec
from engine.telemetry import BlockWriter
from metrics.catalogue import series
from metrics.paths import RuntimePaths
from validation.console import running_console, scratch_paths
from validation.figure import Figure

NAME = "alert-latency"
SAMPLES = 40
LIMIT_MS = 500.0
PEERS = "Prometheus + Alertmanager 1,100 / 1,600 ms (p50 / p95, group_wait 0; 30,800 ms by default), netdata 1,000 / 1,500 ms"
INSTRUMENTS = tuple(Instrument(f"BENCH-{number}", 0.01, 1.0) for number in range(10))
VALUE = series("deskvigil_engine_spread_bps", symbol=INSTRUMENTS[0].symbol)
ALERT = "DeskvigilBenchCrossing"
PUBLISH_S = 1.0 / EngineOptions().publish_hz
QUIET_S = (1.0, 2.0)
TIMEOUT_S = 15.0


def measure(say: Callable[[str], None] = print, *, samples: int = SAMPLES, seed: int = 1) -> list[Figure]:
    """Let the value cross `samples` times and return the latencies' p50, p95 and maximum."""
    with scratch_paths() as paths, _receiver() as (port, received):
        rules = paths.data_dir / "bench.rules.yml"
        rules.write_text(_test_rule())
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        ready, started = context.Pipe(duplex=False)
        writer = context.Process(target=_write_block, args=(paths, there), name="writer", daemon=True)
        console = context.Process(target=_console, args=(paths, rules, port, started), name="console", daemon=True)
        try:
            for process in (writer, console):
                process.start()
            for end in (there, started):  # so that a process that dies is seen as an end of file
                end.close()
            _await_start(ready)
            say(f"alert-latency: {samples} crossings, about {samples * 3.5:.0f} s ...")
            latencies = list(_crossings(here, received, samples, random.Random(seed)))
        finally:
            for process in (writer, console):
                _end(process)
    return _figures([1e3 * latency for latency in latencies])


def _await_start(ready: Connection) -> None:
    """Wait until the console's parts are up; RuntimeError with what they say where they are not."""
    said = "nothing within a minute"
    try:
        if ready.poll(60):
            said = ready.recv()
    except EOFError:
        said = "nothing, it ended"
    if said != "ready":
        raise RuntimeError(f"the console's parts did not start: {said}")


def _crossings(
    writer: Connection, received: queue.Queue[tuple[float, str]], samples: int, chance: random.Random
) -> Iterator[float]:
    """Seconds from each crossing to its webhook; in between the alert is let to resolve."""
    for _ in range(samples):
        time.sleep(chance.uniform(*QUIET_S))
        writer.send("cross")
        crossed = float(writer.recv())
        yield _next(received, "firing") - crossed
        writer.send("fall")
        writer.recv()
        _next(received, "resolved")


def _next(received: queue.Queue[tuple[float, str]], status: str) -> float:
    """Monotonic time of the next webhook with this status; RuntimeError where none comes."""
    end = time.monotonic() + TIMEOUT_S
    while (left := end - time.monotonic()) > 0:
        try:
            at, seen = received.get(timeout=left)
        except queue.Empty:
            break
        if seen == status:
            return at
    raise RuntimeError(f"no webhook said {status!r} within {TIMEOUT_S:g} s")


def _test_rule() -> str:
    """One rule on the block's value, at the pace of the shipped rules on the engine's series."""
    group: dict[str, object] = {
        "name": "bench",
        "rules": [
            {
                "alert": ALERT,
                "expr": f"{VALUE} > 100",
                "labels": {"severity": "critical"},
                "annotations": {"summary": "The benchmark's value is at {{ $value }}."},
            }
        ],
    }
    if interval := _shipped_interval():
        group["interval"] = interval
    return yaml.safe_dump({"groups": [group]})


def _shipped_interval() -> str | None:
    """The interval of the shipped group with the most rules on the engine's series; None where it names none."""
    groups = yaml.safe_load(DEFAULT_RULES.read_text())["groups"]
    counts = [sum("deskvigil_engine_" in str(rule.get("expr", "")) for rule in group["rules"]) for group in groups]
    interval = groups[int(np.argmax(counts))].get("interval")
    return None if interval is None else str(interval)


def _write_block(paths: RuntimePaths, orders: Connection) -> None:
    """The engine's place: publishes ten times a second, and moves the value the moment it is told to."""
    writer = BlockWriter(paths.engine_block, engine_block_spec(INSTRUMENTS, {}))
    writer.scalars[:] = 0.0
    place = writer.spec.index[VALUE]
    due = time.monotonic()
    while True:
        due += PUBLISH_S
        while (left := due - time.monotonic()) > 0:
            if not orders.poll(left):
                continue
            writer.scalars[place] = 250.0 if orders.recv() == "cross" else 1.0
            orders.send(time.monotonic())
        writer.publish(time.time_ns())


def _console(paths: RuntimePaths, rules: Path, port: int, started: Connection) -> None:
    """The console's parts on the shipped rules and the test's one."""
    webhook = WebhookOptions(url=f"http://127.0.0.1:{port}/alerts", allow=("127.0.0.1",))
    # Two hundred crossings of one alert are flapping, which is told once: not what is measured.
    options = AlertOptions(rules=(DEFAULT_RULES, rules), webhook=webhook, flapping_changes=0)
    with running_console(paths, options, lambda: ()) as console:
        deadline = time.monotonic() + 30
        while VALUE not in {one for schema in console.store.live.schemas.values() for one in schema.series}:
            if time.monotonic() > deadline:
                started.send("the engine's block was not read")
                return
            time.sleep(0.05)
        started.send("ready")
        threading.Event().wait()


@contextmanager
def _receiver() -> Iterator[tuple[int, queue.Queue[tuple[float, str]]]]:
    """A webhook receiver on a free port, and the queue of (monotonic time, status) that it fills."""
    received: queue.Queue[tuple[float, str]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            at = time.monotonic()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                if alert["labels"].get("alertname") == ALERT:
                    received.put((at, alert["status"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="receiver", daemon=True)
    thread.start()
    try:
        yield server.server_address[1], received
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def _end(process: BaseProcess) -> None:
    if process.pid is not None and process.exitcode is None:
        process.terminate()
        process.join(10)
        if process.exitcode is None:
            process.kill()
            process.join(10)


def _figures(latencies_ms: list[float]) -> list[Figure]:
    p50, p95 = statistics.median(latencies_ms), float(np.percentile(latencies_ms, 95))
    return [
        Figure(
            benchmark=NAME, what=f"crossing -> webhook p50 (n = {len(latencies_ms)})", value=p50, unit="ms", decimals=0
        ),
        Figure(
            benchmark=NAME, what="crossing -> webhook p95", value=p95, unit="ms", decimals=0, limit=LIMIT_MS, peer=PEERS
        ),
        Figure(benchmark=NAME, what="crossing -> webhook max", value=max(latencies_ms), unit="ms", decimals=0),
    ]


if __name__ == "__main__":
    from validation.figure import machine, table

    print(machine())
    print(table(measure()))
